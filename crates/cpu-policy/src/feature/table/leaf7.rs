//! Leaf 7.

macro_rules! leaf7_rows {
    ([$($done:tt)*] $then:ident $($rest:ident)*) => {
        $then! { [$($done)*
        cpuid(7, 0, Reg::Ebx) => {
            0 Fsgsbase "FSGSBASE" "fsgsbase" Native [Lm];
            1 TscAdjust "TSC_ADJUST" "tsc_adjust" Emulated [Tsc Msr];
            2 Sgx "SGX" "sgx" Hidden [];
            3 Bmi1 "BMI1" "bmi1" Native [];
            4 Hle "HLE" "hle" Native [];
            5 Avx2 "AVX2" "avx2" Native [Avx];
            6 FdpExcptnOnly "FDP_EXCPTN_ONLY" "" Restriction [];
            7 Smep "SMEP" "smep" Native [];
            8 Bmi2 "BMI2" "bmi2" Native [];
            9 Erms "ERMS" "erms" Native [];
            10 Invpcid "INVPCID" "invpcid" Native [];
            11 Rtm "RTM" "rtm" Native [];
            12 RdtM "RDT-M" "cqm" Hidden [];
            13 ZeroFcsFds "ZERO_FCS_FDS" "" Restriction [];
            14 Mpx "MPX" "mpx" Hidden [Xsave];
            15 RdtA "RDT-A" "rdt_a" Hidden [];
            16 Avx512f "AVX512F" "avx512f" Native [Avx2 Fma F16c];
            17 Avx512dq "AVX512DQ" "avx512dq" Native [Avx512f];
            18 Rdseed "RDSEED" "rdseed" Native [];
            19 Adx "ADX" "adx" Native [];
            20 Smap "SMAP" "smap" Native [];
            21 Avx512Ifma "AVX512_IFMA" "avx512ifma" Native [Avx512f];
            23 Clflushopt "CLFLUSHOPT" "clflushopt" Native [Clfsh];
            24 Clwb "CLWB" "clwb" Native [Clfsh];
            25 Pt "PT" "intel_pt" Hidden [];
            26 Avx512pf "AVX512PF" "avx512pf" Native [Avx512f];
            27 Avx512er "AVX512ER" "avx512er" Native [Avx512f];
            28 Avx512cd "AVX512CD" "avx512cd" Native [Avx512f];
            29 Sha "SHA" "sha_ni" Native [Sse2];
            30 Avx512bw "AVX512BW" "avx512bw" Native [Avx512f];
            31 Avx512vl "AVX512VL" "avx512vl" Native [Avx512f];
        }
        cpuid(7, 0, Reg::Ecx) => {
            0 Prefetchwt1 "PREFETCHWT1" "" Native [];
            1 Avx512Vbmi "AVX512_VBMI" "avx512vbmi" Native [Avx512bw];
            2 Umip "UMIP" "umip" Native [];
            3 Pku "PKU" "pku" Native [Xsave Lm];
            4 Ospke "OSPKE" "ospke" Derived [];
            5 Waitpkg "WAITPKG" "waitpkg" Hidden [];
            6 Avx512Vbmi2 "AVX512_VBMI2" "avx512_vbmi2" Native [Avx512bw];
            7 CetSs "CET_SS" "user_shstk" Hidden [Xsaves];
            8 Gfni "GFNI" "gfni" Native [Sse2];
            9 Vaes "VAES" "vaes" Native [Avx Aesni];
            10 Vpclmulqdq "VPCLMULQDQ" "vpclmulqdq" Native [Avx Pclmulqdq];
            11 Avx512Vnni "AVX512_VNNI" "avx512_vnni" Native [Avx512f];
            12 Avx512Bitalg "AVX512_BITALG" "avx512_bitalg" Native [Avx512bw];
            13 TmeEn "TME_EN" "tme" Hidden [];
            14 Avx512Vpopcntdq "AVX512_VPOPCNTDQ" "avx512_vpopcntdq" Native [Avx512f];
            16 La57 "LA57" "la57" Hidden [Lm];
            22 Rdpid "RDPID" "rdpid" Native [Rdtscp];
            23 Kl "KL" "" Hidden [];
            24 BusLockDetect "BUS_LOCK_DETECT" "" Hidden [];
            25 Cldemote "CLDEMOTE" "cldemote" Native [];
            27 Movdiri "MOVDIRI" "movdiri" Native [];
            28 Movdir64b "MOVDIR64B" "movdir64b" Native [];
            29 Enqcmd "ENQCMD" "enqcmd" Hidden [];
            30 SgxLc "SGX_LC" "sgx_lc" Hidden [Sgx];
            31 Pks "PKS" "" Hidden [];
        }
        cpuid(7, 0, Reg::Edx) => {
            1 SgxKeys "SGX-KEYS" "" Hidden [Sgx];
            2 Avx5124vnniw "AVX512_4VNNIW" "avx512_4vnniw" Native [Avx512f];
            3 Avx5124fmaps "AVX512_4FMAPS" "avx512_4fmaps" Native [Avx512f];
            4 Fsrm "FSRM" "fsrm" Native [];
            5 Uintr "UINTR" "" Hidden [];
            8 Avx512Vp2intersect "AVX512_VP2INTERSECT" "avx512_vp2intersect" Native [Avx512f];
            9 SrbdsCtrl "SRBDS_CTRL" "" Hidden [];
            10 MdClear "MD_CLEAR" "md_clear" Native [];
            11 RtmAlwaysAbort "RTM_ALWAYS_ABORT" "" Hidden [];
            13 RtmForceAbort "RTM_FORCE_ABORT" "" Hidden [];
            14 Serialize "SERIALIZE" "serialize" Native [];
            15 Hybrid "HYBRID" "" Hidden [];
            16 Tsxldtrk "TSXLDTRK" "tsxldtrk" Native [Rtm];
            18 Pconfig "PCONFIG" "pconfig" Hidden [];
            19 ArchLbr "ARCH_LBR" "arch_lbr" Hidden [];
            20 CetIbt "CET_IBT" "ibt" Hidden [Xsaves];
            22 AmxBf16 "AMX-BF16" "amx_bf16" Hidden [AmxTile];
            23 Avx512Fp16 "AVX512_FP16" "avx512_fp16" Native [Avx512bw Avx512vl Avx512dq];
            24 AmxTile "AMX-TILE" "amx_tile" Hidden [Xsave Lm];
            25 AmxInt8 "AMX-INT8" "amx_int8" Hidden [AmxTile];
            26 IbrsIbpb "IBRS_IBPB" "ibrs ibpb" Native [Msr];
            27 Stibp "STIBP" "stibp" Native [IbrsIbpb];
            28 L1dFlush "L1D_FLUSH" "flush_l1d" Native [Msr];
            29 ArchCapabilities "ARCH_CAPABILITIES" "arch_capabilities" Emulated [Msr];
            30 CoreCapabilities "CORE_CAPABILITIES" "" Hidden [Msr];
            31 Ssbd "SSBD" "ssbd" Native [IbrsIbpb];
        }
        cpuid(7, 1, Reg::Eax) => {
            0 Sha512 "SHA512" "sha512" Native [Avx2];
            1 Sm3 "SM3" "sm3" Native [Avx];
            2 Sm4 "SM4" "sm4" Native [Avx2];
            3 RaoInt "RAO-INT" "" Native [];
            4 AvxVnni "AVX-VNNI" "avx_vnni" Native [Avx2];
            5 Avx512Bf16 "AVX512_BF16" "avx512_bf16" Native [Avx512bw];
            6 Lass "LASS" "lass" Hidden [];
            7 Cmpccxadd "CMPCCXADD" "" Native [];
            8 ArchPerfmonExt "ARCHPERFMONEXT" "" Hidden [];
            10 Fzrm "FZRM" "" Native [];
            11 Fsrs "FSRS" "" Native [];
            12 Fsrc "FSRC" "" Native [];
            17 Fred "FRED" "" Hidden [Lkgs Lm];
            18 Lkgs "LKGS" "" Hidden [Lm];
            19 Wrmsrns "WRMSRNS" "" Hidden [];
            20 NmiSrc "NMI_SRC" "" Hidden [Fred];
            21 AmxFp16 "AMX-FP16" "" Hidden [AmxTile];
            22 Hreset "HRESET" "" Hidden [];
            23 AvxIfma "AVX-IFMA" "" Native [Avx2];
            26 Lam "LAM" "lam" Hidden [Lm];
            27 Msrlist "MSRLIST" "" Hidden [Lm];
            30 InvdDisable "INVD_DISABLE_POST_BIOS_DONE" "" Hidden [];
            31 Movrs "MOVRS" "" Native [];
        }
        cpuid(7, 1, Reg::Ebx) => {
            0 Ppin "PPIN" "" Hidden [];
            1 Pbndkb "PBNDKB" "" Hidden [Pconfig];
            3 CpuidMaxvalLimRmv "CPUIDMAXVAL_LIM_RMV" "" Hidden [];
        }
        cpuid(7, 1, Reg::Ecx) => {
            0 AsymRdtM "ASYM_RDT-M" "" Hidden [];
            1 AsymRdtA "ASYM_RDT-A" "" Hidden [];
            5 MsrImm "MSR_IMM" "" Hidden [Msr Lm];
        }
        cpuid(7, 1, Reg::Edx) => {
            4 AvxVnniInt8 "AVX-VNNI-INT8" "" Native [Avx2];
            5 AvxNeConvert "AVX-NE-CONVERT" "" Native [Avx2];
            8 AmxComplex "AMX-COMPLEX" "" Hidden [AmxTile];
            10 AvxVnniInt16 "AVX-VNNI-INT16" "" Native [Avx2];
            13 Utmr "UTMR" "" Hidden [];
            14 Prefetchi "PREFETCHI" "" Native [Lm];
            15 UserMsr "USER_MSR" "" Hidden [Lm];
            17 UiretUif "UIRET_UIF" "" Hidden [Uintr];
            18 CetSss "CET_SSS" "" Hidden [CetSs];
            19 Avx10 "AVX10" "" Hidden [Avx512f];
            21 ApxF "APX_F" "" Hidden [Xsave Lm];
            23 MwaitLeaf "MWAIT" "" Hidden [];
            24 Slsm "SLSM" "" Hidden [];
        }
        cpuid(7, 2, Reg::Edx) => {
            0 Psfd "PSFD" "" Native [Ssbd];
            1 IpredCtrl "IPRED_CTRL" "" Native [IbrsIbpb];
            2 RrsbaCtrl "RRSBA_CTRL" "" Native [IbrsIbpb];
            3 DdpdU "DDPD_U" "" Native [IbrsIbpb];
            4 BhiCtrl "BHI_CTRL" "" Native [IbrsIbpb];
            5 McdtNo "MCDT_NO" "" Native [];
            6 UcLockDisable "UC_LOCK_DISABLE" "" Hidden [];
            7 MonitorMitgNo "MONITOR_MITG_NO" "" Native [];
        }
        ] $($rest)* }
    };
}
