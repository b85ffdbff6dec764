//! Capability sets of real Xeons by generation, and of Bochs' models: what is owed on each.
//!
//! Where the values come from: Nehalem to Broadwell, CPUID as Linux shows it on these parts with their last microcode
//! (flags ssbd, ibrs, ibpb, stibp, md_clear, flush_l1d, and no arch_capabilities); Skylake-SP to Granite Rapids,
//! CPUID.7 and IA32_ARCH_CAPABILITIES published with microcode revisions 02007006H, 05003901H, 0D000421H, 2B000661H and
//! 01000405H, completed by the bits that a virtual machine is not shown (L1D_FLUSH, TAA_NO, GDS_CTRL for GDS_NO). Bochs' models:
//! cpuid-dump under the hypervisor, and the source of Bochs 2.7 for its IA32_ARCH_CAPABILITIES.

use mitigations::{Assessment, Cpu, Flaw, History, Measure, Plan, Smt, State, model};

const AVX: u32 = 1 << 28;
const RDRAND: u32 = 1 << 30;
const AVX2: u32 = 1 << 5;
const RTM: u32 = 1 << 11;
const RDSEED: u32 = 1 << 18;
/// IBRS_IBPB, STIBP, L1D_FLUSH, SSBD: the microcode of 2018.
const OF_2018: u32 = 0x9c00_0000;
/// And MD_CLEAR: of 2019.
const OF_2019: u32 = OF_2018 | 1 << 10;
const SRBDS_CTRL: u32 = 1 << 9;
const ARCH: u32 = 1 << 29;

const IBRS: u64 = 1;
const STIBP: u64 = 2;
const BHI_DIS_S: u64 = 1 << 10;

struct Recorded {
    name: &'static str,
    cpu: Cpu,
}

#[allow(clippy::too_many_arguments)]
const fn recorded(
    name: &'static str,
    signature: u32,
    leaf1_ecx: u32,
    leaf7_ebx: u32,
    leaf7_edx: u32,
    leaf7_2_edx: u32,
    arch_capabilities: u64,
    mcu_opt_ctrl: Option<u64>,
) -> Recorded {
    let cpu = Cpu {
        signature,
        leaf1_ecx,
        leaf7_ebx,
        leaf7_edx,
        leaf7_2_edx,
        arch_capabilities,
        mcu_opt_ctrl,
        tsx_ctrl: None,
        smt: Smt::Off,
    };
    Recorded { name, cpu }
}

const OLD: u32 = 0;
const IVY: u32 = AVX | RDRAND;
const GDS_CTRL: u64 = 1 << 25;
const TSX_CTRL: u64 = 1 << 7;

static XEONS: &[Recorded] = &[
    recorded("Nehalem-EP, no microcode", 0x0001_06a5, OLD, 0, 0, 0, 0, None),
    recorded("Nehalem-EP", 0x0001_06a5, OLD, 0, OF_2018, 0, 0, None),
    recorded("Westmere-EP", 0x0002_06c2, OLD, 0, OF_2018, 0, 0, None),
    recorded("Sandy Bridge-EP", 0x0002_06d7, AVX, 0, OF_2019, 0, 0, None),
    recorded("Ivy Bridge-EP", 0x0003_06e4, IVY, 0x281, OF_2019, 0, 0, None),
    recorded("Haswell-EP", 0x0003_06f2, IVY, 0x37ab, OF_2019, 0, 0, None),
    recorded("Broadwell-EP", 0x0004_06f1, IVY, 0x021c_bfbb, OF_2019, 0, 0, None),
    recorded("Skylake-SP, 2019", 0x0005_0654, IVY, 0xd39f_fffb, OF_2019, 0, 0, None),
    recorded("Skylake-SP", 0x0005_0654, IVY, 0xd19f_6ffb, OF_2019 | ARCH, 0, 4 | GDS_CTRL, Some(0)),
    recorded("Cascade Lake, 2019", 0x0005_0657, IVY, 0xd39f_fffb, OF_2019 | ARCH, 0, 0xab, None),
    recorded("Cascade Lake", 0x0005_0657, IVY, 0xd19f_67eb, OF_2019 | ARCH, 0, 0x0a0a_a0eb, Some(0)),
    recorded("Ice Lake-SP", 0x0006_06a6, IVY, 0xf1bf_27eb, OF_2019 | ARCH | 0x10, 1, 0x0a02_a1eb, Some(0)),
    recorded(
        "Sapphire Rapids",
        0x0008_06f8,
        IVY,
        0xf1bf_27eb,
        0xbfc1_4410,
        0x17,
        0x4000_0000_0c08_e1eb,
        None,
    ),
    recorded("Emerald Rapids", 0x000c_06f2, IVY, 0xf1bf_27eb, 0xbfc1_4410, 0x17, 0x4000_0000_0d08_e1eb, None),
    recorded("Granite Rapids", 0x000a_06d1, IVY, 0xf1bf_27eb, 0xbfd1_4410, 0x3f, 0x4000_0000_0d08_e1eb, None),
    recorded("Xeon E3 v5", 0x0005_06e3, IVY, 0x029c_6fbf, 0xbc00_0600, 0, 0x0200_0000, Some(0)),
];

/// Bochs 2.7: signature, CPUID.7.0:EDX, IA32_ARCH_CAPABILITIES. Two models have the bits, no model has MD_CLEAR.
static BOCHS: &[Recorded] = &[
    recorded("core2_penryn_t9600", 0x0001_067a, OLD, 0, 0, 0, 0, None),
    recorded("corei5_lynnfield_750", 0x0001_06e5, OLD, 0, 0, 0, 0, None),
    recorded("corei5_arrandale_m520", 0x0002_0655, OLD, 0, 0, 0, 0, None),
    recorded("corei7_sandy_bridge_2600k", 0x0002_06a7, AVX, 0, 0, 0, 0, None),
    recorded("corei7_ivy_bridge_3770k", 0x0003_06a9, IVY, 0x281, 0, 0, 0, None),
    recorded("corei7_haswell_4770", 0x0003_06c3, IVY, 0x27ab, 0, 0, 0, None),
    recorded("broadwell_ult", 0x0003_06d4, IVY, 0x001c_27ab, 0, 0, 0, None),
    recorded("corei7_skylake_x", 0x0005_0654, IVY, 0xd19f_27ab, 0, 0, 0, None),
    recorded("corei3_cnl", 0x0006_0663, IVY, 0xf0bf_27ab, 0, 0, 0, None),
    recorded("corei7_icelake_u", 0x0007_06e5, IVY, 0xf0bf_27ab, 0xac00_0010, 0, 0x1f, None),
    recorded("tigerlake", 0x0008_06c1, IVY, 0xf1bf_27ab, 0xac10_0110, 0, 0x1f, None),
];

fn cpu(name: &str) -> Cpu {
    let found = XEONS.iter().chain(BOCHS).find(|recorded| recorded.name == name);
    found.unwrap_or_else(|| panic!("no record of {name}")).cpu
}

fn state(cpu: &Cpu, flaw: Flaw) -> State {
    Assessment::new(cpu).of(flaw).unwrap_or_else(|| panic!("no finding on {flaw}")).state
}

#[test]
fn every_recorded_model_is_known_by_name() {
    for recorded in XEONS.iter().chain(BOCHS) {
        assert!(model(&recorded.cpu).is_some(), "{}", recorded.name);
    }
    for recorded in XEONS.iter().filter(|recorded| !recorded.name.starts_with("Xeon")) {
        let name = model(&recorded.cpu).map_or("", |row| row.name);
        assert!(recorded.name.starts_with(name), "{} is taken for {name}", recorded.name);
    }
}

/// Name, then what is owed: L1D flush, VERW, host SPEC_CTRL, its write at each exit, branches, IBPB.
type Owed = (&'static str, bool, bool, u64, bool, Option<History>, bool);

#[test]
fn each_generation_is_owed_what_it_needs() {
    let owed: &[Owed] = &[
        ("Nehalem-EP, no microcode", false, false, 0, false, None, false),
        // The microcode for MDS never came.
        ("Nehalem-EP", true, false, IBRS, true, None, true),
        ("Westmere-EP", true, false, IBRS, true, None, true),
        ("Sandy Bridge-EP", true, true, IBRS, true, None, true),
        ("Ivy Bridge-EP", true, true, IBRS, true, None, true),
        ("Haswell-EP", true, true, IBRS, true, None, true),
        ("Broadwell-EP", true, true, IBRS, true, None, true),
        ("Skylake-SP, 2019", true, true, IBRS, true, None, true),
        ("Skylake-SP", true, true, IBRS, true, None, true),
        // Free of L1TF and MDS; TAA where transactions are left on.
        ("Cascade Lake, 2019", false, true, IBRS, false, Some(History::SHORT), true),
        ("Ice Lake-SP", false, false, IBRS, false, Some(History::SHORT), true),
        ("Sapphire Rapids", false, false, IBRS | BHI_DIS_S, false, None, true),
        ("Granite Rapids", false, false, IBRS | BHI_DIS_S, false, None, true),
        ("corei7_skylake_x", false, false, 0, false, None, false),
        ("corei7_icelake_u", false, false, IBRS, false, Some(History::SHORT), true),
        ("tigerlake", false, false, IBRS, false, Some(History::SHORT), true),
    ];
    for &(name, l1d_flush, verw, host, write_at_exit, branches, ibpb) in owed {
        let plan = Plan::new(&cpu(name));
        assert!(plan.rsb_fill, "{name}: every CPU has its return stack filled");
        assert_eq!(
            (
                plan.l1d_flush,
                plan.verw,
                plan.host_spec_ctrl,
                plan.write_at_exit,
                plan.branch_history,
                plan.ibpb
            ),
            (l1d_flush, verw, host, write_at_exit, branches, ibpb),
            "{name}"
        );
    }
}

#[test]
fn transactions_switched_off_owe_no_verw() {
    let mut cpu = cpu("Cascade Lake");
    assert_eq!(cpu.arch_capabilities & TSX_CTRL, TSX_CTRL);
    cpu.tsx_ctrl = Some(3);
    assert_eq!(state(&cpu, Flaw::Taa), State::Free);
    assert!(!Plan::new(&cpu).verw);
    cpu.tsx_ctrl = Some(0);
    assert!(Plan::new(&cpu).verw);
    cpu.leaf7_edx &= !(1 << 10);
    assert_eq!(state(&cpu, Flaw::Taa), State::Open);
}

#[test]
fn missing_microcode_is_named() {
    let bare = cpu("corei7_skylake_x");
    for (flaw, needs) in [
        (Flaw::L1tf, "L1D_FLUSH"),
        (Flaw::Mds, "MD_CLEAR"),
        (Flaw::SpectreV2, "IBRS_IBPB"),
        (Flaw::Retbleed, "IBRS_IBPB"),
        (Flaw::Gds, "GDS_CTRL"),
    ] {
        let finding = Assessment::new(&bare).of(flaw).cloned().unwrap_or_else(|| panic!("{flaw}"));
        assert_ne!(finding.state, State::Mitigated, "{flaw}");
        assert!(finding.needs.is_some_and(|text| text.starts_with(needs)), "{flaw}: {:?}", finding.needs);
    }
}

#[test]
fn a_cpu_that_says_nothing_is_judged_by_its_model() {
    // A client Haswell shares RDRAND's buffer, a server does not.
    assert_eq!(state(&cpu("corei7_haswell_4770"), Flaw::Srbds), State::Open);
    assert_eq!(state(&cpu("Haswell-EP"), Flaw::Srbds), State::Free);
    assert_eq!(state(&cpu("Haswell-EP"), Flaw::Retbleed), State::Free);
    assert_eq!(state(&cpu("Skylake-SP"), Flaw::Retbleed), State::Mitigated);
    assert_eq!(state(&cpu("Skylake-SP"), Flaw::Its), State::Free);
    // Stepping 7 of the same model.
    assert_eq!(state(&cpu("Cascade Lake"), Flaw::Its), State::Partial);
    assert_eq!(state(&cpu("Ice Lake-SP"), Flaw::Its), State::Mitigated);
    assert_eq!(state(&cpu("Sapphire Rapids"), Flaw::Its), State::Free);
    assert_eq!(state(&cpu("Sandy Bridge-EP"), Flaw::Gds), State::Free);
}

#[test]
fn an_unknown_model_has_every_flaw() {
    let unknown =
        Cpu { signature: 0x000f_06f0, leaf1_ecx: IVY, leaf7_ebx: AVX2 | RTM | RDSEED, ..Cpu::default() };
    assert_eq!(model(&unknown), None);
    for flaw in Flaw::ALL {
        // Those two are of enhanced IBRS, which it does not claim.
        let free = matches!(flaw, Flaw::Bhi | Flaw::Pbrsb);
        assert_eq!(state(&unknown, flaw) == State::Free, free, "{flaw}");
    }
}

#[test]
fn siblings_leave_a_way_open() {
    for smt in [Smt::On, Smt::Unknown] {
        let cpu = Cpu { smt, ..cpu("Haswell-EP") };
        for flaw in [Flaw::L1tf, Flaw::Mds] {
            assert_eq!(state(&cpu, flaw), State::Partial, "{flaw}");
        }
        // What one guest trains must not reach the other thread's.
        assert_eq!(Plan::new(&cpu).guest_spec_ctrl, STIBP);
        assert!(Assessment::new(&cpu).wants(Measure::Stibp));
    }
    assert_eq!(state(&cpu("Haswell-EP"), Flaw::L1tf), State::Mitigated);
    assert_eq!(Plan::new(&cpu("Haswell-EP")).guest_spec_ctrl, 0);
    // Enhanced IBRS guards siblings by itself.
    assert_eq!(Plan::new(&Cpu { smt: Smt::On, ..cpu("Ice Lake-SP") }).guest_spec_ctrl, IBRS);
}

#[test]
fn microcode_that_guards_can_be_switched_off() {
    let skylake = cpu("Skylake-SP");
    assert_eq!(state(&skylake, Flaw::Gds), State::Mitigated);
    assert_eq!(state(&Cpu { mcu_opt_ctrl: Some(1 << 4), ..skylake }, Flaw::Gds), State::Open);
    let xeon_e3 = cpu("Xeon E3 v5");
    assert_eq!(xeon_e3.leaf7_edx & SRBDS_CTRL, SRBDS_CTRL);
    assert_eq!(state(&xeon_e3, Flaw::Srbds), State::Mitigated);
    assert_eq!(state(&Cpu { mcu_opt_ctrl: Some(1), ..xeon_e3 }, Flaw::Srbds), State::Open);
}

#[test]
fn with_the_guards_off_only_guests_own_registers_are_switched() {
    let off = Plan::new(&cpu("Broadwell-EP")).off();
    assert!(off.spec_ctrl && !off.l1d_flush && !off.verw && !off.rsb_fill && !off.ibpb && !off.write_at_exit);
    assert_eq!((off.host_spec_ctrl, off.guest_spec_ctrl, off.branch_history), (0, 0, None));
    // A machine check of the host is no leak: that guard stays.
    assert!(!off.large_executable_pages);
}

#[test]
fn threads_of_a_core_are_found_by_apic_id() {
    assert_eq!(Smt::of(Some(1), &[0, 2, 4]), Smt::Off);
    assert_eq!(Smt::of(Some(1), &[0, 1, 2, 3]), Smt::On);
    assert_eq!(Smt::of(Some(0), &[0, 1, 2, 3]), Smt::Off);
    assert_eq!(Smt::of(None, &[0]), Smt::Unknown);
    assert_eq!(Smt::of(Some(40), &[0]), Smt::Off);
}
