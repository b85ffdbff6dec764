//! Leaves 0xA to 0x29, and the extended ones.

macro_rules! later_rows {
    ([$($done:tt)*] $then:ident $($rest:ident)*) => {
        $then! { [$($done)*
        cpuid(0xa, 0, Reg::Edx) => {
            15 AnyThreadDeprecated "ANYTHREAD_DEPRECATION" "" Hidden [Pdcm];
        }
        cpuid(0xd, 1, Reg::Eax) => {
            0 Xsaveopt "XSAVEOPT" "xsaveopt" Native [Xsave];
            1 Xsavec "XSAVEC" "xsavec" Native [Xsave];
            2 Xgetbv1 "XGETBV_ECX_1" "xgetbv1" Native [Xsave];
            3 Xsaves "XSAVES" "xsaves" Native [Xsavec];
            4 Xfd "XFD" "" Hidden [Xsave];
        }
        cpuid(0xf, 0, Reg::Edx) => {
            1 L3Monitoring "L3_MONITORING" "cqm_llc" Hidden [RdtM];
        }
        cpuid(0xf, 1, Reg::Edx) => {
            0 L3Occupancy "L3_OCCUPANCY" "cqm_occup_llc" Hidden [L3Monitoring];
            1 L3TotalBandwidth "L3_TOTAL_BANDWIDTH" "cqm_mbm_total" Hidden [L3Monitoring];
            2 L3LocalBandwidth "L3_LOCAL_BANDWIDTH" "cqm_mbm_local" Hidden [L3Monitoring];
        }
        cpuid(0x10, 0, Reg::Ebx) => {
            1 CatL3 "L3_CAT" "cat_l3" Hidden [RdtA];
            2 CatL2 "L2_CAT" "cat_l2" Hidden [RdtA];
            3 Mba "MBA" "mba" Hidden [RdtA];
        }
        cpuid(0x10, 1, Reg::Ecx) => {
            1 CatL3NonCpu "L3_CAT_NON_CPU" "" Hidden [CatL3];
            2 CdpL3 "L3_CDP" "cdp_l3" Hidden [CatL3];
            3 CatL3NonContiguous "L3_CAT_NON_CONTIGUOUS" "" Hidden [CatL3];
        }
        cpuid(0x10, 2, Reg::Ecx) => {
            2 CdpL2 "L2_CDP" "cdp_l2" Hidden [CatL2];
            3 CatL2NonContiguous "L2_CAT_NON_CONTIGUOUS" "" Hidden [CatL2];
        }
        cpuid(0x10, 3, Reg::Ecx) => {
            0 MbaPerThread "PER_THREAD_MBA" "per_thread_mba" Hidden [Mba];
            2 MbaLinear "MBA_LINEAR" "" Hidden [Mba];
        }
        cpuid(0x12, 0, Reg::Eax) => {
            0 Sgx1 "SGX1" "sgx1" Hidden [Sgx];
            1 Sgx2 "SGX2" "sgx2" Hidden [Sgx1];
            5 SgxEnclv "SGX_ENCLV_VIRT" "" Hidden [Sgx1];
            6 SgxEncls "SGX_ENCLS_PAGING" "" Hidden [Sgx1];
            7 SgxEverifyreport2 "SGX_EVERIFYREPORT2" "" Hidden [Sgx1];
            10 SgxEupdatesvn "SGX_EUPDATESVN" "" Hidden [Sgx1];
            11 SgxEdeccssa "SGX_EDECCSSA" "sgx_edeccssa" Hidden [Sgx1];
        }
        cpuid(0x12, 0, Reg::Ebx) => {
            0 SgxExinfo "SGX_EXINFO" "" Hidden [Sgx1];
            1 SgxCpinfo "SGX_CPINFO" "" Hidden [Sgx1];
        }
        cpuid(0x12, 1, Reg::Eax) => {
            0 SgxInit "SGX_INIT" "" Hidden [Sgx1];
            1 SgxDebug "SGX_DEBUG" "" Hidden [Sgx1];
            2 SgxMode64 "SGX_MODE64BIT" "" Hidden [Sgx1];
            4 SgxProvisionKey "SGX_PROVISIONKEY" "" Hidden [Sgx1];
            5 SgxTokenKey "SGX_EINITTOKEN_KEY" "" Hidden [Sgx1];
            6 SgxCet "SGX_CET" "" Hidden [Sgx1];
            7 SgxKss "SGX_KSS" "" Hidden [Sgx1];
            10 SgxAexNotify "SGX_AEXNOTIFY" "" Hidden [Sgx1];
        }
        cpuid(0x14, 0, Reg::Ebx) => {
            0 PtCr3Filter "PT_CR3_FILTERING" "" Hidden [Pt];
            1 PtPsbCyc "PT_PSB_CYC" "" Hidden [Pt];
            2 PtIpFilter "PT_IP_FILTERING" "" Hidden [Pt];
            3 PtMtc "PT_MTC" "" Hidden [Pt];
            4 PtWrite "PT_PTWRITE" "" Hidden [Pt];
            5 PtPowerEvent "PT_POWER_EVENT" "" Hidden [Pt];
            6 PtPsbPmi "PT_PSB_PMI" "" Hidden [Pt];
            7 PtEvent "PT_EVENT_TRACE" "" Hidden [Pt];
            8 PtTntDisable "PT_TNT_DISABLE" "" Hidden [Pt];
            9 PtTrigger "PT_TRIGGER_TRACING" "" Hidden [Pt];
        }
        cpuid(0x14, 0, Reg::Ecx) => {
            0 PtTopa "PT_TOPA" "" Hidden [Pt];
            1 PtTopaMulti "PT_TOPA_MULTIPLE" "" Hidden [Pt];
            2 PtSingleRange "PT_SINGLE_RANGE" "" Hidden [Pt];
            3 PtTransport "PT_TRACE_TRANSPORT" "" Hidden [Pt];
            31 PtLip "PT_LIP" "" Hidden [Pt];
        }
        cpuid(0x19, 0, Reg::Eax) => {
            0 KlCpl0 "KL_CPL0_ONLY" "" Hidden [Kl];
            1 KlNoEncrypt "KL_NO_ENCRYPT" "" Hidden [Kl];
            2 KlNoDecrypt "KL_NO_DECRYPT" "" Hidden [Kl];
        }
        cpuid(0x19, 0, Reg::Ebx) => {
            0 AesKle "AESKLE" "" Hidden [Kl];
            2 AesKlWide "AES_WIDE_KL" "" Hidden [AesKle];
            4 KlBackup "KL_MSR_BACKUP" "" Hidden [Kl];
        }
        cpuid(0x19, 0, Reg::Ecx) => {
            0 KlNoBackup "KL_NO_BACKUP" "" Hidden [Kl];
            1 KlRandom "KL_RANDOM_IWKEY" "" Hidden [Kl];
        }
        cpuid(0x1c, 0, Reg::Ebx) => {
            0 LbrCpl "LBR_CPL_FILTER" "" Hidden [ArchLbr];
            1 LbrFilter "LBR_BRANCH_FILTER" "" Hidden [ArchLbr];
            2 LbrCallStack "LBR_CALL_STACK" "" Hidden [ArchLbr];
        }
        cpuid(0x1c, 0, Reg::Ecx) => {
            0 LbrMispredict "LBR_MISPREDICT" "" Hidden [ArchLbr];
            1 LbrCycles "LBR_TIMED" "" Hidden [ArchLbr];
            2 LbrType "LBR_BRANCH_TYPE" "" Hidden [ArchLbr];
        }
        cpuid(0x1e, 1, Reg::Eax) => {
            0 TmulInt8 "TMUL_INT8" "" Hidden [AmxTile];
            1 TmulBf16 "TMUL_BF16" "" Hidden [AmxTile];
            2 TmulComplex "TMUL_COMPLEX" "" Hidden [AmxTile];
            3 TmulFp16 "TMUL_FP16" "" Hidden [AmxTile];
            4 AmxFp8 "AMX-FP8" "" Hidden [AmxTile];
            5 AmxTranspose "AMX-TRANSPOSE" "" Hidden [AmxTile];
            6 AmxTf32 "AMX-TF32" "" Hidden [AmxTile];
            7 AmxAvx512 "AMX-AVX512" "" Hidden [AmxTile];
            8 AmxMovrs "AMX-MOVRS" "" Hidden [AmxTile];
        }
        cpuid(0x20, 0, Reg::Ebx) => {
            0 HresetThreadDirector "HRESET_THREAD_DIRECTOR" "" Hidden [Hreset];
        }
        cpuid(0x23, 0, Reg::Ebx) => {
            0 PerfUnitMask2 "PERFMON_UNITMASK2" "" Hidden [ArchPerfmonExt];
            1 PerfEq "PERFMON_EQ" "" Hidden [ArchPerfmonExt];
            2 RdpmcUserDisable "RDPMC_USR_DISABLE" "" Hidden [ArchPerfmonExt];
        }
        cpuid(0x24, 0, Reg::Ebx) => {
            16 Avx10Width128 "AVX10_128" "" Hidden [Avx10];
            17 Avx10Width256 "AVX10_256" "" Hidden [Avx10];
            18 Avx10Width512 "AVX10_512" "" Hidden [Avx10];
        }
        cpuid(0x24, 1, Reg::Ecx) => {
            2 Avx10VnniInt "AVX10_VNNI_INT" "" Hidden [Avx10];
        }
        cpuid(0x27, 0, Reg::Edx) => {
            1 AsymL3Monitoring "ASYM_L3_MONITORING" "" Hidden [AsymRdtM];
        }
        cpuid(0x27, 1, Reg::Edx) => {
            0 AsymL3Occupancy "ASYM_L3_OCCUPANCY" "" Hidden [AsymL3Monitoring];
            1 AsymL3TotalBandwidth "ASYM_L3_TOTAL_BANDWIDTH" "" Hidden [AsymL3Monitoring];
            2 AsymL3LocalBandwidth "ASYM_L3_LOCAL_BANDWIDTH" "" Hidden [AsymL3Monitoring];
        }
        cpuid(0x28, 0, Reg::Ebx) => {
            1 AsymCatL3 "ASYM_L3_CAT" "" Hidden [AsymRdtA];
            2 AsymCatL2 "ASYM_L2_CAT" "" Hidden [AsymRdtA];
            3 AsymMba "ASYM_MBA" "" Hidden [AsymRdtA];
        }
        cpuid(0x29, 0, Reg::Ebx) => {
            0 ApxNciNddNf "APX_NCI_NDD_NF" "" Hidden [ApxF];
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
            9 Wbnoinvd "WBNOINVD" "wbnoinvd" Native [];
        }
        ] $($rest)* }
    };
}
