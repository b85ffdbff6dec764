//! What VMX of a CPU can do, from its capability MSRs (SDM appendix A).

use core::fmt;

use x86::msr::{
    VMX_BASIC as IA32_VMX_BASIC, VMX_EPT_VPID_CAP as IA32_VMX_EPT_VPID_CAP, VMX_MISC as IA32_VMX_MISC,
    VMX_PROCBASED_CTLS2 as IA32_VMX_PROCBASED_CTLS2, VMX_PROCBASED_CTLS3 as IA32_VMX_PROCBASED_CTLS3,
};

use crate::control::{Allowed, MissingControls, PinBased, ProcBased, ProcBased2};

/// Capability MSRs, for those who read or record them.
pub const MSRS: core::ops::RangeInclusive<u32> = IA32_VMX_BASIC..=IA32_VMX_PROCBASED_CTLS3;

const IA32_VMX_CR0_FIXED0: u32 = 0x486;
const IA32_VMX_CR0_FIXED1: u32 = 0x487;
const IA32_VMX_CR4_FIXED0: u32 = 0x488;
const IA32_VMX_CR4_FIXED1: u32 = 0x489;

/// Why this CPU cannot host guests; the text names the cure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoVmx {
    /// Another vendor's CPU.
    Vendor,
    /// CPUID shows no VMX.
    Absent,
    /// The firmware locked VMX off.
    LockedOff(u64),
    /// No EPT.
    NoEpt,
    /// EPT lacks what is named.
    Ept(&'static str),
    /// A control that Flexvisor needs is missing.
    Control(MissingControls),
}

impl fmt::Display for NoVmx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vendor => f.write_str("VMX is missing: not an Intel CPU; Flexvisor needs an Intel Xeon with VT-x and EPT"),
            Self::Absent => f.write_str("VMX is missing: CPUID.1:ECX[5] is 0; use a CPU with VT-x, or enable nested VMX where this is a VM"),
            Self::LockedOff(value) => write!(
                f,
                "VMX is locked off by firmware: enable VT-x in BIOS set-up (IA32_FEATURE_CONTROL={value:#x})"
            ),
            Self::NoEpt => f.write_str("EPT is missing: this CPU is older than Nehalem; use a Xeon 5500 or later"),
            Self::Ept(what) => write!(f, "EPT lacks {what}; use a Xeon 5500 or later"),
            Self::Control(missing) => write!(f, "VMX lacks a control that Flexvisor needs: {missing}"),
        }
    }
}

/// The capabilities of one CPU.
#[derive(Clone, Debug)]
pub struct Caps {
    /// VMCS revision identifier.
    pub revision: u32,
    /// Pin-based controls.
    pub pin: Allowed,
    /// Primary processor-based controls.
    pub proc: Allowed,
    /// Secondary processor-based controls.
    pub proc2: Allowed,
    /// Tertiary processor-based controls that may be 1.
    pub proc3: u64,
    /// Exit controls.
    pub exit: Allowed,
    /// Entry controls.
    pub entry: Allowed,
    /// IA32_VMX_EPT_VPID_CAP.
    ept_vpid: u64,
    /// The preemption timer counts at TSC rate shifted right by this.
    pub preemption_shift: u8,
    /// CR0 bits that must be 1.
    pub cr0_fixed0: u64,
    /// CR0 bits that may be 1.
    pub cr0_fixed1: u64,
    /// CR4 bits that must be 1.
    pub cr4_fixed0: u64,
    /// CR4 bits that may be 1.
    pub cr4_fixed1: u64,
}

impl Caps {
    /// The capabilities that `read` tells, a function of the MSR's number. Only those are read that exist by what the
    /// others say.
    ///
    /// # Errors
    /// [`NoVmx`] says what is missing and the cure.
    pub fn new(mut read: impl FnMut(u32) -> u64) -> Result<Self, NoVmx> {
        let basic = read(IA32_VMX_BASIC);
        // bit 55: the TRUE capability MSRs exist at 0x48d to 0x490 (SDM A.2)
        let offset = if basic & 1 << 55 != 0 { 0x48d - 0x481 } else { 0 };
        let mut word = |number: u32| Allowed::from_msr(read(number + offset));
        let (pin, proc, exit, entry) = (word(0x481), word(0x482), word(0x483), word(0x484));
        let proc2 = if proc.has(ProcBased::SECONDARY_CONTROLS.bits()) {
            Allowed::from_msr(read(IA32_VMX_PROCBASED_CTLS2))
        } else {
            Allowed::default()
        };
        let ept_or_vpid = ProcBased2::ENABLE_EPT.bits() | ProcBased2::ENABLE_VPID.bits();
        let caps = Self {
            revision: basic as u32 & 0x7fff_ffff,
            pin,
            proc,
            proc2,
            proc3: if proc.has(ProcBased::TERTIARY_CONTROLS.bits()) {
                read(IA32_VMX_PROCBASED_CTLS3)
            } else {
                0
            },
            exit,
            entry,
            ept_vpid: if proc2.may & ept_or_vpid != 0 { read(IA32_VMX_EPT_VPID_CAP) } else { 0 },
            preemption_shift: read(IA32_VMX_MISC) as u8 & 0x1f,
            cr0_fixed0: read(IA32_VMX_CR0_FIXED0),
            cr0_fixed1: read(IA32_VMX_CR0_FIXED1),
            cr4_fixed0: read(IA32_VMX_CR4_FIXED0),
            cr4_fixed1: read(IA32_VMX_CR4_FIXED1),
        };
        if !caps.has2(ProcBased2::ENABLE_EPT) {
            return Err(NoVmx::NoEpt);
        }
        for (bit, what) in [
            (6, "4-level page walks"),
            (14, "write-back paging structures"),
            (16, "2 MiB pages"),
            (20, "INVEPT"),
            (25, "single-context INVEPT"),
            (26, "all-context INVEPT"),
        ] {
            if caps.ept_vpid & 1 << bit == 0 {
                return Err(NoVmx::Ept(what));
            }
        }
        Ok(caps)
    }

    /// True where all of these secondary controls may be set.
    #[must_use]
    pub const fn has2(&self, controls: ProcBased2) -> bool {
        self.proc2.has(controls.bits())
    }

    /// EPT pages of 1 GiB.
    #[must_use]
    pub const fn ept_1g(&self) -> bool {
        self.ept_vpid & 1 << 17 != 0
    }

    /// EPT accessed and dirty flags.
    #[must_use]
    pub const fn ept_access_dirty(&self) -> bool {
        self.ept_vpid & 1 << 21 != 0
    }

    /// Page-modification logging; it needs the dirty flags.
    #[must_use]
    pub const fn pml(&self) -> bool {
        self.has2(ProcBased2::ENABLE_PML) && self.ept_access_dirty()
    }

    /// VPID with the INVVPID types Flexvisor uses.
    #[must_use]
    pub const fn vpid(&self) -> bool {
        let invvpid_single_and_all = 1 << 32 | 1 << 41 | 1 << 42;
        self.has2(ProcBased2::ENABLE_VPID) && self.ept_vpid & invvpid_single_and_all == invvpid_single_and_all
    }

    /// Unrestricted guest.
    #[must_use]
    pub const fn unrestricted(&self) -> bool {
        self.has2(ProcBased2::UNRESTRICTED_GUEST)
    }

    /// TSC scaling.
    #[must_use]
    pub const fn tsc_scaling(&self) -> bool {
        self.has2(ProcBased2::USE_TSC_SCALING)
    }
}

impl fmt::Display for Caps {
    /// The line of the boot log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |flag| if flag { "+" } else { "-" };
        write!(
            f,
            "EPT (1G{} A/D{}) VPID{} unrestricted{} PML{} TSC-scaling{} preemption-timer{}",
            yes_no(self.ept_1g()),
            yes_no(self.ept_access_dirty()),
            yes_no(self.vpid()),
            yes_no(self.unrestricted()),
            yes_no(self.pml()),
            yes_no(self.tsc_scaling()),
            yes_no(self.pin.has(PinBased::PREEMPTION_TIMER.bits())),
        )
    }
}
