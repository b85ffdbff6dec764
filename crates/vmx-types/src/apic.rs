//! What of the guest's local APIC the CPU does by itself (SDM 29): which controls, in which mode of the APIC.

use bitflags::bitflags;
use core::fmt;

use crate::capability::Caps;
use crate::control::{ExitControls, PinBased, ProcBased, ProcBased2};

bitflags! {
    /// What a CPU virtualises of a local APIC.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ApicVirt: u8 {
        /// CR8 is TPR on the virtual-APIC page.
        const TPR = 1 << 0;
        /// An access to the APIC-access page is told as such: where in it, and whether a read or a write.
        const ACCESSES = 1 << 1;
        /// The MSR of TPR, and those of what else is virtualised, do not exit in x2APIC mode.
        const X2APIC = 1 << 2;
        /// APIC-register virtualization: reads do not exit, a write exits once it is on the page.
        const REGISTERS = 1 << 3;
        /// Virtual-interrupt delivery: the CPU delivers what is in IRR, and EOI does not exit.
        const INTERRUPTS = 1 << 4;
        /// Posted-interrupt processing: it takes what others have left for the guest when it is notified, without an exit.
        const POSTED = 1 << 5;
        /// IPI virtualization: it leaves an interrupt for another vCPU, and notifies the CPU that is said to have that one.
        const IPIS = 1 << 6;
    }
}

/// A mode of the local APIC (SDM 3A 11.12.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApicMode {
    /// Off by IA32_APIC_BASE.
    Disabled,
    /// Its registers are memory.
    Xapic,
    /// They are MSRs.
    X2apic,
}

impl ApicMode {
    /// By the value of IA32_APIC_BASE.
    #[inline]
    #[must_use]
    pub const fn of(apic_base: u64) -> Self {
        match apic_base >> 10 & 3 {
            0b10 => Self::Xapic,
            0b11 => Self::X2apic,
            _ => Self::Disabled,
        }
    }
}

/// The pin-based control that virtualising an APIC changes.
pub const PIN: PinBased = PinBased::POSTED_INTERRUPTS;
/// The tertiary control of IPI virtualization (SDM 24.6.2).
pub const TERTIARY: u64 = 1 << 4;
/// The primary controls that virtualising an APIC changes, and the secondary ones.
pub const PRIMARY: ProcBased =
    ProcBased::USE_TPR_SHADOW.union(ProcBased::CR8_LOAD_EXITING).union(ProcBased::CR8_STORE_EXITING);
/// See [`PRIMARY`].
pub const SECONDARY: ProcBased2 = ProcBased2::VIRTUALIZE_APIC_ACCESSES
    .union(ProcBased2::VIRTUALIZE_X2APIC_MODE)
    .union(ProcBased2::APIC_REGISTER_VIRTUALIZATION)
    .union(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY);

impl ApicVirt {
    /// What Intel calls APICv. The two come together: a CPU that has one has the other.
    pub const APICV: Self = Self::REGISTERS.union(Self::INTERRUPTS);

    /// What is left to the CPU on top of [`Self::APICV`], and goes with it.
    pub const SENT: Self = Self::POSTED.union(Self::IPIS);

    /// What of it a CPU has that we use; [`Self::APICV`] only where `apicv` says so, and [`Self::SENT`] only where `posted` does.
    #[must_use]
    pub const fn new(caps: &Caps, apicv: bool, posted: bool) -> Self {
        let mut virt = Self::empty();
        if !caps.proc.has(ProcBased::USE_TPR_SHADOW.bits()) {
            return virt;
        }
        virt = virt.union(Self::TPR);
        if caps.has2(ProcBased2::VIRTUALIZE_APIC_ACCESSES) {
            virt = virt.union(Self::ACCESSES);
        }
        if caps.has2(ProcBased2::VIRTUALIZE_X2APIC_MODE) {
            virt = virt.union(Self::X2APIC);
        }
        let both = ProcBased2::APIC_REGISTER_VIRTUALIZATION.union(ProcBased2::VIRTUAL_INTERRUPT_DELIVERY);
        if apicv && caps.has2(both) && virt.contains(Self::ACCESSES.union(Self::X2APIC)) {
            virt = virt.union(Self::APICV);
        }
        // The CPU has to acknowledge an interrupt to know whether it is the notification (SDM 26.2.1.1).
        let acknowledges = caps.exit.has(ExitControls::ACKNOWLEDGE_INTERRUPT.bits());
        if posted && virt.contains(Self::APICV) && caps.pin.has(PIN.bits()) && acknowledges {
            virt = virt.union(Self::POSTED);
            if caps.proc3 & TERTIARY != 0 {
                virt = virt.union(Self::IPIS);
            }
        }
        virt
    }

    /// Without APICv and what goes with it.
    #[must_use]
    pub const fn without_apicv(self) -> Self {
        self.difference(Self::APICV).difference(Self::SENT)
    }

    /// The bit of [`PIN`] for what is in use.
    #[must_use]
    pub const fn pin(self) -> PinBased {
        if self.contains(Self::POSTED) { PIN } else { PinBased::empty() }
    }

    /// What of it is in use while the APIC is in this mode.
    ///
    /// An APIC that is disabled has no TPR on the page: its accesses exit, each of them. In x2APIC mode an access to the page
    /// must reach nothing, so that page is not there then.
    #[must_use]
    pub const fn in_mode(self, mode: ApicMode) -> Self {
        match mode {
            ApicMode::Disabled => self.intersection(Self::ACCESSES),
            ApicMode::Xapic if self.contains(Self::ACCESSES) => self.difference(Self::X2APIC),
            ApicMode::X2apic if self.contains(Self::X2APIC) => self.difference(Self::ACCESSES),
            ApicMode::Xapic | ApicMode::X2apic => self.intersection(Self::TPR),
        }
    }

    /// The bit of [`TERTIARY`] for what is in use.
    #[must_use]
    pub const fn tertiary(self) -> u64 {
        if self.contains(Self::IPIS) { TERTIARY } else { 0 }
    }

    /// The bits of [`PRIMARY`] and [`SECONDARY`] for what is in use.
    #[must_use]
    pub fn controls(self) -> (ProcBased, ProcBased2) {
        let primary = if self.contains(Self::TPR) {
            ProcBased::USE_TPR_SHADOW
        } else {
            ProcBased::CR8_LOAD_EXITING | ProcBased::CR8_STORE_EXITING
        };
        let mut secondary = ProcBased2::empty();
        for (of, control) in [
            (Self::ACCESSES, ProcBased2::VIRTUALIZE_APIC_ACCESSES),
            (Self::X2APIC, ProcBased2::VIRTUALIZE_X2APIC_MODE),
            (Self::REGISTERS, ProcBased2::APIC_REGISTER_VIRTUALIZATION),
            (Self::INTERRUPTS, ProcBased2::VIRTUAL_INTERRUPT_DELIVERY),
        ] {
            secondary.set(control, self.contains(of));
        }
        (primary, secondary)
    }

    /// MSRs of the x2APIC that the CPU reads from the page by itself, where they do not exit (SDM 29.5). Not those whose
    /// value the page does not have: the timer's count, and the ICR, which has 64 bits here and two registers there.
    pub fn read_msrs(self) -> impl Iterator<Item = u32> {
        const TPR: u32 = 0x808;
        /// ID, version, PPR, LDR, SVR, ISR to IRR, ESR, LVT and initial count, divider.
        const REGISTERS: [core::ops::RangeInclusive<u32>; 8] = [
            0x802..=0x803,
            0x80a..=0x80a,
            0x80d..=0x80d,
            0x80f..=0x80f,
            0x810..=0x827,
            0x828..=0x828,
            0x832..=0x838,
            0x83e..=0x83e,
        ];
        let registers = self.contains(Self::REGISTERS).then_some(REGISTERS).into_iter().flatten().flatten();
        registers.chain(self.contains(Self::TPR).then_some(TPR))
    }

    /// MSRs of the x2APIC that the CPU writes by itself, where they do not exit: TPR, EOI, SELF IPI and ICR.
    pub fn written_msrs(self) -> impl Iterator<Item = u32> {
        let interrupts = self.contains(Self::INTERRUPTS).then_some([0x80b, 0x83f]);
        let command = self.contains(Self::IPIS).then_some(0x830);
        interrupts.into_iter().flatten().chain(self.contains(Self::TPR).then_some(0x808)).chain(command)
    }
}

impl fmt::Display for ApicVirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.contains(Self::IPIS) {
            "APICv with posted interrupts and IPI virtualization"
        } else if self.contains(Self::POSTED) {
            "APICv with posted interrupts"
        } else if self.contains(Self::APICV) {
            "APICv"
        } else if self.contains(Self::ACCESSES) {
            "TPR shadow and APIC-access page"
        } else if self.contains(Self::TPR) {
            "TPR shadow"
        } else {
            "nothing of the APIC"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: ApicVirt = ApicVirt::all();
    const MODES: [ApicMode; 3] = [ApicMode::Disabled, ApicMode::Xapic, ApicMode::X2apic];

    #[test]
    fn modes_by_the_base() {
        for (base, mode) in [
            (0xfee0_0100, ApicMode::Disabled),
            (0xfee0_0900, ApicMode::Xapic),
            (0xfee0_0c00, ApicMode::X2apic),
        ] {
            assert_eq!(ApicMode::of(base), mode);
        }
    }

    /// SDM 26.2.1.1, whatever a CPU has.
    #[test]
    fn no_entry_fails_for_the_controls() {
        for bits in 0..=ALL.bits() {
            for mode in MODES {
                let (primary, secondary) = ApicVirt::from_bits_retain(bits).in_mode(mode).controls();
                let needs_shadow = SECONDARY - ProcBased2::VIRTUALIZE_APIC_ACCESSES;
                let shadow = primary.contains(ProcBased::USE_TPR_SHADOW);
                // What this CPU could not have is not asked about.
                let can_be = bits & 1 != 0 || bits & !2 == 0;
                assert!(!can_be || shadow || !secondary.intersects(needs_shadow), "{bits:#x} {mode:?}");
                let both = ProcBased2::VIRTUALIZE_APIC_ACCESSES | ProcBased2::VIRTUALIZE_X2APIC_MODE;
                assert!(!secondary.contains(both), "{bits:#x} {mode:?}");
                assert_ne!(shadow, primary.contains(ProcBased::CR8_LOAD_EXITING));
            }
        }
    }

    /// What a CPU has on top of APICv stays unused without it, and where the exit cannot acknowledge interrupts.
    #[test]
    fn posted_interrupts_need_the_rest() {
        let caps = |pin: u32, exit: u32| {
            let word = |bits: u32| u64::from(bits) << 32;
            let caps = Caps::new(|msr| match msr {
                0x48d | 0x481 => word(pin),
                0x48f | 0x483 => word(exit),
                0x48c => u64::MAX,
                0x480 | 0x485 => 0,
                _ => 0xffff_ffff << 32,
            });
            caps.expect("a host")
        };
        let (posted, acknowledges) = (1 << 7 | 1, 1 << 15);
        let virt = |pin, exit, apicv, posted| ApicVirt::new(&caps(pin, exit), apicv, posted);
        let all = virt(posted, acknowledges, true, true);
        assert!(all.contains(ApicVirt::APICV | ApicVirt::POSTED) && !all.contains(ApicVirt::IPIS));
        let mut ipis = caps(posted, acknowledges);
        ipis.proc3 = TERTIARY;
        assert_eq!(ApicVirt::new(&ipis, true, true), all | ApicVirt::IPIS);
        assert!(!ApicVirt::new(&ipis, true, false).intersects(ApicVirt::SENT));
        for less in [
            virt(1, acknowledges, true, true),
            virt(posted, 0, true, true),
            virt(posted, acknowledges, false, true),
            virt(posted, acknowledges, true, false),
            all.without_apicv(),
        ] {
            assert!(!less.contains(ApicVirt::POSTED));
        }
        assert!(!all.without_apicv().intersects(ApicVirt::APICV | ApicVirt::SENT));
        assert_eq!(all.in_mode(ApicMode::X2apic).pin(), PIN);
        assert!(all.in_mode(ApicMode::Disabled).pin().is_empty());
        assert_eq!(
            (ALL.in_mode(ApicMode::Xapic).tertiary(), ALL.in_mode(ApicMode::Disabled).tertiary()),
            (TERTIARY, 0)
        );
    }

    #[test]
    fn nothing_is_virtualised_that_is_off() {
        assert_eq!(ALL.in_mode(ApicMode::Disabled), ApicVirt::ACCESSES);
        assert!(ALL.in_mode(ApicMode::Xapic).contains(ApicVirt::APICV | ApicVirt::ACCESSES));
        assert!(ALL.in_mode(ApicMode::X2apic).contains(ApicVirt::APICV | ApicVirt::X2APIC));
        let old = ApicVirt::TPR | ApicVirt::ACCESSES;
        assert_eq!((old.in_mode(ApicMode::Xapic), old.in_mode(ApicMode::X2apic)), (old, ApicVirt::TPR));
    }

    #[test]
    fn only_what_the_cpu_does_by_itself_passes() {
        let registers: alloc::vec::Vec<u32> = ALL.read_msrs().collect();
        for msr in [0x80b, 0x80e, 0x82f, 0x830, 0x831, 0x839, 0x83f] {
            assert!(!registers.contains(&msr), "{msr:#x}");
        }
        assert_eq!(registers.len(), 2 + 3 + 24 + 1 + 7 + 1 + 1);
        let old = ApicVirt::TPR | ApicVirt::X2APIC;
        assert!(old.read_msrs().eq([0x808]) && old.written_msrs().eq([0x808]));
        assert!((ALL - ApicVirt::IPIS).written_msrs().eq([0x80b, 0x83f, 0x808]));
        assert!(ALL.written_msrs().eq([0x80b, 0x83f, 0x808, 0x830]));
        assert_eq!(ApicVirt::empty().read_msrs().count() + ApicVirt::empty().written_msrs().count(), 0);
    }
}
