//! VM exits: one match, from what happened to what is next. Handlers change the guest's registers and
//! devices; RIP, injection and stopping are the run loop's.

mod apic;
mod audit;
mod control;
mod cpuid;
mod emulate;
mod io;
mod memory;
mod msr;
mod task;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use bring_up::mce::{Context, Verdict};
use devices::Effect;
use translation::{Backing, Invalid};
use vmx_types::event::{Event, EventKind, PackedEvent, vector};
use vmx_types::exit::Exit;
use vmx_types::field;
use vmx_types::reason::ExitReason;

use crate::guest::{Guest, StopReason};
use crate::machine;
use crate::vcpu::{Leaves, Vcpu};
use hw::vmx;
use hw::vmx::translation::Translation;
use hw::vmx::vmcs::Current;

/// What the run loop does after an exit. Each payload fills one register, so that an answer is returned in two.
#[derive(Debug)]
pub(crate) enum Next {
    /// Go on behind the instruction that exited.
    Advance,
    /// Go on behind an instruction of this many bytes: the CPU gives no length for EPT violations. 0: a repeated string
    /// instruction has iterations left.
    AdvanceBy(u64),
    /// Go on where the guest was; an event whose delivery was interrupted is delivered again.
    Resume,
    /// Go on where the guest was; the event whose delivery was interrupted has been delivered.
    Delivered,
    /// Deliver an event at the instruction that exited.
    Inject(PackedEvent),
    /// Go on behind HLT, and wait for an interrupt.
    Halt,
    /// Give the CPU back to the host.
    Yield,
    /// The VM is over.
    Stop(Box<StopReason>),
}

/// #UD, for instructions that the guest's level does not have.
const UNDEFINED: Next = inject(Event::INVALID_OPCODE);
/// #GP(0).
const GENERAL_PROTECTION: Next = inject(Event::GENERAL_PROTECTION);

const fn inject(event: Event) -> Next {
    Next::Inject(PackedEvent::new(event))
}

/// The end of the VM. Boxed, so that an answer fits in two registers.
#[cold]
pub(crate) fn stop(reason: StopReason) -> Next {
    Next::Stop(Box::new(reason))
}

#[cold]
fn fatal(text: alloc::string::String) -> Next {
    stop(StopReason::Error(text))
}

/// Handles one exit.
#[inline(always)]
pub(crate) fn handle(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, exit: Exit) -> Next {
    match exit {
        Exit::Cpuid => cpuid::handle(vcpu, vmcs),
        Exit::Rdmsr => msr::read(vcpu, vm, vmcs),
        Exit::Wrmsr => msr::write(vcpu, vm, vmcs),
        Exit::Io(access) => io::handle(vcpu, vm, vmcs, access),
        Exit::EptViolation(violation) => memory::violation(vcpu, vm, vmcs, violation),
        Exit::ExternalInterrupt => interrupted(vmcs),
        Exit::PreemptionTimer | Exit::InterruptWindow | Exit::NmiWindow | Exit::TprBelowThreshold => {
            vcpu.attention = true;
            Next::Resume
        }
        Exit::Hlt => Next::Halt,
        Exit::ApicAccess(access) => apic::access(vcpu, vm, vmcs, access),
        Exit::ApicWrite(offset) => apic::written(vcpu, vm, offset),
        Exit::VirtualizedEoi(vector) => {
            vcpu.tell_io_apic(vm, vector);
            Next::Resume
        }
        Exit::PmlFull => memory::log_full(vcpu, vm, vmcs),
        Exit::Cr(access) => control::cr(vcpu, vm, vmcs, access),
        Exit::Xsetbv => control::xsetbv(vcpu, vmcs),
        Exit::Exception(event) => exception(vcpu, vm, vmcs, event),
        // The host's caches are coherent with every device it lets at guest memory: nothing to write back.
        Exit::CacheFlush => Next::Advance,
        Exit::Pause => {
            (vcpu.leaves, vcpu.attention) = (Some(Leaves::Spins), true);
            Next::Advance
        }
        Exit::Invlpg(linear) => {
            vm.invalidates(vcpu.index, Invalid::Page(linear));
            Next::Advance
        }
        Exit::Rdtsc => {
            vcpu.set_edx_eax(vm.clock.now().tsc.wrapping_add(vcpu.tsc_adjust()));
            Next::Advance
        }
        Exit::Rdpmc => GENERAL_PROTECTION, // no level has performance counters
        Exit::Vmcall | Exit::Undefined(_) => UNDEFINED,
        Exit::TripleFault => stop(StopReason::TripleFault),
        Exit::EntryFailure { reason: ExitReason::EntryMachineCheck, .. } => {
            match machine::check(Context::Guest) {
                Verdict::GoOn | Verdict::StopVm => fatal("machine check while the guest was entered".into()),
                Verdict::StopHost => panic!("machine check while a guest ran"),
            }
        }
        Exit::EntryFailure { reason, qualification } => {
            vmx::dump(&vm.name.get());
            fatal(format!("{}, qualification {qualification:#x}", reason.text()))
        }
        Exit::EptMisconfiguration(gpa) => fatal(format!("EPT misconfiguration at gpa {gpa:#x}")),
        Exit::TaskSwitch(how) => task::switch(vcpu, vm, vmcs, how),
        // Only a signal to the host CPU itself, or a control that no VMCS of ours sets, brings these.
        Exit::Init | Exit::Sipi(_) | Exit::Smi => fatal("INIT, start-up IPI or SMI to the host CPU".into()),
        Exit::Dr(_) | Exit::DescriptorTable => {
            fatal("exit for MOV DR or a descriptor table, which is never turned on".into())
        }
        Exit::Unexpected(reason) => fatal(format!("exit for {}, which is never turned on", reason.text())),
        Exit::Unknown(number) => fatal(format!("exit reason {number}, which the SDM does not define")),
    }
}

/// An interrupt of the host's: which, if the CPU has acknowledged it, else it waits in the APIC.
#[inline(always)]
fn interrupted(vmcs: Current<'_>) -> Next {
    let info = vmcs.read(field::EXIT_INTERRUPTION_INFO);
    if info >> 31 != 0 {
        hw::platform::irq::acknowledged(info as u8);
    }
    Next::Yield
}

/// Carries out what a device asks for besides its registers.
fn effect(vcpu: &mut Vcpu, vm: &Guest, effect: Effect) -> Next {
    match effect {
        Effect::PowerOff => stop(StopReason::PowerOff),
        Effect::Reset => stop(StopReason::Reset),
        Effect::DebugExit(code) => stop(StopReason::DebugExit(u32::from(code))),
        Effect::UartFull => {
            vm.drain_uart();
            Next::Advance
        }
        Effect::Service => {
            vcpu.serve_devices(vm);
            Next::Advance
        }
    }
}

#[inline(never)]
fn exception(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, event: Event) -> Next {
    let word = u64::from(vmcs.read(field::EXIT_INTERRUPTION_INFO));
    vcpu.block_nmis_again(vmcs, word, Some(event.vector));
    match (event.kind, event.vector) {
        (EventKind::Nmi, _) => {
            // A host NMI: the stop signal of a panic on another CPU.
            hw::platform::irq::nmi();
            Next::Resume
        }
        (_, vector::MACHINE_CHECK) => match machine::check(Context::Guest) {
            Verdict::GoOn => Next::Resume,
            Verdict::StopVm => fatal("machine check: memory that the guest has used is lost".into()),
            Verdict::StopHost => panic!("machine check while a guest ran"),
        },
        (_, vector::DEBUG) => {
            vcpu.raise_debug(vmcs, event);
            inject(event)
        }
        (_, vector::PAGE_FAULT) if Translation::FOLLOWS_PAGING => {
            memory::page_fault(vcpu, vm, vmcs, event.error_code.unwrap_or(0))
        }
        _ => inject(event),
    }
}
