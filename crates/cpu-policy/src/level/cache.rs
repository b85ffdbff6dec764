//! The caches that levels show: the geometry of the generation, the last level as small as its smallest parts have it.

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
    /// From 1; the last one is shared by the package.
    pub level: u8,
    /// Associativity.
    pub ways: u32,
    /// Sets.
    pub sets: u32,
    /// Bits of CPUID.4:EDX: 1 inclusive, 2 complex indexing.
    pub edx: u32,
}

impl Cache {
    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.ways as u64 * self.sets as u64 * 64
    }
}

const fn cache(kind: CacheKind, level: u8, ways: u32, sets: u32, edx: u32) -> Cache {
    Cache { kind, level, ways, sets, edx }
}

const fn data(ways: u32) -> Cache {
    cache(CacheKind::Data, 1, ways, 64, 0)
}

const fn code(ways: u32, sets: u32) -> Cache {
    cache(CacheKind::Instruction, 1, ways, sets, 0)
}

const fn unified(level: u8, ways: u32, sets: u32, edx: u32) -> Cache {
    cache(CacheKind::Unified, level, ways, sets, edx)
}

/// 32 KiB + 32 KiB, 4 MiB.
pub(super) static MEROM: &[Cache] = &[data(8), code(8, 64), unified(2, 16, 4096, 0)];

/// 32 KiB + 32 KiB, 6 MiB.
pub(super) static PENRYN: &[Cache] = &[data(8), code(8, 64), unified(2, 24, 4096, 0)];

/// 32 KiB + 32 KiB, 256 KiB, 8 MiB inclusive.
pub(super) static NEHALEM: &[Cache] =
    &[data(8), code(4, 128), unified(2, 8, 512, 0), unified(3, 16, 8192, 2)];

/// The same sizes, later geometry.
pub(super) static SANDYBRIDGE: &[Cache] =
    &[data(8), code(8, 64), unified(2, 8, 512, 0), unified(3, 16, 8192, 6)];

/// 1 MiB of second level, 11 MiB non-inclusive.
pub(super) static SKYLAKE: &[Cache] =
    &[data(8), code(8, 64), unified(2, 16, 1024, 0), unified(3, 11, 16384, 4)];

/// 48 KiB + 32 KiB, 1280 KiB, 12 MiB non-inclusive.
pub(super) static ICELAKE: &[Cache] =
    &[data(12), code(8, 64), unified(2, 20, 1024, 0), unified(3, 12, 16384, 4)];

/// 48 KiB + 32 KiB, 2 MiB, 15 MiB non-inclusive.
pub(super) static SAPPHIRERAPIDS: &[Cache] =
    &[data(12), code(8, 64), unified(2, 16, 2048, 0), unified(3, 15, 16384, 4)];

/// 48 KiB + 64 KiB, 2 MiB, 48 MiB non-inclusive.
pub(super) static GRANITERAPIDS: &[Cache] =
    &[data(12), code(16, 64), unified(2, 16, 2048, 0), unified(3, 16, 49152, 4)];

/// 24 KiB + 32 KiB, 1 MiB of two cores.
pub(super) static AVOTON: &[Cache] = &[data(6), code(8, 64), unified(2, 16, 1024, 1)];

/// 24 KiB + 32 KiB, 2 MiB of two cores.
pub(super) static DENVERTON: &[Cache] = &[data(6), code(8, 64), unified(2, 16, 2048, 1)];

/// 32 KiB + 32 KiB, 4608 KiB of four cores, 9 MiB.
pub(super) static SNOWRIDGE: &[Cache] =
    &[data(8), code(8, 64), unified(2, 18, 4096, 0), unified(3, 12, 12288, 4)];

/// 32 KiB + 32 KiB, 1 MiB of two cores.
pub(super) static KNIGHTSLANDING: &[Cache] = &[data(8), code(8, 64), unified(2, 16, 1024, 3)];

/// 48 KiB + 32 KiB, 512 KiB, 12 MiB inclusive.
pub(super) static ROCKETLAKE: &[Cache] =
    &[data(12), code(8, 64), unified(2, 8, 1024, 0), unified(3, 16, 12288, 6)];

/// 48 KiB + 32 KiB, 2 MiB, 12 MiB.
pub(super) static RAPTORLAKE: &[Cache] =
    &[data(12), code(8, 64), unified(2, 16, 2048, 0), unified(3, 6, 32768, 4)];

/// 32 KiB + 64 KiB, 4 MiB of four cores, 96 MiB.
pub(super) static SIERRAFOREST: &[Cache] =
    &[data(8), code(8, 128), unified(2, 16, 4096, 0), unified(3, 12, 131_072, 4)];
