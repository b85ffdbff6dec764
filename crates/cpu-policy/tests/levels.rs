//! The levels themselves: frozen, sound, true to silicon.

mod common;

use common::*;
use cpu_policy::{Feature, FeatureSet, GuestPolicy, Kind, LEVELS, Level, OLDER, Polarity, Reg};

/// Registers of each level: 1:ECX, 7.0:EBX, ECX, EDX, 7.1:EAX, EDX, 7.2:EDX, D.1:EAX, 80000001:ECX, EDX,
/// 80000008:EBX, IA32_ARCH_CAPABILITIES; signature, highest leaf, address widths; CPUID faulting. A released level never
/// changes: a failure here means that a new version is due.
#[rustfmt::skip]
const FROZEN: &[(&str, [u64; 16])] = &[
    ("x86-64-v1", [0x80200000, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x20100800, 0x0, 0x4, 0x6f6, 0xa, 0x3024, 0]),
    ("x86-64-v2", [0x80b82201, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x20100800, 0x0, 0x4, 0x106a5, 0xb, 0x3028, 0]),
    ("x86-64-v2-aes", [0x82b82201, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x20100800, 0x0, 0x4, 0x206c2, 0xb, 0x3028, 0]),
    ("x86-64-v3", [0xb4f83201, 0x2168, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x21, 0x20100800, 0x0, 0x4, 0x306f2, 0xd, 0x3028, 0]),
    ("x86-64-v4", [0xb4f83201, 0xd0032168, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x21, 0x20100800, 0x0, 0x4, 0x50654, 0x16, 0x3028, 0]),
    ("merom", [0x80202201, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x20100800, 0x0, 0x4, 0x6f6, 0xa, 0x3024, 0]),
    ("penryn", [0x80282201, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x20100800, 0x0, 0x4, 0x10676, 0xa, 0x3024, 0]),
    ("nehalem", [0x80b82201, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x28100800, 0x0, 0x4, 0x106a5, 0xb, 0x3028, 0]),
    ("westmere", [0x82ba2203, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x1, 0x28100800, 0x0, 0x4, 0x206c2, 0xb, 0x3028, 0]),
    ("sandybridge", [0x97ba2203, 0x2040, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x1, 0x28100800, 0x0, 0x4, 0x206d7, 0xd, 0x3028, 0]),
    ("ivybridge", [0xf7ba2203, 0x22c1, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x1, 0x28100800, 0x0, 0x4, 0x306e4, 0xd, 0x3028, 1]),
    ("haswell-tsx", [0xf7fa3203, 0x2ffb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x21, 0x2c100800, 0x0, 0x4, 0x306f2, 0xd, 0x3028, 1]),
    ("haswell", [0xf7fa3203, 0x27eb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x21, 0x2c100800, 0x0, 0x4, 0x306f2, 0xd, 0x3028, 1]),
    ("haswell-ibrs", [0xf7fa3203, 0x27eb, 0x0, 0xbc000400, 0x0, 0x0, 0x0, 0x1, 0x21, 0x2c100800, 0x0, 0x4, 0x306f2, 0xd, 0x3028, 1]),
    ("broadwell-tsx", [0xf7fa3203, 0x1c2ffb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x121, 0x2c100800, 0x0, 0x4, 0x406f1, 0xd, 0x3028, 1]),
    ("broadwell", [0xf7fa3203, 0x1c27eb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x121, 0x2c100800, 0x0, 0x4, 0x406f1, 0xd, 0x3028, 1]),
    ("broadwell-ibrs", [0xf7fa3203, 0x1c27eb, 0x0, 0xbc000400, 0x0, 0x0, 0x0, 0x1, 0x121, 0x2c100800, 0x0, 0x4, 0x406f1, 0xd, 0x3028, 1]),
    ("skylake-server-tsx", [0xf7fa3203, 0xd19f2ffb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x4, 0x50654, 0x16, 0x3028, 1]),
    ("skylake-server", [0xf7fa3203, 0xd19f27eb, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x4, 0x50654, 0x16, 0x3028, 1]),
    ("skylake-server-ibrs", [0xf7fa3203, 0xd19f27eb, 0x0, 0xbc000400, 0x0, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x4, 0x50654, 0x16, 0x3028, 1]),
    ("cascadelake-tsx", [0xf7fa3203, 0xd19f2ffb, 0x808, 0xbc000400, 0x0, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x2a06f, 0x50657, 0x16, 0x302e, 1]),
    ("cascadelake", [0xf7fa3203, 0xd19f27eb, 0x808, 0xbc000400, 0x0, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x2a06f, 0x50657, 0x16, 0x302e, 1]),
    ("cooperlake-tsx", [0xf7fa3203, 0xd19f2ffb, 0x808, 0xbc000400, 0x20, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x2a16f, 0x5065b, 0x16, 0x302e, 1]),
    ("cooperlake", [0xf7fa3203, 0xd19f27eb, 0x808, 0xbc000400, 0x20, 0x0, 0x0, 0xf, 0x121, 0x2c100800, 0x0, 0x2a16f, 0x5065b, 0x16, 0x302e, 1]),
    ("icelake-server-tsx", [0xf7fa3203, 0xf1bf2feb, 0x405f4e, 0xbc000410, 0x0, 0x0, 0x1, 0xf, 0x121, 0x2c100800, 0x200, 0x2a16f, 0x606a6, 0x1b, 0x302e, 1]),
    ("icelake-server", [0xf7fa3203, 0xf1bf27eb, 0x405f4e, 0xbc000410, 0x0, 0x0, 0x1, 0xf, 0x121, 0x2c100800, 0x200, 0x2a16f, 0x606a6, 0x1b, 0x302e, 1]),
    ("sapphirerapids-tsx", [0xf7fa3203, 0xf1bf2feb, 0x1a405f4e, 0xbc814410, 0x1c30, 0x0, 0x17, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0x806f8, 0x1f, 0x302e, 1]),
    ("sapphirerapids", [0xf7fa3203, 0xf1bf27eb, 0x1a405f4e, 0xbc804410, 0x1c30, 0x0, 0x17, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0x806f8, 0x1f, 0x302e, 1]),
    ("emeraldrapids-tsx", [0xf7fa3203, 0xf1bf2feb, 0x1a405f4e, 0xbc814410, 0x1c30, 0x0, 0x1f, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0xc06f2, 0x1f, 0x302e, 1]),
    ("emeraldrapids", [0xf7fa3203, 0xf1bf27eb, 0x1a405f4e, 0xbc804410, 0x1c30, 0x0, 0x1f, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0xc06f2, 0x1f, 0x302e, 1]),
    ("graniterapids-tsx", [0xf7fa3203, 0xf1bf2feb, 0x1a405f4e, 0xbc814410, 0x1c30, 0x4000, 0x3f, 0xf, 0x121, 0x2c100800, 0x200, 0x100e16f, 0xa06d1, 0x1f, 0x302e, 1]),
    ("graniterapids", [0xf7fa3203, 0xf1bf27eb, 0x1a405f4e, 0xbc804410, 0x1c30, 0x4000, 0x3f, 0xf, 0x121, 0x2c100800, 0x200, 0x100e16f, 0xa06d1, 0x1f, 0x302e, 1]),
    ("diamondrapids", [0xf7fa3203, 0xf1bf27eb, 0x1a405f4e, 0xbc804410, 0x80801cb0, 0x4030, 0x3f, 0xf, 0x121, 0x2c100800, 0x200, 0xd10e16f, 0x400f10, 0x1f, 0x302e, 1]),
    ("avoton", [0xc3f82203, 0x22c2, 0x0, 0x20000000, 0x0, 0x0, 0x0, 0x0, 0x101, 0x28100800, 0x0, 0x4, 0x406d8, 0xb, 0x3028, 0]),
    ("denverton", [0xc7f82203, 0x209422c3, 0x0, 0x2c000000, 0x0, 0x0, 0x0, 0xf, 0x101, 0x2c100800, 0x0, 0xa06d, 0x506f1, 0x15, 0x3028, 1]),
    ("snowridge", [0xc7f82203, 0x219422c3, 0x1a000104, 0xa4000000, 0x0, 0x0, 0x0, 0xf, 0x101, 0x2c100800, 0x0, 0x6d, 0x80665, 0x15, 0x3028, 1]),
    ("knightslanding", [0xf7f83203, 0x1c0d23eb, 0x1, 0x20000000, 0x0, 0x0, 0x0, 0x1, 0x121, 0x2c100800, 0x0, 0x4, 0x50671, 0xd, 0x3028, 1]),
    ("avx2-common", [0xf7fa3203, 0x219c27eb, 0x40070c, 0xa4000010, 0x0, 0x0, 0x1, 0xf, 0x121, 0x2c100800, 0x0, 0xa16f, 0x606a6, 0x1b, 0x302e, 1]),
    ("rocketlake", [0xf7fa3203, 0xf0bf27eb, 0x405f4e, 0xbc000410, 0x0, 0x0, 0x1, 0xf, 0x121, 0x2c100800, 0x0, 0x2016f, 0xa0671, 0x1b, 0x302e, 1]),
    ("raptorlake", [0xf7fa3203, 0x219c27eb, 0x1840070c, 0xbc004410, 0x1c10, 0x0, 0x1f, 0xf, 0x121, 0x2c100800, 0x0, 0xe16f, 0xb0671, 0x1f, 0x302e, 1]),
    ("sierraforest", [0xf7fa3203, 0x219c27eb, 0x1a40070c, 0xa4004010, 0x800890, 0x30, 0x37, 0xf, 0x121, 0x2c100800, 0x200, 0xd00e16f, 0xa06f3, 0x1f, 0x302e, 1]),
    ("clearwaterforest", [0xf7fa3203, 0x219c27eb, 0x1a40070c, 0xa4004010, 0x800897, 0x4430, 0x3f, 0xf, 0x121, 0x2c100800, 0x200, 0xd10e16f, 0xd06d0, 0x1f, 0x302e, 1]),
    ("emeraldrapids-tsx-v1", [0xf7fa3203, 0xf1bf2feb, 0x1a405f4e, 0xbc814410, 0x1c30, 0x0, 0x17, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0xc06f2, 0x1f, 0x302e, 1]),
    ("emeraldrapids-v1", [0xf7fa3203, 0xf1bf27eb, 0x1a405f4e, 0xbc804410, 0x1c30, 0x0, 0x17, 0xf, 0x121, 0x2c100800, 0x200, 0xe16f, 0xc06f2, 0x1f, 0x302e, 1]),
];

fn registers(level: &Level) -> [u64; 16] {
    let policy =
        GuestPolicy::render(Level::by_name(&format!("{level:?}")).unwrap(), SHAPE, &big_host()).unwrap();
    let reg = |leaf, subleaf, reg| u64::from(policy.table().reg(leaf, subleaf, reg));
    let constant = |index| match policy.read_msr(index) {
        cpu_policy::MsrRead::Value(value) => value,
        other => panic!("{index:#x}: {other:?}"),
    };
    let [arch, platform] = [0x10a, 0xce].map(constant);
    assert_eq!(reg(1, 0, Reg::Edx), 0x0f8b_fbff);
    assert_eq!(reg(0x8000_0007, 0, Reg::Edx) != 0, policy.has(Feature::InvariantTsc));
    [
        reg(1, 0, Reg::Ecx),
        reg(7, 0, Reg::Ebx),
        reg(7, 0, Reg::Ecx),
        reg(7, 0, Reg::Edx),
        reg(7, 1, Reg::Eax),
        reg(7, 1, Reg::Edx),
        reg(7, 2, Reg::Edx),
        reg(0xd, 1, Reg::Eax),
        reg(0x8000_0001, 0, Reg::Ecx),
        reg(0x8000_0001, 0, Reg::Edx),
        reg(0x8000_0008, 0, Reg::Ebx),
        arch,
        reg(1, 0, Reg::Eax),
        reg(0, 0, Reg::Eax),
        reg(0x8000_0008, 0, Reg::Eax),
        platform >> 31 & 1,
    ]
}

/// The name by which a level is found: with its version where there is a later one.
fn called(level: &Level) -> String {
    if OLDER.contains(&level) { format!("{level:?}") } else { level.name.into() }
}

#[test]
fn levels_are_frozen() {
    let all = || LEVELS.iter().chain(OLDER).copied();
    let known = |level: &Level| FROZEN.iter().any(|(name, _)| *name == called(level));
    let row = |level: &Level| {
        let words: Vec<_> = registers(level).iter().map(|word| format!("{word:#x}")).collect();
        format!("    (\"{}\", [{}]),", called(level), words.join(", "))
    };
    let new: Vec<_> = all().filter(|level| !known(level)).map(row).collect();
    assert!(new.is_empty(), "rows that are due:\n{}", new.join("\n"));
    assert!(
        FROZEN.iter().map(|(name, _)| *name).eq(all().map(called)),
        "the rows have the order of the levels"
    );
    for (level, (name, expected)) in all().zip(FROZEN) {
        let found = registers(level);
        assert_eq!(found, *expected, "{name}: {found:#x?}");
    }
}

#[test]
fn levels_are_sound() {
    let virtualised = FeatureSet::of_kind(Kind::Native)
        .union(FeatureSet::of_kind(Kind::Emulated))
        .union(FeatureSet::of_kind(Kind::Restriction));
    for level in LEVELS {
        let features = level.features();
        assert_eq!(features.closure(), features, "{} is not closed", level.name);
        assert!(features.is_subset(virtualised), "{} has what is not virtualised", level.name);
        assert!(features.intersection(level.hidden()).is_empty(), "{} hides what it has", level.name);
        assert!(level.brand().len() < 48 && level.name.len() <= 31);
        let below = level.base.map_or(FeatureSet::EMPTY, |base| base.features().union(base.hidden()));
        let [adds, drops] = [level.adds, level.drops].map(FeatureSet::of);
        assert!(drops.is_subset(below), "{} drops what nobody had", level.name);
        let new = adds.intersection(level.base.map_or(FeatureSet::EMPTY, Level::features));
        assert!(new.is_empty(), "{} adds {new:?} again", level.name);
        assert!(level.base.is_none_or(|base| base.max_leaf <= level.max_leaf));
        assert_eq!(
            level.provisional,
            ["snowridge", "sierraforest", "clearwaterforest", "diamondrapids"].contains(&level.name)
        );
        assert!(!level.provisional || level.rests_on().is_some());
        let losses = [Feature::FdpExcptnOnly, Feature::ZeroFcsFds, Feature::Rsba];
        assert_eq!(features.of_polarity(Polarity::Restriction), FeatureSet::of(&losses), "{}", level.name);
        let text = format!("{}-v{}", level.name, level.version);
        assert_eq!(Level::by_name(&text), Some(*level));
        assert_eq!(Level::by_name(level.name), Some(*level));
        if let Some(plain) = level.name.strip_suffix("-tsx") {
            let plain = Level::by_name(plain).unwrap();
            let more = features.difference(plain.features());
            assert!(level.has_tsx() && more.contains(Feature::Rtm) && plain.features().is_subset(features));
            assert!(more.iter().all(|f| [Feature::Rtm, Feature::Hle, Feature::Tsxldtrk].contains(&f)));
        } else {
            assert!(!features.contains(Feature::Rtm) && !features.contains(Feature::Hle));
        }
    }
    // A host more in a pool, and so fewer features, gives no VM a wider address.
    let tells = |level: &&Level| {
        level
            .features()
            .iter()
            .filter(|f| !f.name().contains("TSX") && !["HLE", "RTM"].contains(&f.name()))
            .count()
    };
    let mut sorted = LEVELS.to_vec();
    sorted.sort_by_key(tells);
    assert!(sorted.is_sorted_by_key(|level| level.phys_bits), "{sorted:?}");
    assert_eq!(Level::by_name("emeraldrapids"), Level::by_name("emeraldrapids-v2"));
    assert_eq!(Level::by_name("emeraldrapids-v1"), Some(OLDER[1]));
    assert!(OLDER.iter().all(|old| level(old.name).version > old.version));
    assert_eq!(Level::by_name("haswell-v9"), None);
    assert_eq!(Level::by_name(""), None);
    assert_eq!(generations().filter(|level| !level.has_tsx()).count(), 15);
}

/// As the psABI lists them, but for what CPUID does not tell: OSFXSR, OSXSAVE.
#[test]
fn levels_of_user_space_are_what_the_psabi_names() {
    use Feature::*;
    let named: [(&str, &str, &str, &[Feature]); 4] = [
        ("x86-64-v1", "", "merom", &[Cmov, Cx8, Fpu, Fxsr, Mmx, Syscall, Sse, Sse2]),
        ("x86-64-v2", "x86-64-v1", "nehalem", &[Cmpxchg16b, LahfSahf, Popcnt, Sse3, Sse41, Sse42, Ssse3]),
        ("x86-64-v3", "x86-64-v2", "haswell", &[Avx, Avx2, Bmi1, Bmi2, F16c, Fma, Lzcnt, Movbe, Xsave]),
        ("x86-64-v4", "x86-64-v3", "skylake-server", &[Avx512f, Avx512bw, Avx512cd, Avx512dq, Avx512vl]),
    ];
    for (name, below, within, adds) in named {
        let features = level(name).features();
        let base = Level::by_name(below).map_or(FeatureSet::EMPTY, Level::features);
        if below.is_empty() {
            assert!(FeatureSet::of(adds).is_subset(features));
        } else {
            assert_eq!(features.difference(base), FeatureSet::of(adds), "{name}");
        }
        assert_eq!(level(name).within().map(|level| level.name), Some(within));
        assert_eq!(level(name).user_space().to_string(), name);
        let generation = level(within);
        assert!(level(name).phys_bits <= generation.phys_bits && level(name).max_leaf <= generation.max_leaf);
        // No lower one has it all.
        let lower = LEVELS.iter().take_while(|level| **level != generation);
        assert!(
            lower
                .filter(|level| !level.is_user_space() && !level.has_tsx())
                .all(|level| { !features.is_subset(level.features()) })
        );
    }
    let aes = level("x86-64-v2-aes");
    assert_eq!(aes.features().difference(level("x86-64-v2").features()), FeatureSet::of(&[Aesni]));
    assert_eq!((aes.within(), aes.user_space().to_string()), (Some(level("westmere")), "x86-64-v2".into()));
    // Every 64-bit CPU has what the first of them asks for beyond the psABI, or the hypervisor gives it.
    let more = level("x86-64-v1").features().difference(FeatureSet::of(named[0].3));
    let real = [Vme, De, Pse, Tsc, Msr, Pae, Sep, Pge, Pat, Pse36, Clfsh, Ss, Nx, Lm];
    let given = FeatureSet::of_kind(Kind::Emulated).union(FeatureSet::of_kind(Kind::Restriction));
    assert_eq!(more.difference(given), FeatureSet::of(&real));
}

/// Registers of real CPUs as the dumps in `tests/real` have them; of a level what they have and it does not is hidden.
#[test]
fn brands_are_what_their_silicon_has() {
    use Feature::*;
    let given = FeatureSet::of_kind(Kind::Emulated).union(FeatureSet::of_kind(Kind::Restriction));
    // Microcode brought it, and firmware may turn it off; NEVER of the first level has what no guest is told.
    let optional =
        FeatureSet::of(&[MdClear, Vmx, IbrsIbpb, Stibp, MonitorMitgNo, Sgx, SgxLc, Htt, Osxsave, Ospke, Smx]);
    for (name, dump) in [
        ("avoton", "atom-c2750"),
        ("denverton", "atom-c3958"),
        ("knightslanding", "xeon-phi-7210"),
        ("rocketlake", "xeon-e-2356g"),
        ("raptorlake", "xeon-6315p"),
        ("emeraldrapids", "xeon-8570"),
    ] {
        let text =
            std::fs::read_to_string(format!("{}/tests/real/{dump}.cpu", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let raw = cpu_policy::Dump::parse(&text).unwrap().policy().raw;
        let level = level(name);
        let words = |set: FeatureSet| set.difference(given.union(optional));
        let of_msr =
            FeatureSet::matching(|feature| matches!(feature.info().place, cpu_policy::Place::Msr(_)));
        let made_up = words(level.features()).difference(raw).difference(of_msr);
        assert!(made_up.is_empty(), "{name} has what {dump} has not: {made_up:?}");
        let tsx = FeatureSet::of(&[Hle, Rtm, Tsxldtrk]);
        let native = words(raw).intersection(FeatureSet::of_kind(Kind::Native)).difference(of_msr.union(tsx));
        let silent = native.difference(level.features().union(level.hidden()));
        assert!(silent.is_empty(), "{name} leaves out of {dump} silently: {silent:?}");
    }
}

#[test]
fn the_common_level_is_within_those_that_it_stands_for() {
    let common = level("avx2-common").features();
    for name in [
        "icelake-server",
        "sapphirerapids",
        "graniterapids",
        "raptorlake",
        "sierraforest",
        "clearwaterforest",
    ] {
        assert!(common.is_subset(level(name).features()), "{name}");
    }
    // No older generation has it, and the small ones of before neither.
    for name in ["cooperlake", "rocketlake", "denverton"] {
        assert!(!common.is_subset(level(name).features()), "{name}");
    }
    assert!(
        !common.contains(Feature::Avx512f) && common.contains(Feature::Vaes) && common.contains(Feature::Sha)
    );
}

#[test]
fn the_ladder_is_not_monotonic() {
    let [cooper, ice, sapphire] =
        ["cooperlake", "icelake-server", "sapphirerapids"].map(|name| level(name).features());
    assert_eq!(cooper.difference(ice).iter().collect::<Vec<_>>(), [Feature::Avx512Bf16]);
    assert!(sapphire.contains(Feature::Avx512Bf16));
    assert_eq!(ice.difference(sapphire).iter().collect::<Vec<_>>(), [Feature::FbClear]);
    assert!(level("cascadelake").hidden().contains(Feature::Mpx));
    assert!(!level("icelake-server").hidden().contains(Feature::Mpx));
}

/// Registers as real Xeons answer, OSXSAVE and OSPKE off: leaf 1 ECX (EDX is BFEBFBFF for all); leaf 7 EBX, ECX, EDX
/// where there is one. What the level has and what it hides is all there is, but for what the hypervisor provides
/// by itself and what some parts of the generation lack.
#[test]
fn levels_and_what_they_hide_are_the_silicon() {
    use Feature::*;
    let emulated = FeatureSet::of_kind(Kind::Emulated);
    let told = FeatureSet::of(&[FdpExcptnOnly, ZeroFcsFds]);
    let optional = FeatureSet::of(&[Xsave, Hle, Rtm, Tsxldtrk, TsxCtrl]);
    let leaf1: &[(&str, u32)] = &[
        ("merom", 0x0004_e3bd),
        ("penryn", 0x000c_e3bd),
        ("nehalem", 0x009c_e3bd),
        ("westmere", 0x029e_e3ff),
        ("sandybridge", 0x17be_e3ff),
        ("ivybridge", 0x77be_e3ff),
        ("haswell", 0x77fe_fbff),
        ("broadwell", 0x77fe_fbff),
        ("skylake-server", 0x77fe_fbff),
        ("cascadelake", 0x77fe_fbff),
        ("icelake-server", 0x77fe_fbff),
        ("sapphirerapids", 0x77fe_fbff),
    ];
    let leaf7: &[(&str, [u32; 3])] = &[
        ("ivybridge", [0x0000_0281, 0, 0]),
        ("haswell", [0x0000_37ab, 0, 0]),
        ("broadwell", [0x021c_bfbb, 0, 0]),
        ("skylake-server", [0xd39f_fffb, 0x8, 0x9c00_0400]),
        ("cascadelake", [0xd39f_fffb, 0x808, 0xbc00_0400]),
        ("icelake-server", [0xf3bf_b7ef, 0x4041_7f4e, 0xbc04_0412]),
        ("sapphirerapids", [0xf3bf_b7ef, 0xfb41_7fee, 0xffdd_4432]),
    ];
    let check = |name: &str, leaf, reg, silicon: u32| {
        let level = level(name);
        let bits = |set: FeatureSet| set.cpuid(leaf, 0, reg);
        let ours = level.features().union(level.hidden());
        // Nothing is left out silently, nothing is made up.
        let missing = silicon & !bits(ours) & !bits(emulated.union(optional).union(told));
        let beyond = bits(ours) & !silicon & !bits(emulated.union(optional).union(told));
        assert_eq!((missing, beyond), (0, 0), "{name}: CPUID.{leaf:X}:{reg} {missing:#x} {beyond:#x}");
    };
    for (name, ecx) in leaf1 {
        check(name, 1, Reg::Ecx, *ecx);
        check(name, 1, Reg::Edx, 0xbfeb_fbff & !(1 << 28));
    }
    for (name, regs) in leaf7 {
        for (reg, word) in [Reg::Ebx, Reg::Ecx, Reg::Edx].into_iter().zip(regs) {
            check(name, 7, reg, *word);
        }
    }
}

#[test]
fn names_are_one_of_a_kind() {
    let mut names: Vec<String> = Vec::new();
    for row in cpu_policy::FEATURES {
        assert!(!row.name.is_empty() && row.name.is_ascii() && !row.name.contains(' '), "{}", row.name);
        names.push(row.name.to_ascii_lowercase());
        if !row.linux.is_empty() && !row.linux.eq_ignore_ascii_case(row.name) {
            names.push(row.linux.into());
        }
        assert_eq!(row.feature.info().feature, row.feature);
        assert!(Feature::by_name(row.name).is_some());
        for need in row.needs {
            assert_ne!(*need, row.feature);
            // Closing terminates with what can be had: a virtualised feature does not need a hidden one.
            let offered = |kind| matches!(kind, Kind::Native | Kind::Emulated);
            assert!(!offered(row.kind) || offered(need.info().kind), "{} needs {}", row.name, need.name());
        }
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(count, names.len());
    for (index, row) in cpu_policy::FEATURES.iter().enumerate() {
        let same = |other: &&cpu_policy::FeatureInfo| other.place == row.place && other.bit == row.bit;
        assert_eq!(cpu_policy::FEATURES.iter().position(|other| same(&other)), Some(index), "{}", row.name);
    }
    assert_eq!(Feature::by_name("sse4_1"), Some(Feature::Sse41));
    assert_eq!(Feature::by_name("avx2"), Some(Feature::Avx2));
    assert_eq!(Feature::by_name("no-such"), None);
}

#[test]
fn msrs_of_features_are_listed() {
    for row in cpu_policy::FEATURES {
        if let cpu_policy::Place::Msr(index) = row.place {
            assert!(cpu_policy::FEATURE_MSRS.iter().any(|msr| msr.index == index), "{}", row.name);
        }
    }
    assert!(cpu_policy::FEATURE_MSRS.windows(2).all(|pair| pair[0].index < pair[1].index));
    assert_eq!(Feature::VmxProc2Rdtscp.to_string(), "IA32_VMX_PROCBASED_CTLS2[35] VMX_ENABLE_RDTSCP");
}
