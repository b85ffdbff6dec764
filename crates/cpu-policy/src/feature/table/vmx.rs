//! The VMX capability MSRs (SDM 3D, appendix A): a control may be 1 where its bit of the high half is.

macro_rules! vmx_rows {
    ([$($done:tt)*] $then:ident $($rest:ident)*) => {
        $then! { [$($done)*
        Place::Msr(VMX_BASIC) => {
            48 VmxBasicAddr32 "VMX_BASIC_32_BIT_ADDRESSES" "" Hidden [Vmx];
            49 VmxBasicDualMonitor "VMX_BASIC_DUAL_MONITOR" "" Hidden [Vmx];
            54 VmxBasicInsOuts "VMX_BASIC_INS_OUTS_INFO" "" Hidden [Vmx];
            55 VmxBasicTrueControls "VMX_BASIC_TRUE_CONTROLS" "" Hidden [Vmx];
            56 VmxBasicAnyErrorCode "VMX_BASIC_ANY_ERROR_CODE" "" Hidden [Vmx];
            58 VmxBasicNestedException "VMX_BASIC_NESTED_EXCEPTION" "" Hidden [Vmx];
        }
        Place::Msr(VMX_PINBASED_CTLS) => {
            32 VmxPinInterrupt "VMX_EXTERNAL_INTERRUPT_EXITING" "" Hidden [Vmx];
            35 VmxPinNmi "VMX_NMI_EXITING" "" Hidden [Vmx];
            37 VmxPinVirtualNmi "VMX_VIRTUAL_NMIS" "vnmi" Hidden [Vmx];
            38 VmxPinPreemptionTimer "VMX_PREEMPTION_TIMER" "preemption_timer" Hidden [Vmx];
            39 VmxPinPostedInterrupts "VMX_POSTED_INTERRUPTS" "posted_intr" Hidden [Vmx];
        }
        Place::Msr(VMX_PROCBASED_CTLS) => {
            34 VmxProcInterruptWindow "VMX_INTERRUPT_WINDOW_EXITING" "" Hidden [Vmx];
            35 VmxProcTscOffset "VMX_TSC_OFFSETTING" "tsc_offset" Hidden [Vmx];
            39 VmxProcHlt "VMX_HLT_EXITING" "" Hidden [Vmx];
            41 VmxProcInvlpg "VMX_INVLPG_EXITING" "" Hidden [Vmx];
            42 VmxProcMwait "VMX_MWAIT_EXITING" "" Hidden [Vmx];
            43 VmxProcRdpmc "VMX_RDPMC_EXITING" "" Hidden [Vmx];
            44 VmxProcRdtsc "VMX_RDTSC_EXITING" "" Hidden [Vmx];
            47 VmxProcCr3Load "VMX_CR3_LOAD_EXITING" "" Hidden [Vmx];
            48 VmxProcCr3Store "VMX_CR3_STORE_EXITING" "" Hidden [Vmx];
            49 VmxProcTertiary "VMX_TERTIARY_CONTROLS" "" Hidden [Vmx];
            51 VmxProcCr8Load "VMX_CR8_LOAD_EXITING" "" Hidden [Vmx];
            52 VmxProcCr8Store "VMX_CR8_STORE_EXITING" "" Hidden [Vmx];
            53 VmxProcTprShadow "VMX_TPR_SHADOW" "vtpr" Hidden [Vmx];
            54 VmxProcNmiWindow "VMX_NMI_WINDOW_EXITING" "" Hidden [Vmx];
            55 VmxProcMovDr "VMX_MOV_DR_EXITING" "" Hidden [Vmx];
            56 VmxProcUncondIo "VMX_UNCONDITIONAL_IO_EXITING" "" Hidden [Vmx];
            57 VmxProcIoBitmaps "VMX_IO_BITMAPS" "" Hidden [Vmx];
            59 VmxProcMtf "VMX_MONITOR_TRAP_FLAG" "mtf" Hidden [Vmx];
            60 VmxProcMsrBitmaps "VMX_MSR_BITMAPS" "" Hidden [Vmx];
            61 VmxProcMonitor "VMX_MONITOR_EXITING" "" Hidden [Vmx];
            62 VmxProcPause "VMX_PAUSE_EXITING" "" Hidden [Vmx];
            63 VmxProcSecondary "VMX_SECONDARY_CONTROLS" "" Hidden [Vmx];
        }
        Place::Msr(VMX_EXIT_CTLS) => {
            34 VmxExitSaveDebug "VMX_EXIT_SAVE_DEBUG_CONTROLS" "" Hidden [Vmx];
            41 VmxExitHost64 "VMX_EXIT_HOST_ADDRESS_SPACE_SIZE" "" Hidden [Vmx];
            44 VmxExitLoadPerf "VMX_EXIT_LOAD_PERF_GLOBAL_CTRL" "" Hidden [Vmx];
            47 VmxExitAckInterrupt "VMX_EXIT_ACKNOWLEDGE_INTERRUPT" "" Hidden [Vmx];
            50 VmxExitSavePat "VMX_EXIT_SAVE_PAT" "" Hidden [Vmx];
            51 VmxExitLoadPat "VMX_EXIT_LOAD_PAT" "" Hidden [Vmx];
            52 VmxExitSaveEfer "VMX_EXIT_SAVE_EFER" "" Hidden [Vmx];
            53 VmxExitLoadEfer "VMX_EXIT_LOAD_EFER" "" Hidden [Vmx];
            54 VmxExitSaveTimer "VMX_EXIT_SAVE_PREEMPTION_TIMER" "" Hidden [Vmx];
            55 VmxExitClearBndcfgs "VMX_EXIT_CLEAR_BNDCFGS" "" Hidden [Vmx];
            56 VmxExitConcealPt "VMX_EXIT_CONCEAL_PT" "" Hidden [Vmx];
            57 VmxExitClearRtit "VMX_EXIT_CLEAR_RTIT_CTL" "" Hidden [Vmx];
            58 VmxExitClearLbr "VMX_EXIT_CLEAR_LBR_CTL" "" Hidden [Vmx];
            59 VmxExitClearUinv "VMX_EXIT_CLEAR_UINV" "" Hidden [Vmx];
            60 VmxExitLoadCet "VMX_EXIT_LOAD_CET" "" Hidden [Vmx];
            61 VmxExitLoadPkrs "VMX_EXIT_LOAD_PKRS" "" Hidden [Vmx];
            62 VmxExitSavePerf "VMX_EXIT_SAVE_PERF_GLOBAL_CTRL" "" Hidden [Vmx];
            63 VmxExitSecondary "VMX_EXIT_SECONDARY_CONTROLS" "" Hidden [Vmx];
        }
        Place::Msr(VMX_ENTRY_CTLS) => {
            34 VmxEntryLoadDebug "VMX_ENTRY_LOAD_DEBUG_CONTROLS" "" Hidden [Vmx];
            41 VmxEntryIa32e "VMX_ENTRY_IA32E_MODE_GUEST" "" Hidden [Vmx];
            42 VmxEntrySmm "VMX_ENTRY_TO_SMM" "" Hidden [Vmx];
            43 VmxEntryDeactivateDual "VMX_ENTRY_DEACTIVATE_DUAL_MONITOR" "" Hidden [Vmx];
            45 VmxEntryLoadPerf "VMX_ENTRY_LOAD_PERF_GLOBAL_CTRL" "" Hidden [Vmx];
            46 VmxEntryLoadPat "VMX_ENTRY_LOAD_PAT" "" Hidden [Vmx];
            47 VmxEntryLoadEfer "VMX_ENTRY_LOAD_EFER" "" Hidden [Vmx];
            48 VmxEntryLoadBndcfgs "VMX_ENTRY_LOAD_BNDCFGS" "" Hidden [Vmx];
            49 VmxEntryConcealPt "VMX_ENTRY_CONCEAL_PT" "" Hidden [Vmx];
            50 VmxEntryLoadRtit "VMX_ENTRY_LOAD_RTIT_CTL" "" Hidden [Vmx];
            51 VmxEntryLoadUinv "VMX_ENTRY_LOAD_UINV" "" Hidden [Vmx];
            52 VmxEntryLoadCet "VMX_ENTRY_LOAD_CET" "" Hidden [Vmx];
            53 VmxEntryLoadLbr "VMX_ENTRY_LOAD_LBR_CTL" "" Hidden [Vmx];
            54 VmxEntryLoadPkrs "VMX_ENTRY_LOAD_PKRS" "" Hidden [Vmx];
        }
        Place::Msr(VMX_MISC) => {
            5 VmxMiscStoreLma "VMX_MISC_STORE_LMA" "" Hidden [Vmx];
            6 VmxMiscHlt "VMX_MISC_ACTIVITY_HLT" "" Hidden [Vmx];
            7 VmxMiscShutdown "VMX_MISC_ACTIVITY_SHUTDOWN" "" Hidden [Vmx];
            8 VmxMiscWaitSipi "VMX_MISC_ACTIVITY_WAIT_FOR_SIPI" "" Hidden [Vmx];
            14 VmxMiscPt "VMX_MISC_PT" "" Hidden [Vmx];
            15 VmxMiscSmbase "VMX_MISC_SMBASE" "" Hidden [Vmx];
            28 VmxMiscSmmMonitor "VMX_MISC_SMM_MONITOR_BIT2" "" Hidden [Vmx];
            29 VmxMiscVmwriteAny "VMX_MISC_VMWRITE_ANY_FIELD" "" Hidden [Vmx];
            30 VmxMiscZeroLength "VMX_MISC_ZERO_LENGTH_INJECTION" "" Hidden [Vmx];
        }
        Place::Msr(VMX_PROCBASED_CTLS2) => {
            32 VmxProc2ApicAccess "VMX_VIRTUALIZE_APIC_ACCESSES" "vapic" Hidden [VmxProcSecondary];
            33 VmxProc2Ept "VMX_EPT" "ept" Hidden [VmxProcSecondary];
            34 VmxProc2DescriptorTable "VMX_DESCRIPTOR_TABLE_EXITING" "" Hidden [VmxProcSecondary];
            35 VmxProc2Rdtscp "VMX_ENABLE_RDTSCP" "" Hidden [VmxProcSecondary];
            36 VmxProc2X2apic "VMX_VIRTUALIZE_X2APIC_MODE" "" Hidden [VmxProcSecondary];
            37 VmxProc2Vpid "VMX_VPID" "vpid" Hidden [VmxProcSecondary];
            38 VmxProc2Wbinvd "VMX_WBINVD_EXITING" "" Hidden [VmxProcSecondary];
            39 VmxProc2UnrestrictedGuest "VMX_UNRESTRICTED_GUEST" "unrestricted_guest" Hidden [VmxProc2Ept];
            40 VmxProc2ApicRegister "VMX_APIC_REGISTER_VIRTUALIZATION" "vapic_reg" Hidden [VmxProcSecondary];
            41 VmxProc2InterruptDelivery "VMX_VIRTUAL_INTERRUPT_DELIVERY" "vid" Hidden [VmxProcSecondary];
            42 VmxProc2Ple "VMX_PAUSE_LOOP_EXITING" "ple" Hidden [VmxProcSecondary];
            43 VmxProc2Rdrand "VMX_RDRAND_EXITING" "" Hidden [VmxProcSecondary];
            44 VmxProc2Invpcid "VMX_ENABLE_INVPCID" "" Hidden [VmxProcSecondary];
            45 VmxProc2Vmfunc "VMX_ENABLE_VM_FUNCTIONS" "" Hidden [VmxProcSecondary];
            46 VmxProc2Shadowing "VMX_VMCS_SHADOWING" "shadow_vmcs" Hidden [VmxProcSecondary];
            47 VmxProc2Encls "VMX_ENCLS_EXITING" "" Hidden [VmxProcSecondary];
            48 VmxProc2Rdseed "VMX_RDSEED_EXITING" "" Hidden [VmxProcSecondary];
            49 VmxProc2Pml "VMX_PML" "pml" Hidden [VmxProc2Ept];
            50 VmxProc2EptVe "VMX_EPT_VIOLATION_VE" "ept_violation_ve" Hidden [VmxProc2Ept];
            51 VmxProc2ConcealPt "VMX_CONCEAL_PT" "" Hidden [VmxProcSecondary];
            52 VmxProc2Xsaves "VMX_ENABLE_XSAVES" "" Hidden [VmxProcSecondary];
            53 VmxProc2Pasid "VMX_PASID_TRANSLATION" "" Hidden [VmxProcSecondary];
            54 VmxProc2Mbec "VMX_MODE_BASED_EXECUTE" "ept_mode_based_exec" Hidden [VmxProc2Ept];
            55 VmxProc2Spp "VMX_SUB_PAGE_WRITE" "" Hidden [VmxProc2Ept];
            56 VmxProc2PtGpa "VMX_PT_GUEST_PHYSICAL" "" Hidden [VmxProc2Ept];
            57 VmxProc2TscScaling "VMX_TSC_SCALING" "tsc_scaling" Hidden [VmxProcSecondary];
            58 VmxProc2UserWait "VMX_USER_WAIT_AND_PAUSE" "usr_wait_pause" Hidden [VmxProcSecondary];
            59 VmxProc2Pconfig "VMX_ENABLE_PCONFIG" "" Hidden [VmxProcSecondary];
            60 VmxProc2Enclv "VMX_ENCLV_EXITING" "" Hidden [VmxProcSecondary];
            62 VmxProc2BusLock "VMX_BUS_LOCK_DETECTION" "bus_lock_detection" Hidden [VmxProcSecondary];
            63 VmxProc2Notify "VMX_INSTRUCTION_TIMEOUT" "notify_vm_exiting" Hidden [VmxProcSecondary];
        }
        Place::Msr(VMX_EPT_VPID_CAP) => {
            0 VmxEptExecuteOnly "VMX_EPT_EXECUTE_ONLY" "ept_x_only" Hidden [VmxProc2Ept];
            6 VmxEptWalk4 "VMX_EPT_WALK_4" "" Hidden [VmxProc2Ept];
            7 VmxEptWalk5 "VMX_EPT_WALK_5" "ept_5level" Hidden [VmxProc2Ept];
            8 VmxEptUc "VMX_EPT_UC" "" Hidden [VmxProc2Ept];
            14 VmxEptWb "VMX_EPT_WB" "" Hidden [VmxProc2Ept];
            16 VmxEptPage2m "VMX_EPT_2M_PAGES" "" Hidden [VmxProc2Ept];
            17 VmxEptPage1g "VMX_EPT_1G_PAGES" "ept_1gb" Hidden [VmxProc2Ept];
            20 VmxEptInvept "VMX_INVEPT" "" Hidden [VmxProc2Ept];
            21 VmxEptAccessedDirty "VMX_EPT_ACCESSED_DIRTY" "ept_ad" Hidden [VmxProc2Ept];
            22 VmxEptExitInfo "VMX_EPT_ADVANCED_EXIT_INFO" "" Hidden [VmxProc2Ept];
            23 VmxEptShadowStack "VMX_EPT_SUPERVISOR_SHADOW_STACK" "" Hidden [VmxProc2Ept];
            25 VmxEptInveptSingle "VMX_INVEPT_SINGLE" "" Hidden [VmxEptInvept];
            26 VmxEptInveptAll "VMX_INVEPT_ALL" "" Hidden [VmxEptInvept];
            32 VmxEptInvvpid "VMX_INVVPID" "invvpid" Hidden [VmxProc2Vpid];
            40 VmxEptInvvpidAddress "VMX_INVVPID_ADDRESS" "" Hidden [VmxEptInvvpid];
            41 VmxEptInvvpidSingle "VMX_INVVPID_SINGLE" "" Hidden [VmxEptInvvpid];
            42 VmxEptInvvpidAll "VMX_INVVPID_ALL" "" Hidden [VmxEptInvvpid];
            43 VmxEptInvvpidGlobals "VMX_INVVPID_RETAIN_GLOBALS" "" Hidden [VmxEptInvvpid];
        }
        Place::Msr(VMX_VMFUNC) => {
            0 VmxFuncEptpSwitching "VMX_EPTP_SWITCHING" "" Hidden [VmxProc2Vmfunc];
        }
        Place::Msr(VMX_PROCBASED_CTLS3) => {
            0 VmxProc3Loadiwkey "VMX_LOADIWKEY_EXITING" "" Hidden [VmxProcTertiary];
            1 VmxProc3Hlat "VMX_HLAT" "" Hidden [VmxProcTertiary];
            2 VmxProc3PagingWrite "VMX_EPT_PAGING_WRITE" "" Hidden [VmxProcTertiary];
            3 VmxProc3PagingVerify "VMX_GUEST_PAGING_VERIFICATION" "" Hidden [VmxProcTertiary];
            4 VmxProc3IpiVirt "VMX_IPI_VIRTUALIZATION" "ipi_virt" Hidden [VmxProcTertiary];
            7 VmxProc3SpecCtrl "VMX_VIRTUALIZE_SPEC_CTRL" "" Hidden [VmxProcTertiary];
        }
        ] $($rest)* }
    };
}
