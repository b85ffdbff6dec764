//! The level of a pool: what all of its hosts can give, and what each of them costs the others.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use xxhash_rust::xxh64::Xxh64;

use crate::feature::{FEATURES, FeatureSet, Place, Polarity};
use crate::host::{HostPolicy, with_wider};
use crate::level::{LEVELS, LINEAR_BITS, Level};

/// What a guest that may run on every one of some hosts can be given. The same hosts give the same baseline in
/// any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Baseline {
    features: FeatureSet,
    default: FeatureSet,
    phys_bits: u8,
    linear_bits: u8,
    max_leaf: u32,
    xss: u64,
}

/// 64 bits that two baselines share only where they are the same; shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub u64);

/// What one host takes from a pool that all the others would give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Features that it alone lacks, and what goes with them.
    pub removes: FeatureSet,
    /// Losses that it alone has, and that guests are therefore told of.
    pub announces: FeatureSet,
    /// Levels of user space that all the others can give.
    pub takes: Vec<&'static Level>,
    /// Physical address width without it and with it, where it narrows that.
    pub phys_bits: Option<(u8, u8)>,
    /// Linear address width without it and with it, where it narrows that.
    pub linear_bits: Option<(u8, u8)>,
}

impl Baseline {
    /// What one host gives.
    #[must_use]
    pub fn of(host: &HostPolicy) -> Self {
        Self {
            features: host.features,
            default: host.default(),
            phys_bits: host.phys_bits,
            linear_bits: host.linear_bits,
            max_leaf: host.max_leaf,
            xss: host.xss,
        }
    }

    /// What all of these hosts give; None without any.
    #[must_use]
    pub fn meet<'a>(hosts: impl IntoIterator<Item = &'a HostPolicy>) -> Option<Self> {
        hosts.into_iter().map(Self::of).reduce(|all, one| all.and(&one))
    }

    /// What both give: gains that both have, closed; losses that either has; the lesser of each value.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            features: self.features.meet(other.features),
            default: self.default.meet(other.default),
            phys_bits: self.phys_bits.min(other.phys_bits),
            linear_bits: self.linear_bits.min(other.linear_bits),
            max_leaf: self.max_leaf.min(other.max_leaf),
            xss: self.xss & other.xss,
        }
    }

    /// All that can be virtualised on every host, features that must be asked for by name included.
    #[must_use]
    pub fn features(&self) -> FeatureSet {
        self.features
    }

    /// What a new guest at this level is told, gains and losses.
    #[must_use]
    pub fn guest_features(&self) -> FeatureSet {
        self.default
    }

    /// The named level that lends signature, brand and caches: the highest within this one, as a guest that may
    /// arrive with more sees it, or the first of all where none is.
    #[must_use]
    pub fn level(&self) -> &'static Level {
        let first = LEVELS.first().copied();
        Level::highest_within(self.default, |_| true)
            .or(first)
            .unwrap_or_else(|| unreachable!("there are levels"))
    }

    /// Physical address width of a guest in bits: what all hosts have, and no more than the named level has.
    #[must_use]
    pub fn phys_bits(&self) -> u8 {
        self.phys_bits_of(self.level())
    }

    /// The same of a guest at a level that was asked for by name.
    #[must_use]
    pub fn phys_bits_of(&self, level: &Level) -> u8 {
        self.phys_bits.min(level.phys_bits)
    }

    /// Linear address width of a guest in bits: what all hosts have, and no more than any guest is told of.
    #[must_use]
    pub fn linear_bits(&self) -> u8 {
        self.linear_bits.min(LINEAR_BITS)
    }

    /// Highest basic leaf that all hosts and the named level have; a leaf that a feature brings may raise it.
    #[must_use]
    pub fn max_leaf(&self) -> u32 {
        self.max_leaf_of(self.level())
    }

    /// The same where the named level is known.
    pub(crate) fn max_leaf_of(&self, named: &Level) -> u32 {
        self.max_leaf.min(named.max_leaf)
    }

    /// The named level that this is exactly.
    #[must_use]
    pub fn as_level(&self) -> Option<&'static Level> {
        let level = self.level();
        self.is(level).then_some(level)
    }

    /// Whether this is exactly that named level.
    pub(crate) fn is(&self, named: &Level) -> bool {
        named.features() == self.default && named.max_leaf == self.max_leaf_of(named)
    }

    /// What a guest's level is called: that of the named level, or `pool-` and the fingerprint.
    #[must_use]
    pub fn name(&self) -> String {
        self.name_as(self.as_level())
    }

    /// The same where it is known which level this is exactly, if any.
    pub(crate) fn name_as(&self, exact: Option<&Level>) -> String {
        exact.map_or_else(|| format!("pool-{}", self.fingerprint()), |level| level.name.to_string())
    }

    /// The fingerprint: of registers, bits and values, not of what this version calls them.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut places: Vec<([u32; 3], Place)> =
            FEATURES.iter().map(|row| (key(row.place), row.place)).collect();
        places.sort_unstable_by_key(|(key, _)| *key);
        places.dedup_by_key(|(key, _)| *key);
        let mut hash = Xxh64::new(0);
        for (key, place) in places {
            let bits = [self.features.bits(place), self.default.bits(place)];
            if bits != [0; 2] {
                key.iter().for_each(|word| hash.update(&word.to_le_bytes()));
                bits.iter().for_each(|word| hash.update(&word.to_le_bytes()));
            }
        }
        let level = self.level();
        let values = [
            self.phys_bits.into(),
            self.linear_bits.into(),
            self.max_leaf.into(),
            self.xss,
            level.version.into(),
        ];
        values.iter().for_each(|word: &u64| hash.update(&word.to_le_bytes()));
        hash.update(level.name.as_bytes());
        Fingerprint(hash.digest())
    }

    /// What each host alone costs the pool of all of them, in their order.
    #[must_use]
    pub fn costs(hosts: &[&HostPolicy]) -> Vec<Cost> {
        let Some(all) = Self::meet(hosts.iter().copied()) else { return Vec::new() };
        let cost = |at: usize| {
            let others = hosts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, host)| *host);
            let without = Self::meet(others).unwrap_or_else(|| all.clone());
            let (gains, losses) = (Polarity::Capability, Polarity::Restriction);
            let narrower = |without: u8, with: u8| (with < without).then_some((without, with));
            Cost {
                removes: without.default.of_polarity(gains).difference(all.default),
                announces: all.default.of_polarity(losses).difference(without.default),
                takes: taken(&without, &all),
                phys_bits: narrower(without.phys_bits(), all.phys_bits()),
                linear_bits: narrower(without.linear_bits(), all.linear_bits()),
            }
        };
        (0..hosts.len()).map(cost).collect()
    }
}

/// Levels of user space that are lost where a pool becomes `all` from `without`.
fn taken(without: &Baseline, all: &Baseline) -> Vec<&'static Level> {
    let [had, has] = [without, all].map(|pool| with_wider(pool.default));
    let lost = |level: &&&Level| {
        let gains = level.features().of_polarity(Polarity::Capability);
        level.is_user_space() && gains.is_subset(had) && !gains.is_subset(has)
    };
    LEVELS.iter().filter(lost).copied().collect()
}

/// Sorts places in a way that does not depend on the table.
fn key(place: Place) -> [u32; 3] {
    match place {
        Place::Cpuid { leaf, subleaf, reg } => [leaf, subleaf, reg as u32],
        Place::Msr(index) => [index, 0, 4],
    }
}

impl Cost {
    /// `takes x86-64-v3, x86-64-v4 from the pool`.
    #[must_use]
    pub fn taken(&self) -> Option<String> {
        let names: Vec<&str> = self.takes.iter().map(|level| level.name).collect();
        (!names.is_empty()).then(|| format!("takes {} from the pool", names.join(", ")))
    }

    /// True where the pool would be the same without it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.removes.is_empty() && self.announces.is_empty() && self.phys_bits.or(self.linear_bits).is_none()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `removes AVX512F, CLWB; announces RRSBA; takes x86-64-v4 from the pool; physical address width 46 to 40`, or `nothing`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (verb, set) in [("removes", self.removes), ("announces", self.announces)] {
            let mut names = set.iter().map(|feature| feature.name());
            if let Some(first) = names.next() {
                write!(f, "{separator}{verb} {first}")?;
                names.try_for_each(|name| write!(f, ", {name}"))?;
                separator = "; ";
            }
        }
        if let Some(taken) = self.taken() {
            write!(f, "{separator}{taken}")?;
            separator = "; ";
        }
        for (name, width) in [("physical", self.phys_bits), ("linear", self.linear_bits)] {
            if let Some((without, with)) = width {
                write!(f, "{separator}{name} address width {without} to {with}")?;
                separator = "; ";
            }
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}
