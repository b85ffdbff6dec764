//! CPU levels: what a guest can be promised, by Xeon generation. `docs/cpu-policy.md` gives the reasons.

use crate::feature::{Feature, FeatureSet};
use Feature::*;

/// What a cache holds: CPUID.4:EAX\[4:0\].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheKind {
    /// Data.
    Data = 1,
    /// Instructions.
    Instruction = 2,
    /// Both.
    Unified = 3,
}

/// One cache of a level, with lines of 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// What it holds.
    pub kind: CacheKind,
    /// From 1; the third is shared by the package.
    pub level: u8,
    /// Associativity.
    pub ways: u32,
    /// Sets.
    pub sets: u32,
    /// Bits of CPUID.4:EDX: 1 inclusive, 2 complex indexing.
    pub edx: u32,
}

/// A CPU level. It never changes once released: a change is a new version.
#[derive(PartialEq, Eq, Debug)]
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
    /// Physical address width in bits; a host needs at least as much.
    pub phys_bits: u8,
    /// The level that it builds on.
    pub base: Option<&'static Level>,
    /// What it adds to that.
    pub adds: FeatureSet,
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
        below.union(self.adds)
    }
}

const fn cache(kind: CacheKind, level: u8, ways: u32, sets: u32, edx: u32) -> Cache {
    Cache { kind, level, ways, sets, edx }
}

/// 32 KiB + 32 KiB, 256 KiB, 8 MiB inclusive.
static NEHALEM_CACHES: &[Cache] = &[
    cache(CacheKind::Data, 1, 8, 64, 0),
    cache(CacheKind::Instruction, 1, 4, 128, 0),
    cache(CacheKind::Unified, 2, 8, 512, 0),
    cache(CacheKind::Unified, 3, 16, 8192, 2),
];

/// The same sizes, later geometry.
static SANDYBRIDGE_CACHES: &[Cache] = &[
    cache(CacheKind::Data, 1, 8, 64, 0),
    cache(CacheKind::Instruction, 1, 8, 64, 0),
    cache(CacheKind::Unified, 2, 8, 512, 0),
    cache(CacheKind::Unified, 3, 16, 8192, 6),
];

/// 1 MiB of second level, 11 MiB non-inclusive.
static SKYLAKE_CACHES: &[Cache] = &[
    cache(CacheKind::Data, 1, 8, 64, 0),
    cache(CacheKind::Instruction, 1, 8, 64, 0),
    cache(CacheKind::Unified, 2, 16, 1024, 0),
    cache(CacheKind::Unified, 3, 11, 16384, 4),
];

/// The first level. It also announces the losses that a later host may have: x87 pointers of newer CPUs, the
/// return stack of Skylake.
#[rustfmt::skip]
const FIRST: &[Feature] = &[
    Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Clfsh, Mmx,
    Fxsr, Sse, Sse2, Ss, Sse3, Ssse3, Cmpxchg16b, Sse41, Sse42, Popcnt, X2apic, Hypervisor, Arat,
    ArchCapabilities, LahfSahf, Syscall, Nx, Rdtscp, Lm, InvariantTsc,
    FdpExcptnOnly, ZeroFcsFds, Rsba,
];

static NEHALEM: Level = Level {
    name: "nehalem",
    version: 1,
    series: "Xeon 5500 (Nehalem-EP)",
    signature: 0x0001_06a5,
    brand: "Intel Xeon (Flexvisor nehalem)",
    max_leaf: 0xb,
    phys_bits: 40,
    base: None,
    adds: FeatureSet::of(FIRST),
    caches: NEHALEM_CACHES,
};

static WESTMERE: Level = Level {
    name: "westmere",
    version: 1,
    series: "Xeon 5600 (Westmere-EP)",
    signature: 0x0002_06c2,
    brand: "Intel Xeon (Flexvisor westmere)",
    max_leaf: 0xb,
    phys_bits: 40,
    base: Some(&NEHALEM),
    adds: FeatureSet::of(&[Aesni, Pclmulqdq, Pcid]),
    caches: NEHALEM_CACHES,
};

static SANDYBRIDGE: Level = Level {
    name: "sandybridge",
    version: 1,
    series: "Xeon E5-2600 (Sandy Bridge-EP)",
    signature: 0x0002_06d7,
    brand: "Intel Xeon (Flexvisor sandybridge)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&WESTMERE),
    adds: FeatureSet::of(&[Avx, Xsave, Xsaveopt, TscDeadline]),
    caches: SANDYBRIDGE_CACHES,
};

static IVYBRIDGE: Level = Level {
    name: "ivybridge",
    version: 1,
    series: "Xeon E5-2600 v2 (Ivy Bridge-EP)",
    signature: 0x0003_06e4,
    brand: "Intel Xeon (Flexvisor ivybridge)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&SANDYBRIDGE),
    adds: FeatureSet::of(&[F16c, Rdrand, Fsgsbase, Smep, Erms]),
    caches: SANDYBRIDGE_CACHES,
};

static HASWELL: Level = Level {
    name: "haswell",
    version: 1,
    series: "Xeon E5-2600 v3 (Haswell-EP), TSX off",
    signature: 0x0003_06f2,
    brand: "Intel Xeon (Flexvisor haswell)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&IVYBRIDGE),
    adds: FeatureSet::of(&[Avx2, Fma, Movbe, Bmi1, Bmi2, Invpcid, Lzcnt, Page1gb, TscAdjust]),
    caches: SANDYBRIDGE_CACHES,
};

static BROADWELL: Level = Level {
    name: "broadwell",
    version: 1,
    series: "Xeon E5-2600 v4 (Broadwell-EP), TSX off",
    signature: 0x0004_06f1,
    brand: "Intel Xeon (Flexvisor broadwell)",
    max_leaf: 0xd,
    phys_bits: 40,
    base: Some(&HASWELL),
    adds: FeatureSet::of(&[Rdseed, Adx, Smap, Prefetchw]),
    caches: SANDYBRIDGE_CACHES,
};

static SKYLAKE_SERVER: Level = Level {
    name: "skylake-server",
    version: 1,
    series: "Xeon Scalable, 1st generation (Skylake-SP), TSX off",
    signature: 0x0005_0654,
    brand: "Intel Xeon (Flexvisor skylake-server)",
    max_leaf: 0x16,
    phys_bits: 40,
    base: Some(&BROADWELL),
    adds: FeatureSet::of(&[
        Avx512f, Avx512dq, Avx512cd, Avx512bw, Avx512vl, Clflushopt, Clwb, Xsavec, Xgetbv1, Xsaves,
    ]),
    caches: SKYLAKE_CACHES,
};

/// All levels, oldest generation first; of one name, oldest version first.
pub static LEVELS: &[&Level] =
    &[&NEHALEM, &WESTMERE, &SANDYBRIDGE, &IVYBRIDGE, &HASWELL, &BROADWELL, &SKYLAKE_SERVER];
