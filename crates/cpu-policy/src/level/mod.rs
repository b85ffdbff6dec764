//! CPU levels: what a guest can be promised, by Xeon generation. `docs/cpu-policy.md` gives the reasons.

mod abi;
mod brands;
mod cache;
mod early;
mod scalable;
mod sources;
mod tsx;
mod user_space;

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::feature::{Feature, FeatureSet, Polarity};
use crate::host::with_wider;
use abi::*;
use brands::*;
use early::*;
use scalable::*;
use tsx::*;

pub use cache::{Cache, CacheKind};
pub use user_space::UserSpace;

/// Linear address width of every guest: LA57 is not virtualised.
pub(crate) const LINEAR_BITS: u8 = 48;

/// A CPU level. It never changes once released: a change is a new version.
#[derive(PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: &'static str,
    /// Version of that name.
    pub version: u16,
    /// The Xeon series that it stands for.
    pub series: &'static str,
    /// Family, model and stepping as CPUID.1:EAX gives them.
    pub signature: u32,
    /// Highest basic leaf.
    pub max_leaf: u32,
    /// Physical address width in bits of a VM at this level where host and pool have as much and nobody asked for
    /// another. It is no demand: the same generation has had 36 and 46 bits.
    pub phys_bits: u8,
    /// The level that it builds on.
    pub base: Option<&'static Level>,
    /// No dump of such a CPU has been found: it may want a second version.
    pub provisional: bool,
    /// What it adds to that.
    pub adds: &'static [Feature],
    /// What of it, or of its silicon, is gone: no generation has all that the one before it had.
    pub drops: &'static [Feature],
    /// What this silicon brought that the level leaves out.
    pub hides: &'static [Feature],
    /// Its caches.
    pub caches: &'static [Cache],
    /// What follows from base, drops and adds.
    pub(crate) features: FeatureSet,
}

/// How a level is written down: by what it is built on, and in what it differs.
impl Level {
    /// A level that builds on none.
    const fn first(name: &'static str, signature: u32, caches: &'static [Cache]) -> Self {
        let none: &[Feature] = &[];
        Self {
            name,
            version: 1,
            series: "",
            signature,
            max_leaf: 0xa,
            phys_bits: 36,
            base: None,
            provisional: false,
            adds: none,
            drops: none,
            hides: none,
            caches,
            features: FeatureSet::EMPTY,
        }
    }

    /// A level that is `base` until it says otherwise.
    const fn on(base: &'static Self, name: &'static str, signature: u32) -> Self {
        let (max_leaf, phys_bits, features) = (base.max_leaf, base.phys_bits, base.features);
        let first = Self::first(name, signature, base.caches);
        Self { max_leaf, phys_bits, base: Some(base), features, ..first }
    }

    const fn stands_for(self, series: &'static str) -> Self {
        Self { series, ..self }
    }

    const fn version(self, version: u16) -> Self {
        Self { version, ..self }
    }

    const fn provisional(self) -> Self {
        Self { provisional: true, ..self }
    }

    const fn max_leaf(self, max_leaf: u32) -> Self {
        Self { max_leaf, ..self }
    }

    const fn phys_bits(self, phys_bits: u8) -> Self {
        Self { phys_bits, ..self }
    }

    const fn adds(self, adds: &'static [Feature]) -> Self {
        Self { adds, features: self.features.with_all(adds), ..self }
    }

    /// Before `adds`, which may bring back what is dropped.
    const fn drops(self, drops: &'static [Feature]) -> Self {
        assert!(self.adds.is_empty(), "a level drops before it adds");
        Self { drops, features: self.features.without_all(drops), ..self }
    }

    const fn hides(self, hides: &'static [Feature]) -> Self {
        Self { hides, ..self }
    }

    const fn caches(self, caches: &'static [Cache]) -> Self {
        Self { caches, ..self }
    }
}

impl Level {
    /// The newest version of this name, or the one asked for by `NAME-vN`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        let newest = LEVELS.iter().copied().find(|level| level.name == name);
        newest.or_else(|| {
            let (name, version) = name.rsplit_once("-v")?;
            let version: u16 = version.parse().ok()?;
            let mut all = LEVELS.iter().chain(OLDER).copied();
            all.find(|level| level.name == name && level.version == version)
        })
    }

    /// All that a guest at this level is told, gains and losses.
    #[must_use]
    pub const fn features(&self) -> FeatureSet {
        self.features
    }

    /// What the silicon of this generation has and the level leaves out: not virtualised, or not in every part.
    #[must_use]
    pub fn hidden(&self) -> FeatureSet {
        let below = self.base.map_or(FeatureSet::EMPTY, Level::hidden);
        below.without_all(self.drops).with_all(self.hides).without_all(self.adds)
    }

    /// The brand string, at most 47 bytes.
    #[must_use]
    pub fn brand(&self) -> String {
        format!("Intel Xeon (Flexvisor {})", self.name)
    }

    /// The highest level that `suits` and asks for no more than a guest that was told of `features` may arrive with.
    pub(crate) fn highest_within(
        features: FeatureSet,
        suits: impl Fn(&'static Self) -> bool,
    ) -> Option<&'static Self> {
        let wide = with_wider(features);
        let within = |level: &Self| level.features().of_polarity(Polarity::Capability).is_subset(wide);
        Self::highest(|level| within(level) && suits(level))
    }

    /// The highest level that `suits`: the one that tells a guest most; of levels with the same features the oldest.
    pub(crate) fn highest(suits: impl Fn(&'static Self) -> bool) -> Option<&'static Self> {
        let highest_first = BY_RANK.iter().rev().filter_map(|at| LEVELS.get(usize::from(*at)).copied());
        let last = highest_first.clone().find(|level| suits(level))?;
        let same = LEVELS.iter().copied().find(|level| level.features() == last.features() && suits(level));
        same.or(Some(last))
    }

    /// How much it tells a guest. TSX does not count: a host that can give both prefers the level without.
    const fn rank(&self) -> u32 {
        self.features.without_all(&[Feature::Hle, Feature::Rtm, Feature::Tsxldtrk]).len() as u32
    }

    /// True for a level of the psABI, which names user space and no generation of CPUs.
    #[must_use]
    pub fn is_user_space(&self) -> bool {
        self.name.starts_with("x86-64-")
    }

    /// The user space that it carries.
    #[must_use]
    pub fn user_space(&self) -> UserSpace {
        UserSpace::of(self.features())
    }

    /// The lowest generation that has all of it, without TSX where it has none.
    #[must_use]
    pub fn within(&self) -> Option<&'static Self> {
        let generations = LEVELS.iter().filter(|level| !level.is_user_space());
        let mut alike = generations.filter(|level| level.has_tsx() == self.has_tsx());
        alike.find(|level| self.features.is_subset(level.features)).copied()
    }

    /// True for the variant of a level with TSX.
    #[must_use]
    pub fn has_tsx(&self) -> bool {
        self.adds.contains(&Feature::Rtm)
    }
}

/// As `NAME-vN`.
impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-v{}", self.name, self.version)
    }
}

/// All levels: those of user space, then the generations, oldest first, then the brands beside them, each in
/// its newest version. The variant with TSX comes before its level, as a host that can give both prefers the later one.
pub static LEVELS: &[&Level] = &[
    &X86_64_V1,
    &X86_64_V2,
    &X86_64_V2_AES,
    &X86_64_V3,
    &X86_64_V4,
    &MEROM,
    &PENRYN,
    &NEHALEM,
    &WESTMERE,
    &SANDYBRIDGE,
    &IVYBRIDGE,
    &HASWELL_TSX,
    &HASWELL,
    &HASWELL_IBRS,
    &BROADWELL_TSX,
    &BROADWELL,
    &BROADWELL_IBRS,
    &SKYLAKE_SERVER_TSX,
    &SKYLAKE_SERVER,
    &SKYLAKE_SERVER_IBRS,
    &CASCADELAKE_TSX,
    &CASCADELAKE,
    &COOPERLAKE_TSX,
    &COOPERLAKE,
    &ICELAKE_SERVER_TSX,
    &ICELAKE_SERVER,
    &SAPPHIRERAPIDS_TSX,
    &SAPPHIRERAPIDS,
    &EMERALDRAPIDS_2_TSX,
    &EMERALDRAPIDS_2,
    &GRANITERAPIDS_TSX,
    &GRANITERAPIDS,
    &DIAMONDRAPIDS,
    &AVOTON,
    &DENVERTON,
    &SNOWRIDGE,
    &KNIGHTSLANDING,
    &AVX2_COMMON,
    &ROCKETLAKE,
    &RAPTORLAKE,
    &SIERRAFOREST,
    &CLEARWATERFOREST,
];

/// Earlier versions, which `NAME-vN` names.
pub static OLDER: &[&Level] = &[&EMERALDRAPIDS_TSX, &EMERALDRAPIDS];

/// Places in [`LEVELS`] from the lowest rank to the highest; of one rank in their order.
static BY_RANK: [u8; LEVELS.len()] = {
    let mut sorted = [0; LEVELS.len()];
    let mut at = 0;
    while at < LEVELS.len() {
        let mut place = at;
        while place > 0 && LEVELS[sorted[place - 1] as usize].rank() > LEVELS[at].rank() {
            sorted[place] = sorted[place - 1];
            place -= 1;
        }
        sorted[place] = at as u8;
        at += 1;
    }
    sorted
};
