//! What is true of a host by its model, whatever its CPUID and microcode say.

use mitigations::{Cpu, Smt};

use super::HostPolicy;
use crate::feature::{ARCH_CAPABILITIES, Feature, FeatureSet, Place};

/// Secondary control "enable EPT".
const EPT: u8 = 1;

/// Models of family 6 with VMX and without EPT: Core 2 (Merom, its single-core parts, Penryn, Dunnington) and the Atoms
/// before Silvermont (SDM 4, table 2-1). EPT came with Nehalem.
const WITHOUT_EPT: &[u32] = &[0x0e, 0x0f, 0x16, 0x17, 0x1d, 0x1c, 0x26, 0x27, 0x35, 0x36];

impl HostPolicy {
    /// False where VMX is known to have no extended page tables: by its capability MSRs, else by the model.
    #[must_use]
    pub fn has_ept(&self) -> bool {
        match self.controls {
            Some(controls) => controls.secondary_may(EPT),
            None => {
                let cpu = self.speculation();
                !(cpu.family() == 15 || cpu.family() == 6 && WITHOUT_EPT.contains(&cpu.model()))
            }
        }
    }

    /// What a guest that was told of `told` may have been told although this host does not enumerate it, because it
    /// holds here all the same.
    pub(crate) fn true_anyway(&self, told: FeatureSet) -> FeatureSet {
        // Self-snoop says how page tables with contradictory memory types are kept coherent, which is the host's to do.
        let mut all = FeatureSet::of(&[Feature::Ss]);
        // An asynchronous abort takes a transaction. KVM shows TAA_NO with RTM only.
        let transactions = self.raw.contains(Feature::Rtm) && !self.raw.contains(Feature::RtmAlwaysAbort);
        if !told.contains(Feature::Rtm) && !transactions {
            all.insert(Feature::TaaNo);
        }
        let innate = mitigations::innate_capabilities(&self.speculation());
        let rows = Place::Msr(ARCH_CAPABILITIES).rows().iter();
        rows.filter(|row| innate & 1 << row.bit != 0).for_each(|row| all.insert(row.feature));
        all
    }

    /// True where what is known of the CPU does not tell whether a guest can have this: an MSR that the CPU announces
    /// and that was not read, a leaf that the firmware hides, or what needs either.
    pub(crate) fn is_unknown(&self, feature: Feature) -> bool {
        let row = feature.info();
        self.cpu.is_unread(row.place)
            || self.cpu.is_limited() && self.raw.contains(feature)
            || row.needs.iter().any(|need| self.is_unknown(*need))
    }

    fn speculation(&self) -> Cpu {
        let cpuid = |leaf, subleaf| self.cpu.cpuid(leaf, subleaf);
        Cpu::read(cpuid, |index| self.cpu.msr(index), Smt::Unknown)
    }
}
