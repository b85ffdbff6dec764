//! External interrupts of the host.
//!
//! The hypervisor runs with interrupts off: in root mode they are taken only in [`drain`] and [`wait`], where no lock
//! is held, so that plain spin locks are enough and no handler ever interrupts a critical section. An interrupt that
//! arrives while a guest runs makes a VM exit and stays pending in the local APIC until the next `drain`.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{apic, pic};
use crate::arch::{cpu, msr};

/// Another CPU wants this one to look at its `requests`. The VM exit or the end of `hlt` is all it takes.
pub(crate) const KICK: u8 = 0xf1;

static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Has `handler` called on each interrupt with this vector (32 to 255), on the CPU that takes it.
pub(crate) fn register(vector: u8, handler: fn()) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Release);
}

/// Takes every interrupt that is pending now.
pub(crate) fn drain() {
    // SAFETY: the handlers take no lock that the callers of `drain` may hold (none: see the module's comment). The
    // instruction after STI still runs with interrupts off, the second NOP is where they come.
    unsafe { asm!("sti", "nop", "nop", "cli") };
}

/// Halts until an interrupt has been taken.
pub(crate) fn wait() {
    // SAFETY: as in `drain`. STI's shadow covers HLT, so an interrupt cannot slip in between.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Has the next interrupt on this CPU write `value` to IA32_SPEC_CTRL before its handler is called: a CPU idles with IBRS
/// off, and handlers are called indirectly.
pub(crate) fn set_spec_ctrl_on_wake(value: u64) {
    cpu::this().spec_ctrl_on_wake.store(value, Ordering::Relaxed);
}

/// Writes what [`set_spec_ctrl_on_wake`] asked for, unless an interrupt has done so.
pub(crate) fn wake() {
    let pending = &cpu::this().spec_ctrl_on_wake;
    let value = pending.load(Ordering::Relaxed);
    if value != 0 {
        pending.store(0, Ordering::Relaxed);
        msr::write(msr::IA32_SPEC_CTRL, value);
    }
}

/// Handles an NMI that ended a guest's run: through the gate, so that its IRET lets the next NMI in.
pub(crate) fn nmi() {
    // SAFETY: the gate leads to the NMI handler, which returns here or stops this CPU.
    unsafe { asm!("int 2") };
}

/// Runs the handler of an interrupt and acknowledges it.
pub(crate) fn dispatch(vector: u8) {
    wake();
    cpu::this().interrupts.fetch_add(1, Ordering::Relaxed);
    let handler = HANDLERS[usize::from(vector)].load(Ordering::Acquire);
    if handler != 0 {
        // SAFETY: only `register` stores here, and it stores functions of this type.
        let handler: fn() = unsafe { core::mem::transmute(handler) };
        handler();
    }
    if vector != apic::SPURIOUS && !pic::VECTORS.contains(&vector) {
        apic::eoi();
    }
}
