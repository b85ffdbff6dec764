//! The generations from Merom to Broadwell.

use super::abi::X86_64_V1;
use super::{Level, cache};
use crate::feature::Feature;
use Feature::*;

pub(super) static MEROM: Level = Level::on(&X86_64_V1, "merom", 0x0000_06f6)
    .stands_for("Xeon 3000, 3200, 5100, 5300, 7200, 7300")
    .adds(&[Sse3, Ssse3, Cmpxchg16b, LahfSahf]);

pub(super) static PENRYN: Level = Level::on(&MEROM, "penryn", 0x0001_0676)
    .stands_for("Xeon 3100, 3300, 5200, 5400, 7400")
    .adds(&[Sse41])
    // From stepping E0 on.
    .hides(&[Xsave])
    .caches(cache::PENRYN);

pub(super) static NEHALEM: Level = Level::on(&PENRYN, "nehalem", 0x0001_06a5)
    .stands_for("Xeon 3400, 3500, 5500, 6500, 7500")
    .max_leaf(0xb)
    .phys_bits(40)
    .drops(&[Xsave])
    .adds(&[Sse42, Popcnt, Rdtscp, InvariantTsc])
    .hides(&[Turbo])
    .caches(cache::NEHALEM);

pub(super) static WESTMERE: Level = Level::on(&NEHALEM, "westmere", 0x0002_06c2)
    .stands_for("Xeon 3600, 5600, E7-2800, E7-4800, E7-8800")
    .adds(&[Aesni, Pclmulqdq, Pcid])
    .hides(&[Smx, Page1gb, Epb]);

pub(super) static SANDYBRIDGE: Level = Level::on(&WESTMERE, "sandybridge", 0x0002_06d7)
    .stands_for("Xeon E3-1200, E5-1600, E5-2400, E5-2600, E5-4600")
    .max_leaf(0xd)
    .adds(&[Avx, Xsave, Xsaveopt, TscDeadline])
    .hides(&[Pln, Ecmd, Ptm])
    .caches(cache::SANDYBRIDGE);

pub(super) static IVYBRIDGE: Level = Level::on(&SANDYBRIDGE, "ivybridge", 0x0003_06e4)
    .stands_for("Xeon E3-1200 v2, E5-1600 v2 to E5-4600 v2, E7 v2")
    .adds(&[F16c, Rdrand, Fsgsbase, Smep, Erms, CpuidFaulting])
    .hides(&[PpinCap]);

pub(super) static HASWELL: Level = Level::on(&IVYBRIDGE, "haswell", 0x0003_06f2)
    .stands_for("Xeon E3-1200 v3, E5-1600 v3 to E5-4600 v3, E7 v3; TSX off")
    .adds(&[Avx2, Fma, Movbe, Bmi1, Bmi2, Invpcid, Lzcnt, Page1gb, TscAdjust])
    .hides(&[Hle, Rtm, Sdbg, RdtM, L3Monitoring, L3Occupancy]);

pub(super) static BROADWELL: Level = Level::on(&HASWELL, "broadwell", 0x0004_06f1)
    .stands_for("Xeon D-1500, E3-1200 v4, E5-1600 v4 to E5-4600 v4, E7 v4; TSX off")
    .adds(&[Rdseed, Adx, Smap, Prefetchw])
    .hides(&[RdtA, Pt, L3TotalBandwidth, L3LocalBandwidth, CatL3, CdpL3]);
