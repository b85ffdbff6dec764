//! The firmware's switch that hides high CPUID leaves from old systems (SDM 3A, IA32_MISC_ENABLE bit 22).

pub use x86::msr::MISC_ENABLE;

use crate::Cpu;

const LIMIT_CPUID_MAXVAL: u64 = 1 << 22;

/// What became of the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeafLimit {
    /// It is off, or there is none.
    Off,
    /// It was on, and is off now.
    Lifted {
        /// Highest basic leaf before.
        from: u32,
        /// Highest basic leaf now.
        to: u32,
    },
    /// It is on and stays on: the CPU did not take the write.
    Stuck,
}

/// Switches the limit off, so that CPUID shows all leaves. Leaves it off.
pub fn unlock_leaves(cpu: &mut impl Cpu) -> LeafLimit {
    let Some(value) = cpu.rdmsr(MISC_ENABLE).filter(|value| value & LIMIT_CPUID_MAXVAL != 0) else {
        return LeafLimit::Off;
    };
    let [from, ..] = cpu.cpuid(0, 0);
    let wrote = cpu.wrmsr(MISC_ENABLE, value & !LIMIT_CPUID_MAXVAL);
    if !wrote || cpu.rdmsr(MISC_ENABLE).is_none_or(|now| now & LIMIT_CPUID_MAXVAL != 0) {
        return LeafLimit::Stuck;
    }
    let [to, ..] = cpu.cpuid(0, 0);
    LeafLimit::Lifted { from, to }
}

/// Switches it on again where [`unlock_leaves`] switched it off. False where the CPU did not take it.
pub(crate) fn lock_again(cpu: &mut impl Cpu, limit: LeafLimit) -> bool {
    let LeafLimit::Lifted { .. } = limit else { return true };
    let Some(value) = cpu.rdmsr(MISC_ENABLE) else { return false };
    cpu.wrmsr(MISC_ENABLE, value | LIMIT_CPUID_MAXVAL)
}
