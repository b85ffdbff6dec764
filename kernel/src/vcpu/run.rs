//! The run loop: the one place that enters the guest, advances RIP and injects.

use core::sync::atomic::Ordering;
use vmx_types::control::ProcBased;
use vmx_types::event::Event;
use vmx_types::exit::Exit;
use vmx_types::field;

use super::{Activity, Vcpu};
use crate::arch::tsc;
use crate::exit::{self, Next};
use crate::vm::{Request, StopReason, Vm};
use crate::vmx::{self, entry, host, vmcs};

/// Why the run loop gave the CPU back.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its time is over, or the host wants the CPU.
    Yield,
    /// Waits for an interrupt; the earliest comes at this host TSC.
    Halted(u64),
    /// Stopped on request, and taken off the CPU.
    Paused,
    /// The VM is over.
    Stopped(StopReason),
}

/// Exits in a row after which the preemption timer is set anew. It stands still while the host runs, so that a device
/// may have its turn late by the host's part of so many exits.
const UNMETERED: u32 = 16;

/// Blocking by STI, by MOV SS (SDM table 24-3).
const BLOCKED_BY_STI_OR_MOV_SS: u32 = 3;
const BLOCKED_BY_NMI: u32 = 1 << 3;
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
/// Pending debug exceptions: BS.
const SINGLE_STEP: u64 = 1 << 14;

impl Vcpu {
    /// Runs the guest until host TSC `until` at the latest.
    pub(crate) fn run(&mut self, vm: &Vm, until: u64) -> Outcome {
        if vm.vcpus[self.index as usize].exits.is_timed() {
            self.turn::<true>(vm, until)
        } else {
            self.turn::<false>(vm, until)
        }
    }

    /// With `TIMED`, what each exit takes is measured: a loop of its own, so that the other one pays nothing for it.
    fn turn<const TIMED: bool>(&mut self, vm: &Vm, until: u64) -> Outcome {
        let vmcs = self.make_current(vm);
        let slot = &vm.vcpus[self.index as usize];
        let shift = host::this().map_or(0, |cpu| cpu.caps.preemption_shift);
        let mut unmetered = 0;
        loop {
            if slot.requests.load(Ordering::Acquire) != 0
                && let Some(outcome) = self.serve_requests(vm, vmcs)
            {
                return outcome;
            }
            if self.attention || unmetered == 0 {
                let now = tsc::read();
                if now >= until {
                    return Outcome::Yield;
                }
                if (self.attention || now >= self.deadline) && !self.attend(vm, vmcs) {
                    return Outcome::Halted(self.deadline);
                }
                // `until` is less than 2^32 ticks away. At least 1: the guest makes progress whatever is due.
                let ticks = self.deadline.min(until).saturating_sub(now) >> shift;
                vmcs.write(field::PREEMPTION_TIMER, ticks as u32 | 1);
                unmetered = UNMETERED;
            }
            unmetered -= 1;
            // SAFETY: `make_current` did what `enter` asks for; the hypervisor runs with interrupts off.
            let failed = unsafe { entry::enter(&raw mut *self.context, u32::from(self.launched)) };
            if failed != 0 {
                return self.entry_failed(vm, vmcs);
            }
            self.launched = true;
            let began = if TIMED { tsc::read() } else { 0 };
            let reason = vmcs.read(field::EXIT_REASON);
            slot.exits.count(reason);
            let next = exit::handle(self, vm, vmcs, Exit::decode(reason, &vmcs));
            if TIMED {
                slot.exits.took(reason, tsc::read() - began);
            }
            match next {
                Next::Advance => advance(vmcs, u64::from(vmcs.read(field::EXIT_INSTRUCTION_LENGTH))),
                Next::AdvanceBy(length) => advance(vmcs, length),
                Next::Resume => self.requeue_event(vmcs),
                Next::Inject(event) => self.deliver(event.unpack()),
                Next::Halt => {
                    advance(vmcs, u64::from(vmcs.read(field::EXIT_INSTRUCTION_LENGTH)));
                    self.activity = Activity::Halted;
                    self.attention = true;
                }
                Next::Yield => {
                    self.requeue_event(vmcs);
                    return Outcome::Yield;
                }
                Next::Stop(reason) => return Outcome::Stopped(*reason),
            }
        }
    }

    /// An event for the next entry.
    fn deliver(&mut self, event: Option<Event>) {
        self.event = event;
        self.attention = true;
    }

    /// Looks at everything that the short way of an exit leaves alone: timers, interrupts, an event on its way. False
    /// where the vCPU is halted and nothing wakes it.
    fn attend(&mut self, vm: &Vm, vmcs: vmcs::Current) -> bool {
        self.attention = false;
        self.service_devices(vm, vmcs);
        if self.activity != Activity::Running {
            if self.event.is_none() {
                self.attention = true;
                return false;
            }
            self.activity = Activity::Running;
        }
        if let Some(event) = self.event.take() {
            inject(vmcs, event);
        }
        true
    }

    /// An exit in the middle of an event's delivery: the event is delivered again (SDM 27.2.4).
    fn requeue_event(&mut self, vmcs: vmcs::Current) {
        let info = vmcs.read(field::IDT_VECTORING_INFO);
        if info >> 31 != 0 {
            let error = vmcs.read(field::IDT_VECTORING_ERROR_CODE);
            let length = vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
            self.event = Event::decode(info, error, length);
            self.attention = true;
        }
    }

    #[cold]
    fn serve_requests(&mut self, vm: &Vm, vmcs: vmcs::Current) -> Option<Outcome> {
        let slot = &vm.vcpus[self.index as usize];
        let requests = slot.requests.fetch_and(Request::WAITED_FOR, Ordering::AcqRel);
        if requests & Request::Interrupt as u32 != 0 {
            self.attention = true;
        }
        if requests & Request::Clock as u32 != 0 {
            self.next_event = 0; // its host TSC is another one now
            self.write_tsc_offset(vm);
            self.attention = true;
        }
        if requests & Request::DrainPml as u32 != 0 {
            self.drain_pml(vm, vmcs);
        }
        if requests & Request::Pause as u32 != 0 {
            self.drain_pml(vm, vmcs);
            self.release(vm);
            self.attention = true;
            return Some(Outcome::Paused);
        }
        slot.requests.fetch_and(!(requests & Request::WAITED_FOR), Ordering::Release);
        None
    }

    /// Lets the devices catch up with the time line and takes the next event from them.
    fn service_devices(&mut self, vm: &Vm, vmcs: vmcs::Current) {
        let mut platform = vm.platform.lock();
        let now = vm.clock.now();
        platform.advance(now);
        let next = platform.next_event().unwrap_or(u64::MAX);
        if next != self.next_event {
            self.next_event = next;
            self.deadline = if next == u64::MAX { u64::MAX } else { vm.clock.host_tsc(next) };
        }
        if platform.nmi_pending(self.index as usize) {
            platform.accept_nmi(self.index as usize);
            self.nmi_pending = true;
        }
        if self.event.is_some() {
            self.attention = true; // an event is on its way: ask again after the next exit
            return;
        }
        let blocked = vmcs.read(field::GUEST_INTERRUPTIBILITY);
        if self.nmi_pending && blocked & (BLOCKED_BY_NMI | BLOCKED_BY_STI_OR_MOV_SS) == 0 {
            self.nmi_pending = false;
            self.event = Some(Event::NMI);
            self.attention = true;
            return;
        }
        let mut window = false;
        if let Some(vector) = platform.pending_interrupt(self.index as usize) {
            let open =
                vmcs.read(field::GUEST_RFLAGS) & RFLAGS_IF != 0 && blocked & BLOCKED_BY_STI_OR_MOV_SS == 0;
            if open {
                platform.accept(self.index as usize, vector);
                self.event = Some(Event::interrupt(vector));
                window = platform.pending_interrupt(self.index as usize).is_some();
            } else {
                window = true;
            }
        }
        drop(platform);
        let mut proc = self.proc;
        proc.set(ProcBased::INTERRUPT_WINDOW_EXITING, window);
        proc.set(ProcBased::NMI_WINDOW_EXITING, self.nmi_pending);
        if proc != self.proc {
            self.proc = proc;
            vmcs.write(field::PROC_BASED_CONTROLS, proc.bits());
        }
    }

    #[cold]
    fn entry_failed(&mut self, vm: &Vm, vmcs: vmcs::Current) -> Outcome {
        let error = vmcs.read(field::INSTRUCTION_ERROR);
        vmx::dump(&vm.name.get());
        Outcome::Stopped(StopReason::Error(alloc::format!("VM entry failed, VM-instruction error {error}")))
    }
}

/// Moves RIP behind the instruction that exited, with what an executed instruction does besides: shadows of STI
/// and MOV SS end, and a single step is due (SDM 26.7.3).
#[inline(always)]
fn advance(vmcs: vmcs::Current, length: u64) {
    let rip = vmcs.read(field::GUEST_RIP);
    vmcs.write(field::GUEST_RIP, rip.wrapping_add(length));
    let blocked = vmcs.read(field::GUEST_INTERRUPTIBILITY);
    if blocked & BLOCKED_BY_STI_OR_MOV_SS != 0 {
        vmcs.write(field::GUEST_INTERRUPTIBILITY, blocked & !BLOCKED_BY_STI_OR_MOV_SS);
    }
    if vmcs.read(field::GUEST_RFLAGS) & RFLAGS_TF != 0 {
        vmcs.write(field::GUEST_PENDING_DEBUG, vmcs.read(field::GUEST_PENDING_DEBUG) | SINGLE_STEP);
    }
}

fn inject(vmcs: vmcs::Current, event: Event) {
    if let Some(error) = event.error_code {
        vmcs.write(field::ENTRY_EXCEPTION_ERROR_CODE, error);
    }
    if event.needs_length() {
        vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, u32::from(event.length));
    }
    vmcs.write(field::ENTRY_INTERRUPTION_INFO, event.info());
}
