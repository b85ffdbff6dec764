//! Numbers of the MSRs that enumerate features.

/// MSR_PLATFORM_INFO.
pub const PLATFORM_INFO: u32 = 0xce;
/// IA32_CORE_CAPABILITIES.
pub const CORE_CAPABILITIES: u32 = 0xcf;
/// IA32_ARCH_CAPABILITIES.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_TSX_CTRL.
pub const TSX_CTRL: u32 = 0x122;
/// IA32_MISC_ENABLE.
pub const MISC_ENABLE: u32 = 0x1a0;
/// IA32_VMX_BASIC.
pub(super) const VMX_BASIC: u32 = 0x480;
/// IA32_VMX_PINBASED_CTLS.
pub(super) const VMX_PINBASED_CTLS: u32 = 0x481;
/// IA32_VMX_PROCBASED_CTLS.
pub(super) const VMX_PROCBASED_CTLS: u32 = 0x482;
/// IA32_VMX_EXIT_CTLS.
pub(super) const VMX_EXIT_CTLS: u32 = 0x483;
/// IA32_VMX_ENTRY_CTLS.
pub(super) const VMX_ENTRY_CTLS: u32 = 0x484;
/// IA32_VMX_MISC.
pub(super) const VMX_MISC: u32 = 0x485;
/// IA32_VMX_PROCBASED_CTLS2.
pub(super) const VMX_PROCBASED_CTLS2: u32 = 0x48b;
/// IA32_VMX_EPT_VPID_CAP.
pub(super) const VMX_EPT_VPID_CAP: u32 = 0x48c;
/// IA32_VMX_VMFUNC.
pub(super) const VMX_VMFUNC: u32 = 0x491;
/// IA32_VMX_PROCBASED_CTLS3.
pub(super) const VMX_PROCBASED_CTLS3: u32 = 0x492;
