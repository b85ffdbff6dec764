//! One instruction of each feature, as the GNU assembler writes it, and later ones by the SDM: each is found, by name.

use std::collections::BTreeSet;

use cpu_policy::{Feature, FeatureSet};
use iced_x86::Code;
use isa_audit::{Bounds, CodeSize, Findings, Page, Row, Without, scan};

mod features;

#[rustfmt::skip]
const VECTORS: &[(&str, &str, &str)] = &[
    ("SSE3", "f2 0f f0 07", "lddqu (%rdi),%xmm0"),
    ("SSE3", "dd 0f", "fisttpll (%rdi)"),
    ("PCLMULQDQ", "66 0f 3a 44 c1 00", "pclmulqdq $0,%xmm1,%xmm0"),
    ("MONITOR", "0f 01 c8", "monitor"),
    ("VMX", "0f 01 c1", "vmcall"),
    ("SMX", "0f 37", "getsec"),
    ("SSSE3", "66 0f 38 00 c1", "pshufb %xmm1,%xmm0"),
    ("FMA", "c4 e2 75 b8 c2", "vfmadd231ps %ymm2,%ymm1,%ymm0"),
    ("CMPXCHG16B", "f0 48 0f c7 0f", "lock cmpxchg16b (%rdi)"),
    ("SSE4.1", "66 0f 38 40 c1", "pmulld %xmm1,%xmm0"),
    ("SSE4.2", "f2 0f 38 f1 c0", "crc32l %eax,%eax"),
    ("SSE4.2", "66 0f 38 37 c1", "pcmpgtq %xmm1,%xmm0"),
    ("MOVBE", "0f 38 f0 07", "movbe (%rdi),%eax"),
    ("POPCNT", "f3 48 0f b8 c0", "popcnt %rax,%rax"),
    ("AESNI", "66 0f 38 dc c1", "aesenc %xmm1,%xmm0"),
    ("XSAVE", "0f ae 27", "xsave (%rdi)"),
    ("AVX", "c5 f4 58 c2", "vaddps %ymm2,%ymm1,%ymm0"),
    ("F16C", "c4 e2 79 13 c1", "vcvtph2ps %xmm1,%xmm0"),
    ("RDRAND", "0f c7 f0", "rdrand %eax"),
    ("FSGSBASE", "f3 48 0f ae c0", "rdfsbase %rax"),
    ("SGX", "0f 01 cf", "encls"),
    ("BMI1", "c4 e2 78 f2 c1", "andn %ecx,%eax,%eax"),
    ("BMI1", "f3 0f bc c0", "tzcnt %eax,%eax"),
    ("AVX2", "c5 f5 fe c2", "vpaddd %ymm2,%ymm1,%ymm0"),
    ("BMI2", "c4 e2 7b f5 c1", "pdep %ecx,%eax,%eax"),
    ("INVPCID", "66 0f 38 82 07", "invpcid (%rdi),%rax"),
    ("RTM", "c7 f8 00 00 00 00", "xbegin 1f"),
    ("RTM", "c6 f8 00", "xabort $0"),
    ("RTM", "0f 01 d6", "xtest"),
    ("AVX512F", "62 f1 75 48 fe c2", "vpaddd %zmm2,%zmm1,%zmm0"),
    ("AVX512DQ", "62 f2 f5 48 40 c2", "vpmullq %zmm2,%zmm1,%zmm0"),
    ("RDSEED", "0f c7 f8", "rdseed %eax"),
    ("ADX", "66 0f 38 f6 c1", "adcx %ecx,%eax"),
    ("SMAP", "0f 01 ca", "clac"),
    ("AVX512_IFMA", "62 f2 f5 48 b4 c2", "vpmadd52luq %zmm2,%zmm1,%zmm0"),
    ("CLFLUSHOPT", "66 0f ae 3f", "clflushopt (%rdi)"),
    ("CLWB", "66 0f ae 37", "clwb (%rdi)"),
    ("PT", "f3 0f ae e0", "ptwrite %eax"),
    ("AVX512PF", "62 f2 7d 49 c6 0c 0f", "vgatherpf0dps (%rdi,%zmm1){%k1}"),
    ("AVX512ER", "62 f2 7d 48 c8 c1", "vexp2ps %zmm1,%zmm0"),
    ("AVX512CD", "62 f2 7d 48 c4 c1", "vpconflictd %zmm1,%zmm0"),
    ("SHA", "0f 38 c9 c1", "sha1msg1 %xmm1,%xmm0"),
    ("AVX512BW", "62 f1 75 48 fc c2", "vpaddb %zmm2,%zmm1,%zmm0"),
    ("AVX512VL", "62 a1 75 00 fe c2", "vpaddd %xmm18,%xmm17,%xmm16"),
    ("PREFETCHWT1", "0f 0d 17", "prefetchwt1 (%rdi)"),
    ("AVX512_VBMI", "62 f2 75 48 8d c2", "vpermb %zmm2,%zmm1,%zmm0"),
    ("PKU", "0f 01 ee", "rdpkru"),
    ("WAITPKG", "66 0f ae f0", "tpause %eax"),
    ("AVX512_VBMI2", "62 f2 7d 48 63 c8", "vpcompressb %zmm1,%zmm0"),
    ("CET_SS", "f3 48 0f ae e8", "incsspq %rax"),
    ("CET_SS", "f3 48 0f 1e c8", "rdsspq %rax"),
    ("GFNI", "66 0f 38 cf c1", "gf2p8mulb %xmm1,%xmm0"),
    ("VAES", "c4 e2 75 dc c2", "vaesenc %ymm2,%ymm1,%ymm0"),
    ("VPCLMULQDQ", "c4 e3 75 44 c2 00", "vpclmulqdq $0,%ymm2,%ymm1,%ymm0"),
    ("AVX512_VNNI", "62 f2 75 48 50 c2", "vpdpbusd %zmm2,%zmm1,%zmm0"),
    ("AVX512_BITALG", "62 f2 7d 48 54 c1", "vpopcntb %zmm1,%zmm0"),
    ("AVX512_VPOPCNTDQ", "62 f2 7d 48 55 c1", "vpopcntd %zmm1,%zmm0"),
    ("RDPID", "f3 0f c7 f8", "rdpid %rax"),
    ("KL", "f3 0f 38 dc c1", "loadiwkey %xmm1,%xmm0"),
    ("CLDEMOTE", "0f 1c 07", "cldemote (%rdi)"),
    ("MOVDIRI", "0f 38 f9 07", "movdiri %eax,(%rdi)"),
    ("MOVDIR64B", "66 0f 38 f8 3e", "movdir64b (%rsi),%rdi"),
    ("ENQCMD", "f2 0f 38 f8 3e", "enqcmd (%rsi),%rdi"),
    ("AVX512_4VNNIW", "62 f2 7f 48 52 27", "vp4dpwssd (%rdi),%zmm0,%zmm4"),
    ("AVX512_4FMAPS", "62 f2 7f 48 9a 27", "v4fmaddps (%rdi),%zmm0,%zmm4"),
    ("UINTR", "f3 0f 01 ec", "uiret"),
    ("AVX512_VP2INTERSECT", "62 f2 77 48 68 c2", "vp2intersectd %zmm2,%zmm1,%k0"),
    ("SERIALIZE", "0f 01 e8", "serialize"),
    ("TSXLDTRK", "f2 0f 01 e8", "xsusldtrk"),
    ("PCONFIG", "0f 01 c5", "pconfig"),
    ("AMX-BF16", "c4 e2 6a 5c c1", "tdpbf16ps %tmm2,%tmm1,%tmm0"),
    ("AVX512_FP16", "62 f5 74 48 58 c2", "vaddph %zmm2,%zmm1,%zmm0"),
    ("AMX-TILE", "c4 e2 7b 49 c0", "tilezero %tmm0"),
    ("AMX-INT8", "c4 e2 6b 5e c1", "tdpbssd %tmm2,%tmm1,%tmm0"),
    ("AVX-VNNI", "c4 e2 75 50 c2", "{vex} vpdpbusd %ymm2,%ymm1,%ymm0"),
    ("AVX512_BF16", "62 f2 76 48 52 c2", "vdpbf16ps %zmm2,%zmm1,%zmm0"),
    ("HRESET", "f3 0f 3a f0 c0 00", "hreset $0"),
    ("AVX-IFMA", "c4 e2 f5 b4 c2", "{vex} vpmadd52luq %ymm2,%ymm1,%ymm0"),
    ("AVX-VNNI-INT8", "c4 e2 77 50 c2", "vpdpbssd %ymm2,%ymm1,%ymm0"),
    ("AVX-NE-CONVERT", "c4 e2 7e b1 07", "vbcstnebf162ps (%rdi),%ymm0"),
    ("CMPCCXADD", "c4 e2 79 e0 0f", "cmpoxadd %eax,%ecx,(%rdi)"),
    ("RAO-INT", "0f 38 fc 07", "aadd %eax,(%rdi)"),
    ("AMX-FP16", "c4 e2 6b 5c c1", "tdpfp16ps %tmm2,%tmm1,%tmm0"),
    ("MSRLIST", "f2 0f 01 c6", "rdmsrlist"),
    ("WRMSRNS", "0f 01 c6", "wrmsrns"),
    ("PREFETCHI", "0f 18 3d 45 23 01 00", "prefetchit0 0x12345(%rip)"),
    ("XSAVEOPT", "0f ae 37", "xsaveopt (%rdi)"),
    ("XSAVEC", "0f c7 27", "xsavec (%rdi)"),
    ("XSAVES", "0f c7 2f", "xsaves (%rdi)"),
    ("LZCNT", "f3 0f bd c0", "lzcnt %eax,%eax"),
    ("PREFETCHW", "0f 0d 0f", "prefetchw (%rdi)"),
    ("RDTSCP", "0f 01 f9", "rdtscp"),
    ("WBNOINVD", "f3 0f 09", "wbnoinvd"),
    ("AMX-COMPLEX", "c4 e2 69 6c c1", "tcmmimfp16ps %tmm2,%tmm1,%tmm0"),
    ("AVX-VNNI-INT16", "c4 e2 76 d2 c2", "vpdpwsud %ymm2,%ymm1,%ymm0"),
    ("SHA512", "c4 e2 7f cc c1", "vsha512msg1 %xmm1,%ymm0"),
    ("SM3", "c4 e2 70 da c2", "vsm3msg1 %xmm2,%xmm1,%xmm0"),
    ("SM4", "c4 e2 76 da c2", "vsm4key4 %ymm2,%ymm1,%ymm0"),
    ("FRED", "f2 0f 01 ca", "erets"),
    ("LKGS", "f2 0f 00 f0", "lkgs %ax"),
];

const EVERYTHING_HIDDEN: Bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::EMPTY };
const LINEAR: u64 = 0xffff_ffff_8123_4000;
const GPA: u64 = 0x123_4000;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn feature(name: &str) -> Feature {
    Feature::by_name(name).unwrap_or_else(|| panic!("no feature {name}"))
}

/// A page of INT3, which executes no further, with `code` at `at`.
fn page(at: usize, code: &[u8]) -> Vec<u8> {
    let mut page = vec![0xcc; 4096 + 14];
    page[at..at + code.len()].copy_from_slice(code);
    page
}

fn look(code: &[u8], entry: usize, mode: CodeSize, bounds: &Bounds) -> Findings {
    let mut findings = Findings::new();
    scan(&Page { code, linear: LINEAR, gpa: GPA, mode }, entry, bounds, &mut findings);
    findings
}

fn row(findings: &Findings, name: &str) -> Row {
    let found = findings.rows().iter().find(|row| row.feature.name() == name);
    *found.unwrap_or_else(|| panic!("{name} is not in {findings:?}"))
}

#[test]
fn each_is_found_where_it_stands() {
    for (name, hex, text) in VECTORS {
        let code = bytes(hex);
        let findings = look(&page(0x123, &code), 0x123, CodeSize::Bits64, &EVERYTHING_HIDDEN);
        let row = row(&findings, name);
        assert_eq!((row.reached, row.swept), (1, 0), "{text}");
        assert_eq!((row.linear, row.gpa), (LINEAR + 0x123, GPA + 0x123), "{text}");
        assert_eq!(row.instruction(), code, "{text}");
        assert!(!row.stopped);
    }
}

#[test]
fn what_the_policy_has_is_no_finding() {
    for (name, hex, text) in VECTORS {
        let all = FeatureSet::matching(|_| true);
        let bounds = Bounds { has: all, stopped: FeatureSet::EMPTY };
        let code = page(0, &bytes(hex));
        assert!(look(&code, 0, CodeSize::Bits64, &bounds).rows().is_empty(), "{text}");
        // without it alone, it alone
        let mut bounds = bounds;
        bounds.has.remove(feature(name));
        let findings = look(&code, 0, CodeSize::Bits64, &bounds);
        assert_eq!(findings.rows().len(), 1, "{text}: {findings:?}");
        assert_eq!(row(&findings, name).reached, 1, "{text}");
    }
}

/// No feature that an instruction of iced-x86 needs is without a vector.
#[test]
fn every_feature_has_one() {
    let known: BTreeSet<Feature> =
        Code::values().filter_map(features::needs).flat_map(|(features, _)| features).collect();
    let told: BTreeSet<Feature> = VECTORS.iter().map(|(name, ..)| feature(name)).collect();
    let names = |set: &BTreeSet<Feature>| set.iter().map(|f| f.name()).collect::<Vec<_>>();
    assert_eq!(names(&known), names(&told));
}

#[test]
fn what_cpus_without_it_do() {
    for (hex, without) in [
        ("f3 0f bc c0", Without::Bsf),
        ("f3 0f bd c0", Without::Bsr),
        ("f3 0f 09", Without::Wbinvd),
        ("0f 0d 0f", Without::Nop),
        ("f3 48 0f 1e c8", Without::Nop),
        ("f3 0f b8 c0", Without::Undefined),
    ] {
        let findings = look(&page(0, &bytes(hex)), 0, CodeSize::Bits64, &EVERYTHING_HIDDEN);
        assert_eq!(findings.rows()[0].without, without, "{hex}");
        let breaks = matches!(without, Without::Undefined | Without::Bsr);
        assert_eq!(!findings.in_use().is_empty(), breaks, "{hex}");
    }
    // ENDBR64, PAUSE, BND JMP, MOV with XACQUIRE: nothing to tell
    for hex in ["f3 0f 1e fa", "f3 90", "f2 eb 00", "f2 f0 00 07"] {
        assert!(
            look(&page(0, &bytes(hex)), 0, CodeSize::Bits64, &EVERYTHING_HIDDEN).rows().is_empty(),
            "{hex}"
        );
    }
}

#[test]
fn one_that_is_stopped_speaks_for_the_instruction() {
    // vaesenc of ymm: VAES and nothing else; vaesenc of xmm: AES-NI and AVX
    let code = page(0, &bytes("c4 e2 71 dc c2"));
    let bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::of(&[Feature::Avx]) };
    let findings = look(&code, 0, CodeSize::Bits64, &bounds);
    assert_eq!(findings.rows().len(), 1);
    assert!(row(&findings, "AVX").stopped);
    assert!(findings.in_use().is_empty());
    let findings = look(&code, 0, CodeSize::Bits64, &EVERYTHING_HIDDEN);
    assert_eq!(findings.in_use(), FeatureSet::of(&[Feature::Avx, Feature::Aesni]));
    // TZCNT is not stopped by the lack of BMI1: it runs as BSF
    let bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::of(&[Feature::Bmi1]) };
    let findings = look(&page(0, &bytes("f3 0f bc c0")), 0, CodeSize::Bits64, &bounds);
    assert!(!row(&findings, "BMI1").stopped);
}
