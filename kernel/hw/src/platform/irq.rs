//! External interrupts of the host.
//!
//! The hypervisor runs with interrupts off: in root mode they are taken only in [`drain`] and [`wait`], where no lock
//! is held, so that plain spin locks are enough and no handler ever interrupts a critical section. An interrupt that
//! arrives while a guest runs makes a VM exit and stays pending in the local APIC until the next `drain`.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{apic, pic};
use crate::arch::{cpu, insn, msr};
use crate::lock;

/// Another CPU wants this one to look at its `requests`. The VM exit or the end of `hlt` is all it takes.
pub const KICK: u8 = 0xf1;
/// Something is posted for the guest that this CPU is in. A CPU with posted interrupts takes it then, and nobody else hears of
/// it; outside of the guest it is an interrupt as any other, and means nothing: whoever enters a guest looks before.
pub const POSTED: u8 = 0xf2;
/// A CPU has left something for a vCPU that this CPU schedules and that is not in the guest (IPI virtualization).
pub const WAKE: u8 = 0xf3;

static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Has `handler` called on each interrupt with this vector (32 to 255), on the CPU that takes it.
pub fn register(vector: u8, handler: fn()) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Release);
}

/// [`WAKE`] has come.
pub(crate) fn woken() {
    cpu::this().woken.store(true, Ordering::Relaxed);
}

/// Whether [`WAKE`] has come to this CPU since this was asked last.
#[inline]
pub fn take_wake() -> bool {
    let woken = &cpu::this().woken;
    let came = woken.load(Ordering::Relaxed);
    if came {
        woken.store(false, Ordering::Relaxed);
    }
    came
}

/// A VM exit has acknowledged an interrupt with this vector (SDM 24.7.1): [`drain`] or [`wait`] takes it, of which one comes before
/// the next entry. The exit itself calls no handler, as locks are held there.
pub fn acknowledged(vector: u8) {
    cpu::this().acknowledged.store(vector.into(), Ordering::Relaxed);
}

/// Takes the interrupt that a VM exit has acknowledged. True where there was one.
fn take_acknowledged() -> bool {
    let waits = &cpu::this().acknowledged;
    let vector = waits.load(Ordering::Relaxed);
    if vector == 0 {
        return false;
    }
    waits.store(0, Ordering::Relaxed);
    dispatch(vector as u8);
    true
}

/// Takes every interrupt that is pending now.
pub fn drain() {
    lock::assert_none_held("interrupts are taken");
    take_acknowledged();
    insn::interrupt_window();
}

/// Halts until an interrupt has been taken.
pub fn wait() {
    lock::assert_none_held("a CPU waits for an interrupt");
    if !take_acknowledged() {
        insn::wait();
    }
}

/// Has the next interrupt on this CPU write `value` to IA32_SPEC_CTRL before its handler is called: a CPU idles with IBRS
/// off, and handlers are called indirectly.
pub fn set_spec_ctrl_on_wake(value: u64) {
    cpu::this().spec_ctrl_on_wake.store(value, Ordering::Relaxed);
}

/// Writes what [`set_spec_ctrl_on_wake`] asked for, unless an interrupt has done so.
pub fn wake() {
    let pending = &cpu::this().spec_ctrl_on_wake;
    let value = pending.load(Ordering::Relaxed);
    if value != 0 {
        pending.store(0, Ordering::Relaxed);
        msr::write(msr::IA32_SPEC_CTRL, value);
    }
}

/// Handles an NMI that ended a guest's run: through the gate, so that its IRET lets the next NMI in.
pub fn nmi() {
    insn::int_nmi();
}

/// Runs the handler of an interrupt and acknowledges it.
pub fn dispatch(vector: u8) {
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
