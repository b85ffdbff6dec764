//! Leaves 1, 5, 6.

macro_rules! basic_rows {
    ([$($done:tt)*] $then:ident $($rest:ident)*) => {
        $then! { [$($done)*
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
        cpuid(5, 0, Reg::Ecx) => {
            0 MwaitExtensions "MWAIT_EXTENSIONS" "" Hidden [Monitor];
            1 MwaitInterrupts "MWAIT_INTERRUPT_BREAK" "" Hidden [Monitor];
        }
        cpuid(6, 0, Reg::Eax) => {
            0 Dtherm "DTHERM" "dtherm" Hidden [];
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
            20 HwpIgnoreIdle "HWP_IGNORE_IDLE" "" Hidden [Hwp];
            22 HwpCtlMsr "HWP_CONTROL_MSR" "" Hidden [Hwp];
            23 ThreadDirector "THREAD_DIRECTOR" "" Hidden [Hfi];
            24 ThermInterrupt25 "THERM_INTERRUPT_BIT25" "" Hidden [];
        }
        cpuid(6, 0, Reg::Ecx) => {
            0 AperfMperf "APERF_MPERF" "aperfmperf" Hidden [];
            1 Acnt2 "ACNT2" "" Hidden [];
            3 Epb "ENERGY_PERF_BIAS" "epb" Hidden [];
        }
        ] $($rest)* }
    };
}
