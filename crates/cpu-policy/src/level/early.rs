//! The generations from Merom to Broadwell.

use super::{Level, cache};
use crate::feature::{Feature, FeatureSet};
use Feature::*;

/// The first level. It also announces the losses that a later host may have: x87 pointers of newer CPUs, the
/// return stack of Skylake; and has what the hypervisor provides by itself.
#[rustfmt::skip]
const FIRST: &[Feature] = &[
    Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Clfsh, Mmx,
    Fxsr, Sse, Sse2, Ss, Sse3, Ssse3, Cmpxchg16b, X2apic, Hypervisor, Arat,
    ArchCapabilities, LahfSahf, Syscall, Nx, Lm,
    FdpExcptnOnly, ZeroFcsFds, Rsba,
];

/// What no generation's guest has: debug store, power and heat, virtualisation itself.
#[rustfmt::skip]
const NEVER: &[Feature] = &[
    Ds, Acpi, Tm, Pbe, Dtes64, Monitor, DsCpl, Vmx, Eist, Tm2, Xtpr, Pdcm, Dca, MwaitExtensions,
    MwaitInterrupts, Dtherm, AperfMperf,
];

pub(super) static MEROM: Level = Level {
    name: "merom",
    version: 1,
    series: "Xeon 3000, 3200, 5100, 5300, 7200, 7300",
    signature: 0x0000_06f6,
    brand: "Intel Xeon (Flexvisor merom)",
    max_leaf: 0xa,
    phys_bits: 36,
    base: None,
    adds: FeatureSet::of(FIRST),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(NEVER),
    caches: cache::MEROM,
};

pub(super) static PENRYN: Level = Level {
    name: "penryn",
    version: 1,
    series: "Xeon 3100, 3300, 5200, 5400, 7400",
    signature: 0x0001_0676,
    brand: "Intel Xeon (Flexvisor penryn)",
    max_leaf: 0xa,
    phys_bits: 36,
    base: Some(&MEROM),
    adds: FeatureSet::of(&[Sse41]),
    drops: FeatureSet::EMPTY,
    // From stepping E0 on.
    hides: FeatureSet::of(&[Xsave]),
    caches: cache::PENRYN,
};

pub(super) static NEHALEM: Level = Level {
    name: "nehalem",
    version: 1,
    series: "Xeon 3400, 3500, 5500, 6500, 7500",
    signature: 0x0001_06a5,
    brand: "Intel Xeon (Flexvisor nehalem)",
    max_leaf: 0xb,
    phys_bits: 40,
    base: Some(&PENRYN),
    adds: FeatureSet::of(&[Sse42, Popcnt, Rdtscp, InvariantTsc]),
    drops: FeatureSet::of(&[Xsave]),
    hides: FeatureSet::of(&[Turbo]),
    caches: cache::NEHALEM,
};

pub(super) static WESTMERE: Level = Level {
    name: "westmere",
    version: 1,
    series: "Xeon 3600, 5600, E7-2800, E7-4800, E7-8800",
    signature: 0x0002_06c2,
    brand: "Intel Xeon (Flexvisor westmere)",
    max_leaf: 0xb,
    phys_bits: 40,
    base: Some(&NEHALEM),
    adds: FeatureSet::of(&[Aesni, Pclmulqdq, Pcid]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[Smx, Page1gb, Epb]),
    caches: cache::NEHALEM,
};

pub(super) static SANDYBRIDGE: Level = Level {
    name: "sandybridge",
    version: 1,
    series: "Xeon E3-1200, E5-1600, E5-2400, E5-2600, E5-4600",
    signature: 0x0002_06d7,
    brand: "Intel Xeon (Flexvisor sandybridge)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&WESTMERE),
    adds: FeatureSet::of(&[Avx, Xsave, Xsaveopt, TscDeadline]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[Pln, Ecmd, Ptm]),
    caches: cache::SANDYBRIDGE,
};

pub(super) static IVYBRIDGE: Level = Level {
    name: "ivybridge",
    version: 1,
    series: "Xeon E3-1200 v2, E5-1600 v2 to E5-4600 v2, E7 v2",
    signature: 0x0003_06e4,
    brand: "Intel Xeon (Flexvisor ivybridge)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&SANDYBRIDGE),
    adds: FeatureSet::of(&[F16c, Rdrand, Fsgsbase, Smep, Erms, CpuidFaulting]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[PpinCap]),
    caches: cache::SANDYBRIDGE,
};

pub(super) static HASWELL: Level = Level {
    name: "haswell",
    version: 1,
    series: "Xeon E3-1200 v3, E5-1600 v3 to E5-4600 v3, E7 v3; TSX off",
    signature: 0x0003_06f2,
    brand: "Intel Xeon (Flexvisor haswell)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&IVYBRIDGE),
    adds: FeatureSet::of(&[Avx2, Fma, Movbe, Bmi1, Bmi2, Invpcid, Lzcnt, Page1gb, TscAdjust]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[Hle, Rtm, Sdbg, RdtM, L3Monitoring, L3Occupancy]),
    caches: cache::SANDYBRIDGE,
};

pub(super) static BROADWELL: Level = Level {
    name: "broadwell",
    version: 1,
    series: "Xeon D-1500, E3-1200 v4, E5-1600 v4 to E5-4600 v4, E7 v4; TSX off",
    signature: 0x0004_06f1,
    brand: "Intel Xeon (Flexvisor broadwell)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&HASWELL),
    adds: FeatureSet::of(&[Rdseed, Adx, Smap, Prefetchw]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[RdtA, Pt, L3TotalBandwidth, L3LocalBandwidth, CatL3, CdpL3]),
    caches: cache::SANDYBRIDGE,
};
