//! A host's policy as bytes for the other members of its pool: CBOR with numbered fields.

use alloc::vec::Vec;

use super::{HostPolicy, RawCpu, RawError, VENDOR, sets};
use crate::feature::{FEATURES, Feature, FeatureSet, Kind, Place, Polarity, Reg};
use crate::table::Row;
use crate::xsave::{COMPONENTS, legal_part};

/// Version of the format.
const VERSION: u16 = 1;
/// Most bytes that a host's policy may have.
pub const MAX_HOST_ENCODED: usize = 16 * 1024;
const TSC_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=20_000_000_000;

/// The bits of one register: host, max and default set.
#[derive(Clone, Copy, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
struct Bits {
    /// Leaf; for an MSR its index.
    #[n(0)]
    leaf: u32,
    #[n(1)]
    subleaf: u32,
    /// 0 to 3: EAX, EBX, ECX, EDX; 4: an MSR.
    #[n(2)]
    reg: u8,
    #[n(3)]
    host: u64,
    #[n(4)]
    max: u64,
    #[n(5)]
    default: u64,
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Wire {
    #[n(0)]
    version: u16,
    #[n(1)]
    rows: Vec<Row>,
    #[n(2)]
    msrs: Vec<(u32, u64)>,
    #[n(3)]
    sets: Vec<Bits>,
    #[n(4)]
    xcr0: u64,
    #[n(5)]
    xss: u64,
    #[n(6)]
    tsc_hz: Option<u64>,
}

/// Why bytes are no host's policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostError {
    /// More than [`MAX_HOST_ENCODED`].
    #[error("host policy of {0} bytes, at most {MAX_HOST_ENCODED} are possible")]
    Length(usize),
    /// Not CBOR, or a field is missing or of another type.
    #[error("host policy is malformed at byte {0}")]
    Malformed(usize),
    /// Bytes behind the end.
    #[error("host policy has {0} bytes too many")]
    Trailing(usize),
    /// Written by a version that this one does not know.
    #[error("host policy of format version {0}, this host knows {VERSION}")]
    Version(u16),
    /// Rows or MSRs that are no CPU.
    #[error("host policy: {0}")]
    Cpu(RawError),
    /// Another vendor's CPU.
    #[error("host policy: CPU vendor {}, a pool takes GenuineIntel only", .0.escape_ascii())]
    Vendor([u8; 12]),
    /// A register that is there twice, or in which no feature is known.
    #[error("host policy: register {leaf:#x}.{subleaf} number {reg} is unknown or double")]
    Place {
        /// Leaf; for an MSR its index.
        leaf: u32,
        /// Sub-leaf.
        subleaf: u32,
        /// 0 to 3: EAX, EBX, ECX, EDX; 4: an MSR.
        reg: u8,
    },
    /// Feature bits that this version does not know.
    #[error("host policy: unknown bits {bits:#x} in {place}; it is from a newer version")]
    UnknownBits {
        /// Where.
        place: Place,
        /// Which.
        bits: u64,
    },
    /// A feature without what it needs.
    #[error("host policy: {feature} without {need}")]
    Contradiction {
        /// The feature.
        feature: Feature,
        /// What it needs.
        need: Feature,
    },
    /// A feature offered that the CPU does not enumerate and no hypervisor emulates.
    #[error("host policy: {0} is offered, and the CPU lacks it")]
    NotThere(Feature),
    /// A loss of the CPU that the policy keeps silent.
    #[error("host policy: {0} is a loss of the CPU and not in the policy")]
    Silent(Feature),
    /// Sets that do not contain each other as they must.
    #[error("host policy: {0} is in the {1} set and not in the {2} set")]
    Sets(Feature, &'static str, &'static str),
    /// A value out of range or at odds with the CPU.
    #[error("host policy: {0} {1:#x} is not possible on this CPU")]
    Value(&'static str, u64),
}

/// Its text is part of this one's: as a source too it would be said twice.
impl From<RawError> for HostError {
    fn from(error: RawError) -> Self {
        Self::Cpu(error)
    }
}

impl HostPolicy {
    /// The policy as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            version: VERSION,
            rows: self.cpu.rows().into(),
            msrs: self.cpu.msrs().into(),
            sets: self.bits(),
            xcr0: self.xcr0,
            xss: self.xss,
            tsc_hz: self.tsc_hz,
        };
        let mut bytes = Vec::new();
        let written: Result<(), minicbor::encode::Error<core::convert::Infallible>> =
            minicbor::encode(&wire, &mut bytes);
        debug_assert!(written.is_ok(), "a Vec takes everything");
        bytes
    }

    fn bits(&self) -> Vec<Bits> {
        let mut out: Vec<Bits> = Vec::new();
        let mut last = None;
        for place in FEATURES.iter().map(|row| row.place) {
            if last == Some(place) {
                continue;
            }
            last = Some(place);
            let [host, max, default] = [self.features, self.max, self.default].map(|set| set.bits(place));
            let (leaf, subleaf, reg) = key(place);
            let double = out.iter().any(|bits| (bits.leaf, bits.subleaf, bits.reg) == (leaf, subleaf, reg));
            if host | max | default != 0 && !double {
                out.push(Bits { leaf, subleaf, reg, host, max, default });
            }
        }
        out
    }

    /// Reads and checks a policy: it is one that a host could have, and that contradicts neither its CPU nor
    /// itself.
    ///
    /// # Errors
    /// What is wrong, by name and value.
    pub fn decode(bytes: &[u8]) -> Result<Self, HostError> {
        if bytes.len() > MAX_HOST_ENCODED {
            return Err(HostError::Length(bytes.len()));
        }
        // The version first: of another one nothing else need be readable.
        let head: Head = minicbor::decode(bytes).map_err(|_| HostError::Malformed(0))?;
        if head.version != VERSION {
            return Err(HostError::Version(head.version));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire = decoder.decode().map_err(|_| HostError::Malformed(decoder.position()))?;
        if decoder.position() != bytes.len() {
            return Err(HostError::Trailing(bytes.len() - decoder.position()));
        }
        let policy = Self::from_raw(&RawCpu::new(wire.rows, wire.msrs)?);
        if policy.vendor != *VENDOR {
            return Err(HostError::Vendor(policy.vendor));
        }
        let [features, max, default] = sets_of(&wire.sets)?;
        let policy =
            Self { features, max, default, xcr0: wire.xcr0, xss: wire.xss, tsc_hz: wire.tsc_hz, ..policy };
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), HostError> {
        let sets = [("host", self.features), ("max", self.max), ("default", self.default)];
        for (_, set) in sets {
            closed(set)?;
        }
        let offered = self.features.difference(FeatureSet::of_kind(Kind::Emulated));
        if let Some(feature) = offered.difference(self.raw).iter().next() {
            return Err(HostError::NotThere(feature));
        }
        let losses = self.raw.of_polarity(Polarity::Restriction);
        for (_, set) in sets {
            if let Some(loss) = losses.difference(set).iter().next() {
                return Err(HostError::Silent(loss));
            }
        }
        let gains = |set: FeatureSet| set.of_polarity(Polarity::Capability);
        for (lesser, greater) in [(sets[0], sets[1]), (sets[2], sets[0])] {
            if let Some(feature) = gains(lesser.1).difference(greater.1).iter().next() {
                return Err(HostError::Sets(feature, lesser.0, greater.0));
            }
        }
        if let Some(feature) = gains(self.max).difference(self.features).iter().find(|f| !sets::may_widen(*f))
        {
            return Err(HostError::Sets(feature, "max", "host"));
        }
        self.check_values()
    }

    fn check_values(&self) -> Result<(), HostError> {
        let possible = sets::host_xcr0(&self.cpu, self.raw);
        if self.xcr0 & !possible != 0 || legal_part(self.xcr0) != self.xcr0 {
            return Err(HostError::Value("XCR0", self.xcr0));
        }
        let lacking =
            COMPONENTS.iter().find(|c| self.xcr0 & 1 << c.bit == 0 && self.features.contains(c.feature));
        if lacking.is_some() || self.xcr0 == 0 && self.features.contains(Feature::Xsave) {
            return Err(HostError::Value("XCR0", self.xcr0));
        }
        let [_, _, low, high] = self.cpu.cpuid(0xd, 1);
        if self.xss & !(u64::from(low) | u64::from(high) << 32) != 0 {
            return Err(HostError::Value("IA32_XSS", self.xss));
        }
        if !(32..=52).contains(&self.phys_bits) {
            return Err(HostError::Value("physical address width", self.phys_bits.into()));
        }
        if ![48, 57].contains(&self.linear_bits) {
            return Err(HostError::Value("linear address width", self.linear_bits.into()));
        }
        match self.tsc_hz {
            Some(hz) if !TSC_HZ.contains(&hz) => Err(HostError::Value("TSC rate", hz)),
            _ => Ok(()),
        }
    }
}

#[derive(minicbor::Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    version: u16,
}

/// Leaf or MSR, sub-leaf, number of the register.
fn key(place: Place) -> (u32, u32, u8) {
    match place {
        Place::Cpuid { leaf, subleaf, reg } => (leaf, subleaf, reg as u8),
        Place::Msr(index) => (index, 0, 4),
    }
}

fn sets_of(all: &[Bits]) -> Result<[FeatureSet; 3], HostError> {
    let mut sets = [FeatureSet::EMPTY; 3];
    for (at, bits) in all.iter().enumerate() {
        let Bits { leaf, subleaf, reg, .. } = *bits;
        let double = all.iter().take(at).any(|b| (b.leaf, b.subleaf, b.reg) == (leaf, subleaf, reg));
        let place = match reg {
            0..=3 => Place::Cpuid {
                leaf,
                subleaf,
                reg: [Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx][usize::from(reg)],
            },
            _ => Place::Msr(leaf),
        };
        let rows = || place.rows().iter();
        if double || key(place) != (leaf, subleaf, reg) || rows().next().is_none() {
            return Err(HostError::Place { leaf, subleaf, reg });
        }
        let known = rows().filter(|row| row.kind != Kind::Derived).fold(0, |known, row| known | 1 << row.bit);
        for (set, word) in sets.iter_mut().zip([bits.host, bits.max, bits.default]) {
            if word & !known != 0 {
                return Err(HostError::UnknownBits { place, bits: word & !known });
            }
            rows().filter(|row| word & 1 << row.bit != 0).for_each(|row| set.insert(row.feature));
        }
    }
    Ok(sets)
}

/// No gain without what it needs.
fn closed(set: FeatureSet) -> Result<(), HostError> {
    for feature in set.of_polarity(Polarity::Capability).iter() {
        if let Some(need) = feature.info().needs.iter().find(|need| !set.contains(**need)) {
            return Err(HostError::Contradiction { feature, need: *need });
        }
    }
    Ok(())
}
