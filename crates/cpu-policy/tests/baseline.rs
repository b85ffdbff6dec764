//! The level of a pool: what it holds, that order does not matter, what each member costs.

mod common;

use common::*;
use cpu_policy::{Baseline, Feature, FeatureSet, GuestPolicy, HostPolicy, Polarity, RenderError};
use proptest::prelude::*;

fn hosts() -> Vec<HostPolicy> {
    DUMPS.iter().map(Dump::policy).collect()
}

#[test]
fn a_pool_of_two_gives_what_both_have() {
    let [new, old] = [SKYLAKE_X.policy(), HASWELL.policy()];
    let pool = Baseline::meet([&new, &old]).unwrap();
    // What the two emulated models have in common is that level exactly.
    assert_eq!(pool.as_level().map(|level| level.name), Some("haswell"));
    assert_eq!((pool.level().name, pool.name().as_str()), ("haswell", "haswell"));
    for host in [&new, &old] {
        let guest = GuestPolicy::render_baseline(&pool, SHAPE, host).unwrap();
        assert_eq!(guest.features(), pool.guest_features());
        assert_eq!(guest.level_name(), pool.name());
        assert!(guest.has(Feature::Avx2) && !guest.has(Feature::Avx512f) && !guest.has(Feature::Rdseed));
        assert_eq!(GuestPolicy::decode(&guest.encode()).as_ref(), Ok(&guest));
        assert_eq!((guest.fits(&new), guest.fits(&old)), (Ok(()), Ok(())));
    }
}

#[test]
fn the_sets_are_not_nested() {
    // Skylake-X has CLWB, Ice Lake-U lacks it and has SHA, which Skylake-X lacks.
    let pool = Baseline::meet([&SKYLAKE_X.policy(), &ICE_LAKE.policy()]).unwrap();
    let features = pool.guest_features();
    assert!(!features.contains(Feature::Clwb) && !features.contains(Feature::Sha));
    assert!(features.contains(Feature::Avx512f));
    assert_eq!(pool.level().name, "broadwell");
    assert_eq!(pool.name(), format!("pool-{}", pool.fingerprint()));
    let guest = GuestPolicy::render_baseline(&pool, SHAPE, &ICE_LAKE.policy()).unwrap();
    assert_eq!(guest.xcr0_allowed(), 0xe7);
}

#[test]
fn what_must_be_asked_for_is_not_in_a_default() {
    let host = Dump { leaf7: [SKYLAKE_X.leaf7[0] | 1 << 11 | 1 << 4, 0, 0], ..SKYLAKE_X }.policy();
    assert!(host.features.contains(Feature::Rtm) && host.features.contains(Feature::Hle));
    let pool = Baseline::of(&host);
    assert!(pool.features().contains(Feature::Rtm) && !pool.guest_features().contains(Feature::Rtm));
}

#[test]
fn a_guest_may_arrive_with_more_than_a_new_one_gets() {
    let told = ICE_LAKE.policy();
    assert!(told.features.contains(Feature::Fsrm));
    let lacks = Dump {
        leaf7: [ICE_LAKE.leaf7[0] & !(1 << 9), ICE_LAKE.leaf7[1], ICE_LAKE.leaf7[2] & !(1 << 4)],
        ..ICE_LAKE
    }
    .policy();
    let guest = GuestPolicy::render_baseline(&Baseline::of(&told), SHAPE, &told).unwrap();
    assert_eq!(guest.fits(&lacks), Ok(()));
    let missing: Vec<_> = guest.starts_on(&lacks).unwrap_err().missing().collect();
    assert_eq!(missing, [Feature::Erms, Feature::Fsrm]);
    let refused = GuestPolicy::render_baseline(&Baseline::of(&told), SHAPE, &lacks).unwrap_err();
    let RenderError::RefusedBaseline { name, .. } = &refused else { panic!("{refused}") };
    assert!(refused.to_string().starts_with(&format!("level {name}: CPUID.7.0:EBX[9] ERMS, ")), "{refused}");
}

#[test]
fn costs_name_the_member() {
    let [a, b, c] = [SKYLAKE_X.policy(), HASWELL.policy(), TIGER_LAKE.policy()];
    let costs = Baseline::costs(&[&a, &b, &c]);
    assert!(costs[0].is_free(), "{}", costs[0]);
    assert_eq!(costs[0].to_string(), "nothing");
    let text = costs[1].to_string();
    assert!(text.starts_with("removes ") && text.contains("AVX512F") && text.contains("CLWB"), "{text}");
    assert!(costs[1].removes.contains(Feature::Rdseed) && costs[2].is_free());
    // Two of a kind: neither alone is to blame.
    assert!(Baseline::costs(&[&a, &b, &b]).iter().all(|cost| !cost.removes.contains(Feature::Avx512f)));
    assert!(Baseline::costs(&[&a])[0].is_free() && Baseline::costs(&[]).is_empty());
    let narrow = Dump { phys_bits: 36, ..SKYLAKE_X }.policy();
    let costs = Baseline::costs(&[&a, &narrow]);
    assert_eq!(costs[1].to_string(), "physical address width 40 to 36");
}

#[test]
fn a_baseline_equal_to_a_level_bears_its_name() {
    for dump in DUMPS {
        let host = dump.policy();
        let baseline = Baseline::of(&host);
        match baseline.as_level() {
            Some(level) => assert_eq!(level.features(), baseline.guest_features(), "{}", dump.model),
            None => assert!(baseline.name().starts_with("pool-"), "{}", dump.model),
        }
        let best = host.best_level().map(|level| level.name);
        if let Some(best) = best.filter(|best| !best.contains("tsx")) {
            assert_eq!(baseline.level().name, best, "{}", dump.model);
        }
    }
}

#[test]
fn every_pair_of_models_has_a_level_that_both_serve() {
    let hosts = hosts();
    for (a, from) in hosts.iter().enumerate() {
        for (b, to) in hosts.iter().enumerate() {
            let pool = Baseline::meet([from, to]).unwrap();
            let guest = GuestPolicy::render_baseline(&pool, SHAPE, from).unwrap();
            assert_eq!(guest.fits(to), Ok(()), "{} to {}", DUMPS[a].model, DUMPS[b].model);
            assert_eq!(guest.table(), GuestPolicy::render_baseline(&pool, SHAPE, to).unwrap().table());
        }
    }
}

/// Any host: a model with some bits flipped.
fn any_host() -> impl Strategy<Value = HostPolicy> {
    let flips = prop::collection::vec((0usize..8, 0u32..32), 0..12);
    (0..DUMPS.len(), flips, 36u8..46, any::<u64>()).prop_map(|(model, flips, phys_bits, arch)| {
        let mut dump = Dump { phys_bits, arch_capabilities: arch, ..DUMPS[model] };
        for (word, bit) in flips {
            let word = match word {
                0 | 1 => &mut dump.leaf1[1 + word],
                2 => &mut dump.leaf_d1,
                3 => &mut dump.ext1[0],
                4 => &mut dump.controls2,
                at => &mut dump.leaf7[at - 5],
            };
            *word ^= 1 << bit;
        }
        // Every 64-bit CPU has MSRs.
        dump.leaf1[2] |= 1 << 5;
        dump.policy()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_meet_is_commutative_associative_idempotent(a in any_host(), b in any_host(), c in any_host()) {
        let [a, b, c] = [&a, &b, &c].map(Baseline::of);
        prop_assert_eq!(a.and(&b), b.and(&a));
        prop_assert_eq!(a.and(&b).and(&c), a.and(&b.and(&c)));
        prop_assert_eq!(a.and(&a), a.clone());
        prop_assert_eq!(a.and(&b).fingerprint(), b.and(&a).fingerprint());
        prop_assert_eq!(a == b, a.fingerprint() == b.fingerprint());
    }

    #[test]
    fn the_meet_is_closed_and_within_each(hosts in prop::collection::vec(any_host(), 1..5)) {
        let pool = Baseline::meet(&hosts).unwrap();
        for set in [pool.features(), pool.guest_features()] {
            prop_assert_eq!(set.closure(), set);
        }
        for host in &hosts {
            let gains = |set: FeatureSet| set.of_polarity(Polarity::Capability);
            prop_assert!(gains(pool.features()).is_subset(host.features));
            prop_assert!(gains(pool.guest_features()).is_subset(host.default()));
            prop_assert!(host.restrictions().is_subset(pool.guest_features()));
            let guest = GuestPolicy::render_baseline(&pool, SHAPE, host).unwrap();
            prop_assert_eq!(guest.fits(host), Ok(()));
            prop_assert_eq!(GuestPolicy::decode(&guest.encode()), Ok(guest));
        }
        let costs = Baseline::costs(&hosts.iter().collect::<Vec<_>>());
        prop_assert_eq!(costs.len(), hosts.len());
        prop_assert!(costs.iter().all(|cost| cost.removes.intersection(pool.guest_features()).is_empty()));
    }

    #[test]
    fn one_more_host_never_adds_a_gain(a in any_host(), b in any_host()) {
        let (one, two) = (Baseline::of(&a), Baseline::meet([&a, &b]).unwrap());
        let gains = |pool: &Baseline| pool.guest_features().of_polarity(Polarity::Capability);
        prop_assert!(gains(&two).is_subset(gains(&one)));
        prop_assert!(two.phys_bits() <= one.phys_bits());
    }
}
