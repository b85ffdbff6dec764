//! Masks for a level: hide, never add, and go back.

mod mock;

use cpu_policy::{Feature, FeatureSet, LEVELS};
use flex::{Applied, ApplyError, Cpu, Leaf, Plan, Report, apply, plan, revert, survey};
use mock::{Behaviour, Mock, put};
use proptest::prelude::*;

/// What a Xeon 5160 has in leaf 1 and 80000001H.
fn merom() -> FeatureSet {
    use Feature::*;
    FeatureSet::of(&[
        Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Clfsh, Mmx,
        Fxsr, Sse, Sse2, Sse3, Ssse3, Cmpxchg16b, Syscall, Nx, Lm, LahfSahf,
    ])
}

fn planned(cpu: &mut Mock, wanted: FeatureSet) -> Plan {
    let survey = survey(cpu);
    let before = cpu.clone();
    let plan = plan(cpu, &survey, wanted);
    assert_eq!(*cpu, before, "a plan writes nothing");
    plan
}

fn shown(cpu: &Mock) -> [u64; 3] {
    cpu.shows().0
}

#[test]
fn westmere_is_held_to_merom() {
    let mut cpu = Mock::nehalem();
    cpu.leaves.insert((7, 0), [0, 1 << 3 | 1 << 8, 0, 0]); // BMI1, BMI2: no leaf 7 mask anywhere
    let plan = planned(&mut cpu, merom());
    assert_eq!(
        plan.writes.iter().map(|w| (w.msr, w.leaf)).collect::<Vec<_>>(),
        [(0x130, Leaf::Basic), (0x131, Leaf::Extended)]
    );
    for hidden in [Feature::Sse41, Feature::Sse42, Feature::Popcnt, Feature::Rdtscp] {
        assert!(plan.hidden.contains(hidden), "{}", hidden.name());
    }
    for exposed in [Feature::Bmi1, Feature::Bmi2] {
        assert!(plan.exposed.contains(exposed), "{}", exposed.name());
    }
    let before = cpu.clone();
    let applied = apply(&mut cpu, &plan).unwrap();
    assert_eq!(applied.before(), [(0x130, u64::MAX), (0x131, u64::MAX)]);
    let [_, _, ecx, edx] = cpu.cpuid(1, 0);
    assert_eq!(ecx & (1 << 19 | 1 << 20 | 1 << 23), 0, "SSE4.1, SSE4.2, POPCNT");
    assert_ne!(ecx & 1 << 9, 0, "SSSE3 is Merom's");
    assert_ne!(ecx & 1 << 27, 0, "OSXSAVE comes from CR4");
    assert_ne!(edx & 1 << 9, 0, "and APIC from its base register");
    assert_eq!(cpu.cpuid(0x8000_0001, 0)[3] & 1 << 27, 0, "RDTSCP");
    revert(&mut cpu, &applied).unwrap();
    assert_eq!((cpu.values(), shown(&cpu)), (before.values(), shown(&before)));
}

#[test]
fn a_mask_never_adds() {
    let mut cpu = Mock::penryn();
    cpu.leaves.get_mut(&(1, 0)).unwrap()[2] &= !(1 << 20);
    let narrow = !(1 << 9);
    cpu = cpu.with(0x478, narrow, Behaviour::Mask(Leaf::Basic)); // SSSE3 hidden by the firmware
    let plan = planned(&mut cpu, merom().with(Feature::Sse42));
    assert!(plan.absent.contains(Feature::Sse42), "the CPU has none");
    assert!(plan.absent.contains(Feature::Ssse3), "the firmware hid it, and it stays hidden");
    assert_eq!(plan.writes[0].value & !narrow, 0);
    let before = shown(&cpu);
    let _ = apply(&mut cpu, &plan).unwrap();
    assert_eq!(shown(&cpu)[0] & !before[0], 0);
}

#[test]
fn where_nothing_masks_all_stays_visible() {
    let mut cpu = Mock::ivy_bridge();
    let plan = planned(&mut cpu, merom());
    assert_eq!((plan.writes.len(), plan.hidden), (0, FeatureSet::EMPTY));
    assert!(plan.exposed.contains(Feature::Sse41));
    let before = cpu.clone();
    assert!(apply(&mut cpu, &plan).unwrap().before().is_empty());
    assert_eq!(cpu, before);
}

#[test]
fn each_refusal_is_named_and_undone() {
    let good = Mock::sandy_bridge(true);
    let plan = planned(&mut good.clone(), merom());
    let fails = |cpu: &Mock| {
        let mut cpu = cpu.clone();
        let before = cpu.values();
        let error = apply(&mut cpu, &plan).expect_err("this CPU does not mask");
        assert_eq!(cpu.values(), before, "{error}");
        error
    };
    let mut missing = good.clone();
    missing.msrs.remove(&0x133);
    assert_eq!(fails(&missing), ApplyError::Unreadable(0x133));
    let value = plan.writes[1].value;
    assert_eq!(
        fails(&good.clone().with(0x133, u64::MAX, Behaviour::Deaf)),
        ApplyError::Refused { msr: 0x133, value }
    );
    assert_eq!(
        fails(&good.clone().with(0x133, u64::MAX, Behaviour::ReadOnly)),
        ApplyError::Refused { msr: 0x133, value }
    );
    let error = fails(&good.with(0x133, u64::MAX, Behaviour::Plain));
    assert!(matches!(error, ApplyError::NoEffect { msr: 0x133, .. }), "{error}");
    assert!(error.to_string().contains("0x133"), "{error}");
}

#[test]
fn what_cannot_be_put_back_is_named() {
    let mut cpu = Mock::sandy_bridge(true);
    let plan = planned(&mut cpu, merom());
    let applied = apply(&mut cpu, &plan).unwrap();
    cpu = cpu.with(0x134, 0, Behaviour::ReadOnly);
    assert_eq!(revert(&mut cpu, &applied), Err(vec![0x134]));
    assert_eq!(cpu.msrs[&0x132].0, u64::MAX, "the others are back");
    assert_eq!(revert(&mut cpu, &Applied::default()), Ok(()));
}

#[test]
fn a_report_shows_the_masks_of_a_level() {
    let mut cpu = Mock::nehalem();
    let survey = survey(&mut cpu);
    let plan = plan(&mut cpu, &survey, merom());
    let report = Report { survey: &survey, plan: Some(("merom", &plan)) };
    let text = report.to_string();
    assert!(text.contains("level     merom, for code that does not run in a guest:"), "{text}");
    assert!(text.contains(&format!("0x130 = {:#018x}  CPUID.1:ECX,EDX", plan.writes[0].value)), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("          hidden:") && line.contains("SSE4.2")),
        "{text}"
    );
    let mut json = String::new();
    report.write_json(&mut json).unwrap();
    assert!(json.contains(r#""plan":{"level":"merom","writes":[{"msr":"0x130","#), "{json}");
    assert!(json.contains(r#""hidden":["#), "{json}");
}

fn any_set() -> impl Strategy<Value = FeatureSet> {
    let level = proptest::sample::select(LEVELS.iter().map(|level| level.features()).collect::<Vec<_>>());
    let bits = proptest::collection::vec(any::<bool>(), cpu_policy::FEATURES.len());
    (level, bits)
        .prop_map(|(level, bits)| level.intersection(FeatureSet::matching(|feature| bits[feature as usize])))
}

fn any_cpu() -> impl Strategy<Value = Mock> {
    let kind = proptest::sample::select(vec![
        Mock::penryn(),
        Mock::nehalem(),
        Mock::sandy_bridge(true),
        Mock::sandy_bridge(false),
        Mock::ivy_bridge(),
    ]);
    let raw = any::<[u64; 3]>();
    let held = proptest::collection::vec(any::<u64>(), 3);
    let limited = any::<bool>();
    (kind, raw, held, limited, any::<bool>()).prop_map(|(mut cpu, raw, held, limited, osxsave)| {
        for (leaf, value) in Leaf::ALL.into_iter().zip(raw) {
            put(cpu.leaves.get_mut(&leaf.input()).unwrap(), leaf, value);
        }
        // never seen as nested: the test is about hardware
        cpu.leaves.get_mut(&(1, 0)).unwrap()[2] &= !(1 << 31);
        cpu.osxsave = osxsave;
        for ((value, behaviour), held) in cpu.msrs.values_mut().zip(held) {
            if let Behaviour::Mask(leaf) = behaviour {
                *value = held | leaf.always();
            }
        }
        if limited { cpu.limited(3) } else { cpu }
    })
}

proptest! {
    /// Whatever a CPU shows and its masks hold: the survey leaves it as it was, the masks leave exactly what was
    /// visible and is wanted, and reverting brings all back.
    #[test]
    fn masks_are_an_intersection(cpu in any_cpu(), wanted in any_set()) {
        let mut cpu = cpu;
        let (values, leaves) = (cpu.values(), shown(&cpu));
        let found = survey(&mut cpu);
        prop_assert!(found.restored);
        prop_assert_eq!((cpu.values(), shown(&cpu)), (values.clone(), leaves));
        let plan = plan(&mut cpu, &found, wanted);
        let applied = apply(&mut cpu, &plan).unwrap();
        let kept = FeatureSet::of_kind(cpu_policy::Kind::Derived);
        for (leaf, before) in Leaf::ALL.into_iter().zip(leaves) {
            let now = leaf.read(&mut cpu.clone());
            let expected = match found.mask(leaf) {
                Some(_) => before & (leaf.of(wanted) | leaf.of(kept) | leaf.always()),
                None => before,
            };
            prop_assert_eq!(now, expected, "{}", leaf);
        }
        // Masking again with the same set changes nothing.
        let again = survey(&mut cpu);
        let second = flex::plan(&mut cpu, &again, wanted);
        let before = cpu.values();
        let _ = apply(&mut cpu, &second).unwrap();
        prop_assert_eq!(before, cpu.values());
        revert(&mut cpu, &applied).unwrap();
        prop_assert_eq!((cpu.values(), shown(&cpu)), (values, leaves));
    }

    /// A signature of a CPU of no kind at all, MSRs of any behaviour: a value, and nothing left behind.
    #[test]
    fn any_cpu_ends_in_a_value(
        signature in any::<u32>(), raw in any::<[u64; 3]>(), lenient in any::<Option<u64>>(),
        kinds in proptest::collection::vec((0_usize..6, any::<u64>()), 8),
        broken in proptest::option::of(1_usize..20),
    ) {
        let mut cpu = Mock::new(signature);
        for (leaf, value) in Leaf::ALL.into_iter().zip(raw) {
            put(cpu.leaves.get_mut(&leaf.input()).unwrap(), leaf, value);
        }
        let msrs = [0x478, 0x130, 0x131, 0x132, 0x133, 0x134, flex::PLATFORM_INFO, flex::MISC_FEATURES_ENABLES];
        let behaviours = [
            Behaviour::Mask(Leaf::Basic),
            Behaviour::Plain,
            Behaviour::ReadOnly,
            Behaviour::Deaf,
            Behaviour::Both(Leaf::Basic, Leaf::Xsave),
            Behaviour::Or(Leaf::Extended),
        ];
        for (msr, (kind, value)) in msrs.into_iter().zip(kinds) {
            cpu = cpu.with(msr, value, behaviours[kind]);
        }
        cpu.lenient = lenient;
        cpu.broken_from = broken.unwrap_or(usize::MAX);
        let before = (cpu.values(), shown(&cpu));
        let found = survey(&mut cpu);
        prop_assert_eq!(found.restored, (cpu.values(), shown(&cpu)) == before);
        let plan = plan(&mut cpu, &found, FeatureSet::EMPTY);
        let mut text = Report { survey: &found, plan: Some(("x", &plan)) }.to_string();
        Report { survey: &found, plan: None }.write_json(&mut text).unwrap();
    }
}
