//! iced-x86's names of features, in the vocabulary of the policies.

use cpu_policy::Feature;
use iced_x86::{Code, CpuidFeature, Mnemonic};

/// The features that an instruction needs, and what CPUs without them do with it.
pub(crate) type Needs = Option<(Vec<Feature>, &'static str)>;

/// What a feature of iced-x86 is in the vocabulary of the policies. `None` where no Intel CPU has it, `Some(None)` where
/// every CPU that can run a hypervisor has it, or where CPUs without it take the instruction for a NOP and all of the
/// compilers count on that.
fn feature(of: CpuidFeature) -> Option<Option<Feature>> {
    use CpuidFeature as C;
    use Feature as F;
    Some(Some(match of {
        C::INTEL8086
        | C::INTEL186
        | C::INTEL286
        | C::INTEL386
        | C::INTEL486
        | C::X64
        | C::CMOV
        | C::CPUID
        | C::CX8
        | C::CLFSH
        | C::FPU
        | C::FPU287
        | C::FPU387
        | C::FXSR
        | C::MMX
        | C::MSR
        | C::MULTIBYTENOP
        | C::PAUSE
        | C::RDPMC
        | C::SEP
        | C::SSE
        | C::SSE2
        | C::TSC
        | C::SMM
        | C::SYSCALL
        | C::INTEL8086_ONLY
        | C::INTEL286_ONLY
        | C::UDBG
        | C::CET_IBT
        | C::MPX
        | C::HLE => return Some(None),
        C::CLDEMOTE => F::Cldemote,
        C::PREFETCHW => F::Prefetchw,
        C::PREFETCHWT1 => F::Prefetchwt1,
        C::PREFETCHITI => F::Prefetchi,
        C::WBNOINVD => F::Wbnoinvd,
        C::ADX => F::Adx,
        C::AES => F::Aesni,
        C::AVX => F::Avx,
        C::AVX2 => F::Avx2,
        C::AVX512_4FMAPS => F::Avx5124fmaps,
        C::AVX512_4VNNIW => F::Avx5124vnniw,
        C::AVX512_BF16 => F::Avx512Bf16,
        C::AVX512_BITALG => F::Avx512Bitalg,
        C::AVX512_IFMA => F::Avx512Ifma,
        C::AVX512_VBMI => F::Avx512Vbmi,
        C::AVX512_VBMI2 => F::Avx512Vbmi2,
        C::AVX512_VNNI => F::Avx512Vnni,
        C::AVX512_VP2INTERSECT => F::Avx512Vp2intersect,
        C::AVX512_VPOPCNTDQ => F::Avx512Vpopcntdq,
        C::AVX512_FP16 => F::Avx512Fp16,
        C::AVX512BW => F::Avx512bw,
        C::AVX512CD => F::Avx512cd,
        C::AVX512DQ => F::Avx512dq,
        C::AVX512ER => F::Avx512er,
        C::AVX512F => F::Avx512f,
        C::AVX512PF => F::Avx512pf,
        C::AVX512VL => F::Avx512vl,
        C::AVX_VNNI => F::AvxVnni,
        C::AVX_VNNI_INT8 => F::AvxVnniInt8,
        C::AVX_VNNI_INT16 => F::AvxVnniInt16,
        C::AVX_IFMA => F::AvxIfma,
        C::AVX_NE_CONVERT => F::AvxNeConvert,
        C::AMX_BF16 => F::AmxBf16,
        C::AMX_TILE => F::AmxTile,
        C::AMX_INT8 => F::AmxInt8,
        C::AMX_FP16 => F::AmxFp16,
        C::AMX_COMPLEX => F::AmxComplex,
        C::BMI1 => F::Bmi1,
        C::BMI2 => F::Bmi2,
        C::CET_SS => F::CetSs,
        C::CLFLUSHOPT => F::Clflushopt,
        C::CLWB => F::Clwb,
        C::CMPXCHG16B => F::Cmpxchg16b,
        C::CMPCCXADD => F::Cmpccxadd,
        C::ENQCMD => F::Enqcmd,
        C::F16C => F::F16c,
        C::FMA => F::Fma,
        C::FRED => F::Fred,
        C::FSGSBASE => F::Fsgsbase,
        C::GFNI => F::Gfni,
        C::HRESET => F::Hreset,
        C::INVEPT | C::INVVPID | C::VMX => F::Vmx,
        C::INVPCID => F::Invpcid,
        C::KL | C::AESKLE | C::WIDE_KL => F::Kl,
        C::LKGS => F::Lkgs,
        C::LZCNT => F::Lzcnt,
        C::MONITOR => F::Monitor,
        C::MOVBE => F::Movbe,
        C::MOVDIR64B => F::Movdir64b,
        C::MOVDIRI => F::Movdiri,
        C::MSRLIST => F::Msrlist,
        C::PCLMULQDQ => F::Pclmulqdq,
        C::PCONFIG => F::Pconfig,
        C::PKU => F::Pku,
        C::POPCNT => F::Popcnt,
        C::PTWRITE => F::Pt,
        C::RAO_INT => F::RaoInt,
        C::RDPID => F::Rdpid,
        C::RDRAND => F::Rdrand,
        C::RDSEED => F::Rdseed,
        C::RDTSCP => F::Rdtscp,
        C::RTM | C::HLE_or_RTM => F::Rtm,
        C::SERIALIZE => F::Serialize,
        C::SGX1 => F::Sgx,
        C::SHA => F::Sha,
        C::SHA512 => F::Sha512,
        C::SM3 => F::Sm3,
        C::SM4 => F::Sm4,
        C::SMAP => F::Smap,
        C::SMX => F::Smx,
        C::SSE3 => F::Sse3,
        C::SSSE3 => F::Ssse3,
        C::SSE4_1 => F::Sse41,
        C::SSE4_2 => F::Sse42,
        C::TSXLDTRK => F::Tsxldtrk,
        C::UINTR => F::Uintr,
        C::VAES => F::Vaes,
        C::VPCLMULQDQ => F::Vpclmulqdq,
        C::WAITPKG => F::Waitpkg,
        C::WRMSRNS => F::Wrmsrns,
        C::XSAVE => F::Xsave,
        C::XSAVEC => F::Xsavec,
        C::XSAVEOPT => F::Xsaveopt,
        C::XSAVES => F::Xsaves,
        _ => return None,
    }))
}

/// What an instruction needs and what CPUs without it do; `None` for what no Intel CPU has.
pub(crate) fn needs(code: Code) -> Needs {
    if code == Code::INVALID {
        return None;
    }
    let mut features = Vec::new();
    for of in code.cpuid_features() {
        features.extend(feature(*of)?);
    }
    features.sort_unstable();
    features.dedup();
    let without = match code.mnemonic() {
        Mnemonic::Tzcnt => "Bsf",
        Mnemonic::Lzcnt => "Bsr",
        Mnemonic::Wbnoinvd => "Wbinvd",
        Mnemonic::Cldemote
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetchwt1
        | Mnemonic::Prefetchit0
        | Mnemonic::Prefetchit1
        | Mnemonic::Rdsspd
        | Mnemonic::Rdsspq => "Nop",
        _ => "Undefined",
    };
    Some((features, without))
}
