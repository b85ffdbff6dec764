//! What the entry and exit code does on a CPU: the sum over its flaws.

use crate::assess::Assessment;
use crate::cpu::{Cpu, Smt, edx, spec};
use crate::history::History;
use crate::measure::Measure;
use crate::model::history;

/// What the entry code, the exit code and the switch of VMs do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Write 1 to IA32_FLUSH_CMD before an entry, unless the exit before it was handled with the guest's own alone.
    pub l1d_flush: bool,
    /// VERW before each entry.
    pub verw: bool,
    /// Fill the return stack buffer after each exit.
    pub rsb_fill: bool,
    /// IA32_SPEC_CTRL is there and switched at entry and exit.
    pub spec_ctrl: bool,
    /// The host's IA32_SPEC_CTRL.
    pub host_spec_ctrl: u64,
    /// IA32_SPEC_CTRL while a guest runs that has none of its own.
    pub guest_spec_ctrl: u64,
    /// Bits of IA32_SPEC_CTRL that are set while a guest runs that does not have them: [`Plan::forced_spec_ctrl`].
    pub forced_spec_ctrl: u64,
    /// The host's value takes effect only by a write after the exit (IBRS that is not enhanced).
    pub write_at_exit: bool,
    /// This sequence after each exit.
    pub branch_history: Option<History>,
    /// Write 1 to IA32_PRED_CMD on a change of VM.
    pub ibpb: bool,
    /// Large EPT pages may be executable.
    pub large_executable_pages: bool,
}

impl Plan {
    /// What a CPU is owed.
    #[must_use]
    pub fn new(cpu: &Cpu) -> Self {
        let assessment = Assessment::new(cpu);
        let wants = |measure| assessment.wants(measure);
        let legacy = wants(Measure::IbrsOnExit);
        let mut host_spec_ctrl = 0;
        if wants(Measure::IbrsAlways) || legacy {
            host_spec_ctrl |= spec::IBRS;
        }
        if wants(Measure::BhiDisS) {
            host_spec_ctrl |= spec::BHI_DIS_S;
        }
        // Enhanced IBRS costs a guest nothing and guards it from its sibling; the older kind slows it down.
        let guest_spec_ctrl = match cpu.smt {
            _ if cpu.enhanced_ibrs() => host_spec_ctrl,
            Smt::On | Smt::Unknown if wants(Measure::Stibp) => spec::STIBP,
            _ => 0,
        };
        Self {
            l1d_flush: wants(Measure::L1dFlush),
            verw: wants(Measure::Verw),
            rsb_fill: wants(Measure::RsbFill),
            spec_ctrl: cpu.spec_ctrl() & spec::IBRS != 0,
            host_spec_ctrl,
            guest_spec_ctrl,
            forced_spec_ctrl: host_spec_ctrl & spec::BHI_DIS_S,
            write_at_exit: legacy,
            branch_history: wants(Measure::BranchHistory).then(|| history(cpu)),
            ibpb: cpu.edx(edx::IBRS_IBPB),
            large_executable_pages: !wants(Measure::SmallExecutablePages),
        }
    }

    /// Bits of IA32_SPEC_CTRL that are set while a guest runs, whatever it writes: those that it has never heard of, where
    /// what it does instead is not enough here. The sequence by which a guest clears its branch history is made for the
    /// CPU that it was told of.
    #[must_use]
    pub const fn forced_for(&self, told: &Cpu) -> u64 {
        self.forced_spec_ctrl & !told.spec_ctrl()
    }

    /// IA32_SPEC_CTRL while a CPU idles, and after it: IBRS of the older kind slows down the sibling thread.
    #[must_use]
    pub const fn idle_spec_ctrl(&self) -> Option<(u64, u64)> {
        if self.write_at_exit { Some((0, self.host_spec_ctrl)) } else { None }
    }

    /// What is left with the guards off: an IA32_SPEC_CTRL that guests write is still switched, and the host runs
    /// with 0 in it.
    #[must_use]
    pub const fn off(self) -> Self {
        Self {
            l1d_flush: false,
            verw: false,
            rsb_fill: false,
            spec_ctrl: self.spec_ctrl,
            host_spec_ctrl: 0,
            guest_spec_ctrl: 0,
            forced_spec_ctrl: 0,
            write_at_exit: false,
            branch_history: None,
            ibpb: false,
            large_executable_pages: self.large_executable_pages,
        }
    }
}
