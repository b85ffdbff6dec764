//! The MSRs that enumerate features, or say which of the CPU's features are on.

use super::Feature;
use super::numbers::*;

/// An MSR with feature bits.
#[derive(Debug)]
pub struct FeatureMsr {
    /// Its number.
    pub index: u32,
    /// The SDM's name.
    pub name: &'static str,
    /// The feature without which it does not exist; none where it is to be tried.
    pub needs: Option<Feature>,
}

const fn msr(index: u32, name: &'static str, needs: Option<Feature>) -> FeatureMsr {
    FeatureMsr { index, name, needs }
}

/// The MSRs with feature bits, by number.
pub static FEATURE_MSRS: &[FeatureMsr] = &[
    msr(PLATFORM_INFO, "MSR_PLATFORM_INFO", None),
    msr(CORE_CAPABILITIES, "IA32_CORE_CAPABILITIES", Some(Feature::CoreCapabilities)),
    msr(ARCH_CAPABILITIES, "IA32_ARCH_CAPABILITIES", Some(Feature::ArchCapabilities)),
    msr(TSX_CTRL, "IA32_TSX_CTRL", Some(Feature::TsxCtrl)),
    msr(MISC_ENABLE, "IA32_MISC_ENABLE", None),
    msr(VMX_BASIC, "IA32_VMX_BASIC", Some(Feature::Vmx)),
    msr(VMX_PINBASED_CTLS, "IA32_VMX_PINBASED_CTLS", Some(Feature::Vmx)),
    msr(VMX_PROCBASED_CTLS, "IA32_VMX_PROCBASED_CTLS", Some(Feature::Vmx)),
    msr(VMX_EXIT_CTLS, "IA32_VMX_EXIT_CTLS", Some(Feature::Vmx)),
    msr(VMX_ENTRY_CTLS, "IA32_VMX_ENTRY_CTLS", Some(Feature::Vmx)),
    msr(VMX_MISC, "IA32_VMX_MISC", Some(Feature::Vmx)),
    msr(VMX_PROCBASED_CTLS2, "IA32_VMX_PROCBASED_CTLS2", Some(Feature::VmxProcSecondary)),
    msr(VMX_EPT_VPID_CAP, "IA32_VMX_EPT_VPID_CAP", Some(Feature::VmxProcSecondary)),
    msr(VMX_VMFUNC, "IA32_VMX_VMFUNC", Some(Feature::VmxProc2Vmfunc)),
    msr(VMX_PROCBASED_CTLS3, "IA32_VMX_PROCBASED_CTLS3", Some(Feature::VmxProcTertiary)),
];
