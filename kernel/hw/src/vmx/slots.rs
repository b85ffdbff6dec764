//! The mitigation slots of the entry and exit code, opened as the plan for this host's CPU says (`crates/mitigations`).

use mitigations::Plan;
use spin::Once;

use super::entry::{self, Slot};
use crate::arch::{insn, msr};
use crate::platform::irq;

impl Slot {
    const ALL: [Self; 6] = [
        Self::L1dFlush,
        Self::SpecCtrlEntry,
        Self::Verw,
        Self::RsbFill,
        Self::SpecCtrlExit,
        Self::BranchHistory,
    ];

    /// Its name for the log.
    const fn name(self) -> &'static str {
        match self {
            Self::L1dFlush => "L1D flush",
            Self::SpecCtrlEntry => "SPEC_CTRL on entry",
            Self::Verw => "VERW",
            Self::RsbFill => "RSB fill",
            Self::SpecCtrlExit => "SPEC_CTRL on exit",
            Self::BranchHistory => "branch history",
        }
    }

    /// Whether a plan opens it.
    fn is_open(self, plan: &Plan) -> bool {
        match self {
            Self::L1dFlush => plan.l1d_flush,
            Self::SpecCtrlEntry | Self::SpecCtrlExit => plan.spec_ctrl,
            Self::Verw => plan.verw,
            Self::RsbFill => plan.rsb_fill,
            Self::BranchHistory => plan.branch_history.is_some(),
        }
    }
}

static PLAN: Once<Plan> = Once::new();

/// What this host's code carries out.
///
/// # Panics
/// Before [`fill`].
pub fn plan() -> &'static Plan {
    PLAN.get().expect("the slots are filled before any guest is made")
}

/// Opens the slots of a plan. Called once, before any guest is made.
pub fn fill(plan: Plan) {
    let plan = PLAN.call_once(|| plan);
    if let Some(history) = plan.branch_history {
        entry::set_history(&history.code());
    }
    for slot in Slot::ALL.into_iter().filter(|slot| slot.is_open(plan)) {
        entry::open(slot);
        log::info!(target: "vmx", "mitigation: {}", slot.name());
    }
    load();
}

/// Loads the host's IA32_SPEC_CTRL on this CPU; the exit code keeps it so.
pub fn load() {
    if let Some(plan) = PLAN.get().filter(|plan| plan.spec_ctrl) {
        msr::write(msr::IA32_SPEC_CTRL, plan.host_spec_ctrl);
    }
}

/// Halts this CPU by `wait`, with what is owed before it and after it.
pub fn idle(wait: impl FnOnce()) {
    let Some(plan) = PLAN.get() else { return wait() };
    if let Some((asleep, awake)) = plan.idle_spec_ctrl() {
        irq::set_spec_ctrl_on_wake(awake);
        msr::write(msr::IA32_SPEC_CTRL, asleep);
    }
    if plan.verw {
        // What this thread leaves in the buffers, its sibling gets while it halts.
        insn::verw();
    }
    wait();
    irq::wake();
}
