//! The user space that a set of features carries.

use core::fmt;

use crate::feature::{Feature, FeatureSet};
use Feature::*;

/// A level of the x86-64 psABI ("Micro-Architecture Levels"): distributions and compiled packages are built for one, and
/// their programs die of an invalid opcode below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum UserSpace {
    /// x86-64-v1, the baseline: every CPU with 64-bit mode.
    V1 = 1,
    /// x86-64-v2: up to SSE4.2 and POPCNT.
    V2,
    /// x86-64-v3: AVX2, FMA, BMI.
    V3,
    /// x86-64-v4: AVX-512 F, BW, CD, DQ, VL.
    V4,
}

/// What x86-64-v2 adds, where a feature of ours stands for it.
pub(super) const V2: &[Feature] = &[Cmpxchg16b, LahfSahf, Popcnt, Sse3, Sse41, Sse42, Ssse3];
/// What x86-64-v3 adds; OSXSAVE follows from XSAVE.
pub(super) const V3: &[Feature] = &[Avx, Avx2, Bmi1, Bmi2, F16c, Fma, Lzcnt, Movbe, Xsave];
/// What x86-64-v4 adds.
pub(super) const V4: &[Feature] = &[Avx512f, Avx512bw, Avx512cd, Avx512dq, Avx512vl];

/// What each adds to the one before it.
const ADDS: [(UserSpace, FeatureSet); 3] = [
    (UserSpace::V2, FeatureSet::of(V2)),
    (UserSpace::V3, FeatureSet::of(V3)),
    (UserSpace::V4, FeatureSet::of(V4)),
];

impl UserSpace {
    /// The highest that these features carry.
    #[must_use]
    pub fn of(features: FeatureSet) -> Self {
        let carried = ADDS.iter().take_while(|(_, adds)| adds.is_subset(features));
        carried.last().map_or(Self::V1, |(level, _)| *level)
    }
}

/// `x86-64-v3`.
impl fmt::Display for UserSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        })
    }
}
