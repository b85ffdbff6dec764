//! What happens when the hypervisor itself fails: everything that is known is printed, the other CPUs are stopped, and
//! then `panic=` decides.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bring_up::mce::{Context, Verdict};
use cmdline::PanicAction;

use crate::log::emergency;
use crate::{machine, power};
use hw::arch::trap::TrapFrame;
use hw::arch::{self, backtrace, cpu, tsc};
use hw::platform::apic;

/// The index of the CPU that panics, plus one.
static PANICKING: AtomicUsize = AtomicUsize::new(0);
/// `panic=`, as a number that an exception at any point can read.
static ACTION: AtomicU8 = AtomicU8::new(0);

/// What a panic tells an emulator.
const EXIT_CODE: u8 = 0x7f;

/// Sets what a panic ends with.
pub(crate) fn set_action(action: PanicAction) {
    let number = match action {
        PanicAction::Halt => 0,
        PanicAction::Reboot => 1,
        PanicAction::DebugExit => 2,
    };
    ACTION.store(number, Ordering::Relaxed);
}

/// A panic of the hypervisor's own code.
pub(crate) fn panic(info: &PanicInfo<'_>) -> ! {
    end(format_args!("{}", Message(info)), None, backtrace::frame_pointer())
}

/// An exception that nothing expected.
pub(crate) fn exception(frame: &TrapFrame) -> ! {
    end(format_args!("{frame}"), Some(frame.rip), frame.rbp)
}

/// A machine check while the host ran.
pub(crate) fn machine_check(frame: &TrapFrame) {
    if machine::check(Context::Host) == Verdict::StopHost {
        exception(frame);
    }
}

/// Halts this CPU if another one panics: for an NMI that came while a guest ran.
pub(crate) fn halt_if_stopping() {
    if PANICKING.load(Ordering::Acquire) != 0 {
        arch::halt();
    }
}

/// An NMI: either another CPU panics, or the machine reports something. It may have come with the log locked: nothing is
/// printed here.
pub(crate) fn nmi(frame: &TrapFrame) {
    halt_if_stopping();
    machine::nmi(frame.rip);
}

fn end(what: fmt::Arguments<'_>, rip: Option<u64>, rbp: u64) -> ! {
    x86_64::instructions::interrupts::disable();
    let index = cpu::try_this().map_or(0, |this| this.index);
    match PANICKING.compare_exchange(0, index + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            stop_others(index);
            report(what, index, rip, rbp);
        }
        Err(owner) if owner == index + 1 => {
            emergency(format_args!("\npanic within the panic: {what}\n"));
        }
        Err(_) => arch::halt(),
    }
    match ACTION.load(Ordering::Relaxed) {
        1 => power::reboot(),
        2 => {
            power::debug_exit(EXIT_CODE);
            arch::halt()
        }
        _ => arch::halt(),
    }
}

fn stop_others(own: usize) {
    if !apic::is_ready() {
        return;
    }
    for cpu in (0..cpu::count()).filter(|&index| index != own).filter_map(cpu::get) {
        apic::send_nmi(cpu.apic_id);
    }
    tsc::delay(1_000);
}

fn report(what: fmt::Arguments<'_>, index: usize, rip: Option<u64>, rbp: u64) {
    let micros = tsc::micros();
    emergency(format_args!(
        "\n[{:5}.{:06}] panic: CPU {index}: {what}\n",
        micros / 1_000_000,
        micros % 1_000_000
    ));
    emergency(format_args!("backtrace (addr2line -fipe build/flexvisor.debug ADDRESS...):\n "));
    for address in rip.into_iter().chain(backtrace::from(rbp)) {
        emergency(format_args!(" {address:#x}"));
    }
    emergency(format_args!("\n"));
}

/// Message and place, without the standard wording around them.
struct Message<'a>(&'a PanicInfo<'a>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message())?;
        match self.0.location() {
            Some(at) => write!(f, " ({}:{})", at.file(), at.line()),
            None => Ok(()),
        }
    }
}
