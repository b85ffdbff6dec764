//! CPUID faulting: CPUID above CPL 0 raises #GP(0) (SDM 4, MSR_PLATFORM_INFO and MSR_MISC_FEATURES_ENABLES).

pub use x86::msr::PLATFORM_INFO;

use crate::Cpu;

/// MSR_MISC_FEATURES_ENABLES; bit 0 switches it on.
pub const MISC_FEATURES_ENABLES: u32 = 0x140;

const ENUMERATED: u64 = 1 << 31;
const ENABLE: u64 = 1;

/// What a CPU offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faulting {
    /// It is not enumerated.
    Absent,
    /// It is enumerated, and its switch can be set and cleared.
    Available {
        /// It was on when asked.
        on: bool,
    },
    /// It is enumerated, but the switch cannot be read.
    NoSwitch,
    /// It is enumerated, but the switch does not take a value.
    Stuck {
        /// It was on when asked.
        on: bool,
    },
}

/// Asks, tries the switch both ways and leaves it as it was.
pub(crate) fn probe(cpu: &mut impl Cpu) -> (Faulting, bool) {
    if cpu.rdmsr(PLATFORM_INFO).is_none_or(|info| info & ENUMERATED == 0) {
        return (Faulting::Absent, true);
    }
    let Some(before) = cpu.rdmsr(MISC_FEATURES_ENABLES) else { return (Faulting::NoSwitch, true) };
    let on = before & ENABLE != 0;
    let turned = cpu.wrmsr(MISC_FEATURES_ENABLES, before ^ ENABLE)
        && cpu.rdmsr(MISC_FEATURES_ENABLES) == Some(before ^ ENABLE);
    let back = cpu.rdmsr(MISC_FEATURES_ENABLES) == Some(before)
        || cpu.wrmsr(MISC_FEATURES_ENABLES, before) && cpu.rdmsr(MISC_FEATURES_ENABLES) == Some(before);
    (if turned { Faulting::Available { on } } else { Faulting::Stuck { on } }, back)
}

/// Switches faulting on or off; answers whether it was on. `None` where the CPU does not take it.
pub fn set_faulting(cpu: &mut impl Cpu, on: bool) -> Option<bool> {
    let before = cpu.rdmsr(MISC_FEATURES_ENABLES)?;
    let wanted = if on { before | ENABLE } else { before & !ENABLE };
    let done = before == wanted
        || cpu.wrmsr(MISC_FEATURES_ENABLES, wanted) && cpu.rdmsr(MISC_FEATURES_ENABLES) == Some(wanted);
    done.then_some(before & ENABLE != 0)
}
