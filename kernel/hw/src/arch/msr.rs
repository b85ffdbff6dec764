//! Model-specific registers. Safe to call: the callers are the hypervisor's own, and name registers by constants.

use super::insn;

pub use x86::msr::{
    APIC_BASE as IA32_APIC_BASE, EFER as IA32_EFER, FEATURE_CONTROL as IA32_FEATURE_CONTROL,
    GS_BASE as IA32_GS_BASE, MISC_ENABLE as IA32_MISC_ENABLE, PRED_CMD as IA32_PRED_CMD,
    SPEC_CTRL as IA32_SPEC_CTRL, TSX_CTRL as IA32_TSX_CTRL,
};

/// Reads a register that is known to be there; #GP (a panic) where it is not.
#[inline(always)]
pub fn read(msr: u32) -> u64 {
    insn::rdmsr(msr)
}

/// Writes a register that is known to be there and takes `value`; #GP (a panic) otherwise.
#[inline(always)]
pub fn write(msr: u32, value: u64) {
    insn::wrmsr(msr, value);
}

/// Reads a register; `None` where the CPU answers with #GP.
pub fn read_safe(msr: u32) -> Option<u64> {
    insn::rdmsr_safe(msr)
}

/// Writes a register; `false` where the CPU answers with #GP.
pub fn write_safe(msr: u32, value: u64) -> bool {
    insn::wrmsr_safe(msr, value)
}
