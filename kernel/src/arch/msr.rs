//! Model-specific registers. Safe to call: the callers are the hypervisor's own, and name registers by constants.

use core::arch::asm;

pub(crate) use x86::msr::{
    APIC_BASE as IA32_APIC_BASE, EFER as IA32_EFER, FEATURE_CONTROL as IA32_FEATURE_CONTROL,
    GS_BASE as IA32_GS_BASE, MISC_ENABLE as IA32_MISC_ENABLE, PRED_CMD as IA32_PRED_CMD,
    SPEC_CTRL as IA32_SPEC_CTRL, TSX_CTRL as IA32_TSX_CTRL,
};

/// Reads a register that is known to be there; #GP (a panic) where it is not.
pub(crate) fn read(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR has no effect on memory.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a register that is known to be there and takes `value`; #GP (a panic) otherwise.
pub(crate) fn write(msr: u32, value: u64) {
    // SAFETY: the caller sets a register of the hypervisor's own concern; see the module's comment.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    };
}

/// Reads a register; `None` where the CPU answers with #GP.
pub(crate) fn read_safe(msr: u32) -> Option<u64> {
    let (low, high): (u32, u32);
    let mut ok = 0_u32;
    // SAFETY: a fault at label 2 is resumed at label 3 by the fix-up table, with `ok` still 0.
    unsafe {
        asm!("2: rdmsr", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            in("ecx") msr, inout("eax") 0_u32 => low, inout("edx") 0_u32 => high, ok = inout(reg) ok, options(nostack));
    }
    (ok != 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes a register; `false` where the CPU answers with #GP.
pub(crate) fn write_safe(msr: u32, value: u64) -> bool {
    let mut ok = 0_u32;
    // SAFETY: as in `read_safe` and `write`.
    unsafe {
        asm!("2: wrmsr", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, ok = inout(reg) ok, options(nostack));
    }
    ok != 0
}
