//! What a rendered guest sees, read back with another library and by the rules that Linux holds it to.

mod common;

use common::*;
use cpu_policy::{Dynamic, Feature, FeatureSet, GuestPolicy, HostPolicy, Kind, LEVELS, Polarity, Shape};
use proptest::prelude::*;
use raw_cpuid::{CpuId, CpuIdResult};
use vm_types::Topology;

const CR4_OSXSAVE: u64 = 1 << 18;
/// CPUID.1:ECX; without it the secondary controls cannot be read.
const VMX: u32 = 1 << 5;

fn state(xcr0: u64) -> Dynamic {
    Dynamic { apic_id: 0, cr4: CR4_OSXSAVE, xcr0 }
}

fn ask(policy: &GuestPolicy, leaf: u32, subleaf: u32) -> [u32; 4] {
    policy.cpuid(leaf, subleaf, || {
        let xcr0 = policy.xcr0_allowed();
        Dynamic { cr4: CR4_OSXSAVE & policy.cr4_allowed(), ..state(xcr0) }
    })
}

fn shape(vcpus: u32) -> Shape {
    Shape { topology: Topology::flat(vcpus), ..SHAPE }
}

#[test]
fn another_reader_agrees() {
    for level in LEVELS {
        let policy = GuestPolicy::render(level, shape(4), &big_host()).unwrap();
        let reader = |leaf: u32, subleaf: u32| {
            let [eax, ebx, ecx, edx] = ask(&policy, leaf, subleaf);
            CpuIdResult { eax, ebx, ecx, edx }
        };
        let id = CpuId::with_cpuid_reader(reader);
        assert_eq!(id.get_vendor_info().unwrap().as_str(), "GenuineIntel");
        let info = id.get_feature_info().unwrap();
        assert_eq!(info.family_id(), if level.name == "diamondrapids" { 19 } else { 6 });
        assert_eq!(info.max_logical_processor_ids(), 4);
        assert!(info.has_hypervisor() && info.has_htt() && info.has_x2apic() && info.has_mce());
        assert!(!info.has_vmx() && !info.has_monitor_mwait() && !info.has_ds() && !info.has_smx());
        assert_eq!(info.has_avx(), policy.has(Feature::Avx));
        assert_eq!(info.has_pcid(), policy.has(Feature::Pcid));
        assert_eq!(info.has_tsc_deadline(), policy.has(Feature::TscDeadline));
        assert_eq!(info.has_oxsave(), policy.has(Feature::Xsave));
        let ext = id.get_extended_feature_info().unwrap();
        assert_eq!((ext.has_hle(), ext.has_rtm()), (policy.has(Feature::Hle), level.has_tsx()));
        assert!(!ext.has_mpx() && !ext.has_sgx());
        assert!(ext.has_fpu_cs_ds_deprecated());
        assert_eq!(ext.has_avx2(), policy.has(Feature::Avx2));
        assert_eq!(ext.has_avx512f(), policy.has(Feature::Avx512f));
        let brand = id.get_processor_brand_string().unwrap();
        assert_eq!(brand.as_str().trim_end_matches('\0'), level.brand());
        let sizes = id.get_processor_capacity_feature_info().unwrap();
        assert_eq!((sizes.physical_address_bits(), sizes.linear_address_bits()), (level.phys_bits, 48));
        let power = id.get_advanced_power_mgmt_info().unwrap();
        assert_eq!(power.has_invariant_tsc(), policy.has(Feature::InvariantTsc));
        assert!(id.get_thermal_power_info().unwrap().has_arat());
        let hypervisor = id.get_hypervisor_info().unwrap();
        assert_eq!(hypervisor.tsc_frequency(), Some(20_000));
        assert_eq!(hypervisor.apic_frequency(), Some(100_000));
        let caches: Vec<_> = id.get_cache_parameters().unwrap().collect();
        assert_eq!(caches.len(), level.caches.len());
        let last = caches.iter().map(|cache| cache.level()).max();
        for cache in caches {
            assert_eq!(cache.coherency_line_size(), 64);
            assert_eq!(cache.max_cores_for_package(), 4);
            assert_eq!(cache.max_cores_for_cache(), if Some(cache.level()) == last { 4 } else { 1 });
        }
        assert_eq!(id.get_extended_state_info().is_some(), policy.has(Feature::Xsave));
        if let Some(xsave) = id.get_extended_state_info() {
            assert_eq!(xsave.xsave_area_size_enabled_features(), policy.xsave_size(policy.xcr0_allowed()));
            assert_eq!(xsave.xsave_area_size_enabled_features(), xsave.xsave_area_size_supported_features());
            assert_eq!(xsave.has_xsaves_xrstors(), policy.has_xsaves());
        }
    }
}

/// Linux' xstate_calculate_size and its neighbours: the sizes follow from the sub-leaves.
#[test]
fn xsave_sizes_follow_from_the_sub_leaves() {
    let cases: &[(&str, u64, u32, Option<u32>)] = &[
        ("sandybridge", 1, 576, None),
        ("sandybridge", 3, 576, None),
        ("sandybridge", 7, 832, None),
        ("haswell", 7, 832, None),
        ("skylake-server", 3, 576, Some(576)),
        ("skylake-server", 7, 832, Some(832)),
        ("skylake-server", 0xe7, 2688, Some(2432)),
        ("cascadelake", 0x2e7, 2696, Some(2440)),
        ("cascadelake", 0x207, 2696, Some(840)),
        ("graniterapids", 0x2e7, 2696, Some(2440)),
    ];
    for (name, xcr0, standard, compacted) in cases {
        let policy = render(name);
        let cpuid = |subleaf| policy.cpuid(0xd, subleaf, || state(*xcr0));
        let (mut size, mut packed) = (576, 576u32);
        for bit in (2..63).filter(|bit| xcr0 & 1 << bit != 0) {
            let [bytes, offset, flags, _] = cpuid(bit);
            assert_ne!(bytes, 0);
            size = size.max(offset + bytes);
            packed = if flags & 2 != 0 { packed.next_multiple_of(64) } else { packed } + bytes;
        }
        assert_eq!((cpuid(0)[1], size), (*standard, *standard), "{name} {xcr0:#x}");
        assert_eq!(cpuid(1)[1], compacted.unwrap_or(0), "{name} {xcr0:#x}");
        assert!(compacted.is_none_or(|bytes| bytes == packed));
        assert_eq!(policy.xsave_size(*xcr0), *standard);
        assert!(policy.xcr0_valid(*xcr0));
    }
    assert_eq!(ask(&render("nehalem"), 0xd, 0), [0; 4]);
    assert_eq!(render("nehalem").xcr0_allowed(), 0);
    // What the area of any level needs at most.
    assert_eq!(ask(&render("skylake-server"), 0xd, 0), [0xe7, 2688, 2688, 0]);
}

#[test]
fn xcr0_is_limited_to_the_level() {
    let haswell = render("haswell");
    assert_eq!(haswell.xcr0_allowed(), 7);
    let legal: Vec<u64> = (0..1024).filter(|value| haswell.xcr0_valid(*value)).collect();
    assert_eq!(legal, [1, 3, 7]);
    let skylake = render("skylake-server");
    let legal: Vec<u64> = (0..1024).filter(|value| skylake.xcr0_valid(*value)).collect();
    assert_eq!(legal, [1, 3, 7, 0xe7]);
    assert!(!render("nehalem").xcr0_valid(1));
}

#[test]
fn control_registers_are_limited_to_the_level() {
    assert_eq!(render("nehalem").cr4_allowed(), 0x7ff);
    assert_eq!(render("westmere").cr4_allowed(), 0x2_07ff);
    assert_eq!(render("sandybridge").cr4_allowed(), 0x6_07ff);
    assert_eq!(render("haswell").cr4_allowed(), 0x17_07ff);
    assert_eq!(render("skylake-server").cr4_allowed(), 0x37_07ff);
    assert_eq!(render("merom").cr4_allowed(), 0x7ff);
    assert_eq!(render("cascadelake").cr4_allowed(), 0x77_07ff);
    assert_eq!(render("icelake-server").cr4_allowed(), 0x77_0fff);
    assert_eq!(render("graniterapids").cr4_allowed(), 0x77_0fff);
    for level in LEVELS {
        assert_eq!(render(level.name).efer_allowed(), 0xd01);
    }
}

/// Of Linux' cpuid_deps and cpuid_dependent_features: a feature whose base is missing is cleared with a warning.
#[test]
fn linux_clears_nothing() {
    let deps = [
        ("fxsr", "fpu"),
        ("xsave", "fxsr"),
        ("xsaveopt", "xsave"),
        ("xsavec", "xsave"),
        ("xsaves", "xsave"),
        ("xsaves", "xsavec"),
        ("avx", "xsave"),
        ("pku", "xsave"),
        ("xgetbv1", "xsave"),
        ("cx8", "fpu"),
        ("cmov", "fxsr"),
        ("mmx", "fxsr"),
        ("sse", "fxsr"),
        ("sse2", "sse"),
        ("pni", "sse2"),
        ("ssse3", "pni"),
        ("sse4_1", "ssse3"),
        ("sse4_2", "sse4_1"),
        ("f16c", "sse2"),
        ("aes", "sse2"),
        ("sha_ni", "sse2"),
        ("gfni", "sse2"),
        ("pclmulqdq", "sse2"),
        ("fma", "avx"),
        ("vaes", "avx"),
        ("vpclmulqdq", "avx"),
        ("avx2", "avx"),
        ("avx_vnni", "avx2"),
        ("avx512f", "avx2"),
        ("avx512ifma", "avx512f"),
        ("avx512vl", "avx512f"),
        ("avx512cd", "avx512f"),
        ("avx512bw", "avx512f"),
        ("avx512dq", "avx512f"),
        ("avx512vbmi", "avx512f"),
        ("avx512_vbmi2", "avx512vl"),
        ("avx512_vnni", "avx512vl"),
        ("avx512_bitalg", "avx512vl"),
        ("avx512_vpopcntdq", "avx512f"),
        ("avx512_bf16", "avx512vl"),
        ("avx512_fp16", "avx512bw"),
        ("tsxldtrk", "rtm"),
        ("arch_capabilities", "msr"),
        ("ssbd", "ibrs"),
        ("stibp", "ibrs"),
        ("ibrs_enhanced", "ibrs"),
        ("rdpid", "rdtscp"),
    ];
    for level in LEVELS {
        let policy = render(level.name);
        let has = |name| policy.has(Feature::by_name(name).unwrap_or_else(|| panic!("{name}")));
        for (feature, base) in deps {
            assert!(!has(feature) || has(base), "{}: {feature} without {base}", level.name);
        }
        let max = ask(&policy, 0, 0)[0];
        assert!(!has("xsave") || max >= 0xd);
        // X86_FEATURE_DCA, MWAIT and x2APIC depend on leaves 9, 5 and B; it needs the last only for ids above 255.
        assert!(!has("monitor") && !has("dca"));
        assert!(policy.table().rows().iter().all(|row| row.leaf >> 30 != 0 || row.leaf <= max));
        // Fast strings are on, or Linux drops ERMS; execute-disable is not.
        let cpu_policy::MsrRead::Value(misc) = policy.read_msr(0x1a0) else { panic!() };
        assert_eq!(misc & (1 | 1 << 34), 1);
    }
}

/// Linux checks each sub-leaf of leaf D against its own idea of the state, and the whole against their sum
/// (XSTATE_WARN_ON).
#[test]
fn every_component_is_as_linux_knows_it() {
    let known = [(2, 256), (5, 64), (6, 512), (7, 1024), (9, 8), (17, 64), (18, 8192)];
    for level in LEVELS {
        let policy = render(level.name);
        let xcr0 = policy.xcr0_allowed();
        if xcr0 == 0 {
            assert!(policy.table().rows().iter().all(|row| row.leaf != 0xd), "{}", level.name);
            continue;
        }
        let [low, enabled, max, high] = ask(&policy, 0xd, 0);
        assert_eq!(u64::from(low) | u64::from(high) << 32, xcr0);
        let [_, compacted, xss_low, xss_high] = ask(&policy, 0xd, 1);
        assert_eq!((xss_low, xss_high), (0, 0), "no supervisor state");
        let (mut end, mut packed) = (576, 576u32);
        for bit in 2..64 {
            let [bytes, offset, flags, edx] = ask(&policy, 0xd, bit);
            if xcr0 >> bit & 1 == 0 {
                assert_eq!([bytes, offset, flags, edx], [0; 4], "{} {bit}", level.name);
                continue;
            }
            let size = known.iter().find(|(known, _)| *known == bit).map(|(_, size)| *size);
            assert_eq!((Some(bytes), flags & !2, edx), (size, 0, 0), "{} {bit}", level.name);
            assert!(offset >= end, "{} {bit} overlaps", level.name);
            end = offset + bytes;
            packed = if flags & 2 == 0 { packed } else { packed.next_multiple_of(64) } + bytes;
        }
        assert_eq!((enabled, max), (end, end), "{}", level.name);
        assert!(end <= 4096, "{} needs more than the hypervisor keeps", level.name);
        assert_eq!(compacted, if policy.has(Feature::Xsavec) { packed } else { 0 }, "{}", level.name);
    }
}

#[test]
fn tables_are_within_bounds() {
    for level in LEVELS {
        for vcpus in [1, 64] {
            let rows = GuestPolicy::render(level, shape(vcpus), &big_host()).unwrap().table().rows().len();
            assert!(rows < cpu_policy::MAX_ROWS / 2, "{}: {rows}", level.name);
        }
    }
}

#[test]
fn topology_is_one_package() {
    for vcpus in [1, 2, 3, 4, 5, 64] {
        let policy = GuestPolicy::render(level("haswell"), shape(vcpus), &big_host()).unwrap();
        let at =
            |leaf, subleaf, apic_id| policy.cpuid(leaf, subleaf, || Dynamic { apic_id, cr4: 0, xcr0: 1 });
        let width = at(0xb, 1, 0)[0];
        assert!(1 << width >= vcpus && (vcpus == 1 || 1 << (width - 1) < vcpus));
        for id in 0..vcpus {
            assert_eq!(at(1, 0, id)[1] >> 24, id);
            assert_eq!(at(1, 7, id), at(1, 0, id), "leaf 1 has no sub-leaves");
            assert_eq!(at(0xb, 0, id), [0, 1, 0x100, id]);
            assert_eq!(at(0xb, 1, id), [width, vcpus, 0x201, id]);
            assert_eq!(at(0xb, 5, id), [0, 0, 5, id]);
            assert_eq!(id >> width, 0, "one package");
        }
        let later = GuestPolicy::render(level("sapphirerapids"), shape(vcpus), &big_host()).unwrap();
        let state = || Dynamic { apic_id: vcpus - 1, cr4: 0, xcr0: 1 };
        for subleaf in [0, 1, 2, 300] {
            assert_eq!(later.cpuid(0x1f, subleaf, state), later.cpuid(0xb, subleaf, state));
            assert_eq!(later.cpuid(0xb, subleaf, state), at(0xb, subleaf, vcpus - 1));
        }
        assert_eq!(at(1, 0, 0)[3] >> 28 & 1, u32::from(vcpus > 1));
        assert_eq!(at(4, 0, 0)[0] >> 26, (1 << width) - 1);
    }
}

#[test]
fn dynamic_bits_follow_the_guest() {
    let policy = render("haswell");
    let ecx = |cr4| policy.cpuid(1, 0, || Dynamic { apic_id: 0, cr4, xcr0: 1 })[2];
    assert_eq!(ecx(CR4_OSXSAVE) ^ ecx(0), 1 << 27);
    assert_eq!(ecx(0) & 1 << 27, 0);
    // A leaf that depends on nothing does not ask.
    let never = || -> Dynamic { panic!("asked") };
    assert_eq!(policy.cpuid(0, 0, never)[0], 0xd);
    assert_eq!(policy.cpuid(0x8000_0008, 0, never)[0], 0x3028);
}

#[test]
fn what_is_not_in_the_table_is_zero() {
    let policy = render("haswell");
    let zero = [3, 5, 8, 9, 0xa, 0xe, 0x14, 0x15, 0x16, 0x1f, 0x20, 0x80, 0x3fff_ffff];
    let far =
        [0x4000_0001, 0x4000_0011, 0x4000_0020, 0x8000_0005, 0x8000_0009, 0x8000_0020, 0xc000_0000, u32::MAX];
    for leaf in zero.iter().chain(&far) {
        assert_eq!(ask(&policy, *leaf, 0), [0; 4], "{leaf:#x}");
    }
    for (leaf, subleaf) in [(4, 4), (7, 1), (7, u32::MAX), (0xd, 3), (0xd, 63), (0xd, 64)] {
        assert_eq!(ask(&policy, leaf, subleaf), [0; 4], "{leaf:#x}.{subleaf}");
    }
    assert_eq!(ask(&policy, 0x4000_0000, 0), [0x4000_0010, 0x7865_6c46, 0x6f73_6976, 0x5856_4672]);
}

#[test]
fn odd_shapes_are_refused() {
    for (wrong, text) in [
        (shape(0), "0 vCPUs"),
        (shape(65), "65 vCPUs"),
        (Shape { tsc_hz: 0, ..SHAPE }, "TSC rate 0.000000 MHz"),
        (Shape { apic_hz: 0, ..SHAPE }, "APIC timer rate 0.000000 MHz"),
        (Shape { phys_bits: Some(64), ..SHAPE }, "physical address width 64"),
    ] {
        let error = GuestPolicy::render(level("haswell"), wrong, &big_host()).unwrap_err();
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

fn features() -> impl Strategy<Value = FeatureSet> {
    let all = cpu_policy::FEATURES;
    prop::collection::vec(any::<bool>(), all.len())
        .prop_map(|bits| FeatureSet::matching(|feature| bits[feature as usize]))
}

fn dumps() -> impl Strategy<Value = Dump> {
    let bits =
        (any::<[u32; 2]>(), any::<[u32; 3]>(), any::<u32>(), any::<[u32; 2]>(), any::<u64>(), any::<bool>());
    (prop::sample::select(DUMPS), bits, 0u32..0x20, 36u8..53).prop_map(|(dump, bits, max_leaf, phys_bits)| {
        let (leaf1, leaf7, xcr0, ext1, arch, whole) = bits;
        let [ecx, edx] = leaf1;
        Dump {
            max_leaf,
            leaf1: [dump.leaf1[0], dump.leaf1[1] & if whole { u32::MAX } else { ecx }, dump.leaf1[2] | edx],
            leaf7,
            xcr0: dump.xcr0 & xcr0,
            ext1: [dump.ext1[0] & ext1[0], dump.ext1[1] & ext1[1]],
            arch_capabilities: arch,
            phys_bits,
            ..dump
        }
    })
}

proptest! {
    #[test]
    fn closing_is_idempotent_monotone_and_closed(a in features(), b in features()) {
        let closed = a.closure();
        prop_assert_eq!(closed.closure(), closed);
        prop_assert!(closed.is_subset(a));
        prop_assert!(a.intersection(b).closure().is_subset(closed));
        for feature in closed.of_polarity(Polarity::Capability).iter() {
            prop_assert!(feature.info().needs.iter().all(|need| closed.contains(*need)), "{}", feature);
        }
    }

    #[test]
    fn the_meet_is_one(a in features(), b in features(), c in features()) {
        let [a, b, c] = [a.closure(), b.closure(), c.closure()];
        prop_assert_eq!(a.meet(a), a);
        prop_assert_eq!(a.meet(b), b.meet(a));
        prop_assert_eq!(a.meet(b).meet(c), a.meet(b.meet(c)));
    }

    #[test]
    fn any_host_has_a_closed_policy(dump in dumps()) {
        let host = dump.policy();
        prop_assert_eq!(host.features.closure(), host.features);
        prop_assert!(host.xcr0 == 0 || cpu_policy::xcr0_legal(host.xcr0));
        for level in host.levels() {
            let guest = GuestPolicy::render(level, SHAPE, &host);
            prop_assert!(guest.is_ok_and(|guest| guest.fits(&host).is_ok()));
        }
    }

    #[test]
    fn a_host_with_less_gives_no_more(dump in dumps(), mask in any::<[u32; 3]>()) {
        let less = Dump {
            leaf1: [dump.leaf1[0], dump.leaf1[1] & (mask[0] | VMX), dump.leaf1[2] & mask[1]],
            leaf7: [dump.leaf7[0] & mask[2], dump.leaf7[1], dump.leaf7[2]],
            ..dump
        };
        let gains = |dump: &Dump| dump.policy().features.of_polarity(Polarity::Capability);
        prop_assert!(gains(&less).is_subset(gains(&dump)));
    }

    /// A guest's table read as a host's gives that guest again: masking twice is masking once.
    #[test]
    fn masking_is_idempotent(index in 0..LEVELS.len(), vcpus in 1u32..=64) {
        let guest = GuestPolicy::render(LEVELS[index], shape(vcpus), &big_host()).unwrap();
        let host = HostPolicy::from_reader(
            |leaf, subleaf| ask(&guest, leaf, subleaf),
            |index| match guest.read_msr(index) {
                cpu_policy::MsrRead::Value(value) => Some(value),
                _ => None,
            },
        );
        let native = FeatureSet::of_kind(Kind::Native);
        prop_assert_eq!(host.features.intersection(native), guest.features().intersection(native));
        prop_assert_eq!(host.restrictions(), guest.features().of_polarity(Polarity::Restriction));
        prop_assert_eq!(host.xcr0, guest.xcr0_allowed());
        prop_assert_eq!(guest.fits(&host), Ok(()));
        // TSX is for those who ask for it.
        prop_assert_eq!(host.best_level(), Some(level(LEVELS[index].name.trim_end_matches("-tsx"))));
        prop_assert!(host.levels().any(|level| level == LEVELS[index]));
    }

    /// Linux computes kHz in 32 bits from leaf 15.
    #[test]
    fn linux_finds_the_tsc_rate(khz in 1_000u64..4_000_000, odd in 0u64..1000, apic_mhz in 1u32..=1000) {
        let rate = Shape { tsc_hz: khz * 1000 + odd, apic_hz: apic_mhz * 1_000_000, ..SHAPE };
        let policy = GuestPolicy::render(level("skylake-server"), rate, &big_host()).unwrap();
        let [den, num, hz, _] = ask(&policy, 0x15, 0);
        prop_assert_eq!(hz, rate.apic_hz);
        let product = (hz / 1000).checked_mul(num);
        prop_assert!(product.is_some() && den != 0);
        let found = u64::from(product.unwrap() / den);
        // The numerator's limit bounds the error: 23 ppm at our 100 MHz, where a migration bears 250.
        let limit = u64::from(u32::MAX / (hz / 1000));
        prop_assert!(found.abs_diff(khz) <= 2 + khz / limit, "{} for {}", found, khz);
    }
}
