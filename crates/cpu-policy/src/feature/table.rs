//! The one table of feature bits: SDM 2A "CPUID", SDM 4 chapter 2, up to Granite Rapids.

use super::{ARCH_CAPABILITIES, CORE_CAPABILITIES, FeatureInfo, Kind, PLATFORM_INFO, Place, Reg};

const fn cpuid(leaf: u32, subleaf: u32, reg: Reg) -> Place {
    Place::Cpuid { leaf, subleaf, reg }
}

macro_rules! features {
    ($($place:expr => { $($bit:literal $id:ident $name:literal $linux:literal $kind:ident [$($need:ident)*];)* })*) => {
        /// A feature bit.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Feature {
            $($(#[doc = $name] $id,)*)*
        }

        /// Every feature bit: bit, SDM name, Linux name, how it is treated, what it needs.
        pub static FEATURES: &[FeatureInfo] = ROWS;

        const ROWS: &[FeatureInfo] = &[$($(FeatureInfo {
            feature: Feature::$id,
            place: $place,
            bit: $bit,
            name: $name,
            linux: $linux,
            kind: Kind::$kind,
            needs: &[$(Feature::$need),*],
        },)*)*];
    };
}

features! {
    cpuid(1, 0, Reg::Edx) => {
        0 Fpu "FPU" "fpu" Native [];
        1 Vme "VME" "vme" Native [];
        2 De "DE" "de" Native [];
        3 Pse "PSE" "pse" Native [];
        4 Tsc "TSC" "tsc" Native [];
        5 Msr "MSR" "msr" Native [];
        6 Pae "PAE" "pae" Native [];
        7 Mce "MCE" "mce" Emulated [];
        8 Cx8 "CX8" "cx8" Native [];
        9 Apic "APIC" "apic" Emulated [Msr];
        11 Sep "SEP" "sep" Native [Msr];
        12 Mtrr "MTRR" "mtrr" Emulated [Msr];
        13 Pge "PGE" "pge" Native [];
        14 Mca "MCA" "mca" Emulated [Mce Msr];
        15 Cmov "CMOV" "cmov" Native [];
        16 Pat "PAT" "pat" Native [Msr];
        17 Pse36 "PSE-36" "pse36" Native [Pse];
        18 Psn "PSN" "pn" Hidden [];
        19 Clfsh "CLFSH" "clflush" Native [];
        21 Ds "DS" "dts" Hidden [];
        22 Acpi "ACPI" "acpi" Hidden [];
        23 Mmx "MMX" "mmx" Native [Fpu];
        24 Fxsr "FXSR" "fxsr" Native [Fpu];
        25 Sse "SSE" "sse" Native [Fxsr];
        26 Sse2 "SSE2" "sse2" Native [Sse];
        27 Ss "SS" "ss" Native [];
        28 Htt "HTT" "ht" Derived [];
        29 Tm "TM" "tm" Hidden [];
        31 Pbe "PBE" "pbe" Hidden [];
    }
    cpuid(1, 0, Reg::Ecx) => {
        0 Sse3 "SSE3" "pni" Native [Sse2];
        1 Pclmulqdq "PCLMULQDQ" "pclmulqdq" Native [Sse2];
        2 Dtes64 "DTES64" "dtes64" Hidden [Ds];
        3 Monitor "MONITOR" "monitor" Hidden [];
        4 DsCpl "DS-CPL" "ds_cpl" Hidden [Ds];
        5 Vmx "VMX" "vmx" Hidden [];
        6 Smx "SMX" "smx" Hidden [];
        7 Eist "EIST" "est" Hidden [];
        8 Tm2 "TM2" "tm2" Hidden [];
        9 Ssse3 "SSSE3" "ssse3" Native [Sse3];
        10 CnxtId "CNXT-ID" "cid" Hidden [];
        11 Sdbg "SDBG" "sdbg" Hidden [];
        12 Fma "FMA" "fma" Native [Avx];
        13 Cmpxchg16b "CMPXCHG16B" "cx16" Native [Lm];
        14 Xtpr "xTPR" "xtpr" Hidden [];
        15 Pdcm "PDCM" "pdcm" Hidden [];
        17 Pcid "PCID" "pcid" Native [Lm];
        18 Dca "DCA" "dca" Hidden [];
        19 Sse41 "SSE4.1" "sse4_1" Native [Ssse3];
        20 Sse42 "SSE4.2" "sse4_2" Native [Sse41];
        21 X2apic "x2APIC" "x2apic" Emulated [Apic];
        22 Movbe "MOVBE" "movbe" Native [];
        23 Popcnt "POPCNT" "popcnt" Native [];
        24 TscDeadline "TSC-Deadline" "tsc_deadline_timer" Emulated [Apic Tsc];
        25 Aesni "AESNI" "aes" Native [Sse2];
        26 Xsave "XSAVE" "xsave" Native [Fxsr];
        27 Osxsave "OSXSAVE" "" Derived [];
        28 Avx "AVX" "avx" Native [Xsave Sse42];
        29 F16c "F16C" "f16c" Native [Avx];
        30 Rdrand "RDRAND" "rdrand" Native [];
        31 Hypervisor "HYPERVISOR" "hypervisor" Emulated [];
    }
    cpuid(6, 0, Reg::Eax) => {
        0 Dtherm "DTS" "dtherm" Hidden [];
        1 Turbo "TURBO_BOOST" "ida" Hidden [];
        2 Arat "ARAT" "arat" Emulated [Apic];
        4 Pln "PLN" "pln" Hidden [];
        5 Ecmd "ECMD" "" Hidden [];
        6 Ptm "PTM" "pts" Hidden [];
        7 Hwp "HWP" "hwp" Hidden [];
        8 HwpNotify "HWP_NOTIFICATION" "hwp_notify" Hidden [Hwp];
        9 HwpWindow "HWP_ACTIVITY_WINDOW" "hwp_act_window" Hidden [Hwp];
        10 HwpEpp "HWP_EPP" "hwp_epp" Hidden [Hwp];
        11 HwpPackage "HWP_PACKAGE_LEVEL" "hwp_pkg_req" Hidden [Hwp];
        13 Hdc "HDC" "" Hidden [];
        14 TurboMax3 "TURBO_BOOST_MAX_3" "" Hidden [];
        15 HwpCap "HWP_HIGHEST_PERF_CHANGE" "" Hidden [Hwp];
        16 HwpPeci "HWP_PECI" "" Hidden [Hwp];
        17 HwpFlex "HWP_FLEXIBLE" "" Hidden [Hwp];
        18 HwpFast "HWP_FAST_ACCESS" "" Hidden [Hwp];
        19 Hfi "HW_FEEDBACK" "hfi" Hidden [];
        23 ThreadDirector "THREAD_DIRECTOR" "" Hidden [Hfi];
    }
    cpuid(6, 0, Reg::Ecx) => {
        0 AperfMperf "APERF_MPERF" "aperfmperf" Hidden [];
        3 Epb "ENERGY_PERF_BIAS" "epb" Hidden [];
    }
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
        24 AmxTile "AMX-TILE" "amx_tile" Hidden [Xsave];
        25 AmxInt8 "AMX-INT8" "amx_int8" Hidden [AmxTile];
        26 IbrsIbpb "IBRS_IBPB" "" Hidden [];
        27 Stibp "STIBP" "" Hidden [IbrsIbpb];
        28 L1dFlush "L1D_FLUSH" "flush_l1d" Hidden [];
        29 ArchCapabilities "ARCH_CAPABILITIES" "arch_capabilities" Emulated [Msr];
        30 CoreCapabilities "CORE_CAPABILITIES" "" Hidden [Msr];
        31 Ssbd "SSBD" "ssbd" Hidden [IbrsIbpb];
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
    }
    cpuid(7, 2, Reg::Edx) => {
        0 Psfd "PSFD" "" Hidden [IbrsIbpb];
        1 IpredCtrl "IPRED_CTRL" "" Hidden [IbrsIbpb];
        2 RrsbaCtrl "RRSBA_CTRL" "" Hidden [IbrsIbpb];
        3 DdpdU "DDPD_U" "" Hidden [IbrsIbpb];
        4 BhiCtrl "BHI_CTRL" "" Hidden [IbrsIbpb];
        5 McdtNo "MCDT_NO" "" Native [];
        6 UcLockDisable "UC_LOCK_DISABLE" "" Hidden [];
        7 MonitorMitgNo "MONITOR_MITG_NO" "" Native [];
    }
    cpuid(0xd, 1, Reg::Eax) => {
        0 Xsaveopt "XSAVEOPT" "xsaveopt" Native [Xsave];
        1 Xsavec "XSAVEC" "xsavec" Native [Xsave];
        2 Xgetbv1 "XGETBV_ECX_1" "xgetbv1" Native [Xsave];
        3 Xsaves "XSAVES" "xsaves" Native [Xsavec];
        4 Xfd "XFD" "" Hidden [Xsave];
    }
    cpuid(0x8000_0001, 0, Reg::Ecx) => {
        0 LahfSahf "LAHF_LM" "lahf_lm" Native [Lm];
        5 Lzcnt "LZCNT" "abm" Native [];
        8 Prefetchw "PREFETCHW" "3dnowprefetch" Native [];
    }
    cpuid(0x8000_0001, 0, Reg::Edx) => {
        11 Syscall "SYSCALL" "syscall" Native [Lm];
        20 Nx "NX" "nx" Native [Pae];
        26 Page1gb "PDPE1GB" "pdpe1gb" Native [Lm];
        27 Rdtscp "RDTSCP" "rdtscp" Native [Tsc];
        29 Lm "LM" "lm" Native [Pae Sse2];
    }
    cpuid(0x8000_0007, 0, Reg::Edx) => {
        8 InvariantTsc "INVARIANT_TSC" "nonstop_tsc" Native [Tsc];
    }
    cpuid(0x8000_0008, 0, Reg::Ebx) => {
        9 Wbnoinvd "WBNOINVD" "wbnoinvd" Hidden [];
    }
    Place::Msr(ARCH_CAPABILITIES) => {
        0 RdclNo "RDCL_NO" "" Native [ArchCapabilities];
        1 IbrsAll "IBRS_ALL" "" Hidden [ArchCapabilities];
        2 Rsba "RSBA" "" Restriction [ArchCapabilities];
        3 SkipL1dflVmentry "SKIP_L1DFL_VMENTRY" "" Native [ArchCapabilities];
        4 SsbNo "SSB_NO" "" Native [ArchCapabilities];
        5 MdsNo "MDS_NO" "" Native [ArchCapabilities];
        6 IfPschangeMcNo "IF_PSCHANGE_MC_NO" "" Native [ArchCapabilities];
        7 TsxCtrl "TSX_CTRL" "" Hidden [ArchCapabilities];
        8 TaaNo "TAA_NO" "" Native [ArchCapabilities];
        9 McuControl "MCU_CONTROL" "" Hidden [ArchCapabilities];
        10 MiscPackageCtls "MISC_PACKAGE_CTLS" "" Hidden [ArchCapabilities];
        11 EnergyFilteringCtl "ENERGY_FILTERING_CTL" "" Hidden [ArchCapabilities];
        12 Doitm "DOITM" "" Hidden [ArchCapabilities];
        13 SbdrSsdpNo "SBDR_SSDP_NO" "" Native [ArchCapabilities];
        14 FbsdpNo "FBSDP_NO" "" Native [ArchCapabilities];
        15 PsdpNo "PSDP_NO" "" Native [ArchCapabilities];
        17 FbClear "FB_CLEAR" "" Native [ArchCapabilities];
        18 FbClearCtrl "FB_CLEAR_CTRL" "" Hidden [ArchCapabilities];
        19 Rrsba "RRSBA" "" Restriction [ArchCapabilities];
        20 BhiNo "BHI_NO" "" Native [ArchCapabilities];
        21 XapicDisableStatus "XAPIC_DISABLE_STATUS" "" Hidden [ArchCapabilities];
        23 OverclockingStatus "OVERCLOCKING_STATUS" "" Hidden [ArchCapabilities];
        24 PbrsbNo "PBRSB_NO" "" Native [ArchCapabilities];
        25 GdsCtrl "GDS_CTRL" "" Hidden [ArchCapabilities];
        26 GdsNo "GDS_NO" "" Native [ArchCapabilities];
        27 RfdsNo "RFDS_NO" "" Native [ArchCapabilities];
        28 RfdsClear "RFDS_CLEAR" "" Native [ArchCapabilities];
        62 ItsNo "ITS_NO" "" Native [ArchCapabilities];
    }
    Place::Msr(CORE_CAPABILITIES) => {
        2 FusaSupported "FUSA_SUPPORTED" "" Hidden [CoreCapabilities];
        3 RsmInCpl0Only "RSM_IN_CPL0_ONLY" "" Hidden [CoreCapabilities];
        4 UcLockDisableSupported "UC_LOCK_DISABLE_SUPPORTED" "" Hidden [CoreCapabilities];
        5 SplitLockDisable "SPLIT_LOCK_DISABLE_SUPPORTED" "split_lock_detect" Hidden [CoreCapabilities];
        6 SnoopFilterQos "SNOOP_FILTER_QOS_SUPPORTED" "" Hidden [CoreCapabilities];
        7 UcStoreThrottling "UC_STORE_THROTTLING_SUPPORTED" "" Hidden [CoreCapabilities];
    }
    Place::Msr(PLATFORM_INFO) => {
        31 CpuidFaulting "CPUID_FAULTING" "cpuid_fault" Hidden [];
    }
}
