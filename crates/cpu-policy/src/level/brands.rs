//! Xeons beside the line of generations: the small ones, those of efficient cores, what shares AVX2 and SHA without AVX-512.

use super::early::*;
use super::scalable::*;
use super::{Level, cache};
use crate::feature::Feature;
use Feature::*;

pub(super) static AVOTON: Level = Level::on(&NEHALEM, "avoton", 0x0004_06d8)
    .stands_for("Atom C2000 (Silvermont)")
    .adds(&[Aesni, Pclmulqdq, Movbe, Rdrand, TscDeadline, Smep, Erms, TscAdjust, Prefetchw])
    .hides(&[Epb])
    .caches(cache::AVOTON);

pub(super) static DENVERTON: Level = Level::on(&AVOTON, "denverton", 0x0005_06f1)
    .stands_for("Atom C3000 (Goldmont)")
    .max_leaf(0x15)
    .adds(&[
        Xsave,
        Xsaveopt,
        Xsavec,
        Xgetbv1,
        Xsaves,
        Fsgsbase,
        Smap,
        Rdseed,
        Clflushopt,
        Sha,
        Page1gb,
        CpuidFaulting,
        IbrsIbpb,
        Stibp,
        RdclNo,
        SkipL1dflVmentry,
        MdsNo,
        IfPschangeMcNo,
        SbdrSsdpNo,
        PsdpNo,
    ])
    .hides(&[Mpx, Pt, RdtA, Sdbg])
    .caches(cache::DENVERTON);

pub(super) static SNOWRIDGE: Level = Level::on(&DENVERTON, "snowridge", 0x0008_0665)
    .stands_for("Atom P5300, P5700, C5000 (Tremont)")
    .provisional()
    .drops(&[Mpx, Stibp, SbdrSsdpNo, PsdpNo])
    .adds(&[Ssbd, Clwb, Gfni, Umip, Movdiri, Movdir64b, Cldemote])
    .hides(&[CoreCapabilities, SplitLockDisable])
    .caches(cache::SNOWRIDGE);

pub(super) static KNIGHTSLANDING: Level = Level::on(&IVYBRIDGE, "knightslanding", 0x0005_0671)
    .stands_for("Xeon Phi x200 (7200)")
    .drops(&[Pcid])
    .adds(&[
        Avx2,
        Fma,
        Movbe,
        Bmi1,
        Bmi2,
        Lzcnt,
        Page1gb,
        TscAdjust,
        Rdseed,
        Adx,
        Prefetchw,
        Prefetchwt1,
        Avx512f,
        Avx512cd,
        Avx512er,
        Avx512pf,
    ])
    .hides(&[IbrsIbpb])
    .caches(cache::KNIGHTSLANDING);

/// What all Xeons with AVX2, SHA and VAES have, whether they have AVX-512 or not: signature and caches are of the least.
pub(super) static AVX2_COMMON: Level = Level::on(&BROADWELL, "avx2-common", 0x0006_06a6)
    .stands_for("Xeon E-2400, 6300, 6700E and later, Ice Lake and later: SHA, VAES, no AVX-512")
    .max_leaf(0x1b)
    .phys_bits(46)
    .adds(&[
        Clflushopt,
        Clwb,
        Xsavec,
        Xgetbv1,
        Xsaves,
        Pku,
        Sha,
        Gfni,
        Vaes,
        Vpclmulqdq,
        Umip,
        Rdpid,
        Fsrm,
        IbrsIbpb,
        Ssbd,
        Psfd,
        RdclNo,
        IbrsAll,
        SkipL1dflVmentry,
        MdsNo,
        IfPschangeMcNo,
        TaaNo,
        SbdrSsdpNo,
        PsdpNo,
    ])
    .hides(&[Hwp, HwpWindow, HwpEpp, HwpPackage, TmeEn])
    .caches(cache::SKYLAKE);

pub(super) static ROCKETLAKE: Level = Level::on(&ICELAKE_SERVER, "rocketlake", 0x000a_0671)
    .stands_for("Xeon E-2300")
    .drops(&[Clwb, Wbnoinvd, SbdrSsdpNo, PsdpNo, TmeEn, Pconfig])
    .hides(&[Mpx])
    .caches(cache::ROCKETLAKE);

pub(super) static RAPTORLAKE: Level = Level::on(&AVX2_COMMON, "raptorlake", 0x000b_0671)
    .stands_for("Xeon E-2400, 6300")
    .max_leaf(0x1f)
    .adds(&[
        AvxVnni, Fzrm, Fsrs, Fsrc, Serialize, Movdiri, Movdir64b, Stibp, L1dFlush, MdClear, FbsdpNo,
        IpredCtrl, RrsbaCtrl, DdpdU, BhiCtrl,
    ])
    .hides(&[Waitpkg, CetSs, CetIbt, Pks, Kl, ArchLbr, Pconfig, Hreset, MonitorMitgNo])
    .caches(cache::RAPTORLAKE);

pub(super) static SIERRAFOREST: Level = Level::on(&AVX2_COMMON, "sierraforest", 0x000a_06f3)
    .stands_for("Xeon 6 with E-cores (6700E)")
    .provisional()
    .max_leaf(0x1f)
    .adds(&[
        AvxVnni,
        AvxIfma,
        AvxNeConvert,
        AvxVnniInt8,
        Cmpccxadd,
        Fsrs,
        Serialize,
        Movdiri,
        Movdir64b,
        Cldemote,
        Wbnoinvd,
        IpredCtrl,
        RrsbaCtrl,
        BhiCtrl,
        McdtNo,
        FbsdpNo,
        PbrsbNo,
        GdsNo,
        RfdsNo,
    ])
    .hides(&[BusLockDetect, Lam])
    .caches(cache::SIERRAFOREST);

pub(super) static CLEARWATERFOREST: Level = Level::on(&SIERRAFOREST, "clearwaterforest", 0x000d_06d0)
    .stands_for("Xeon 6+ with E-cores")
    .provisional()
    .adds(&[AvxVnniInt16, Prefetchi, Sha512, Sm3, Sm4, DdpdU, BhiNo]);

pub(super) static DIAMONDRAPIDS: Level = Level::on(&GRANITERAPIDS, "diamondrapids", 0x0040_0f10)
    .stands_for("Xeon after Granite Rapids, family 19; TSX off")
    .provisional()
    .adds(&[AvxIfma, AvxNeConvert, AvxVnniInt8, Cmpccxadd, Movrs, BhiNo, GdsNo, RfdsNo])
    .hides(&[ApxF, Fred, Lkgs, Wrmsrns, Lam]);

/// What microcode of 2018 to 2020 brought to each.
const IBRS: &[Feature] = &[IbrsIbpb, Stibp, Ssbd, L1dFlush, MdClear];

/// The level `base` with microcode that has `IBRS`.
const fn with_ibrs(base: &'static Level, name: &'static str) -> Level {
    Level::on(base, name, base.signature).stands_for("the same Xeons with the microcode of 2020").adds(IBRS)
}

pub(super) static HASWELL_IBRS: Level = with_ibrs(&HASWELL, "haswell-ibrs");
pub(super) static BROADWELL_IBRS: Level = with_ibrs(&BROADWELL, "broadwell-ibrs");
pub(super) static SKYLAKE_SERVER_IBRS: Level = with_ibrs(&SKYLAKE_SERVER, "skylake-server-ibrs");
