//! The vocabulary: every feature bit, where it is enumerated, what it needs and whether it is a gain or a loss.

mod leaf;
mod msrs;
mod numbers;
mod set;
mod table;

use core::fmt;

pub(crate) use leaf::is_indexed;
pub use msrs::{FEATURE_MSRS, FeatureMsr};
pub use numbers::{ARCH_CAPABILITIES, CORE_CAPABILITIES, MISC_ENABLE, PLATFORM_INFO, TSX_CTRL};
pub use set::FeatureSet;
pub use table::{FEATURES, Feature};

/// A register that CPUID answers in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reg {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// The 32 or 64 bits that hold a feature bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A register of a CPUID sub-leaf.
    Cpuid {
        /// EAX on input.
        leaf: u32,
        /// ECX on input; 0 for a leaf without sub-leaves.
        subleaf: u32,
        /// The register of the answer.
        reg: Reg,
    },
    /// A model-specific register.
    Msr(u32),
}

impl Place {
    /// The rows of its features. They are found by place, not each row by itself: some ask it of every place.
    #[must_use]
    pub fn rows(self) -> &'static [FeatureInfo] {
        let mut first = 0;
        for (place, count) in table::PLACES {
            if *place == self {
                return FEATURES.get(first..first + count).unwrap_or_default();
            }
            first += count;
        }
        &[]
    }
}

/// Whether a bit is a gain or a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// Something can be done: a pool offers what all of its hosts have.
    Capability,
    /// Something cannot be relied on: a pool announces what any of its hosts has.
    Restriction,
}

/// How the hypervisor treats a bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A guest may have it where the hardware does.
    Native,
    /// The hypervisor provides it whatever the hardware does.
    Emulated,
    /// The hypervisor does not virtualise it: no guest has it.
    Hidden,
    /// A loss: the guest must be told before it runs on a host that has it.
    Restriction,
    /// Follows from the guest's registers or topology, or is the same for all guests; in no set.
    Derived,
}

/// One row of the table.
#[derive(Debug)]
pub struct FeatureInfo {
    /// The feature; its number is the row's.
    pub feature: Feature,
    /// Where it is enumerated.
    pub place: Place,
    /// Bit in that place.
    pub bit: u8,
    /// The SDM's name.
    pub name: &'static str,
    /// The name in Linux' `/proc/cpuinfo`, empty where it shows none; two with a blank between where it shows two.
    pub linux: &'static str,
    /// How the hypervisor treats it.
    pub kind: Kind,
    /// What it means nothing without.
    pub needs: &'static [Feature],
}

impl FeatureInfo {
    /// True where this is its SDM name, or one of those that Linux shows, in any case.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let mut names = core::iter::once(self.name).chain(self.linux.split_ascii_whitespace());
        names.any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl Feature {
    /// Its row.
    #[must_use]
    pub const fn info(self) -> &'static FeatureInfo {
        &FEATURES[self as usize]
    }

    /// The SDM's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// Gain or loss.
    #[must_use]
    pub const fn polarity(self) -> Polarity {
        match self.info().kind {
            Kind::Restriction => Polarity::Restriction,
            _ => Polarity::Capability,
        }
    }

    /// True where the hypervisor provides it whatever the hardware does.
    #[must_use]
    pub const fn emulated(self) -> bool {
        matches!(self.info().kind, Kind::Emulated)
    }

    /// The feature of this SDM or Linux name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        FEATURES.iter().find(|row| row.is_called(name)).map(|row| row.feature)
    }

    /// A restriction that tells the guest at least as much as this one: RSBA says more than RRSBA.
    #[must_use]
    pub const fn implied_by(self) -> Option<Self> {
        match self {
            Feature::Rrsba => Some(Feature::Rsba),
            _ => None,
        }
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reg::Eax => "EAX",
            Reg::Ebx => "EBX",
            Reg::Ecx => "ECX",
            Reg::Edx => "EDX",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Place::Cpuid { leaf, subleaf, reg } if is_indexed(leaf) => {
                write!(f, "CPUID.{leaf:X}.{subleaf}:{reg}")
            }
            Place::Cpuid { leaf, reg, .. } => write!(f, "CPUID.{leaf:X}:{reg}"),
            Place::Msr(index) => match FEATURE_MSRS.iter().find(|msr| msr.index == index) {
                Some(msr) => f.write_str(msr.name),
                None => write!(f, "MSR {index:X}"),
            },
        }
    }
}

/// As the SDM writes it: `CPUID.7.0:EBX[5] AVX2`.
impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.info();
        write!(f, "{}[{}] {}", row.place, row.bit, row.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_comes_once_and_has_its_rows() {
        let mut rows = FEATURES.iter();
        for (at, (place, count)) in table::PLACES.iter().enumerate() {
            assert!(table::PLACES[..at].iter().all(|(other, _)| other != place), "{place:?}");
            assert_eq!(place.rows().len(), *count);
            for row in place.rows() {
                assert!(core::ptr::eq(row, rows.next().unwrap()) && row.place == *place);
            }
        }
        assert!(rows.next().is_none() && Place::Msr(1).rows().is_empty());
    }
}
