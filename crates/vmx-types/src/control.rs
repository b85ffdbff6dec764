//! VM-execution, VM-exit and VM-entry controls, and what a CPU allows of them (SDM 24.6 to 24.8, A.3 to A.5).

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// Pin-based VM-execution controls (SDM table 24-5).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PinBased: u32 {
        /// External interrupts cause exits.
        const EXTERNAL_INTERRUPT_EXITING = 1 << 0;
        /// NMIs cause exits.
        const NMI_EXITING = 1 << 3;
        /// NMIs are blocked by "blocking by NMI" of the guest alone.
        const VIRTUAL_NMIS = 1 << 5;
        /// The preemption timer counts in VMX non-root operation.
        const PREEMPTION_TIMER = 1 << 6;
        /// Posted interrupts.
        const POSTED_INTERRUPTS = 1 << 7;
    }
}

bitflags! {
    /// Primary processor-based VM-execution controls (SDM table 24-6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ProcBased: u32 {
        /// Exit when the guest can take an interrupt.
        const INTERRUPT_WINDOW_EXITING = 1 << 2;
        /// RDTSC and friends add the TSC offset.
        const USE_TSC_OFFSETTING = 1 << 3;
        /// HLT exits.
        const HLT_EXITING = 1 << 7;
        /// INVLPG exits.
        const INVLPG_EXITING = 1 << 9;
        /// MWAIT exits.
        const MWAIT_EXITING = 1 << 10;
        /// RDPMC exits.
        const RDPMC_EXITING = 1 << 11;
        /// RDTSC and RDTSCP exit.
        const RDTSC_EXITING = 1 << 12;
        /// MOV to CR3 exits.
        const CR3_LOAD_EXITING = 1 << 15;
        /// MOV from CR3 exits.
        const CR3_STORE_EXITING = 1 << 16;
        /// MOV to CR8 exits.
        const CR8_LOAD_EXITING = 1 << 19;
        /// MOV from CR8 exits.
        const CR8_STORE_EXITING = 1 << 20;
        /// TPR shadow.
        const USE_TPR_SHADOW = 1 << 21;
        /// Exit when the guest can take a virtual NMI.
        const NMI_WINDOW_EXITING = 1 << 22;
        /// MOV DR exits.
        const MOV_DR_EXITING = 1 << 23;
        /// Every I/O instruction exits.
        const UNCONDITIONAL_IO_EXITING = 1 << 24;
        /// I/O bitmaps decide.
        const USE_IO_BITMAPS = 1 << 25;
        /// Monitor trap flag.
        const MONITOR_TRAP_FLAG = 1 << 27;
        /// MSR bitmaps decide.
        const USE_MSR_BITMAPS = 1 << 28;
        /// MONITOR exits.
        const MONITOR_EXITING = 1 << 29;
        /// PAUSE exits.
        const PAUSE_EXITING = 1 << 30;
        /// The tertiary controls are in use.
        const TERTIARY_CONTROLS = 1 << 17;
        /// The secondary controls are in use.
        const SECONDARY_CONTROLS = 1 << 31;
    }
}

bitflags! {
    /// Secondary processor-based VM-execution controls (SDM table 24-7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ProcBased2: u32 {
        /// Accesses to the APIC-access page are virtualised.
        const VIRTUALIZE_APIC_ACCESSES = 1 << 0;
        /// Extended page tables.
        const ENABLE_EPT = 1 << 1;
        /// LGDT, SIDT and friends exit.
        const DESCRIPTOR_TABLE_EXITING = 1 << 2;
        /// Without it RDTSCP and RDPID give #UD.
        const ENABLE_RDTSCP = 1 << 3;
        /// x2APIC MSRs are virtualised.
        const VIRTUALIZE_X2APIC_MODE = 1 << 4;
        /// Translations are tagged with a VPID.
        const ENABLE_VPID = 1 << 5;
        /// WBINVD exits.
        const WBINVD_EXITING = 1 << 6;
        /// Real mode and unpaged protected mode run natively.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// APIC-register virtualisation.
        const APIC_REGISTER_VIRTUALIZATION = 1 << 8;
        /// Virtual-interrupt delivery.
        const VIRTUAL_INTERRUPT_DELIVERY = 1 << 9;
        /// PAUSE loops exit.
        const PAUSE_LOOP_EXITING = 1 << 10;
        /// RDRAND exits.
        const RDRAND_EXITING = 1 << 11;
        /// Without it INVPCID gives #UD.
        const ENABLE_INVPCID = 1 << 12;
        /// VM functions.
        const ENABLE_VM_FUNCTIONS = 1 << 13;
        /// VMCS shadowing.
        const VMCS_SHADOWING = 1 << 14;
        /// ENCLS exits by bitmap.
        const ENCLS_EXITING = 1 << 15;
        /// RDSEED exits.
        const RDSEED_EXITING = 1 << 16;
        /// Page-modification logging.
        const ENABLE_PML = 1 << 17;
        /// EPT violations may become #VE.
        const EPT_VIOLATION_VE = 1 << 18;
        /// Without it XSAVES and XRSTORS give #UD.
        const ENABLE_XSAVES = 1 << 20;
        /// Mode-based execute control for EPT.
        const MODE_BASED_EXECUTE = 1 << 22;
        /// RDTSC is scaled by the TSC multiplier.
        const USE_TSC_SCALING = 1 << 25;
        /// Without it UMWAIT, TPAUSE and UMONITOR give #UD.
        const ENABLE_USER_WAIT = 1 << 26;
        /// Without it PCONFIG gives #UD.
        const ENABLE_PCONFIG = 1 << 27;
        /// ENCLV exits by bitmap.
        const ENCLV_EXITING = 1 << 28;
    }
}

bitflags! {
    /// VM-exit controls (SDM table 24-13).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ExitControls: u32 {
        /// DR7 and IA32_DEBUGCTL are saved.
        const SAVE_DEBUG_CONTROLS = 1 << 2;
        /// The host runs in 64-bit mode.
        const HOST_ADDRESS_SPACE_SIZE = 1 << 9;
        /// IA32_PERF_GLOBAL_CTRL is loaded.
        const LOAD_PERF_GLOBAL_CTRL = 1 << 12;
        /// The vector of an external interrupt is acknowledged and saved.
        const ACKNOWLEDGE_INTERRUPT = 1 << 15;
        /// IA32_PAT is saved.
        const SAVE_PAT = 1 << 18;
        /// IA32_PAT is loaded.
        const LOAD_PAT = 1 << 19;
        /// IA32_EFER is saved.
        const SAVE_EFER = 1 << 20;
        /// IA32_EFER is loaded.
        const LOAD_EFER = 1 << 21;
        /// The preemption timer is saved.
        const SAVE_PREEMPTION_TIMER = 1 << 22;
    }
}

bitflags! {
    /// VM-entry controls (SDM table 24-15).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct EntryControls: u32 {
        /// DR7 and IA32_DEBUGCTL are loaded.
        const LOAD_DEBUG_CONTROLS = 1 << 2;
        /// The guest is in IA-32e mode.
        const IA32E_MODE_GUEST = 1 << 9;
        /// IA32_PERF_GLOBAL_CTRL is loaded.
        const LOAD_PERF_GLOBAL_CTRL = 1 << 13;
        /// IA32_PAT is loaded.
        const LOAD_PAT = 1 << 14;
        /// IA32_EFER is loaded.
        const LOAD_EFER = 1 << 15;
    }
}

/// What a capability MSR allows of one control word: bits that must be 1, and bits that may be 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// Bits that must be 1.
    pub must: u32,
    /// Bits that may be 1.
    pub may: u32,
}

/// Controls that this CPU does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingControls {
    /// The control word, by its SDM name.
    pub word: &'static str,
    /// The bits that are missing.
    pub bits: u32,
}

impl fmt::Display for MissingControls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits {:#x} not available on this CPU", self.word, self.bits)
    }
}

impl Allowed {
    /// From a VMX capability MSR: allowed-0 settings low, allowed-1 settings high (SDM A.3.1).
    #[must_use]
    pub const fn from_msr(value: u64) -> Self {
        Self { must: value as u32, may: (value >> 32) as u32 }
    }

    /// True where all `bits` may be set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.may & bits == bits
    }

    /// `required` plus what of `optional` the CPU has plus what it insists on.
    ///
    /// # Errors
    /// [`MissingControls`] names the required bits that the CPU lacks.
    pub const fn clamp(
        self,
        word: &'static str,
        required: u32,
        optional: u32,
    ) -> Result<u32, MissingControls> {
        let missing = required & !self.may;
        if missing != 0 {
            return Err(MissingControls { word, bits: missing });
        }
        Ok(required | (optional & self.may) | self.must)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamp_adds_must_and_keeps_to_may() {
        let caps = Allowed::from_msr(0x0000_00ff_0000_0016);
        assert_eq!(caps.clamp("pin", 0x1, 0x40), Ok(0x57));
        assert_eq!(caps.clamp("pin", 0x1, 0x140), Ok(0x57));
        assert_eq!(caps.clamp("pin", 0x101, 0), Err(MissingControls { word: "pin", bits: 0x100 }));
    }
}
