//! What a host has, and what of it a guest can be given.

use crate::feature::{CORE_CAPABILITIES, FEATURES, Feature, FeatureSet, Kind, Place, Polarity};
use crate::fits::{Needs, obstacles};
use crate::level::{LEVELS, Level};
use crate::xsave::{COMPONENTS, SSE, X87, legal_part};

/// IA32_VMX_PROCBASED_CTLS2: its high half has the secondary controls that may be 1.
const VMX_PROCBASED_CTLS2: u32 = 0x48b;

/// Instructions that raise #UD in a guest unless a secondary control (its bit) enables them.
static ENABLES: &[(u8, Feature)] = &[(3, Feature::Rdtscp), (12, Feature::Invpcid), (20, Feature::Xsaves)];

/// What a host has and can give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPolicy {
    /// What the CPU enumerates (raw).
    pub raw: FeatureSet,
    /// What a guest can be given, and the losses that it must be told of.
    pub features: FeatureSet,
    /// Vendor string.
    pub vendor: [u8; 12],
    /// CPUID.1:EAX.
    pub signature: u32,
    /// Highest basic leaf.
    pub max_leaf: u32,
    /// Physical address width in bits.
    pub phys_bits: u8,
    /// Linear address width in bits.
    pub linear_bits: u8,
    /// XCR0 bits that a guest can be given; 0 without XSAVE.
    pub xcr0: u64,
}

impl HostPolicy {
    /// Reads a host: `cpuid(EAX, ECX)` in 64-bit mode, `msr(index)` with None where there is none.
    #[must_use]
    pub fn from_reader(cpuid: impl Fn(u32, u32) -> [u32; 4], msr: impl Fn(u32) -> Option<u64>) -> Self {
        let [max_leaf, ebx, ecx, edx] = cpuid(0, 0);
        let max_extended = cpuid(0x8000_0000, 0)[0];
        let max_sub7 = if max_leaf >= 7 { cpuid(7, 0)[0] } else { 0 };
        let exists = |leaf: u32, subleaf: u32| {
            let max = if leaf >> 31 != 0 { max_extended } else { max_leaf };
            leaf <= max && (leaf != 7 || subleaf <= max_sub7)
        };
        let mut raw = FeatureSet::EMPTY;
        let mut cached = None;
        for row in FEATURES {
            let bits = match row.place {
                place if cached.is_some_and(|(last, _)| last == place) => cached.map_or(0, |(_, bits)| bits),
                Place::Cpuid { leaf, subleaf, reg } if exists(leaf, subleaf) => {
                    u64::from(cpuid(leaf, subleaf)[reg as usize])
                }
                Place::Cpuid { .. } => 0,
                // These two exist only where CPUID says so.
                Place::Msr(crate::ARCH_CAPABILITIES) if !raw.contains(Feature::ArchCapabilities) => 0,
                Place::Msr(CORE_CAPABILITIES) if !raw.contains(Feature::CoreCapabilities) => 0,
                Place::Msr(index) => msr(index).unwrap_or(0),
            };
            cached = Some((row.place, bits));
            if bits & 1 << row.bit != 0 {
                raw.insert(row.feature);
            }
        }
        let widths = if exists(0x8000_0008, 0) { cpuid(0x8000_0008, 0)[0] } else { 0x3024 };
        let xcr0 = if raw.contains(Feature::Xsave) && max_leaf >= 0xd { host_xcr0(&cpuid) } else { 0 };
        let controls = if raw.contains(Feature::Vmx) { msr(VMX_PROCBASED_CTLS2) } else { None };
        let mut vendor = [0; 12];
        for (to, from) in vendor.chunks_exact_mut(4).zip([ebx, edx, ecx]) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        Self {
            features: given(raw, xcr0, controls),
            raw,
            vendor,
            signature: cpuid(1, 0)[0],
            max_leaf,
            phys_bits: (widths & 0xff) as u8,
            linear_bits: (widths >> 8 & 0xff) as u8,
            xcr0,
        }
    }

    /// The losses that a guest must be told of before it runs here.
    #[must_use]
    pub fn restrictions(&self) -> FeatureSet {
        self.features.of_polarity(Polarity::Restriction)
    }

    /// The levels that this host can give, oldest first.
    pub fn levels(&self) -> impl Iterator<Item = &'static Level> {
        LEVELS.iter().copied().filter(|level| obstacles(&Needs::of_level(level), self).is_empty())
    }

    /// The highest level that this host can give.
    #[must_use]
    pub fn best_level(&self) -> Option<&'static Level> {
        self.levels().last()
    }
}

/// The components of XCR0 that this host has and lays out as the SDM's examples and all Xeons do.
fn host_xcr0(cpuid: &impl Fn(u32, u32) -> [u32; 4]) -> u64 {
    let [low, _, _, high] = cpuid(0xd, 0);
    let has = u64::from(low) | u64::from(high) << 32;
    let mut xcr0 = has & (X87 | SSE);
    for component in COMPONENTS.iter().filter(|c| has & 1 << c.bit != 0) {
        let [size, offset, flags, _] = cpuid(0xd, u32::from(component.bit));
        let aligned = flags & 1 << 1 != 0;
        if (size, offset, aligned) == (component.size, component.offset, component.align64) {
            xcr0 |= 1 << component.bit;
        }
    }
    legal_part(xcr0)
}

/// What of `raw` a guest can be given.
fn given(raw: FeatureSet, xcr0: u64, controls: Option<u64>) -> FeatureSet {
    let mut gains =
        raw.intersection(FeatureSet::of_kind(Kind::Native)).union(FeatureSet::of_kind(Kind::Emulated));
    if xcr0 == 0 {
        gains.remove(Feature::Xsave);
    }
    for component in COMPONENTS.iter().filter(|c| xcr0 & 1 << c.bit == 0) {
        gains.remove(component.feature);
    }
    if let Some(controls) = controls {
        for (_, feature) in ENABLES.iter().filter(|(bit, _)| controls >> 32 & 1 << bit == 0) {
            gains.remove(*feature);
        }
    }
    gains.closure().union(raw.intersection(FeatureSet::of_kind(Kind::Restriction)))
}
