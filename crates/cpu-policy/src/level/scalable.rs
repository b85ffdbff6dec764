//! The generations of Xeon Scalable, from Skylake-SP to Granite Rapids.

use super::early::BROADWELL;
use super::{Level, cache};
use crate::feature::Feature;
use Feature::*;

/// Physical address width of the levels that only silicon with 46 bits and more can give.
const WIDE: u8 = 46;

pub(super) static SKYLAKE_SERVER: Level = Level::on(&BROADWELL, "skylake-server", 0x0005_0654)
    .stands_for("Xeon Scalable, 1st generation (3100 to 8100), D-2100, W-2100, W-3100; TSX off")
    .max_leaf(0x16)
    .adds(&[Avx512f, Avx512dq, Avx512cd, Avx512bw, Avx512vl, Clflushopt, Clwb, Xsavec, Xgetbv1, Xsaves])
    .hides(&[Mpx, Pku, Mba, Hwp, HwpWindow, HwpEpp, HwpPackage, IbrsIbpb, Stibp, Ssbd, L1dFlush, MdClear])
    .caches(cache::SKYLAKE);

/// The speculation bits need the microcode of 2022.
pub(super) static CASCADELAKE: Level = Level::on(&SKYLAKE_SERVER, "cascadelake", 0x0005_0657)
    .stands_for("Xeon Scalable, 2nd generation (3200 to 9200), W-2200, W-3200; TSX off")
    .phys_bits(WIDE)
    .adds(&[
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
    ])
    .hides(&[TsxCtrl]);

pub(super) static COOPERLAKE: Level = Level::on(&CASCADELAKE, "cooperlake", 0x0005_065b)
    .stands_for("Xeon Scalable, 3rd generation (5300H, 6300H, 8300H); TSX off")
    .adds(&[Avx512Bf16, TaaNo]);

pub(super) static ICELAKE_SERVER: Level = Level::on(&COOPERLAKE, "icelake-server", 0x0006_06a6)
    .stands_for("Xeon Scalable, 3rd generation (4300 to 8300), D-1700, D-2700, W-3300; TSX off")
    .max_leaf(0x1b)
    .drops(&[Avx512Bf16, Mpx, Hle])
    .adds(&[
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
    ])
    .hides(&[La57, TmeEn, Sgx, SgxLc, SgxKeys, Sgx1, Sgx2, Pconfig])
    .caches(cache::ICELAKE);

pub(super) static SAPPHIRERAPIDS: Level = Level::on(&ICELAKE_SERVER, "sapphirerapids", 0x0008_06f8)
    .stands_for("Xeon Scalable, 4th generation (3400 to 8400), Max 9400, W-2400, W-3400; TSX off")
    .max_leaf(0x1f)
    .drops(&[FbClear])
    .adds(&[
        AvxVnni, Avx512Bf16, Avx512Fp16, Fzrm, Fsrs, Fsrc, Serialize, Cldemote, Movdiri, Movdir64b,
        IpredCtrl, RrsbaCtrl, BhiCtrl, FbsdpNo,
    ])
    .hides(&[
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
    ])
    .caches(cache::SAPPHIRERAPIDS);

pub(super) static EMERALDRAPIDS: Level = Level::on(&SAPPHIRERAPIDS, "emeraldrapids", 0x000c_06f2)
    .stands_for("Xeon Scalable, 5th generation (3500 to 8500); TSX off");

/// Silicon has what its base lacks: the first version was that level under another name.
pub(super) static EMERALDRAPIDS_2: Level = Level::on(&EMERALDRAPIDS, "emeraldrapids", 0x000c_06f2)
    .stands_for(EMERALDRAPIDS.series)
    .version(2)
    .adds(&[DdpdU]);

pub(super) static GRANITERAPIDS: Level = Level::on(&EMERALDRAPIDS, "graniterapids", 0x000a_06d1)
    .stands_for("Xeon 6 with P-cores (6500P, 6700P, 6900P); TSX off")
    .adds(&[Prefetchi, DdpdU, McdtNo, PbrsbNo])
    .hides(&[AmxFp16, Avx10])
    .caches(cache::GRANITERAPIDS);
