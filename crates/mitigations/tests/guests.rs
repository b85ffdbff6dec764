//! What guests are told, held against hosts.

use mitigations::{
    Claim, Cpu, Flaw, Plan, Smt, Verdict, claims, guest_json, guest_text, host_json, host_text,
};
use proptest::prelude::*;

const HYPERVISOR: u32 = 1 << 31;
const IVY: u32 = 1 << 28 | 1 << 30;
const ARCH: u32 = 1 << 29;
const MD_CLEAR: u32 = 1 << 10;
const RSBA: u64 = 4;
const MDS_NO: u64 = 1 << 5;

const BROADWELL: Cpu = Cpu {
    signature: 0x0004_06f1,
    leaf1_ecx: IVY,
    leaf7_ebx: 0x021c_bfbb,
    leaf7_edx: 0x9c00_0400,
    leaf7_2_edx: 0,
    arch_capabilities: 0,
    mcu_opt_ctrl: None,
    tsx_ctrl: None,
    smt: Smt::Off,
};
const SKYLAKE: Cpu = Cpu {
    signature: 0x0005_0654,
    leaf7_ebx: 0xd39f_fffb,
    leaf7_edx: 0xbc00_0400,
    arch_capabilities: RSBA | 1 << 25,
    mcu_opt_ctrl: Some(0),
    ..BROADWELL
};
const ICELAKE: Cpu = Cpu {
    signature: 0x0006_06a6,
    leaf7_ebx: 0xf1bf_27eb,
    leaf7_edx: 0xbc00_0410,
    arch_capabilities: 0x0a02_a1eb,
    mcu_opt_ctrl: Some(0),
    ..BROADWELL
};

/// A guest of the haswell level: an old model, RSBA, and what is added.
const fn guest(leaf7_edx: u32, arch_capabilities: u64) -> Cpu {
    Cpu {
        signature: 0x0003_06f2,
        leaf1_ecx: IVY | HYPERVISOR,
        leaf7_ebx: 0x7a9,
        leaf7_edx: leaf7_edx | ARCH,
        arch_capabilities: arch_capabilities | RSBA,
        ..BROADWELL
    }
}

fn on(told: &Cpu, host: &Cpu, flaw: Flaw) -> Claim {
    let all = claims(told, host, &Plan::new(host));
    all.into_iter().find(|claim| claim.flaw == flaw).unwrap_or_else(|| panic!("no claim on {flaw}"))
}

#[test]
fn mds_no_on_a_host_with_mds_is_a_lie() {
    let told = guest(MD_CLEAR, MDS_NO);
    let claim = on(&told, &BROADWELL, Flaw::Mds);
    assert_eq!(claim.verdict, Verdict::Lie);
    assert!(claim.told.contains("MDS_NO") && claim.why.contains("Broadwell-EP"), "{claim:?}");
    assert_eq!(on(&told, &ICELAKE, Flaw::Mds).verdict, Verdict::True);
}

#[test]
fn md_clear_is_worth_what_verw_does() {
    let told = guest(MD_CLEAR, 0);
    assert_eq!(on(&told, &BROADWELL, Flaw::Mds).verdict, Verdict::True);
    // The host lacks the microcode: the guest clears nothing and believes it does.
    let bare = Cpu { leaf7_edx: 0x9c00_0000, ..BROADWELL };
    let claim = on(&told, &bare, Flaw::Mds);
    assert_eq!(claim.verdict, Verdict::Lie);
    assert!(claim.why.contains("MD_CLEAR"), "{claim:?}");
    // Nothing to clear.
    assert_eq!(on(&told, &ICELAKE, Flaw::Mds).verdict, Verdict::Careful);
    // Not told, though it would work.
    assert_eq!(on(&guest(0, 0), &BROADWELL, Flaw::Mds).verdict, Verdict::Untold);
}

#[test]
fn rsba_tells_an_old_guest_of_newer_hosts() {
    assert!(on(&guest(1 << 26, 0), &SKYLAKE, Flaw::Retbleed).told.contains("RSBA"));
    assert_eq!(on(&guest(1 << 26, 0), &SKYLAKE, Flaw::Retbleed).verdict, Verdict::True);
    let without = Cpu { arch_capabilities: 0, ..guest(1 << 26, 0) };
    assert_eq!(on(&without, &SKYLAKE, Flaw::Retbleed).verdict, Verdict::Lie);
}

#[test]
fn what_microcode_guards_needs_no_guest() {
    // A Haswell knows nothing of gather sampling; Skylake's microcode sees to it.
    assert_eq!(on(&guest(0, 0), &SKYLAKE, Flaw::Gds).verdict, Verdict::True);
    let off = Cpu { mcu_opt_ctrl: Some(1 << 4), ..SKYLAKE };
    assert_eq!(on(&guest(0, 0), &off, Flaw::Gds).verdict, Verdict::Lie);
}

#[test]
fn enhanced_ibrs_that_is_not_there_is_a_lie() {
    assert_eq!(on(&guest(1 << 26, 2), &BROADWELL, Flaw::SpectreV2).verdict, Verdict::Lie);
    assert_eq!(on(&guest(1 << 26, 2), &ICELAKE, Flaw::SpectreV2).verdict, Verdict::True);
    assert_eq!(on(&guest(0, 0), &ICELAKE, Flaw::SpectreV2).verdict, Verdict::Untold);
}

/// Xeon w7-2475X: BHI_CTRL, and a history of 194 branches.
const SAPPHIRE_RAPIDS: Cpu =
    Cpu { signature: 0x0008_06f8, leaf7_2_edx: 0x17, arch_capabilities: 0x4000_0000_0c08_e1eb, ..ICELAKE };
const BHI_DIS_S: u64 = 1 << 10;

#[test]
fn a_guest_that_has_never_heard_of_bhi_ctrl_runs_with_it() {
    let plan = Plan::new(&SAPPHIRE_RAPIDS);
    // IBRS_ALL and IBRS_IBPB, as at icelake-server, and no BHI_CTRL: its sequence is the short one.
    let old = guest(1 << 26 | 1 << 27, 2);
    assert_eq!(plan.forced_for(&old), BHI_DIS_S);
    let claim = on(&old, &SAPPHIRE_RAPIDS, Flaw::Bhi);
    assert!(claim.verdict == Verdict::True && claim.why.contains("sets BHI_DIS_S"), "{claim:?}");
    // One that knows of it decides for itself.
    let knows = Cpu { leaf7_2_edx: 1 << 4, ..old };
    assert_eq!(
        (plan.forced_for(&knows), on(&knows, &SAPPHIRE_RAPIDS, Flaw::Bhi).verdict),
        (0, Verdict::True)
    );
    // Not set, it would be a lie to call the guest safe.
    let off = plan.off();
    let claims = claims(&old, &SAPPHIRE_RAPIDS, &off);
    let claim = claims.iter().find(|claim| claim.flaw == Flaw::Bhi).unwrap();
    assert!(off.forced_for(&old) == 0 && claim.verdict == Verdict::Lie, "{claim:?}");
    // Before Golden Cove the short sequence is enough, and nothing is forced.
    assert_eq!(
        (Plan::new(&ICELAKE).forced_for(&old), on(&old, &ICELAKE, Flaw::Bhi).verdict),
        (0, Verdict::True)
    );
    assert_eq!(on(&knows, &ICELAKE, Flaw::Bhi).verdict, Verdict::Lie);
}

#[test]
fn ibrs_of_the_older_kind_is_off_while_a_cpu_idles() {
    assert_eq!(Plan::new(&BROADWELL).idle_spec_ctrl(), Some((0, 1)));
    assert_eq!(Plan::new(&ICELAKE).idle_spec_ctrl(), None);
    assert_eq!(Plan::new(&BROADWELL).off().idle_spec_ctrl(), None);
}

#[test]
fn a_guest_that_is_told_all_that_its_host_says_is_told_no_lie() {
    for host in [BROADWELL, SKYLAKE, ICELAKE] {
        for claim in claims(&host, &host, &Plan::new(&host)) {
            assert_ne!(claim.verdict, Verdict::Lie, "{claim:?}");
        }
    }
}

#[test]
fn reports_name_every_flaw() {
    let (mut text, mut lines) = (String::new(), String::new());
    host_text(&mut lines, &SKYLAKE, &Plan::new(&SKYLAKE)).unwrap_or_else(|error| panic!("{error}"));
    host_json(&mut text, &SKYLAKE, &Plan::new(&SKYLAKE)).unwrap_or_else(|error| panic!("{error}"));
    for flaw in Flaw::ALL {
        assert!(lines.lines().any(|line| line.starts_with(flaw.name())), "{flaw} in {lines}");
        assert!(text.contains(&format!("\"{flaw}\"")), "{flaw} in {text}");
    }
    assert!(lines.contains("Skylake-SP") && lines.contains("slot      verw open"), "{lines}");
    assert!(text.starts_with('{') && text.ends_with('}') && !text.contains('\n'));
    assert!(!lines.contains("mitigations=off"));
    lines.clear();
    host_text(&mut lines, &SKYLAKE, &Plan::new(&SKYLAKE).off()).unwrap_or_else(|error| panic!("{error}"));
    assert!(lines.contains("mitigations=off") && lines.contains("slot      verw closed"), "{lines}");
    let (mut table, mut object) = (String::new(), String::new());
    let held = claims(&guest(0, 0), &SKYLAKE, &Plan::new(&SKYLAKE));
    guest_text(&mut table, &held).unwrap_or_else(|error| panic!("{error}"));
    guest_json(&mut object, "demo", &held).unwrap_or_else(|error| panic!("{error}"));
    assert!(table.contains("untold") && object.contains("\"verdict\":\"untold\""), "{table}");
}

fn any_cpu() -> impl Strategy<Value = Cpu> {
    let smt = prop_oneof![Just(Smt::On), Just(Smt::Off), Just(Smt::Unknown)];
    let registers = any::<([u32; 5], u64, Option<u64>, Option<u64>)>();
    (registers, smt).prop_map(|((leaves, arch_capabilities, mcu_opt_ctrl, tsx_ctrl), smt)| {
        let [signature, leaf1_ecx, leaf7_ebx, leaf7_edx, leaf7_2_edx] = leaves;
        Cpu {
            signature,
            leaf1_ecx,
            leaf7_ebx,
            leaf7_edx,
            leaf7_2_edx,
            arch_capabilities,
            mcu_opt_ctrl,
            tsx_ctrl,
            smt,
        }
    })
}

proptest! {
    /// The hypervisor writes only what the CPU takes.
    #[test]
    fn plans_use_what_is_there(cpu in any_cpu()) {
        let plan = Plan::new(&cpu);
        prop_assert_eq!(plan.host_spec_ctrl & !cpu.spec_ctrl(), 0);
        prop_assert_eq!(plan.guest_spec_ctrl & !cpu.spec_ctrl(), 0);
        prop_assert!(plan.spec_ctrl || plan.host_spec_ctrl == 0);
        prop_assert!(!plan.l1d_flush || cpu.leaf7_edx & 1 << 28 != 0);
        prop_assert!(!plan.ibpb || cpu.leaf7_edx & 1 << 26 != 0);
        prop_assert!(plan.rsb_fill);
    }

    /// A bit that denies a flaw never makes a host owe more.
    #[test]
    fn a_denial_never_adds_a_flaw(cpu in any_cpu(), bit in prop_oneof![Just(0), Just(5), Just(8), Just(20), Just(26), Just(27), Just(62)]) {
        let denied = Cpu { arch_capabilities: cpu.arch_capabilities | 1 << bit, ..cpu };
        for (before, after) in mitigations::Assessment::new(&cpu).findings.iter().zip(&mitigations::Assessment::new(&denied).findings) {
            prop_assert!(before.state != mitigations::State::Free || after.state == mitigations::State::Free);
        }
    }

    /// A guest that has just what its host has is not lied to, and nothing panics.
    #[test]
    fn the_truth_is_no_lie(cpu in any_cpu()) {
        for claim in claims(&cpu, &cpu, &Plan::new(&cpu)) {
            prop_assert_ne!(claim.verdict, Verdict::Lie, "{:?}", claim);
        }
    }
}
