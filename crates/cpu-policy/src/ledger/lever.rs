//! What can take a feature away from a guest: one row for each that there is anything to say of.

use x86::msr;

use super::control::{Control, Enforcement};
use super::means::Means;
use crate::feature::{Feature, Place};
use crate::msr::{MsrRead, MsrWrite};
use crate::policy::GuestPolicy;

/// One way to take a feature away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lever {
    /// #UD while this control is 0.
    Enable(Control),
    /// An exit while this control is 1, answered with #UD.
    Exit(Control),
    /// #UD or no effect without this bit of CR4, and the bit #GP.
    Cr4(u8),
    /// #UD without these bits of XCR0, and the bits #GP.
    Xcr0(u64),
    /// #UD or no effect without this bit of IA32_EFER, and the bit #GP.
    Efer(u8),
    /// Without effect unless this MSR is written, and the MSR #GP.
    Msr(u32),
    /// The same of a bit of an MSR that the guest has.
    MsrBits(u32, u64),
    /// IA32_TSX_CTRL.
    TsxCtrl,
    /// There is nothing to execute or to set: a statement.
    Statement,
}

impl Lever {
    /// What it is, where it holds for this guest.
    pub(crate) fn pull(self, guest: &GuestPolicy, choice: &Enforcement) -> Option<Means> {
        let denied = |index, bits| {
            guest.write_msr(index, bits) == MsrWrite::Gp
                && !matches!(guest.read_msr(index), MsrRead::Value(held) if held & bits != 0)
        };
        let (holds, means) = match self {
            Self::Enable(control) => (!choice.has(control), Means::NotEnabled(control)),
            Self::Exit(control) => (choice.has(control), Means::Exiting(control)),
            Self::Cr4(bit) => (guest.cr4_allowed() >> bit & 1 == 0, Means::Cr4(bit)),
            Self::Xcr0(bits) => (guest.xcr0_allowed() & bits != bits, Means::Xcr0(bits)),
            Self::Efer(bit) => (guest.efer_allowed() >> bit & 1 == 0, Means::Efer(bit)),
            Self::Msr(index) => (
                guest.read_msr(index) == MsrRead::Gp && guest.write_msr(index, 0) == MsrWrite::Gp,
                Means::Msr(index),
            ),
            Self::MsrBits(index, bits) => (denied(index, bits), Means::Msr(index)),
            Self::TsxCtrl => (choice.tsx_off(), Means::TsxCtrl),
            Self::Statement => (true, Means::Statement),
        };
        holds.then_some(means)
    }
}

const AVX: &[Lever] = &[Lever::Xcr0(1 << 2)];
const AVX512: &[Lever] = &[Lever::Xcr0(0b111 << 5)];
const AMX: &[Lever] = &[Lever::Xcr0(0b11 << 17)];
const XSAVE: &[Lever] = &[Lever::Cr4(18)];
const CET: &[Lever] = &[Lever::Cr4(23)];
const UINTR: &[Lever] = &[Lever::Cr4(25)];
const FRED: &[Lever] = &[Lever::Cr4(32)];
const SGX: &[Lever] = &[Lever::Exit(Control::ENCLS_EXITING)];
const DS: &[Lever] = &[Lever::Msr(0x600)];
const HWP: &[Lever] = &[Lever::Msr(0x770)];
const STATEMENT: &[Lever] = &[Lever::Statement];

/// The levers of a feature, the best first, and what runs although one is pulled. A feature that is not named here
/// has none: where the CPU has it, it runs.
pub(crate) fn levers(feature: Feature) -> (&'static [Lever], &'static str) {
    use Feature as F;
    let levers: &'static [Lever] = match feature {
        F::Vme => &[Lever::Cr4(0)],
        F::De => &[Lever::Cr4(3)],
        F::Pse => &[Lever::Cr4(4)],
        F::Pae => &[Lever::Cr4(5)],
        F::Mce => &[Lever::Cr4(6)],
        F::Pge => &[Lever::Cr4(7)],
        F::Fxsr | F::Sse | F::Sse2 => &[Lever::Cr4(9)],
        F::Apic => &[Lever::Msr(0x1b)],
        F::Sep => &[Lever::Msr(0x174)],
        F::Mtrr => &[Lever::Msr(0xfe)],
        F::Mca => &[Lever::Msr(0x179)],
        F::Pat => &[Lever::Msr(msr::PAT)],
        F::Ds | F::Dtes64 | F::DsCpl => DS,
        F::Acpi | F::Ecmd => &[Lever::Msr(0x19a)],
        F::Tm | F::Dtherm => &[Lever::Msr(0x19c)],
        F::Tm2 => &[Lever::Msr(0x19d)],
        F::Eist => &[Lever::Msr(0x199)],
        F::Sdbg => &[Lever::Msr(0xc80)],
        F::Pdcm => &[Lever::Msr(0x345)],
        F::Dca => &[Lever::Msr(0x1f8)],
        F::Monitor | F::MwaitLeaf => &[Lever::Exit(Control::MONITOR_EXITING)],
        F::Vmx => &[Lever::Cr4(13)],
        F::Smx => &[Lever::Cr4(14)],
        F::Pcid => &[Lever::Cr4(17)],
        F::X2apic => &[Lever::Msr(0x802)],
        F::TscDeadline => &[Lever::Msr(0x6e0)],
        F::Xsave | F::Xsaveopt | F::Xsavec | F::Xgetbv1 => XSAVE,
        F::Avx | F::Fma | F::F16c | F::Avx2 | F::Vaes | F::Vpclmulqdq => AVX,
        F::AvxVnni | F::AvxIfma | F::AvxVnniInt8 | F::AvxNeConvert | F::AvxVnniInt16 => AVX,
        F::Sha512 | F::Sm3 | F::Sm4 => AVX,
        F::Avx512f | F::Avx512dq | F::Avx512Ifma | F::Avx512pf | F::Avx512er | F::Avx512cd => AVX512,
        F::Avx512bw | F::Avx512vl | F::Avx512Vbmi | F::Avx512Vbmi2 | F::Avx512Vnni => AVX512,
        F::Avx512Bitalg | F::Avx512Vpopcntdq | F::Avx5124vnniw | F::Avx5124fmaps => AVX512,
        F::Avx512Vp2intersect | F::Avx512Fp16 | F::Avx512Bf16 | F::Avx10 => AVX512,
        F::AmxTile | F::AmxInt8 | F::AmxBf16 | F::AmxFp16 | F::AmxComplex => AMX,
        F::ApxF => &[Lever::Xcr0(1 << 19)],
        F::Mpx => &[Lever::Xcr0(0b11 << 3)],
        F::Rdrand => &[Lever::Exit(Control::RDRAND_EXITING)],
        F::Rdseed => &[Lever::Exit(Control::RDSEED_EXITING)],
        F::Pln | F::ThermInterrupt25 => &[Lever::Msr(0x19b)],
        F::Ptm => &[Lever::Msr(0x1b1)],
        F::Hwp | F::HwpNotify | F::HwpWindow | F::HwpEpp | F::HwpPackage => HWP,
        F::HwpCap | F::HwpPeci | F::HwpFlex | F::HwpFast | F::HwpIgnoreIdle | F::HwpCtlMsr => HWP,
        F::Hdc => &[Lever::Msr(0xdb0)],
        F::Hfi | F::ThreadDirector => &[Lever::Msr(0x17d0)],
        F::AperfMperf => &[Lever::Msr(0xe7)],
        F::Acnt2 => &[Lever::Msr(0xe8)],
        F::Epb => &[Lever::Msr(0x1b0)],
        F::Fsgsbase => &[Lever::Cr4(16)],
        F::TscAdjust => &[Lever::Msr(0x3b)],
        F::Sgx | F::SgxKeys => SGX,
        F::SgxLc => &[Lever::Msr(0x8c)],
        F::Hle | F::Rtm | F::Tsxldtrk => &[Lever::TsxCtrl],
        F::RtmForceAbort => &[Lever::Msr(0x10f)],
        F::Smep => &[Lever::Cr4(20)],
        F::Smap => &[Lever::Cr4(21)],
        F::Umip => &[Lever::Cr4(11)],
        F::Pku => &[Lever::Cr4(22)],
        F::La57 => &[Lever::Cr4(12)],
        F::Kl => &[Lever::Cr4(19)],
        F::CetSs | F::CetIbt | F::CetSss => CET,
        F::Pks => &[Lever::Cr4(24)],
        F::Uintr | F::UiretUif => UINTR,
        F::Lass => &[Lever::Cr4(27)],
        F::Fred | F::NmiSrc => FRED,
        F::Invpcid => &[Lever::Enable(Control::ENABLE_INVPCID)],
        F::Waitpkg => &[Lever::Enable(Control::ENABLE_USER_WAIT)],
        F::Rdtscp | F::Rdpid => &[Lever::Enable(Control::ENABLE_RDTSCP)],
        F::Xsaves => &[Lever::Enable(Control::ENABLE_XSAVES)],
        F::Pconfig => &[Lever::Enable(Control::ENABLE_PCONFIG)],
        F::Msrlist => &[Lever::Enable(Control::ENABLE_MSR_LIST)],
        F::Enqcmd => &[Lever::Msr(0xd93)],
        F::RdtM | F::AsymRdtM => &[Lever::Msr(0xc8d)],
        F::RdtA | F::AsymRdtA => &[Lever::Msr(0xc8f)],
        F::Pt => &[Lever::Msr(0x570)],
        F::TmeEn => &[Lever::Msr(0x982)],
        F::BusLockDetect => &[Lever::MsrBits(0x1d9, 1 << 2)],
        F::ArchLbr => &[Lever::Msr(0x14ce)],
        F::ArchPerfmonExt => &[Lever::Msr(0x186)],
        F::Hreset => &[Lever::Msr(0x17da)],
        F::UserMsr => &[Lever::Msr(0x1c)],
        F::Utmr => &[Lever::Msr(0x1b00)],
        F::Ppin => &[Lever::Msr(0x4f)],
        F::Xfd => &[Lever::Msr(0x1c4)],
        F::SrbdsCtrl | F::FbClearCtrl | F::GdsCtrl => &[Lever::Msr(0x123)],
        F::IbrsIbpb => &[Lever::Msr(msr::SPEC_CTRL)],
        F::Stibp => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 1)],
        F::Ssbd => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 2)],
        F::IpredCtrl => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 3)],
        F::RrsbaCtrl => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 5)],
        F::Psfd => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 7)],
        F::DdpdU => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 8)],
        F::BhiCtrl => &[Lever::MsrBits(msr::SPEC_CTRL, 1 << 10)],
        F::L1dFlush => &[Lever::Msr(0x10b)],
        F::ArchCapabilities => &[Lever::Msr(0x10a)],
        F::CoreCapabilities => &[Lever::Msr(0xcf)],
        F::UcLockDisable | F::UcLockDisableSupported | F::SplitLockDisable => &[Lever::Msr(0x33)],
        F::TsxCtrl => &[Lever::Msr(0x122)],
        F::MiscPackageCtls | F::EnergyFilteringCtl => &[Lever::Msr(0xbc)],
        F::XapicDisableStatus => &[Lever::Msr(0xbd)],
        F::Doitm => &[Lever::Msr(0x1b01)],
        F::CpuidFaulting => &[Lever::Msr(0x140)],
        F::Syscall => &[Lever::Efer(0)],
        F::Lm => &[Lever::Efer(8)],
        F::Nx => &[Lever::Efer(11)],
        F::Psn | F::Ss | F::Pbe | F::CnxtId | F::Xtpr | F::Turbo | F::TurboMax3 | F::Arat => STATEMENT,
        F::Erms | F::Fsrm | F::Fzrm | F::Fsrs | F::Fsrc | F::Hybrid | F::Hypervisor | F::InvariantTsc => {
            STATEMENT
        }
        F::MdClear | F::RtmAlwaysAbort | F::McdtNo | F::MonitorMitgNo | F::InvdDisable => STATEMENT,
        F::AnyThreadDeprecated | F::CpuidMaxvalLimRmv | F::Slsm => STATEMENT,
        // WBNOINVD is WBINVD with a prefix that other CPUs ignore; both exit.
        F::Wbnoinvd => STATEMENT,
        _ if matches!(feature.info().place, Place::Msr(_)) => STATEMENT,
        _ => &[],
    };
    let remains = match feature {
        F::Smap => "CLAC and STAC run",
        F::Rtm => "XBEGIN aborts at once, XTEST runs",
        F::Tsxldtrk => "XSUSLDTRK and XRESLDTRK run",
        F::Enqcmd => "ENQCMDS runs at CPL 0",
        _ => "",
    };
    (levers, remains)
}
