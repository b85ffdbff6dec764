//! Reaching the other CPUs: a kick out of the guest, and the flush of cached translations on all of them, which is
//! over only when each has acknowledged it.

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::host;
use super::insn::{self, Scope};
use crate::arch::{self, apic, cpu, irq, tsc};

/// Makes a CPU leave its guest, or wake. Nothing for the calling CPU.
pub(crate) fn kick(index: usize) {
    if index != cpu::this().index
        && let Some(other) = cpu::get(index)
    {
        apic::send_ipi(other.apic_id, irq::KICK);
    }
}

/// Every CPU but 0 is to leave VMX operation and halt, for a reboot.
static LEAVING: AtomicBool = AtomicBool::new(false);
/// How many have.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// How long they may take, in microseconds: a guest is left within one exit.
const PATIENCE_US: u64 = 100_000;

/// Makes every CPU leave VMX operation: CPU 0, which calls this with all vCPUs off their CPUs, goes on, the others halt.
/// False where one did not answer in time.
pub(crate) fn leave_vmx() -> bool {
    LEAVING.store(true, Ordering::Release);
    for index in 0..cpu::count() {
        kick(index);
    }
    let start = tsc::micros();
    let others = host::all().count().saturating_sub(1);
    while LEFT.load(Ordering::Acquire) < others && tsc::micros() - start < PATIENCE_US {
        hint::spin_loop();
    }
    host::disable();
    LEFT.load(Ordering::Acquire) == others
}

/// Flushes EPT translations on every CPU in VMX operation, and waits for each. No lock that a run loop takes may
/// be held: a CPU serves the request between two exits.
pub(crate) fn all_cpus() {
    for other in host::all() {
        other.flush_wanted.fetch_add(1, Ordering::AcqRel);
    }
    for index in 0..cpu::count() {
        kick(index);
    }
    serve();
    for other in host::all() {
        while other.flush_done.load(Ordering::Acquire) != other.flush_wanted.load(Ordering::Acquire) {
            serve();
            hint::spin_loop();
        }
    }
}

/// Serves flushes asked of this CPU. Called whenever a CPU is between guests.
pub(crate) fn serve() {
    let Some(this) = host::this() else { return };
    if LEAVING.load(Ordering::Acquire) && cpu::this().index != 0 {
        host::disable();
        LEFT.fetch_add(1, Ordering::Release);
        arch::halt();
    }
    let wanted = this.flush_wanted.load(Ordering::Acquire);
    if this.flush_done.load(Ordering::Relaxed) != wanted {
        insn::invept(Scope::All, 0);
        this.flush_done.store(wanted, Ordering::Release);
    }
}
