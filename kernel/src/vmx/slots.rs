//! The mitigation slots of the entry and exit code, opened as the plan for this host's CPU says (`crates/mitigations`).

use core::arch::asm;

use mitigations::Plan;
use spin::Once;

use crate::arch::{msr, text};
use crate::platform::irq;

/// A slot begins with a jump over itself of this many bytes.
const JUMP: usize = 5;

unsafe extern "C" {
    safe static slot_l1d_flush: u8;
    safe static slot_spec_ctrl_entry: u8;
    safe static slot_verw: u8;
    safe static slot_rsb_fill: u8;
    safe static slot_spec_ctrl_exit: u8;
    safe static slot_branch_history: u8;
    safe static slot_branch_history_code: u8;
}

/// A slot, and whether a plan opens it.
struct Slot {
    name: &'static str,
    site: fn() -> *const u8,
    open: fn(&Plan) -> bool,
}

const SLOTS: [Slot; 6] = [
    Slot { name: "L1D flush", site: || &raw const slot_l1d_flush, open: |plan| plan.l1d_flush },
    Slot {
        name: "SPEC_CTRL on entry",
        site: || &raw const slot_spec_ctrl_entry,
        open: |plan| plan.spec_ctrl,
    },
    Slot { name: "VERW", site: || &raw const slot_verw, open: |plan| plan.verw },
    Slot { name: "RSB fill", site: || &raw const slot_rsb_fill, open: |plan| plan.rsb_fill },
    Slot { name: "SPEC_CTRL on exit", site: || &raw const slot_spec_ctrl_exit, open: |plan| plan.spec_ctrl },
    Slot {
        name: "branch history",
        site: || &raw const slot_branch_history,
        open: |plan| plan.branch_history.is_some(),
    },
];

static PLAN: Once<Plan> = Once::new();

/// What this host's code carries out.
///
/// # Panics
/// Before [`fill`].
pub(crate) fn plan() -> &'static Plan {
    PLAN.get().expect("the slots are filled before any guest is made")
}

/// Opens the slots of a plan. Called once, before any guest is made.
pub(crate) fn fill(plan: Plan) {
    const NOP5: [u8; JUMP] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
    let plan = PLAN.call_once(|| plan);
    if let Some(history) = plan.branch_history {
        // SAFETY: `enter` has room for it there, and jumps over it as yet.
        unsafe { text::patch(&raw const slot_branch_history_code, &history.code()) };
    }
    for slot in SLOTS.iter().filter(|slot| (slot.open)(plan)) {
        // SAFETY: the site is a five-byte jump in `enter`; a NOP of the same length lets the slot's code run.
        unsafe { text::patch((slot.site)(), &NOP5) };
        log::info!(target: "vmx", "mitigation: {}", slot.name);
    }
    load();
}

/// Loads the host's IA32_SPEC_CTRL on this CPU; the exit code keeps it so.
pub(crate) fn load() {
    if let Some(plan) = PLAN.get().filter(|plan| plan.spec_ctrl) {
        msr::write(msr::IA32_SPEC_CTRL, plan.host_spec_ctrl);
    }
}

/// Halts this CPU by `wait`, with what is owed before it and after it.
pub(crate) fn idle(wait: impl FnOnce()) {
    let Some(plan) = PLAN.get() else { return wait() };
    if let Some((asleep, awake)) = plan.idle_spec_ctrl() {
        irq::set_spec_ctrl_on_wake(awake);
        msr::write(msr::IA32_SPEC_CTRL, asleep);
    }
    if plan.verw {
        // What this thread leaves in the buffers, its sibling gets while it halts.
        // SAFETY: VERW changes the flags alone; with MD_CLEAR it clears the CPU's buffers, for a selector in memory.
        unsafe {
            asm!("mov {0:x}, ds", "push {0}", "verw word ptr [rsp]", "pop {0}", out(reg) _);
        }
    }
    wait();
    irq::wake();
}
