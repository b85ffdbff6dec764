//! Which of a host's features a guest may have: the host, max and default sets.

use crate::feature::{Feature, FeatureSet, Kind, Polarity};
use crate::host::{Controls, RawCpu};
use crate::xsave::{COMPONENTS, SSE, X87, legal_part};

/// Instructions that raise #UD in a guest unless a secondary control (its bit) enables them (SDM 3C 25.6.2).
static ENABLES: &[(u8, Feature)] = &[
    (3, Feature::Rdtscp),
    (12, Feature::Invpcid),
    (20, Feature::Xsaves),
    (26, Feature::Waitpkg),
    (27, Feature::Pconfig),
];

/// What a guest may arrive with on a host that lacks it: a promise that an operation of every CPU does more than
/// it must (VERW, fast strings). Without it the operation is slower or does less, and works.
const WIDER: FeatureSet = FeatureSet::of(&[
    Feature::Erms,
    Feature::Fsrm,
    Feature::Fzrm,
    Feature::Fsrs,
    Feature::Fsrc,
    Feature::MdClear,
    Feature::FbClear,
    Feature::RfdsClear,
]);

/// What only a level or an option that names it gives: deprecated, or taken away by microcode from CPUs of the
/// same name.
const OPT_IN: FeatureSet = FeatureSet::of(&[
    Feature::Hle,
    Feature::Rtm,
    Feature::Tsxldtrk,
    Feature::Mpx,
    Feature::Prefetchwt1,
    Feature::Avx512pf,
    Feature::Avx512er,
    Feature::Avx5124vnniw,
    Feature::Avx5124fmaps,
    Feature::Avx512Vp2intersect,
]);

/// Losses that every new guest is told of: free on a CPU without them, and a later member may have them.
const ANNOUNCED: FeatureSet = FeatureSet::of(&[Feature::FdpExcptnOnly, Feature::ZeroFcsFds, Feature::Rsba]);

/// The components of XCR0 that this host has and lays out as the SDM's examples and all Xeons do.
pub(crate) fn host_xcr0(raw: &RawCpu, features: FeatureSet) -> u64 {
    if !features.contains(Feature::Xsave) || raw.max_leaf() < 0xd {
        return 0;
    }
    let [low, _, _, high] = raw.cpuid(0xd, 0);
    let has = u64::from(low) | u64::from(high) << 32;
    let mut xcr0 = has & (X87 | SSE);
    for component in COMPONENTS.iter().filter(|c| has & 1 << c.bit != 0) {
        let [size, offset, flags, _] = raw.cpuid(0xd, u32::from(component.bit));
        let aligned = flags & 1 << 1 != 0;
        if (size, offset, aligned) == (component.size, component.offset, component.align64) {
            xcr0 |= 1 << component.bit;
        }
    }
    legal_part(xcr0)
}

/// What of `raw` can be virtualised, and its losses.
pub(crate) fn host(raw: FeatureSet, xcr0: u64, controls: Option<Controls>) -> FeatureSet {
    let mut gains =
        raw.intersection(FeatureSet::of_kind(Kind::Native)).union(FeatureSet::of_kind(Kind::Emulated));
    if xcr0 == 0 {
        gains.remove(Feature::Xsave);
    }
    // Every transaction aborts, although RTM may still be enumerated.
    if raw.contains(Feature::RtmAlwaysAbort) {
        [Feature::Hle, Feature::Rtm, Feature::Tsxldtrk].into_iter().for_each(|tsx| gains.remove(tsx));
    }
    for component in COMPONENTS.iter().filter(|c| xcr0 & 1 << c.bit == 0) {
        gains.remove(component.feature);
    }
    if let Some(controls) = controls {
        for (_, feature) in ENABLES.iter().filter(|(bit, _)| !controls.secondary_may(*bit)) {
            gains.remove(*feature);
        }
    }
    gains.closure().union(raw.intersection(FeatureSet::of_kind(Kind::Restriction)))
}

/// What a guest may arrive with, the losses that it must have been told of included.
pub(crate) fn with_wider(host: FeatureSet) -> FeatureSet {
    host.union(WIDER.intersection(FeatureSet::VIRTUALISED)).closure()
}

/// What a new guest gets that names no level.
pub(crate) fn default(host: FeatureSet) -> FeatureSet {
    host.difference(OPT_IN).closure().union(ANNOUNCED)
}

/// True where this much of `max` is more than `host` for a reason that this version knows.
pub(crate) fn may_widen(feature: Feature) -> bool {
    WIDER.contains(feature) && feature.polarity() == Polarity::Capability
}
