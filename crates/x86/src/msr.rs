//! Model-specific registers by number (SDM 4, chapter 2).

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_FEATURE_CONTROL.
pub const FEATURE_CONTROL: u32 = 0x3a;
/// IA32_SPEC_CTRL.
pub const SPEC_CTRL: u32 = 0x48;
/// IA32_PRED_CMD.
pub const PRED_CMD: u32 = 0x49;
/// MSR_PLATFORM_INFO.
pub const PLATFORM_INFO: u32 = 0xce;
/// IA32_ARCH_CAPABILITIES.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_TSX_CTRL.
pub const TSX_CTRL: u32 = 0x122;
/// IA32_MISC_ENABLE.
pub const MISC_ENABLE: u32 = 0x1a0;
/// IA32_PAT.
pub const PAT: u32 = 0x277;
/// IA32_VMX_BASIC.
pub const VMX_BASIC: u32 = 0x480;
/// IA32_VMX_PINBASED_CTLS.
pub const VMX_PINBASED_CTLS: u32 = 0x481;
/// IA32_VMX_PROCBASED_CTLS.
pub const VMX_PROCBASED_CTLS: u32 = 0x482;
/// IA32_VMX_EXIT_CTLS.
pub const VMX_EXIT_CTLS: u32 = 0x483;
/// IA32_VMX_MISC.
pub const VMX_MISC: u32 = 0x485;
/// IA32_VMX_PROCBASED_CTLS2.
pub const VMX_PROCBASED_CTLS2: u32 = 0x48b;
/// IA32_VMX_EPT_VPID_CAP.
pub const VMX_EPT_VPID_CAP: u32 = 0x48c;
/// IA32_VMX_VMFUNC.
pub const VMX_VMFUNC: u32 = 0x491;
/// IA32_VMX_PROCBASED_CTLS3.
pub const VMX_PROCBASED_CTLS3: u32 = 0x492;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// IA32_STAR.
pub const STAR: u32 = 0xc000_0081;
/// IA32_LSTAR.
pub const LSTAR: u32 = 0xc000_0082;
/// IA32_CSTAR.
pub const CSTAR: u32 = 0xc000_0083;
/// IA32_FMASK.
pub const FMASK: u32 = 0xc000_0084;
/// IA32_FS_BASE.
pub const FS_BASE: u32 = 0xc000_0100;
/// IA32_GS_BASE.
pub const GS_BASE: u32 = 0xc000_0101;
/// IA32_KERNEL_GS_BASE.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// IA32_TSC_AUX.
pub const TSC_AUX: u32 = 0xc000_0103;
