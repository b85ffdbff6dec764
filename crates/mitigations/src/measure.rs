//! What can be done against a flaw.

use core::fmt;

/// One thing that is done against a flaw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// IA32_FLUSH_CMD before an entry, unless the exit before it touched nothing but the guest's own.
    L1dFlush,
    /// VERW before each entry, and before the CPU idles.
    Verw,
    /// The return stack buffer is filled after each exit; the LFENCE at its end is Pbrsb's.
    RsbFill,
    /// IBRS is set once and stays set while the host runs (enhanced IBRS).
    IbrsAlways,
    /// IBRS is written after each exit.
    IbrsOnExit,
    /// STIBP is set while a guest runs that has no IA32_SPEC_CTRL of its own.
    Stibp,
    /// BHI_DIS_S is set while the host runs, and while a guest does that does not know of it.
    BhiDisS,
    /// The branch history is cleared by a sequence of branches after each exit.
    BranchHistory,
    /// Table indices that a guest chooses are masked before they are used.
    IndexMasks,
    /// IA32_PRED_CMD on a change of VM.
    Ibpb,
    /// Large EPT pages are not executable.
    SmallExecutablePages,
    /// The microcode does it by itself.
    Microcode,
}

impl Measure {
    /// As reports have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1dFlush => "L1D flush at entry",
            Self::Verw => "VERW at entry and idle",
            Self::RsbFill => "RSB fill at exit",
            Self::IbrsAlways => "enhanced IBRS",
            Self::IbrsOnExit => "IBRS at exit",
            Self::Stibp => "STIBP in guests",
            Self::BhiDisS => "BHI_DIS_S",
            Self::BranchHistory => "branch history cleared at exit",
            Self::IndexMasks => "indices masked",
            Self::Ibpb => "IBPB on change of VM",
            Self::SmallExecutablePages => "no large executable pages",
            Self::Microcode => "microcode",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
