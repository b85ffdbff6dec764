//! What VMX of a host can enforce: the controls that may be 1 (SDM 3D A.3, A.4).

use x86::msr::{
    VMX_BASIC, VMX_PINBASED_CTLS as VMX_PINBASED, VMX_PROCBASED_CTLS as VMX_PROCBASED,
    VMX_PROCBASED_CTLS2 as VMX_PROCBASED2, VMX_PROCBASED_CTLS3 as VMX_PROCBASED3,
};

use super::RawCpu;

/// From IA32_VMX_PINBASED_CTLS to IA32_VMX_TRUE_PINBASED_CTLS, and likewise for the next three.
const TRUE_OFFSET: u32 = 0x48d - VMX_PINBASED;

const SECONDARY: u32 = 1 << 31;
const TERTIARY: u32 = 1 << 17;
const TSC_SCALING: u8 = 25;

/// The execution controls that may be 1; each a mask in the layout of its VMCS field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub primary: u32,
    /// Secondary processor-based.
    pub secondary: u32,
    /// Tertiary processor-based.
    pub tertiary: u64,
}

impl Controls {
    /// The controls of a CPU; None where its VMX capability MSRs are not known, as in a dump of CPUID alone.
    #[must_use]
    pub fn of(raw: &RawCpu) -> Option<Self> {
        let offset = if raw.msr(VMX_BASIC)? & 1 << 55 != 0 { TRUE_OFFSET } else { 0 };
        // The TRUE MSRs may be missing from a dump: the others differ only in what must be 1.
        let may = |index: u32| {
            let value = raw.msr(index + offset).or_else(|| raw.msr(index))?;
            Some((value >> 32) as u32)
        };
        let primary = may(VMX_PROCBASED)?;
        let secondary = if primary & SECONDARY != 0 { raw.msr(VMX_PROCBASED2)? >> 32 } else { 0 };
        let tertiary = if primary & TERTIARY != 0 { raw.msr(VMX_PROCBASED3).unwrap_or(0) } else { 0 };
        Some(Self { pin: may(VMX_PINBASED)?, primary, secondary: secondary as u32, tertiary })
    }

    /// True where this primary control (its bit) may be 1.
    #[must_use]
    pub const fn primary_may(&self, bit: u8) -> bool {
        self.primary & 1 << bit != 0
    }

    /// True where this secondary control (its bit) may be 1.
    #[must_use]
    pub const fn secondary_may(&self, bit: u8) -> bool {
        self.secondary & 1 << bit != 0
    }

    /// True where this tertiary control (its bit) may be 1.
    #[must_use]
    pub const fn tertiary_may(&self, bit: u8) -> bool {
        self.tertiary & 1 << bit != 0
    }

    /// TSC scaling.
    #[must_use]
    pub const fn tsc_scaling(&self) -> bool {
        self.secondary_may(TSC_SCALING)
    }
}
