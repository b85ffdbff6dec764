//! Reaching the other CPUs: a kick out of the guest, and the flush of cached translations on all of them, which is
//! over only when each has acknowledged it.

use core::hint;
use core::sync::atomic::Ordering;

use super::host;
use super::insn::{self, Scope};
use crate::arch::{apic, cpu, irq};

/// Makes a CPU leave its guest, or wake. Nothing for the calling CPU.
pub(crate) fn kick(index: usize) {
    if index != cpu::this().index
        && let Some(other) = cpu::get(index)
    {
        apic::send_ipi(other.apic_id, irq::KICK);
    }
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
    let wanted = this.flush_wanted.load(Ordering::Acquire);
    if this.flush_done.load(Ordering::Relaxed) != wanted {
        insn::invept(Scope::All, 0);
        this.flush_done.store(wanted, Ordering::Release);
    }
}
