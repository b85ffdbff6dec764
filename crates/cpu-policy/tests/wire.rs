//! Policies as bytes: inverse, and nothing but a value or an error for any input.

mod common;

use common::*;
use cpu_policy::{DecodeError, GuestPolicy, LEVELS, MAX_ENCODED, Row, Shape};
use proptest::prelude::*;
use vm_types::Topology;

/// The fields of the format, by number.
#[derive(minicbor::Encode, minicbor::Decode, Clone)]
#[cbor(map)]
struct Fields {
    #[n(0)]
    version: u16,
    #[n(1)]
    level: String,
    #[n(2)]
    level_version: u16,
    #[n(3)]
    vcpus: u32,
    #[n(4)]
    tsc_hz: u64,
    #[n(5)]
    apic_hz: u32,
    #[n(6)]
    rows: Vec<Row>,
    #[n(7)]
    msrs: Vec<(u32, u64)>,
    #[n(40)]
    later: Option<String>,
}

fn fields(level: &str) -> Fields {
    minicbor::decode(&render(level).encode()).unwrap()
}

fn decode(fields: &Fields) -> Result<GuestPolicy, DecodeError> {
    GuestPolicy::decode(&minicbor::to_vec(fields).unwrap())
}

fn row(fields: &mut Fields, leaf: u32, subleaf: u32) -> &mut [u32; 4] {
    &mut fields.rows.iter_mut().find(|row| row.leaf == leaf && row.subleaf == subleaf).unwrap().regs
}

/// The error for `level` with one change.
fn broken(level: &str, change: impl FnOnce(&mut Fields)) -> String {
    let mut fields = fields(level);
    change(&mut fields);
    decode(&fields).unwrap_err().to_string()
}

#[test]
fn a_later_field_is_skipped() {
    let later = Fields { later: Some("x".into()), ..fields("haswell") };
    assert_eq!(decode(&later), Ok(render("haswell")));
}

#[test]
fn a_level_that_this_version_does_not_know_is_taken() {
    let other = Fields { level: "haswell-tsx".into(), level_version: 7, ..fields("haswell") };
    let policy = decode(&other).unwrap();
    assert_eq!((policy.level_name(), policy.level_version()), ("haswell-tsx", 7));
    assert_eq!(policy.fits(&HASWELL.policy()), Ok(()));
}

/// Level, change, part of the error.
type Case = (&'static str, fn(&mut Fields), &'static str);

#[test]
fn contradictions_are_named() {
    let cases: &[Case] = &[
        ("haswell", |f| f.version = 2, "format version 2"),
        ("haswell", |f| f.level = "Has well".into(), "level name"),
        ("haswell", |f| f.vcpus = 0, "0 vCPUs"),
        ("haswell", |f| row(f, 1, 0)[1] |= 3 << 16, "CPUID 0x1.0: number of processors"),
        ("haswell", |f| row(f, 1, 0)[1] &= 0xffff, "CPUID 0x1.0: number of processors"),
        ("haswell", |f| row(f, 1, 0)[3] |= 1 << 28, "CPUID 0x1.0: number of processors"),
        ("haswell", |f| f.tsc_hz = 0, "TSC rate 0"),
        ("haswell", |f| row(f, 1, 0)[2] &= !(1 << 28), "FMA without CPUID.1:ECX[28] AVX"),
        ("haswell", |f| row(f, 1, 0)[2] |= 1 << 16, "unknown bits 0x10000 in CPUID.1:ECX"),
        ("haswell", |f| row(f, 1, 0)[2] |= 1 << 27, "unknown bits 0x8000000 in CPUID.1:ECX"),
        ("haswell", |f| row(f, 0, 0)[1] += 1, "not GenuineIntel"),
        ("haswell", |f| row(f, 0, 0)[0] = 7, "beyond the highest leaf"),
        ("haswell", |f| row(f, 0xd, 0)[0] = 3, "XSAVE layout"),
        ("haswell", |f| row(f, 0xd, 2)[1] = 512, "XSAVE layout"),
        ("nehalem", |f| row(f, 1, 0)[2] |= 1 << 26, "CPUID 0xd.0: number of sub-leaves"),
        ("haswell", |f| row(f, 0x8000_0008, 0)[0] = 0x3040, "address widths"),
        ("haswell", |f| row(f, 0xb, 0)[3] = 1, "CPUID 0xb.0: topology"),
        ("haswell", |f| row(f, 0xb, 1)[1] = 2, "CPUID 0xb.1: topology"),
        ("haswell", |f| row(f, 4, 0)[0] |= 3 << 26, "CPUID 0x1.0: number of processors"),
        ("haswell", |f| row(f, 4, 2)[0] |= 1 << 14, "CPUID 0x4.2: topology"),
        ("haswell", |f| f.rows.swap(0, 1), "out of order"),
        (
            "haswell",
            |f| f.rows.push(Row { leaf: 0xc000_0000, subleaf: 0, regs: [0; 4] }),
            "0xc0000000 is out of range",
        ),
        ("haswell", |f| f.rows.extend(vec![f.rows[0]; 128]), "CPUID rows"),
        ("haswell", |f| f.msrs.clear(), "constant MSR 0x17 "),
        ("haswell", |f| f.msrs.push((0x3a, 0)), "constant MSR 0x3a "),
        (
            "haswell",
            |f| f.msrs.iter_mut().for_each(|(at, v)| *v = if *at == 0x10a { 1 << 40 } else { *v }),
            "in IA32_ARCH",
        ),
    ];
    for (level, change, expected) in cases {
        let text = broken(level, change);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn length_is_bounded() {
    assert_eq!(GuestPolicy::decode(&vec![0; MAX_ENCODED + 1]), Err(DecodeError::Length(MAX_ENCODED + 1)));
    let mut bytes = render("skylake-server").encode();
    assert!(bytes.len() < 4096);
    bytes.push(0);
    assert_eq!(GuestPolicy::decode(&bytes), Err(DecodeError::Trailing(1)));
    assert!(matches!(GuestPolicy::decode(&[]), Err(DecodeError::Malformed(_))));
    // An array that claims more than there is.
    assert!(
        GuestPolicy::decode(&[0xa2, 0x00, 0x01, 0x06, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
            .is_err()
    );
}

/// What was decoded can be asked anything, and says the same after another trip.
fn use_it(policy: &GuestPolicy) {
    for row in policy.table().rows() {
        let _ = policy.cpuid(row.leaf, row.subleaf, || cpu_policy::Dynamic { apic_id: 9, cr4: !0, xcr0: !0 });
    }
    for index in [0x10, 0x1b, 0x200, 0x277, 0x800, 0xc000_0080, 0xc000_0100] {
        let _ = (policy.write_msr(index, u64::MAX), policy.read_msr(index));
    }
    let _ = policy.fits(&LYNNFIELD.policy()).map_err(|misfit| misfit.to_string());
    assert_eq!(GuestPolicy::decode(&policy.encode()).as_ref(), Ok(policy));
    assert_eq!(policy.features().closure(), policy.features());
}

proptest! {
    #[test]
    fn decoding_is_the_inverse(index in 0..LEVELS.len(), vcpus in 1u32..=64, khz in 1_000u64..20_000_000) {
        let shape = Shape { topology: Topology::flat(vcpus), tsc_hz: khz * 1000, apic_hz: 100_000_000, phys_bits: Some(39) };
        let policy = GuestPolicy::render(LEVELS[index], shape, &big_host()).unwrap();
        prop_assert_eq!(GuestPolicy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(policy) = GuestPolicy::decode(&bytes) {
            use_it(&policy);
        }
    }

    #[test]
    fn a_damaged_policy_gives_a_value_or_an_error(
        index in 0..LEVELS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = render(LEVELS[index].name).encode();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(policy) = GuestPolicy::decode(&bytes) {
            use_it(&policy);
        }
    }

    #[test]
    fn damaged_rows_give_a_value_or_an_error(
        index in 0..LEVELS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, 0u32..32), 1..4),
    ) {
        let mut fields = fields(LEVELS[index].name);
        for (at, reg, bit) in edits {
            let at = at.index(fields.rows.len());
            fields.rows[at].regs[reg] ^= 1 << bit;
        }
        if let Ok(policy) = decode(&fields) {
            use_it(&policy);
        }
    }
}
