//! The generations of Xeon Scalable, from Skylake-SP to Granite Rapids.

use super::early::BROADWELL;
use super::{Level, cache};
use crate::feature::{Feature, FeatureSet};
use Feature::*;

/// Physical address width of the levels that only silicon with 46 bits and more can give.
const WIDE: u8 = 46;

pub(super) static SKYLAKE_SERVER: Level = Level {
    name: "skylake-server",
    version: 1,
    series: "Xeon Scalable, 1st generation (3100 to 8100), D-2100, W-2100, W-3100; TSX off",
    signature: 0x0005_0654,
    brand: "Intel Xeon (Flexvisor skylake-server)",
    max_leaf: 0x16,
    phys_bits: 40,
    base: Some(&BROADWELL),
    adds: FeatureSet::of(&[
        Avx512f, Avx512dq, Avx512cd, Avx512bw, Avx512vl, Clflushopt, Clwb, Xsavec, Xgetbv1, Xsaves,
    ]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[
        Mpx, Pku, Mba, Hwp, HwpWindow, HwpEpp, HwpPackage, IbrsIbpb, Stibp, Ssbd, L1dFlush, MdClear,
    ]),
    caches: cache::SKYLAKE,
};

/// The speculation bits need the microcode of 2022.
pub(super) static CASCADELAKE: Level = Level {
    name: "cascadelake",
    version: 1,
    series: "Xeon Scalable, 2nd generation (3200 to 9200), W-2200, W-3200; TSX off",
    signature: 0x0005_0657,
    brand: "Intel Xeon (Flexvisor cascadelake)",
    max_leaf: 0x16,
    phys_bits: WIDE,
    base: Some(&SKYLAKE_SERVER),
    adds: FeatureSet::of(&[
        Pku,
        Avx512Vnni,
        IbrsIbpb,
        Stibp,
        Ssbd,
        L1dFlush,
        MdClear,
        RdclNo,
        IbrsAll,
        SkipL1dflVmentry,
        MdsNo,
        IfPschangeMcNo,
        SbdrSsdpNo,
        PsdpNo,
        FbClear,
    ]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[TsxCtrl]),
    caches: cache::SKYLAKE,
};

pub(super) static COOPERLAKE: Level = Level {
    name: "cooperlake",
    version: 1,
    series: "Xeon Scalable, 3rd generation (5300H, 6300H, 8300H); TSX off",
    signature: 0x0005_065b,
    brand: "Intel Xeon (Flexvisor cooperlake)",
    max_leaf: 0x16,
    phys_bits: WIDE,
    base: Some(&CASCADELAKE),
    adds: FeatureSet::of(&[Avx512Bf16, TaaNo]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::EMPTY,
    caches: cache::SKYLAKE,
};

pub(super) static ICELAKE_SERVER: Level = Level {
    name: "icelake-server",
    version: 1,
    series: "Xeon Scalable, 3rd generation (4300 to 8300), D-1700, D-2700, W-3300; TSX off",
    signature: 0x0006_06a6,
    brand: "Intel Xeon (Flexvisor icelake-server)",
    max_leaf: 0x1b,
    phys_bits: WIDE,
    base: Some(&COOPERLAKE),
    adds: FeatureSet::of(&[
        Avx512Ifma,
        Avx512Vbmi,
        Avx512Vbmi2,
        Avx512Bitalg,
        Avx512Vpopcntdq,
        Gfni,
        Vaes,
        Vpclmulqdq,
        Sha,
        Umip,
        Rdpid,
        Fsrm,
        Wbnoinvd,
        Psfd,
    ]),
    drops: FeatureSet::of(&[Avx512Bf16, Mpx, Hle]),
    hides: FeatureSet::of(&[La57, TmeEn, Sgx, SgxLc, SgxKeys, Sgx1, Sgx2, Pconfig]),
    caches: cache::ICELAKE,
};

pub(super) static SAPPHIRERAPIDS: Level = Level {
    name: "sapphirerapids",
    version: 1,
    series: "Xeon Scalable, 4th generation (3400 to 8400), Max 9400, W-2400, W-3400; TSX off",
    signature: 0x0008_06f8,
    brand: "Intel Xeon (Flexvisor sapphirerapids)",
    max_leaf: 0x1f,
    phys_bits: WIDE,
    base: Some(&ICELAKE_SERVER),
    adds: FeatureSet::of(&[
        AvxVnni, Avx512Bf16, Avx512Fp16, Fzrm, Fsrs, Fsrc, Serialize, Cldemote, Movdiri, Movdir64b,
        IpredCtrl, RrsbaCtrl, BhiCtrl, FbsdpNo,
    ]),
    drops: FeatureSet::of(&[FbClear]),
    hides: FeatureSet::of(&[
        Tsxldtrk,
        Waitpkg,
        CetSs,
        CetIbt,
        BusLockDetect,
        Enqcmd,
        Pks,
        Uintr,
        ArchLbr,
        AmxTile,
        AmxInt8,
        AmxBf16,
        Xfd,
        CoreCapabilities,
        SplitLockDisable,
    ]),
    caches: cache::SAPPHIRERAPIDS,
};

pub(super) static EMERALDRAPIDS: Level = Level {
    name: "emeraldrapids",
    version: 1,
    series: "Xeon Scalable, 5th generation (3500 to 8500); TSX off",
    signature: 0x000c_06f2,
    brand: "Intel Xeon (Flexvisor emeraldrapids)",
    max_leaf: 0x1f,
    phys_bits: WIDE,
    base: Some(&SAPPHIRERAPIDS),
    adds: FeatureSet::EMPTY,
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::EMPTY,
    caches: cache::SAPPHIRERAPIDS,
};

pub(super) static GRANITERAPIDS: Level = Level {
    name: "graniterapids",
    version: 1,
    series: "Xeon 6 with P-cores (6500P, 6700P, 6900P); TSX off",
    signature: 0x000a_06d1,
    brand: "Intel Xeon (Flexvisor graniterapids)",
    max_leaf: 0x1f,
    phys_bits: WIDE,
    base: Some(&EMERALDRAPIDS),
    adds: FeatureSet::of(&[Prefetchi, DdpdU, McdtNo, PbrsbNo]),
    drops: FeatureSet::EMPTY,
    hides: FeatureSet::of(&[AmxFp16, Avx10]),
    caches: cache::GRANITERAPIDS,
};
