//! CPU levels: what a guest can be promised, by Xeon generation. `docs/cpu-policy.md` gives the reasons.

mod cache;
mod early;
mod scalable;
mod tsx;
mod user_space;

use core::fmt;

use crate::feature::{FeatureSet, Polarity};
use crate::host::with_wider;
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
    /// The brand string, at most 47 bytes.
    pub brand: &'static str,
    /// Highest basic leaf.
    pub max_leaf: u32,
    /// Physical address width in bits of a VM at this level where host and pool have as much and nobody asked for
    /// another. It is no demand: the same generation has had 36 and 46 bits.
    pub phys_bits: u8,
    /// The level that it builds on.
    pub base: Option<&'static Level>,
    /// What it adds to that.
    pub adds: FeatureSet,
    /// What of it, or of its silicon, is gone: no generation has all that the one before it had.
    pub drops: FeatureSet,
    /// What this silicon brought that the level leaves out.
    pub hides: FeatureSet,
    /// Its caches.
    pub caches: &'static [Cache],
}

impl Level {
    /// The newest version of this name, or the one asked for by `NAME-vN`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        let newest = LEVELS.iter().copied().rfind(|level| level.name == name);
        newest.or_else(|| {
            let (name, version) = name.rsplit_once("-v")?;
            let version: u16 = version.parse().ok()?;
            LEVELS.iter().copied().find(|level| level.name == name && level.version == version)
        })
    }

    /// All that a guest at this level is told, gains and losses.
    #[must_use]
    pub fn features(&self) -> FeatureSet {
        let below = self.base.map_or(FeatureSet::EMPTY, Level::features);
        below.difference(self.drops).union(self.adds)
    }

    /// What the silicon of this generation has and the level leaves out: not virtualised, or not in every part.
    #[must_use]
    pub fn hidden(&self) -> FeatureSet {
        let below = self.base.map_or(FeatureSet::EMPTY, Level::hidden);
        below.difference(self.drops).union(self.hides).difference(self.adds)
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

    /// The highest level that `suits`; of levels with the same features the oldest.
    pub(crate) fn highest(suits: impl Fn(&'static Self) -> bool) -> Option<&'static Self> {
        let last = LEVELS.iter().copied().rfind(|level| suits(level))?;
        let features = last.features();
        LEVELS.iter().copied().find(|level| level.features() == features && suits(level))
    }

    /// The user space that it carries.
    #[must_use]
    pub fn user_space(&self) -> UserSpace {
        UserSpace::of(self.features())
    }

    /// True for the variant of a level with TSX.
    #[must_use]
    pub fn has_tsx(&self) -> bool {
        self.adds.contains(crate::Feature::Rtm)
    }
}

/// As `NAME-vN`.
impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-v{}", self.name, self.version)
    }
}

/// All levels, oldest generation first; of one name, oldest version first. The variant with TSX comes before its
/// level, as a host that can give both prefers the later one.
pub static LEVELS: &[&Level] = &[
    &MEROM,
    &PENRYN,
    &NEHALEM,
    &WESTMERE,
    &SANDYBRIDGE,
    &IVYBRIDGE,
    &HASWELL_TSX,
    &HASWELL,
    &BROADWELL_TSX,
    &BROADWELL,
    &SKYLAKE_SERVER_TSX,
    &SKYLAKE_SERVER,
    &CASCADELAKE_TSX,
    &CASCADELAKE,
    &COOPERLAKE_TSX,
    &COOPERLAKE,
    &ICELAKE_SERVER_TSX,
    &ICELAKE_SERVER,
    &SAPPHIRERAPIDS_TSX,
    &SAPPHIRERAPIDS,
    &EMERALDRAPIDS_TSX,
    &EMERALDRAPIDS,
    &GRANITERAPIDS_TSX,
    &GRANITERAPIDS,
];
