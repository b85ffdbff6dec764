//! What a survey finds on CPUs of each kind, and that it leaves nothing behind.

mod mock;

use flex::{Faulting, Finding, Generation, Leaf, LeafLimit, Report, survey};
use mock::{Behaviour, MISC_ENABLE, Mock};

/// Surveys, and checks that everything is as it was.
fn surveyed(cpu: &mut Mock) -> flex::Survey {
    let before = (cpu.values(), cpu.shows());
    let found = survey(cpu);
    assert_eq!((cpu.values(), cpu.shows()), before);
    assert!(found.restored);
    found
}

fn findings(cpu: &mut Mock) -> Vec<(u32, Finding)> {
    surveyed(cpu).probes.iter().map(|probe| (probe.msr, probe.finding)).collect()
}

#[test]
fn each_generation_has_its_masks() {
    assert_eq!(findings(&mut Mock::new(0x6f6)), []);
    assert_eq!(findings(&mut Mock::penryn()), [(0x478, Finding::Masks(Leaf::Basic))]);
    assert_eq!(
        findings(&mut Mock::nehalem()),
        [(0x130, Finding::Masks(Leaf::Basic)), (0x131, Finding::Masks(Leaf::Extended))]
    );
    assert_eq!(findings(&mut Mock::ivy_bridge()), [0x132, 0x133, 0x134].map(|msr| (msr, Finding::Missing)));
    assert_eq!(findings(&mut Mock::new(0x50654)), []);
}

#[test]
fn generations_by_family_and_model() {
    let of = |signature| surveyed(&mut Mock::new(signature)).generation;
    for (signature, generation) in [
        (0x6f6, Generation::Merom),
        (0x10676, Generation::Penryn),
        (0x106d1, Generation::Penryn),
        (0x106a5, Generation::Nehalem),
        (0x106e5, Generation::Nehalem),
        (0x20652, Generation::Nehalem),
        (0x206c2, Generation::Nehalem),
        (0x206e6, Generation::Nehalem),
        (0x206f2, Generation::Nehalem),
        (0x206a7, Generation::SandyBridge),
        (0x206d7, Generation::SandyBridge),
        (0x306a9, Generation::IvyBridge),
        (0x306e4, Generation::IvyBridge),
        (0x306f2, Generation::Other),
        (0x806f8, Generation::Other),
        (0xf43, Generation::Other), // family 15 has a model 4 too
    ] {
        assert_eq!(of(signature), generation, "{signature:#x}");
    }
}

/// Sources disagree on 0x133 and 0x134: what CPUID shows decides.
#[test]
fn sandy_bridge_either_way_round() {
    for xen in [true, false] {
        let found = surveyed(&mut Mock::sandy_bridge(xen));
        let msr = |leaf| found.mask(leaf).map(|probe| probe.msr);
        assert_eq!(msr(Leaf::Basic), Some(0x132));
        assert_eq!(msr(Leaf::Extended), Some(if xen { 0x133 } else { 0x134 }));
        assert_eq!(msr(Leaf::Xsave), Some(if xen { 0x134 } else { 0x133 }));
    }
}

#[test]
fn masks_that_firmware_set_are_kept() {
    let narrow = !(1 << 19 | 1 << 20);
    let mut cpu = Mock::penryn().with(0x478, narrow, Behaviour::Mask(Leaf::Basic));
    let found = surveyed(&mut cpu);
    assert_eq!(found.mask(Leaf::Basic).map(|probe| probe.value), Some(narrow));
}

#[test]
fn msrs_that_are_no_masks() {
    let on = |value, behaviour| {
        let mut cpu = Mock::penryn().with(0x478, value, behaviour);
        let found = surveyed(&mut cpu);
        assert!(!found.masks());
        found.probes[0].finding
    };
    assert_eq!(on(u64::MAX, Behaviour::Deaf), Finding::Ignored { reads: u64::MAX });
    assert_eq!(on(u64::MAX, Behaviour::ReadOnly), Finding::Refused);
    assert_eq!(on(u64::MAX, Behaviour::Plain), Finding::Idle);
    assert_eq!(on(u64::MAX, Behaviour::Both(Leaf::Basic, Leaf::Extended)), Finding::Strange);
    assert_eq!(on(u64::MAX, Behaviour::Or(Leaf::Xsave)), Finding::Strange);
}

/// An undocumented MSR is written only where it looks like a mask that hides nothing.
#[test]
fn undocumented_msrs_are_written_with_care() {
    let mut cpu = Mock::ivy_bridge().with(0x132, u64::MAX, Behaviour::Mask(Leaf::Basic)).with(
        0x133,
        0x1234,
        Behaviour::Plain,
    );
    let found = surveyed(&mut cpu);
    let findings: Vec<_> = found.probes.iter().map(|probe| probe.finding).collect();
    assert_eq!(findings, [Finding::Masks(Leaf::Basic), Finding::Untouched, Finding::Missing]);
}

#[test]
fn emulators_are_told_from_cpus() {
    let mut bochs = Mock::new(0x106e5);
    bochs.lenient = Some(0);
    let found = surveyed(&mut bochs);
    assert_eq!(found.unknown_reads, Some(0));
    assert!(found.probes.iter().all(|probe| probe.finding == Finding::Ignored { reads: 0 }));
    assert_eq!(found.faulting, Faulting::Absent);

    let mut nested = Mock::nehalem();
    nested.leaves.get_mut(&(1, 0)).unwrap()[2] |= 1 << 31;
    for msr in [0x130, 0x131] {
        nested = nested.with(msr, u64::MAX, Behaviour::Deaf);
    }
    let found = surveyed(&mut nested);
    assert!(found.nested && !found.masks());
    assert_eq!(found.unknown_reads, None);
}

#[test]
fn another_vendor_is_left_alone() {
    let mut cpu = Mock::penryn();
    cpu.leaves.get_mut(&(0, 0)).unwrap()[1] = u32::from_le_bytes(*b"Auth");
    assert_eq!(surveyed(&mut cpu).generation, Generation::Foreign);
    assert_eq!(cpu.writes, 0);
}

#[test]
fn faulting() {
    let state = |cpu: Mock| surveyed(&mut { cpu }).faulting;
    assert_eq!(state(Mock::penryn()), Faulting::Absent);
    assert_eq!(state(Mock::ivy_bridge()), Faulting::Available { on: false });
    let ivy = |value, behaviour| Mock::ivy_bridge().with(flex::MISC_FEATURES_ENABLES, value, behaviour);
    assert_eq!(state(ivy(1, Behaviour::Plain)), Faulting::Available { on: true });
    assert_eq!(state(ivy(0, Behaviour::Deaf)), Faulting::Stuck { on: false });
    assert_eq!(state(ivy(1, Behaviour::ReadOnly)), Faulting::Stuck { on: true });
    let mut none = Mock::ivy_bridge();
    none.msrs.remove(&flex::MISC_FEATURES_ENABLES);
    assert_eq!(state(none), Faulting::NoSwitch);
}

#[test]
fn faulting_is_switched() {
    let mut cpu = Mock::ivy_bridge().with(flex::MISC_FEATURES_ENABLES, 8, Behaviour::Plain);
    assert_eq!(flex::set_faulting(&mut cpu, true), Some(false));
    assert_eq!(cpu.msrs[&flex::MISC_FEATURES_ENABLES].0, 9);
    assert_eq!(flex::set_faulting(&mut cpu, false), Some(true));
    assert_eq!(cpu.msrs[&flex::MISC_FEATURES_ENABLES].0, 8);
    assert_eq!(flex::set_faulting(&mut Mock::penryn(), true), None);
}

#[test]
fn leaves_behind_the_firmwares_limit() {
    let mut cpu = Mock::sandy_bridge(true).limited(3);
    let found = surveyed(&mut cpu);
    assert_eq!(found.limit, LeafLimit::Lifted { from: 3, to: 0xd });
    assert_eq!(found.mask(Leaf::Xsave).map(|probe| probe.msr), Some(0x134), "seen behind the limit");
    assert_eq!(flex::unlock_leaves(&mut cpu), LeafLimit::Lifted { from: 3, to: 0xd });
    assert_eq!(cpu.msrs[&MISC_ENABLE].0, 1, "and it stays lifted");
    assert_eq!(flex::unlock_leaves(&mut cpu), LeafLimit::Off);

    let mut stuck = Mock::sandy_bridge(true).limited(3).with(MISC_ENABLE, 1 << 22, Behaviour::Deaf);
    let found = surveyed(&mut stuck);
    assert_eq!(found.limit, LeafLimit::Stuck);
    assert_eq!(found.mask(Leaf::Xsave), None);
    assert_eq!(found.mask(Leaf::Basic).map(|probe| probe.msr), Some(0x132));
}

/// A CPU that stops taking writes at any point: the survey ends, and says what it could not put back.
#[test]
fn writes_that_begin_to_fail() {
    let whole = {
        let mut cpu = Mock::sandy_bridge(true).limited(3);
        survey(&mut cpu);
        cpu.writes
    };
    let cpu = Mock::sandy_bridge(true).limited(3);
    for from in 1..=whole {
        let mut broken = Mock { broken_from: from, ..cpu.clone() };
        let found = survey(&mut broken);
        assert_eq!(found.restored, broken.values() == cpu.values(), "from write {from}");
        for probe in found.probes.iter().filter(|probe| !probe.restored) {
            assert_ne!(broken.msrs[&probe.msr].0, probe.value);
            assert!(found.mask(Leaf::Basic).is_none_or(|mask| mask.msr != probe.msr), "not used");
        }
    }
}

#[test]
fn reports() {
    let survey = surveyed(&mut Mock::sandy_bridge(false));
    let report = Report { survey: &survey, plan: None };
    let text = report.to_string();
    for line in [
        "cpu       Sandy Bridge, family 0x6, model 0x2d, stepping 7",
        "leaves    all shown",
        "masks     0x132 masks CPUID.1:ECX,EDX, holds 0xffffffffffffffff",
        "          0x133 masks CPUID.DH.1:EAX, holds 0xffffffffffffffff",
        "          0x134 masks CPUID.80000001H:ECX,EDX, holds 0xffffffffffffffff",
        "faulting  none: MSR_PLATFORM_INFO bit 31 is 0 or cannot be read",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    }
    let mut json = String::new();
    report.write_json(&mut json).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"{"generation":"Sandy Bridge","family":6,"model":45,"stepping":7,"nested":false,"#,
            r#""unknown_msrs_read":null,"leaf_limit":"off","masks":["#,
            r#"{"msr":"0x132","value":"0xffffffffffffffff","finding":"masks","leaf":"CPUID.1:ECX,EDX","restored":true},"#,
            r#"{"msr":"0x133","value":"0xffffffffffffffff","finding":"masks","leaf":"CPUID.DH.1:EAX","restored":true},"#,
            r#"{"msr":"0x134","value":"0xffffffffffffffff","finding":"masks","leaf":"CPUID.80000001H:ECX,EDX","restored":true}],"#,
            r#""faulting":{"state":"absent","on":null},"restored":true,"plan":null}"#
        )
    );
}

#[test]
fn a_report_on_an_emulator_says_so() {
    let mut bochs = Mock::new(0x106e5);
    bochs.lenient = Some(0);
    let survey = surveyed(&mut bochs);
    let text = Report { survey: &survey, plan: None }.to_string();
    assert!(text.contains("emulated: unknown MSRs read 0x0, writes ignored"), "{text}");
    assert!(text.contains("0x131 reads 0x0, writes ignored"), "{text}");
    let survey = surveyed(&mut Mock::new(0x6f6));
    let text = Report { survey: &survey, plan: None }.to_string();
    assert!(text.contains("masks     none: they came with the next generation"), "{text}");
}
