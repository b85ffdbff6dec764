//! What VMX of this CPU can do, read once per CPU.

use vmx_types::capability::{Caps, NoVmx};

use crate::arch::{cpu, msr};

const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
const FEATURE_CONTROL_VMX: u64 = 1 << 2;

/// Reads this CPU's capabilities. Sets and locks IA32_FEATURE_CONTROL where the firmware left it open.
///
/// # Errors
/// [`NoVmx`] says what is missing and the cure.
pub(super) fn read() -> Result<Caps, NoVmx> {
    let cpuid = cpu::id();
    if !cpu::is_intel() {
        return Err(NoVmx::Vendor);
    }
    if !cpuid.get_feature_info().is_some_and(|f| f.has_vmx()) {
        return Err(NoVmx::Absent);
    }
    unlock_feature_control()?;
    Caps::new(msr::read)
}

fn unlock_feature_control() -> Result<(), NoVmx> {
    // A CPU with VMX has the MSR; an emulator that lacks it needs no unlocking either.
    let Some(value) = msr::read_safe(msr::IA32_FEATURE_CONTROL) else { return Ok(()) };
    if value & FEATURE_CONTROL_LOCKED == 0 {
        msr::write_safe(msr::IA32_FEATURE_CONTROL, value | FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCKED);
    }
    match msr::read_safe(msr::IA32_FEATURE_CONTROL) {
        Some(value) if value & FEATURE_CONTROL_VMX == 0 => Err(NoVmx::LockedOff(value)),
        _ => Ok(()),
    }
}
