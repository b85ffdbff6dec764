//! Feature bits of MSRs (SDM 4, table 2-2).

macro_rules! msr_rows {
    ([$($done:tt)*] $then:ident $($rest:ident)*) => {
        $then! { [$($done)*
        Place::Msr(ARCH_CAPABILITIES) => {
            0 RdclNo "RDCL_NO" "" Native [ArchCapabilities];
            1 IbrsAll "IBRS_ALL" "ibrs_enhanced" Native [ArchCapabilities IbrsIbpb];
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
            16 McuEnumeration "MCU_ENUMERATION" "" Hidden [ArchCapabilities];
            17 FbClear "FB_CLEAR" "" Native [ArchCapabilities];
            18 FbClearCtrl "FB_CLEAR_CTRL" "" Hidden [ArchCapabilities];
            19 Rrsba "RRSBA" "" Restriction [ArchCapabilities];
            20 BhiNo "BHI_NO" "" Native [ArchCapabilities];
            21 XapicDisableStatus "XAPIC_DISABLE_STATUS" "" Hidden [ArchCapabilities];
            22 McuExtended "MCU_EXTENDED_SERVICE" "" Hidden [ArchCapabilities];
            23 OverclockingStatus "OVERCLOCKING_STATUS" "" Hidden [ArchCapabilities];
            24 PbrsbNo "PBRSB_NO" "" Native [ArchCapabilities];
            25 GdsCtrl "GDS_CTRL" "" Hidden [ArchCapabilities];
            26 GdsNo "GDS_NO" "" Native [ArchCapabilities];
            27 RfdsNo "RFDS_NO" "" Native [ArchCapabilities];
            28 RfdsClear "RFDS_CLEAR" "" Native [ArchCapabilities];
            29 IgnUmonitor "IGN_UMONITOR_SUPPORT" "" Hidden [ArchCapabilities Waitpkg];
            30 MonUmonMitg "MON_UMON_MITG_SUPPORT" "" Hidden [ArchCapabilities];
            32 Pbopt "PBOPT_SUPPORT" "" Hidden [ArchCapabilities];
            62 ItsNo "ITS_NO" "" Native [ArchCapabilities];
        }
        Place::Msr(CORE_CAPABILITIES) => {
            0 StlbQos "STLB_QOS_SUPPORTED" "" Hidden [CoreCapabilities];
            2 FusaSupported "FUSA_SUPPORTED" "" Hidden [CoreCapabilities];
            3 RsmInCpl0Only "RSM_IN_CPL0_ONLY" "" Hidden [CoreCapabilities];
            4 UcLockDisableSupported "UC_LOCK_DISABLE_SUPPORTED" "" Hidden [CoreCapabilities];
            5 SplitLockDisable "SPLIT_LOCK_DISABLE_SUPPORTED" "split_lock_detect" Hidden [CoreCapabilities];
            6 SnoopFilterQos "SNOOP_FILTER_QOS_SUPPORTED" "" Hidden [CoreCapabilities];
            7 UcStoreThrottling "UC_STORE_THROTTLING_SUPPORTED" "" Hidden [CoreCapabilities];
        }
        Place::Msr(PLATFORM_INFO) => {
            23 PpinCap "PPIN_CAP" "intel_ppin" Hidden [];
            28 ProgrammableRatio "PROGRAMMABLE_RATIO_LIMIT" "" Hidden [];
            29 ProgrammableTdp "PROGRAMMABLE_TDP_LIMIT" "" Hidden [];
            30 ProgrammableTj "PROGRAMMABLE_TJ_OFFSET" "" Hidden [];
            31 CpuidFaulting "CPUID_FAULTING" "cpuid_fault" Emulated [Msr];
            37 TimedMwait "TIMED_MWAIT" "" Hidden [Monitor];
        }
        Place::Msr(MISC_ENABLE) => {
            0 FastStrings "FAST_STRINGS" "rep_good" Derived [];
            3 ThermalControl "AUTOMATIC_TCC" "" Hidden [Tm];
            7 PerfmonAvailable "PERFMON_AVAILABLE" "" Hidden [];
            11 BtsUnavailable "BTS_UNAVAILABLE" "" Derived [];
            12 PebsUnavailable "PEBS_UNAVAILABLE" "" Derived [];
            16 EistEnable "EIST_ENABLE" "" Hidden [Eist];
            18 MonitorEnable "MONITOR_FSM_ENABLE" "" Hidden [Monitor];
            22 LimitMaxval "LIMIT_CPUID_MAXVAL" "" Hidden [];
            23 XtprDisable "XTPR_MESSAGE_DISABLE" "" Hidden [Xtpr];
            34 XdDisable "XD_BIT_DISABLE" "" Hidden [];
            38 TurboDisable "TURBO_DISABLE" "" Hidden [];
        }
        Place::Msr(TSX_CTRL) => {
            0 RtmDisable "RTM_DISABLE" "" Hidden [TsxCtrl];
            1 TsxCpuidClear "TSX_CPUID_CLEAR" "" Hidden [TsxCtrl];
        }
        ] $($rest)* }
    };
}
