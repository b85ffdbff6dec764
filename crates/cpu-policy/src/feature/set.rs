//! Sets of features.

use core::fmt;

use super::{FEATURES, Feature, Kind, Place, Polarity, Reg};

const WORDS: usize = FEATURES.len().div_ceil(64);

/// All losses.
const RESTRICTIONS: FeatureSet = {
    let (mut set, mut i) = (FeatureSet::EMPTY, 0);
    while i < FEATURES.len() {
        if matches!(FEATURES[i].feature.polarity(), Polarity::Restriction) {
            set = set.with(FEATURES[i].feature);
        }
        i += 1;
    }
    set
};

/// A set of features, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FeatureSet([u64; WORDS]);

impl FeatureSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// What a guest can have of its CPU or of the hypervisor.
    pub(crate) const VIRTUALISED: Self = {
        let (mut set, mut i) = (Self::EMPTY, 0);
        while i < FEATURES.len() {
            if matches!(FEATURES[i].kind, Kind::Native | Kind::Emulated) {
                set = set.with(FEATURES[i].feature);
            }
            i += 1;
        }
        set
    };

    /// The set of the features listed.
    #[must_use]
    pub const fn of(features: &[Feature]) -> Self {
        Self::EMPTY.with_all(features)
    }

    /// The features that satisfy `wanted`.
    #[must_use]
    pub fn matching(mut wanted: impl FnMut(Feature) -> bool) -> Self {
        let mut set = Self::EMPTY;
        for row in FEATURES {
            if wanted(row.feature) {
                set.insert(row.feature);
            }
        }
        set
    }

    /// All features of this kind.
    #[must_use]
    pub fn of_kind(kind: Kind) -> Self {
        Self::matching(|feature| feature.info().kind == kind)
    }

    /// The set and one feature more.
    #[must_use]
    pub const fn with(mut self, feature: Feature) -> Self {
        self.0[feature as usize / 64] |= 1 << (feature as usize % 64);
        self
    }

    /// The set and these features more.
    pub(crate) const fn with_all(mut self, features: &[Feature]) -> Self {
        let mut i = 0;
        while i < features.len() {
            self = self.with(features[i]);
            i += 1;
        }
        self
    }

    /// The set without these features.
    pub(crate) const fn without_all(mut self, features: &[Feature]) -> Self {
        let mut i = 0;
        while i < features.len() {
            self.0[features[i] as usize / 64] &= !(1 << (features[i] as usize % 64));
            i += 1;
        }
        self
    }

    /// Adds a feature.
    pub fn insert(&mut self, feature: Feature) {
        *self = self.with(feature);
    }

    /// Takes a feature out.
    pub fn remove(&mut self, feature: Feature) {
        *self = self.without_all(&[feature]);
    }

    /// True where the feature is in.
    #[must_use]
    #[inline]
    pub const fn contains(&self, feature: Feature) -> bool {
        self.0[feature as usize / 64] & 1 << (feature as usize % 64) != 0
    }

    fn zip(self, other: Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = op(*word, other);
        }
        Self(words)
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// True where `other` has all that this one has.
    #[must_use]
    pub fn is_subset(self, other: Self) -> bool {
        self.difference(other) == Self::EMPTY
    }

    /// True for the set of nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// The gains, or the losses.
    #[must_use]
    pub fn of_polarity(self, polarity: Polarity) -> Self {
        match polarity {
            Polarity::Capability => self.difference(RESTRICTIONS),
            Polarity::Restriction => self.intersection(RESTRICTIONS),
        }
    }

    /// The meet of what two hosts give: gains that both have, losses that either has, closed.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        let gains = self.intersection(other).of_polarity(Polarity::Capability).closure();
        gains.union(self.union(other).of_polarity(Polarity::Restriction))
    }

    /// Drops each gain that lacks something it needs, until none does. Losses stay: what they are enumerated
    /// in may be hidden, the fact is not.
    #[must_use]
    pub fn closure(mut self) -> Self {
        loop {
            let before = self;
            for feature in before.of_polarity(Polarity::Capability).iter() {
                if !feature.info().needs.iter().all(|need| self.contains(*need)) {
                    self.remove(feature);
                }
            }
            if self == before {
                return self;
            }
        }
    }

    /// The features in, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        let words = self.0.into_iter().enumerate();
        let numbers = words.flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| 64 * at + bit)
        });
        numbers.filter_map(|number| FEATURES.get(number)).map(|row| row.feature)
    }

    /// How many features are in.
    #[must_use]
    pub const fn len(self) -> usize {
        let (mut count, mut i) = (0, 0);
        while i < WORDS {
            count += self.0[i].count_ones() as usize;
            i += 1;
        }
        count
    }

    /// The bits that this set puts into a register of CPUID.
    #[must_use]
    pub fn cpuid(self, leaf: u32, subleaf: u32, reg: Reg) -> u32 {
        self.bits(Place::Cpuid { leaf, subleaf, reg }) as u32
    }

    /// The bits that this set puts into a place.
    #[must_use]
    pub fn bits(self, place: Place) -> u64 {
        let rows = place.rows().iter().filter(|row| self.contains(row.feature));
        rows.fold(0, |bits, row| bits | 1 << row.bit)
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Feature::name)).finish()
    }
}
