//! Which host gives which level, and what is said where it does not.

mod common;

use common::*;
use cpu_policy::{Feature, FeatureSet, GuestPolicy, Kind, Obstacle, Polarity, RenderError, Shape};

#[test]
fn each_host_gives_the_levels_of_its_generation() {
    let early =
        ["merom", "penryn", "nehalem", "westmere", "sandybridge", "ivybridge", "haswell", "broadwell"];
    let from_skylake = ["skylake-server", "cascadelake", "cooperlake", "icelake-server"];
    let icelake: Vec<_> =
        early.iter().chain(&from_skylake).filter(|name| **name != "cooperlake").copied().collect();
    let skylake = [&early[..], &from_skylake[..1]].concat();
    let sapphire = [&early[..], &from_skylake, &["sapphirerapids"]].concat();
    let granite: Vec<_> =
        generations().filter(|level| !level.adds.contains(&Feature::Hle)).map(|l| l.name).collect();
    let cases: &[(Dump, &[&str])] = &[
        // It has no EPT either, so that it can give them to nobody yet.
        (PENRYN, &early[..2]),
        (LYNNFIELD, &early[..3]),
        // The emulated Arrandale has no PCID, which Westmere-EP has.
        (ARRANDALE, &early[..3]),
        (SANDY_BRIDGE, &early[..5]),
        (IVY_BRIDGE, &early[..6]),
        (HASWELL, &early[..7]),
        (BROADWELL, &early),
        (SKYLAKE_X, &skylake),
        // No CLWB.
        (CANNON_LAKE, &early),
        (ICE_LAKE, &early),
        (TIGER_LAKE, &skylake),
        // No AVX512_BF16.
        (XEON_ICE_LAKE, &icelake),
        (XEON_SAPPHIRE_RAPIDS, &sapphire),
        (XEON_GRANITE_RAPIDS, &granite),
    ];
    for (dump, expected) in cases {
        let host = dump.policy();
        let given: Vec<_> =
            generations().filter(|level| level.fits(&host).is_ok()).map(|level| level.name).collect();
        assert_eq!(given, *expected, "{}", dump.model);
        // Some have what microcode brings.
        let best = host.best_level().map(|level| level.name.trim_end_matches("-ibrs"));
        assert_eq!(best, expected.last().copied());
        for level in generations() {
            let rendered = GuestPolicy::render(level, SHAPE, &host);
            assert_eq!(rendered.is_ok(), expected.contains(&level.name), "{} on {}", level.name, dump.model);
        }
    }
}

#[test]
fn a_refusal_names_bits_and_cure() {
    let error = GuestPolicy::render(level("haswell"), SHAPE, &SANDY_BRIDGE.policy()).unwrap_err();
    let RenderError::Refused { misfit, .. } = &error else { panic!("{error}") };
    let missing: Vec<_> = misfit.missing().collect();
    use Feature::*;
    // ERMS only says that what every CPU can do is fast.
    let expected = [Fma, Movbe, F16c, Rdrand, Fsgsbase, Bmi1, Avx2, Smep, Bmi2, Invpcid, Lzcnt, Page1gb];
    assert_eq!(FeatureSet::of(&missing), FeatureSet::of(&expected));
    let text = error.to_string();
    assert!(text.starts_with("level haswell: CPUID.1:ECX[12] FMA, CPUID.1:ECX[22] MOVBE, "), "{text}");
    assert!(text.contains(", CPUID.7.0:EBX[5] AVX2, "), "{text}");
    assert!(text.contains(", CPUID.80000001:ECX[5] LZCNT, "), "{text}");
    assert!(text.ends_with(" PDPE1GB missing; start the VM at level sandybridge"), "{text}");
}

#[test]
fn the_longest_refusal_fits_a_kibibyte() {
    let misfit = render("skylake-server").fits(&Dump { phys_bits: 36, ..LYNNFIELD }.policy()).unwrap_err();
    assert!(misfit.obstacles.len() > 30 && misfit.to_string().len() < 1024, "{misfit}");
    let one = render("sandybridge").fits(&Dump { leaf_d1: 0, ..SANDY_BRIDGE }.policy()).unwrap_err();
    assert_eq!(one.to_string(), "CPUID.D.1:EAX[0] XSAVEOPT missing; start the VM at level westmere");
}

#[test]
fn avx512_needs_its_state() {
    let host = Dump { xcr0: 7, ..SKYLAKE_X }.policy();
    assert!(!host.features.contains(Feature::Avx512f) && !host.features.contains(Feature::Avx512bw));
    assert!(host.features.contains(Feature::Avx2));
    let misfit = render("skylake-server").fits(&host).unwrap_err();
    for bit in 5..8 {
        assert!(misfit.obstacles.contains(&Obstacle::Xsave(bit)));
    }
    assert!(misfit.to_string().contains("CPUID.D.0:EAX[7] Hi16_ZMM state missing; "), "{misfit}");
    assert_eq!(misfit.cure.map(|level| level.name), Some("broadwell"));
    // One AVX-512 component alone is none.
    assert_eq!(Dump { xcr0: 0x27, ..SKYLAKE_X }.policy().xcr0, 7);
}

#[test]
fn an_empty_sub_leaf_costs_the_component() {
    assert!(!ICE_LAKE.policy().features.contains(Feature::Pku));
    let real = Dump { no_pkru_leaf: false, ..ICE_LAKE }.policy();
    assert!(real.features.contains(Feature::Pku));
    assert_eq!(real.xcr0, 0x2e7);
}

#[test]
fn secondary_controls_gate_instructions() {
    let host = Dump { controls2: 0, ..SKYLAKE_X }.policy();
    for feature in [Feature::Rdtscp, Feature::Invpcid, Feature::Xsaves] {
        assert!(host.raw.contains(feature) && !host.features.contains(feature), "{feature}");
    }
    assert!(host.features.contains(Feature::Xsavec));
    let misfit = render("nehalem").fits(&host).unwrap_err();
    assert_eq!(misfit.missing().collect::<Vec<_>>(), [Feature::Rdtscp]);
    // It asks for no control, and for more than penryn does.
    assert_eq!(misfit.cure.map(|level| level.name), Some("x86-64-v2"));
}

#[test]
fn each_host_gives_the_user_space_that_it_carries() {
    let names = ["x86-64-v1", "x86-64-v2", "x86-64-v2-aes", "x86-64-v3", "x86-64-v4"];
    for (dump, count) in [
        (PENRYN, 1),
        (LYNNFIELD, 2),
        // PCID, which keeps westmere from it, is nothing to a program.
        (ARRANDALE, 3),
        (IVY_BRIDGE, 3),
        (HASWELL, 4),
        (BROADWELL, 4),
        // CLWB, which keeps skylake-server from them, likewise.
        (CANNON_LAKE, 5),
        (ICE_LAKE, 5),
        (SKYLAKE_X, 5),
        (XEON_GRANITE_RAPIDS, 5),
    ] {
        let host = dump.policy();
        let given: Vec<_> =
            host.levels().filter(|level| level.is_user_space()).map(|level| level.name).collect();
        assert_eq!(given, names[..count], "{}", dump.model);
        // It is no host's best: the generation tells its guest more.
        assert!(!host.best_level().unwrap().is_user_space(), "{}", dump.model);
    }
    let no_aes =
        Dump { leaf1: [HASWELL.leaf1[0], HASWELL.leaf1[1] & !(1 << 25), HASWELL.leaf1[2]], ..HASWELL };
    let given: Vec<_> = no_aes.policy().levels().map(|level| level.name).collect();
    assert!(given.contains(&"x86-64-v3") && !given.contains(&"x86-64-v2-aes"), "{given:?}");
    assert!(!given.contains(&"westmere"));
}

#[test]
fn a_guest_of_one_name_is_told_of_the_next_lower_name() {
    let guest = GuestPolicy::render(level("x86-64-v3"), SHAPE, &SKYLAKE_X.policy()).unwrap();
    assert_eq!(guest.fits(&HASWELL.policy()), Ok(()));
    let misfit = guest.fits(&SANDY_BRIDGE.policy()).unwrap_err();
    assert_eq!(misfit.cure.map(|level| level.name), Some("x86-64-v2"));
    assert!(misfit.to_string().ends_with(" missing; start the VM at level x86-64-v2"), "{misfit}");
}

#[test]
fn losses_are_announced_or_refused() {
    // The levels announce what Skylake loses, so that a guest from Sandy Bridge may come.
    let guest = GuestPolicy::render(level("sandybridge"), SHAPE, &SANDY_BRIDGE.policy()).unwrap();
    assert_eq!(guest.fits(&SKYLAKE_X.policy()), Ok(()));
    // RSBA covers RRSBA.
    let host = Dump { arch_capabilities: 1 << 2 | 1 << 19, ..TIGER_LAKE }.policy();
    assert_eq!(host.restrictions().iter().count(), 4);
    assert_eq!(guest.fits(&host), Ok(()));
    // A guest that was not told is refused by name, and no level below cures a loss by itself.
    let mut rows = guest.table().rows().to_vec();
    let leaf7 = rows.iter_mut().find(|row| row.leaf == 7).unwrap();
    leaf7.regs[1] &= !(1 << 6);
    let untold = rewire(&guest, &rows);
    let misfit = untold.fits(&SKYLAKE_X.policy()).unwrap_err();
    assert_eq!(misfit.obstacles, [Obstacle::Restriction(Feature::FdpExcptnOnly)]);
    assert!(misfit.to_string().starts_with("CPUID.7.0:EBX[6] FDP_EXCPTN_ONLY set here"), "{misfit}");
    assert_eq!(untold.fits(&SANDY_BRIDGE.policy()), Ok(()));
}

/// The policy with other rows, by way of its bytes.
fn rewire(guest: &GuestPolicy, rows: &[cpu_policy::Row]) -> GuestPolicy {
    let old = minicbor::to_vec(guest.table().rows()).unwrap();
    let new = minicbor::to_vec(rows).unwrap();
    let bytes = guest.encode();
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let bytes = [&bytes[..at], &new, &bytes[at + old.len()..]].concat();
    GuestPolicy::decode(&bytes).unwrap()
}

#[test]
fn widths_and_vendor() {
    let narrow = Dump { phys_bits: 39, ..HASWELL }.policy();
    let misfit = render("haswell").fits(&narrow).unwrap_err();
    assert_eq!(misfit.obstacles, [Obstacle::PhysBits { guest: 40, host: 39 }]);
    assert_eq!(
        misfit.to_string(),
        "CPUID.80000008:EAX[7:0] physical address width 40, host 39; start the VM at level haswell with phys-bits=39"
    );
    // The width is the VM's: the least of level and host, or what was asked for, which must be there.
    let bits = |asked, host: &cpu_policy::HostPolicy| {
        GuestPolicy::render(level("haswell"), Shape { phys_bits: asked, ..SHAPE }, host)
            .map(|p| p.phys_bits())
    };
    assert_eq!((bits(None, &narrow), bits(None, &big_host())), (Ok(39), Ok(40)));
    assert_eq!((bits(Some(36), &narrow), bits(Some(52), &big_host())), (Ok(36), Ok(52)));
    assert!(bits(Some(40), &narrow).unwrap_err().to_string().contains("width 40, host 39"));
    let other = Dump { vendor: b"AuthenticAMD", ..SKYLAKE_X }.policy();
    let misfit = render("nehalem").fits(&other).unwrap_err();
    assert_eq!(misfit.obstacles, [Obstacle::Vendor(*b"AuthenticAMD")]);
    assert!(misfit.to_string().starts_with("CPU vendor AuthenticAMD; "), "{misfit}");
}

#[test]
fn the_move_the_demo_makes() {
    let [new, old] = [SKYLAKE_X.policy(), HASWELL.policy()];
    let guest = GuestPolicy::render(level("haswell"), SHAPE, &new).unwrap();
    assert_eq!(guest.fits(&old), Ok(()));
    assert!(!guest.has(Feature::Avx512f) && !guest.has(Feature::Rdseed));
    let back = GuestPolicy::decode(&guest.encode()).unwrap();
    assert_eq!(back.fits(&new), Ok(()));
    // The level that both can give is the meet's, not the older host's word for it.
    let meet = new.features.meet(old.features);
    assert!(level("haswell").features().of_polarity(Polarity::Capability).is_subset(meet));
}

#[test]
fn hidden_is_never_given_and_emulated_always_is() {
    for dump in DUMPS {
        let host = dump.policy();
        let hidden = FeatureSet::of_kind(Kind::Hidden).union(FeatureSet::of_kind(Kind::Derived));
        assert!(host.features.intersection(hidden).is_empty(), "{}", dump.model);
        assert!(FeatureSet::of_kind(Kind::Emulated).is_subset(host.features), "{}", dump.model);
    }
}
