//! What a CPU says of itself.

use x86::msr::{ARCH_CAPABILITIES as IA32_ARCH_CAPABILITIES, TSX_CTRL as IA32_TSX_CTRL};

/// Whether two threads share a core's buffers and predictors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Smt {
    /// Two threads of one core are in use.
    On,
    /// One thread of each core is in use, or there is no more.
    Off,
    /// Not known, which counts as on.
    #[default]
    Unknown,
}

impl Smt {
    /// From the local APIC ids of the CPUs in use, whose lowest `shift` bits number the threads of a core
    /// (CPUID.B.0:EAX\[4:0\], where leaf 0BH is there).
    #[must_use]
    pub fn of(shift: Option<u32>, apic_ids: &[u32]) -> Self {
        let Some(shift) = shift else { return Self::Unknown };
        let core = |id: &u32| id.checked_shr(shift).unwrap_or(0);
        let shared =
            |(at, id): (usize, &u32)| apic_ids.iter().skip(at + 1).any(|other| core(other) == core(id));
        if apic_ids.iter().enumerate().any(shared) { Self::On } else { Self::Off }
    }

    /// As reports have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

/// What CPUID and the MSRs of a CPU say about speculation. The registers are kept as they are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cpu {
    /// CPUID.1:EAX.
    pub signature: u32,
    /// CPUID.1:ECX.
    pub leaf1_ecx: u32,
    /// CPUID.7.0:EBX.
    pub leaf7_ebx: u32,
    /// CPUID.7.0:EDX.
    pub leaf7_edx: u32,
    /// CPUID.7.2:EDX.
    pub leaf7_2_edx: u32,
    /// IA32_ARCH_CAPABILITIES, 0 where it is absent.
    pub arch_capabilities: u64,
    /// IA32_MCU_OPT_CTRL, `None` where it is absent.
    pub mcu_opt_ctrl: Option<u64>,
    /// IA32_TSX_CTRL, `None` where it is absent.
    pub tsx_ctrl: Option<u64>,
    /// Threads of a core.
    pub smt: Smt,
}

const IA32_MCU_OPT_CTRL: u32 = 0x123;

/// CPUID.1:ECX.
pub(crate) mod ecx {
    pub(crate) const AVX: u32 = 1 << 28;
    pub(crate) const RDRAND: u32 = 1 << 30;
    pub(crate) const HYPERVISOR: u32 = 1 << 31;
}

/// CPUID.7.0:EBX.
pub(crate) mod ebx {
    pub(crate) const AVX2: u32 = 1 << 5;
    pub(crate) const RTM: u32 = 1 << 11;
    pub(crate) const RDSEED: u32 = 1 << 18;
}

/// CPUID.7.0:EDX.
pub(crate) mod edx {
    pub(crate) const SRBDS_CTRL: u32 = 1 << 9;
    pub(crate) const MD_CLEAR: u32 = 1 << 10;
    pub(crate) const IBRS_IBPB: u32 = 1 << 26;
    pub(crate) const STIBP: u32 = 1 << 27;
    pub(crate) const L1D_FLUSH: u32 = 1 << 28;
    pub(crate) const ARCH_CAPABILITIES: u32 = 1 << 29;
    pub(crate) const SSBD: u32 = 1 << 31;
}

/// CPUID.7.2:EDX.
pub(crate) mod edx2 {
    pub(crate) const PSFD: u32 = 1 << 0;
    pub(crate) const IPRED_CTRL: u32 = 1 << 1;
    pub(crate) const RRSBA_CTRL: u32 = 1 << 2;
    pub(crate) const DDPD_U: u32 = 1 << 3;
    pub(crate) const BHI_CTRL: u32 = 1 << 4;
}

/// IA32_ARCH_CAPABILITIES.
pub(crate) mod cap {
    pub(crate) const RDCL_NO: u64 = 1 << 0;
    pub(crate) const IBRS_ALL: u64 = 1 << 1;
    pub(crate) const RSBA: u64 = 1 << 2;
    pub(crate) const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    pub(crate) const SSB_NO: u64 = 1 << 4;
    pub(crate) const MDS_NO: u64 = 1 << 5;
    pub(crate) const IF_PSCHANGE_MC_NO: u64 = 1 << 6;
    pub(crate) const TSX_CTRL: u64 = 1 << 7;
    pub(crate) const TAA_NO: u64 = 1 << 8;
    pub(crate) const SBDR_SSDP_NO: u64 = 1 << 13;
    pub(crate) const FBSDP_NO: u64 = 1 << 14;
    pub(crate) const PSDP_NO: u64 = 1 << 15;
    pub(crate) const FB_CLEAR: u64 = 1 << 17;
    pub(crate) const FB_CLEAR_CTRL: u64 = 1 << 18;
    pub(crate) const BHI_NO: u64 = 1 << 20;
    pub(crate) const PBRSB_NO: u64 = 1 << 24;
    pub(crate) const GDS_CTRL: u64 = 1 << 25;
    pub(crate) const GDS_NO: u64 = 1 << 26;
    pub(crate) const RFDS_NO: u64 = 1 << 27;
    pub(crate) const RFDS_CLEAR: u64 = 1 << 28;
    pub(crate) const ITS_NO: u64 = 1 << 62;
}

/// IA32_SPEC_CTRL.
pub(crate) mod spec {
    pub(crate) const IBRS: u64 = 1 << 0;
    pub(crate) const STIBP: u64 = 1 << 1;
    pub(crate) const SSBD: u64 = 1 << 2;
    pub(crate) const IPRED_DIS: u64 = 0b11 << 3;
    pub(crate) const RRSBA_DIS: u64 = 0b11 << 5;
    pub(crate) const PSFD: u64 = 1 << 7;
    pub(crate) const DDPD_U: u64 = 1 << 8;
    pub(crate) const BHI_DIS_S: u64 = 1 << 10;
}

/// The bits of IA32_SPEC_CTRL that come with CPUID.7.0:EDX and CPUID.7.2:EDX (SDM 4 table 2-2); 0: no such MSR.
#[must_use]
pub const fn spec_ctrl_bits(leaf7_edx: u32, leaf7_2_edx: u32) -> u64 {
    if leaf7_edx & edx::IBRS_IBPB == 0 {
        return 0;
    }
    let mut bits = 0;
    let seven = [(edx::IBRS_IBPB, spec::IBRS), (edx::STIBP, spec::STIBP), (edx::SSBD, spec::SSBD)];
    let two = [
        (edx2::PSFD, spec::PSFD),
        (edx2::IPRED_CTRL, spec::IPRED_DIS),
        (edx2::RRSBA_CTRL, spec::RRSBA_DIS),
        (edx2::DDPD_U, spec::DDPD_U),
        (edx2::BHI_CTRL, spec::BHI_DIS_S),
    ];
    let mut i = 0;
    while i < seven.len() {
        if leaf7_edx & seven[i].0 != 0 {
            bits |= seven[i].1;
        }
        i += 1;
    }
    i = 0;
    while i < two.len() {
        if leaf7_2_edx & two[i].0 != 0 {
            bits |= two[i].1;
        }
        i += 1;
    }
    bits
}

impl Cpu {
    /// Reads a CPU, or what a guest is told of one: `cpuid(EAX, ECX)`, `msr(index)` with None where there is none.
    #[must_use]
    pub fn read(cpuid: impl Fn(u32, u32) -> [u32; 4], msr: impl Fn(u32) -> Option<u64>, smt: Smt) -> Self {
        let [max_leaf, ..] = cpuid(0, 0);
        let [signature, _, leaf1_ecx, _] = cpuid(1, 0);
        let [max_sub7, leaf7_ebx, _, leaf7_edx] = if max_leaf >= 7 { cpuid(7, 0) } else { [0; 4] };
        let leaf7_2_edx = if max_sub7 >= 2 { cpuid(7, 2)[3] } else { 0 };
        let capabilities = leaf7_edx & edx::ARCH_CAPABILITIES != 0;
        let arch_capabilities = if capabilities { msr(IA32_ARCH_CAPABILITIES).unwrap_or(0) } else { 0 };
        let tsx = arch_capabilities & cap::TSX_CTRL != 0;
        let mcu =
            leaf7_edx & edx::SRBDS_CTRL != 0 || arch_capabilities & (cap::FB_CLEAR_CTRL | cap::GDS_CTRL) != 0;
        Self {
            signature,
            leaf1_ecx,
            leaf7_ebx,
            leaf7_edx,
            leaf7_2_edx,
            arch_capabilities,
            mcu_opt_ctrl: if mcu { msr(IA32_MCU_OPT_CTRL) } else { None },
            tsx_ctrl: if tsx { msr(IA32_TSX_CTRL) } else { None },
            smt,
        }
    }

    /// Family, with the extended family added.
    #[must_use]
    pub const fn family(&self) -> u32 {
        let base = self.signature >> 8 & 0xf;
        if base == 0xf { base + (self.signature >> 20 & 0xff) } else { base }
    }

    /// Model, with the extended model in front.
    #[must_use]
    pub const fn model(&self) -> u32 {
        (self.signature >> 12 & 0xf0) | (self.signature >> 4 & 0xf)
    }

    /// Stepping.
    #[must_use]
    pub const fn stepping(&self) -> u32 {
        self.signature & 0xf
    }

    /// The bits that its IA32_SPEC_CTRL takes; 0 where it has none.
    #[must_use]
    pub const fn spec_ctrl(&self) -> u64 {
        spec_ctrl_bits(self.leaf7_edx, self.leaf7_2_edx)
    }

    pub(crate) const fn edx(&self, bit: u32) -> bool {
        self.leaf7_edx & bit != 0
    }

    pub(crate) const fn cap(&self, bit: u64) -> bool {
        self.arch_capabilities & bit == bit
    }

    /// IBRS stays in force once it is set.
    pub(crate) const fn enhanced_ibrs(&self) -> bool {
        self.cap(cap::IBRS_ALL) && self.edx(edx::IBRS_IBPB)
    }

    /// IA32_SPEC_CTRL has BHI_DIS_S.
    pub(crate) const fn bhi_ctrl(&self) -> bool {
        self.spec_ctrl() & spec::BHI_DIS_S != 0
    }

    /// It runs under a hypervisor: a guest of ours, or we as a guest. Its model may be a fiction.
    pub(crate) const fn virtual_machine(&self) -> bool {
        self.leaf1_ecx & ecx::HYPERVISOR != 0
    }

    /// Transactions can be started, as far as this CPU says.
    pub(crate) fn transactions(&self) -> bool {
        const RTM_DISABLE: u64 = 1;
        match self.tsx_ctrl {
            Some(control) => control & RTM_DISABLE == 0,
            None => self.leaf7_ebx & ebx::RTM != 0 || self.cap(cap::TSX_CTRL),
        }
    }
}
