//! A host's policy as bytes: inverse, strict, and nothing but a value or an error for any input.

mod common;

use common::*;
use cpu_policy::{Feature, HostError, HostPolicy, MAX_HOST_ENCODED, RawCpu, Row, Sense};
use proptest::prelude::*;

/// The fields of the format, by number.
#[derive(minicbor::Encode, minicbor::Decode, Clone, Debug)]
#[cbor(map)]
struct Fields {
    #[n(0)]
    version: u16,
    #[n(1)]
    rows: Vec<Row>,
    #[n(2)]
    msrs: Vec<(u32, u64)>,
    #[n(3)]
    sets: Vec<(u32, u32, u8, u64, u64, u64)>,
    #[n(4)]
    xcr0: u64,
    #[n(5)]
    xss: u64,
    #[n(6)]
    tsc_hz: Option<u64>,
    #[n(40)]
    later: Option<String>,
}

fn fields(dump: Dump) -> Fields {
    minicbor::decode(&dump.policy().with_tsc_hz(2_000_000_000).encode()).unwrap()
}

fn decode(fields: &Fields) -> Result<HostPolicy, HostError> {
    HostPolicy::decode(&minicbor::to_vec(fields).unwrap())
}

/// The bits of a register in the host, max and default set.
fn bits(fields: &mut Fields, leaf: u32, subleaf: u32, reg: u8) -> [&mut u64; 3] {
    let found = fields.sets.iter_mut().find(|bits| (bits.0, bits.1, bits.2) == (leaf, subleaf, reg)).unwrap();
    [&mut found.3, &mut found.4, &mut found.5]
}

fn clear(fields: &mut Fields, leaf: u32, reg: u8, bit: u8) {
    bits(fields, leaf, 0, reg).into_iter().for_each(|word| *word &= !(1 << bit));
}

fn set(fields: &mut Fields, leaf: u32, reg: u8, bit: u8) {
    bits(fields, leaf, 0, reg).into_iter().for_each(|word| *word |= 1 << bit);
}

#[test]
fn decoding_is_the_inverse() {
    for dump in DUMPS {
        let host = dump.policy().with_tsc_hz(20_000_000);
        assert_eq!(HostPolicy::decode(&host.encode()), Ok(host), "{}", dump.model);
    }
}

#[test]
fn a_later_field_is_skipped() {
    let later = Fields { later: Some("x".into()), ..fields(HASWELL) };
    assert_eq!(decode(&later), Ok(HASWELL.policy().with_tsc_hz(2_000_000_000)));
}

#[test]
fn the_four_sets_contain_each_other() {
    for dump in DUMPS {
        let host = dump.policy();
        let gains = |sense| host.set(sense).of_polarity(cpu_policy::Polarity::Capability);
        assert!(gains(Sense::Default).is_subset(gains(Sense::Host)), "{}", dump.model);
        assert!(gains(Sense::Host).is_subset(gains(Sense::Max)), "{}", dump.model);
        for sense in Sense::ALL {
            assert_eq!(Sense::by_name(sense.name()), Some(sense));
            if sense != Sense::Raw {
                assert_eq!(host.set(sense).closure(), host.set(sense));
            }
        }
        assert!(host.default().contains(Feature::Rsba) && host.default().contains(Feature::FdpExcptnOnly));
    }
}

/// Model, change, part of the error.
type Case = (Dump, fn(&mut Fields), &'static str);

#[test]
fn contradictions_are_named() {
    let cases: &[Case] = &[
        (HASWELL, |f| f.version = 2, "format version 2, this host knows 1"),
        (HASWELL, |f| clear(f, 1, 2, 28), "FMA without CPUID.1:ECX[28] AVX"),
        (
            HASWELL,
            |f| *bits(f, 1, 0, 2)[0] &= !(1 << 22),
            "CPUID.1:ECX[22] MOVBE is in the default set and not in the host set",
        ),
        (
            HASWELL,
            |f| *bits(f, 1, 0, 2)[1] &= !(1 << 22),
            "CPUID.1:ECX[22] MOVBE is in the host set and not in the max set",
        ),
        (HASWELL, |f| *bits(f, 7, 0, 1)[1] |= 1 << 18, "RDSEED is in the max set and not in the host set"),
        (HASWELL, |f| set(f, 7, 1, 18), "CPUID.7.0:EBX[18] RDSEED is offered, and the CPU lacks it"),
        (HASWELL, |f| set(f, 1, 2, 27), "unknown bits 0x8000000 in CPUID.1:ECX"),
        (
            HASWELL,
            |f| set(f, 1, 2, 40),
            "unknown bits 0x10000000000 in CPUID.1:ECX; it is from a newer version",
        ),
        (HASWELL, |f| f.sets.push(f.sets[0]), "is unknown or double"),
        (HASWELL, |f| f.sets.push((0x1234, 0, 1, 1, 1, 1)), "register 0x1234.0 number 1 is unknown"),
        (HASWELL, |f| f.sets.push((1, 0, 9, 1, 1, 1)), "register 0x1.0 number 9 is unknown"),
        (SKYLAKE_X, |f| clear(f, 7, 1, 6), "FDP_EXCPTN_ONLY is a loss of the CPU and not in the policy"),
        (SKYLAKE_X, |f| f.xcr0 = 0x27, "XCR0 0x27 is not possible"),
        (SKYLAKE_X, |f| f.xcr0 = 7, "XCR0 0x7 is not possible"),
        (SKYLAKE_X, |f| f.xcr0 = 0, "XCR0 0x0 is not possible"),
        (SKYLAKE_X, |f| f.xcr0 = 0x2e7, "XCR0 0x2e7 is not possible"),
        (SKYLAKE_X, |f| f.xss = 1 << 11, "IA32_XSS 0x800 is not possible"),
        (SKYLAKE_X, |f| f.tsc_hz = Some(3), "TSC rate 0x3 is not possible"),
        (Dump { phys_bits: 60, ..SKYLAKE_X }, |_| {}, "physical address width 0x3c is not possible"),
        (
            Dump { vendor: b"AuthenticAMD", ..SKYLAKE_X },
            |_| {},
            "CPU vendor AuthenticAMD, a pool takes GenuineIntel only",
        ),
        (HASWELL, |f| f.rows.push(f.rows[0]), "CPUID 0x0.0 is there twice"),
        (HASWELL, |f| f.rows.clear(), "CPUID leaf 0x0 is missing"),
        (
            HASWELL,
            |f| f.rows.push(Row { leaf: 0x99, subleaf: 0, regs: [0; 4] }),
            "CPUID leaf 0x99 is out of range",
        ),
        (HASWELL, |f| f.msrs = vec![(1, 0); 65], "65 MSRs, at most 64"),
    ];
    for (dump, change, expected) in cases {
        let mut fields = fields(*dump);
        change(&mut fields);
        let error = decode(&fields).map(|host| host.features).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn length_is_bounded() {
    assert_eq!(
        HostPolicy::decode(&vec![0; MAX_HOST_ENCODED + 1]),
        Err(HostError::Length(MAX_HOST_ENCODED + 1))
    );
    let mut bytes = TIGER_LAKE.policy().encode();
    bytes.push(0);
    assert_eq!(HostPolicy::decode(&bytes), Err(HostError::Trailing(1)));
    assert_eq!(HostPolicy::decode(&[]), Err(HostError::Malformed(0)));
    // The largest CPU that can be read still fits.
    let endless = |leaf: u32, subleaf: u32| match leaf {
        0 => [0x3f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        4 | 0xb | 0x1b | 0x1f => [u32::MAX; 4],
        0x8000_0000 => [0x8000_001f, 0, 0, 0],
        0x8000_0008 => [0x302e, 0, 0, 0],
        _ => [u32::MAX, u32::MAX, subleaf, u32::MAX],
    };
    let cpu = RawCpu::read(endless, |_| Some(u64::MAX));
    assert!(cpu.rows().len() > 150, "{} rows", cpu.rows().len());
    assert!(HostPolicy::from_raw(&cpu).encode().len() <= MAX_HOST_ENCODED);
}

/// What was decoded can be asked anything, and says the same after another trip.
fn use_it(host: &HostPolicy) {
    assert_eq!(HostPolicy::decode(&host.encode()).as_ref(), Ok(host));
    assert_eq!(host.features.closure(), host.features);
    let pool = cpu_policy::Baseline::of(host);
    let _ = (host.level_names(), pool.name());
    if let Ok(guest) = cpu_policy::GuestPolicy::render_baseline(&pool, SHAPE, host) {
        assert_eq!(guest.fits(host), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(host) = HostPolicy::decode(&bytes) {
            use_it(&host);
        }
    }

    #[test]
    fn a_damaged_policy_gives_a_value_or_an_error(
        index in 0..DUMPS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = DUMPS[index].policy().encode();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(host) = HostPolicy::decode(&bytes) {
            use_it(&host);
        }
    }

    #[test]
    fn flipped_bits_give_a_value_or_an_error(
        index in 0..DUMPS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, 0u32..32), 1..4),
    ) {
        let mut fields = fields(DUMPS[index]);
        for (at, which, bit) in edits {
            let at = at.index(fields.sets.len());
            let bits = &mut fields.sets[at];
            *[&mut bits.3, &mut bits.4, &mut bits.5][which] ^= 1 << bit;
        }
        if let Ok(host) = decode(&fields) {
            use_it(&host);
        }
    }
}
