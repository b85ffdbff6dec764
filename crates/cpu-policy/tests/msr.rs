//! The MSRs that Linux and others touch.

mod common;

use std::collections::BTreeSet;

use common::*;
use cpu_policy::{GuestPolicy, LEVELS, MsrClass, MsrKind, MsrRead, MsrWrite, RULES};
use proptest::prelude::*;

#[test]
fn the_list_is_sorted_and_without_overlap() {
    for pair in RULES.windows(2) {
        assert!(pair[0].first + pair[0].count <= pair[1].first, "{} and {}", pair[0].name, pair[1].name);
    }
    // Look-up is by slot: each MSR of the list has one.
    let policy = render("skylake-server");
    for rule in RULES {
        let offered = rule.offered(policy.features());
        for index in rule.first..rule.first + rule.count {
            let there = policy.read_msr(index) != MsrRead::Gp || policy.write_msr(index, 1) != MsrWrite::Gp;
            assert_eq!(there, offered, "{} {index:#x}", rule.name);
            // one that shares its slot
            let other = index ^ 1 << 12;
            assert_eq!((policy.read_msr(other), policy.write_msr(other, 1)), (MsrRead::Gp, MsrWrite::Gp));
        }
    }
}

#[test]
fn what_linux_reads_and_writes_unguarded() {
    for level in LEVELS {
        let policy = render(level.name);
        let value = |index| match policy.read_msr(index) {
            MsrRead::Value(value) => value,
            other => panic!("{index:#x}: {other:?}"),
        };
        // Microcode: write 0, read the revision from the high half.
        assert_eq!(policy.write_msr(0x8b, 0), MsrWrite::Ignore);
        assert_eq!(value(0x8b) >> 32, 1);
        assert_eq!(value(0x17), 0);
        assert_eq!(value(0xfe), 0x508);
        // No machine-check banks; status reads 0 and may be cleared.
        assert_eq!((value(0x179), value(0x17a)), (0, 0));
        assert_eq!(policy.write_msr(0x17a, 0), MsrWrite::Ignore);
        assert_eq!(policy.write_msr(0x17a, 1), MsrWrite::Gp);
        assert_eq!(policy.write_msr(0x1a0, value(0x1a0)), MsrWrite::Ignore);
        assert_eq!(policy.write_msr(0x1a0, value(0x1a0) | 1 << 34), MsrWrite::Gp);
        assert_eq!(policy.write_msr(0x10a, value(0x10a)), MsrWrite::Gp);
        for index in [0x1b, 0x277, 0x2ff, 0x200, 0x20f, 0x250, 0x26f, 0xc000_0080, 0xc000_0082, 0x174, 0x10] {
            assert!(matches!(policy.read_msr(index), MsrRead::Emulate(_)), "{index:#x}");
        }
    }
}

#[test]
fn what_is_not_offered_faults() {
    let nehalem = render("nehalem");
    let skylake = render("skylake-server");
    for index in [0x6e0, 0x3b, 0xda0, 0x140] {
        assert_eq!(nehalem.read_msr(index), MsrRead::Gp, "{index:#x}");
        assert_eq!(nehalem.write_msr(index, 0), MsrWrite::Gp, "{index:#x}");
        assert_ne!(skylake.read_msr(index), MsrRead::Gp, "{index:#x}");
    }
    // CPUID faulting is the hypervisor's own: told, off, and turned on by bit 0 alone.
    let told = |policy: &cpu_policy::GuestPolicy| match policy.read_msr(0xce) {
        MsrRead::Value(value) => value >> 31 & 1,
        other => panic!("{other:?}"),
    };
    assert_eq!((told(&nehalem), told(&skylake)), (0, 1));
    assert_eq!(skylake.write_msr(0x140, 1), MsrWrite::Emulate(MsrKind::MiscFeatures));
    assert_eq!(skylake.write_msr(0x140, 2), MsrWrite::Gp);
    // FEATURE_CONTROL, SPEC_CTRL, PMU, RAPL, APERF, MCG_CTL, VMX, mask MSRs, reserved x2APIC, Hyper-V and KVM ranges.
    let absent = [
        0x3a,
        0x48,
        0x49,
        0xc1,
        0x186,
        0x38d,
        0x606,
        0xe8,
        0x17b,
        0x480,
        0x48b,
        0x130,
        0x132,
        0x478,
        0x7ff,
        0x840,
        0x8ff,
        0x4000_0000,
        0x4b56_4d00,
        0xc000_0104,
        0xc001_0015,
        0x210,
        0x251,
        0x270,
        u32::MAX,
    ];
    for index in absent {
        assert_eq!(skylake.read_msr(index), MsrRead::Gp, "{index:#x}");
        assert_eq!(skylake.write_msr(index, 0), MsrWrite::Gp, "{index:#x}");
    }
}

#[test]
fn speculation_registers_come_with_their_bits() {
    use cpu_policy::{Feature, FeatureSet, spec_ctrl_bits};
    let set = |features: &[Feature]| FeatureSet::of(features);
    assert_eq!(spec_ctrl_bits(FeatureSet::EMPTY), 0);
    assert_eq!(spec_ctrl_bits(set(&[Feature::IbrsIbpb])), 1);
    assert_eq!(spec_ctrl_bits(set(&[Feature::IbrsIbpb, Feature::Stibp, Feature::Ssbd])), 7);
    assert_eq!(spec_ctrl_bits(set(&[Feature::IbrsIbpb, Feature::BhiCtrl, Feature::Psfd])), 0x481);
    // None of the others makes the register.
    assert_eq!(spec_ctrl_bits(set(&[Feature::Stibp, Feature::Ssbd])), 0);
    assert!(
        MsrKind::PredCmd.write_only() && MsrKind::FlushCmd.write_only() && !MsrKind::SpecCtrl.write_only()
    );
}

#[test]
fn values_are_checked() {
    use MsrKind::*;
    let policy = render("haswell");
    let low = 0x0000_7fff_ffff_ffff;
    let cases: &[(u32, MsrKind, &[u64], &[u64])] = &[
        (
            0x1b,
            ApicBase,
            &[0xfee0_0900, 0xfee0_0d00, 0xfee0_0100],
            &[0xfee0_0500, 1, 1 << 9, 0xfee0_0900 | 1 << 40],
        ),
        (0x277, Pat, &[0x0007_0406_0007_0406, 0x0106_0407_0005_0105], &[2, 3 << 8, 8 << 56]),
        (0x200, MtrrVariable(0), &[6, 0xff_ffff_f000, 0], &[2, 0x106, 1 << 40]),
        (0x201, MtrrVariable(1), &[0xff_0000_0800, 0], &[1, 0x400, 1 << 40]),
        (0x26f, MtrrFixed(10), &[0x0606_0606_0606_0606, 0], &[7, 2 << 56]),
        (0x2ff, MtrrDefType, &[0xc06, 0, 0x800], &[2, 0x100, 1 << 12]),
        (0xc000_0080, Efer, &[0xd01, 0, 0x500], &[1 << 12, 1 << 14, 2]),
        (0xc000_0082, Lstar, &[0, low, !low, u64::MAX], &[low + 1, !low - 1, 1 << 63]),
        (0xc000_0084, Fmask, &[0x4_7700, 0xffff_ffff], &[1 << 32]),
        (0xc000_0103, TscAux, &[0, 0xffff_ffff], &[1 << 32]),
        (0x176, SysenterEip, &[0, !low], &[low + 1]),
        (0x6e0, TscDeadline, &[0, u64::MAX], &[]),
        (0x80b, X2apic(0xb), &[0], &[]),
    ];
    for (index, kind, good, bad) in cases {
        assert_eq!(policy.read_msr(*index), MsrRead::Emulate(*kind));
        for value in *good {
            assert_eq!(policy.write_msr(*index, *value), MsrWrite::Emulate(*kind), "{index:#x} = {value:#x}");
        }
        for value in *bad {
            assert_eq!(policy.write_msr(*index, *value), MsrWrite::Gp, "{index:#x} = {value:#x}");
        }
    }
}

#[test]
fn cpuid_faulting_comes_with_ivybridge() {
    for level in LEVELS {
        let policy = render(level.name);
        let there = level.features().contains(cpu_policy::Feature::CpuidFaulting);
        let older = ["merom", "penryn", "nehalem", "westmere", "sandybridge", "avoton"].contains(&level.name);
        // The psABI names no such thing.
        assert_eq!(there, !older && !level.is_user_space(), "{}", level.name);
        let MsrRead::Value(info) = policy.read_msr(0xce) else { panic!("{}: no PLATFORM_INFO", level.name) };
        assert_eq!(info >> 31 & 1 != 0, there, "{}", level.name);
        assert_ne!(info >> 8 & 0xff, 0, "{}: the ratio", level.name);
        assert_eq!(policy.write_msr(0x140, 1) == MsrWrite::Gp, !there, "{}", level.name);
        let back = GuestPolicy::decode(&policy.encode()).unwrap();
        assert_eq!(back, policy, "{}: the bit travels in PLATFORM_INFO", level.name);
    }
}

#[test]
fn passthrough_is_a_short_list() {
    let list: BTreeSet<u32> = render("haswell").msrs().passthrough().collect();
    let expected = [
        0x174,
        0x175,
        0x176,
        0x277,
        0xc000_0081,
        0xc000_0082,
        0xc000_0083,
        0xc000_0084,
        0xc000_0100,
        0xc000_0101,
        0xc000_0102,
        0xc000_0103,
    ];
    assert_eq!(list, BTreeSet::from(expected));
    assert!(RULES.iter().filter(|rule| rule.class == MsrClass::Passthrough).all(|rule| rule.count == 1));
}

proptest! {
    #[test]
    fn any_msr_has_an_answer(index in prop_oneof![any::<u32>(), 0u32..0x1000, 0xc000_0000u32..0xc000_0200], value in any::<u64>()) {
        let policy = render("haswell");
        let listed = RULES.iter().any(|rule| index >= rule.first && index - rule.first < rule.count);
        prop_assert!(listed || policy.read_msr(index) == MsrRead::Gp);
        prop_assert!(listed || policy.write_msr(index, value) == MsrWrite::Gp);
    }
}

#[test]
fn the_documentation_lists_all() {
    let text = include_str!("../../../docs/cpu-policy.md");
    for rule in RULES {
        assert!(text.contains(rule.name), "{} is not in docs/cpu-policy.md", rule.name);
    }
}
