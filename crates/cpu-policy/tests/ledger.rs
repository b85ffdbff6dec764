//! The ledger and the choice of controls, on the dumps of emulated CPUs and on Xeons of every generation.

mod common;

use std::fs;

use common::*;
use cpu_policy::{
    Companion, Control, Controls, Dump as Text, Enforcement, FEATURES, Feature, FeatureSet, GuestPolicy,
    HostPolicy, Kind, LEVELS, Ledger, LedgerError, LedgerRow, MAX_COMPANION, MAX_LEDGER_ENCODED, MAX_SEEN,
    Means,
};
use proptest::prelude::*;
use vmx_types::control::{ProcBased, ProcBased2};

/// Every dump and every Xeon of the tables.
fn hosts() -> Vec<(String, HostPolicy)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dumps");
    let read = |file: &std::path::Path| Text::parse(&fs::read_to_string(file).unwrap()).unwrap();
    let mut hosts: Vec<_> = fs::read_dir(dir).unwrap().map(|file| read(&file.unwrap().path())).collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    let dumps = hosts.into_iter().map(|dump| (dump.host.clone(), dump.policy()));
    dumps.chain(DUMPS.iter().map(|dump| (dump.model.to_string(), dump.policy()))).collect()
}

fn dumped(model: &str) -> HostPolicy {
    hosts().into_iter().find(|(name, _)| name == model).unwrap().1
}

/// Every level that a host can give, on every host.
fn ledgers() -> Vec<(String, GuestPolicy, HostPolicy, Ledger)> {
    let mut all = Vec::new();
    for (name, host) in hosts() {
        for level in host.levels() {
            let guest = GuestPolicy::render(level, SHAPE, &host).unwrap();
            let ledger = Ledger::new(&guest, &host);
            all.push((format!("{} on {name}", level.name), guest, host.clone(), ledger));
        }
    }
    assert!(all.len() > 60, "{}", all.len());
    all
}

fn row<'a>(ledger: &'a Ledger, name: &str) -> &'a LedgerRow {
    ledger.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}

fn at(level: &str, host: &HostPolicy) -> Ledger {
    Ledger::new(&GuestPolicy::render(self::level(level), SHAPE, host).unwrap(), host)
}

#[test]
fn controls_are_where_vmx_has_them() {
    for (control, bits) in [
        (Control::MWAIT_EXITING, ProcBased::MWAIT_EXITING),
        (Control::MONITOR_EXITING, ProcBased::MONITOR_EXITING),
    ] {
        assert_eq!(1 << control.bit, bits.bits(), "{control}");
    }
    for (control, bits) in [
        (Control::ENABLE_RDTSCP, ProcBased2::ENABLE_RDTSCP),
        (Control::RDRAND_EXITING, ProcBased2::RDRAND_EXITING),
        (Control::ENABLE_INVPCID, ProcBased2::ENABLE_INVPCID),
        (Control::ENCLS_EXITING, ProcBased2::ENCLS_EXITING),
        (Control::RDSEED_EXITING, ProcBased2::RDSEED_EXITING),
        (Control::ENABLE_XSAVES, ProcBased2::ENABLE_XSAVES),
        (Control::ENABLE_USER_WAIT, ProcBased2::ENABLE_USER_WAIT),
        (Control::ENABLE_PCONFIG, ProcBased2::ENABLE_PCONFIG),
        (Control::ENCLV_EXITING, ProcBased2::ENCLV_EXITING),
    ] {
        assert_eq!(1 << control.bit, bits.bits(), "{control}");
    }
}

#[test]
fn names_tell_features_apart() {
    let mut names: Vec<_> = FEATURES.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FEATURES.len());
}

#[test]
fn every_hidden_feature_has_one_row_and_no_other_has_any() {
    for (what, guest, _, ledger) in ledgers() {
        for feature in ledger.rows.iter().filter_map(LedgerRow::feature) {
            assert!(!guest.has(feature), "{what}: {feature} was announced");
            assert_eq!(ledger.rows.iter().filter(|row| row.name == feature.name()).count(), 1, "{what}");
        }
        let native = FEATURES.iter().filter(|info| matches!(info.kind, Kind::Native | Kind::Emulated));
        for info in native.filter(|info| !guest.has(info.feature)) {
            assert_eq!(row(&ledger, info.name).feature(), Some(info.feature), "{what}");
        }
    }
}

#[test]
fn rows_say_what_is_written() {
    for (what, guest, host, ledger) in ledgers() {
        let choice = Enforcement::on(guest.features(), &host);
        let may = host.controls().unwrap();
        assert_eq!(choice.primary & !may.primary, 0, "{what}");
        assert_eq!(choice.secondary & !may.secondary, 0, "{what}");
        assert_eq!(choice.tertiary & !may.tertiary, 0, "{what}");
        for row in &ledger.rows {
            match row.means {
                Means::NotEnabled(control) => assert!(!choice.has(control), "{what}: {}", row.name),
                Means::Exiting(control) => assert!(choice.has(control), "{what}: {}", row.name),
                Means::Cr4(bit) => assert_eq!(guest.cr4_allowed() >> bit & 1, 0, "{what}: {}", row.name),
                Means::Xcr0(bits) => assert_ne!(guest.xcr0_allowed() & bits, bits, "{what}: {}", row.name),
                Means::Efer(bit) => assert_eq!(guest.efer_allowed() >> bit & 1, 0, "{what}: {}", row.name),
                Means::Absent => assert!(!host.raw.contains(row.feature().unwrap()), "{what}: {}", row.name),
                Means::TsxCtrl => assert_eq!(choice.tsx_ctrl, Some(3), "{what}"),
                Means::Other(..) => panic!("{what}: {}", row.name),
                _ => {}
            }
        }
        // The announced ones that need a control have it.
        for (feature, control) in [
            (Feature::Rdtscp, Control::ENABLE_RDTSCP),
            (Feature::Invpcid, Control::ENABLE_INVPCID),
            (Feature::Xsaves, Control::ENABLE_XSAVES),
        ] {
            assert_eq!(guest.has(feature), choice.has(control), "{what}: {}", feature.name());
        }
    }
}

/// What can be executed at a level on a host, name by name: a change of this list is a change of what is promised.
#[test]
fn holes_are_known() {
    let host = dumped("corei7_skylake_x");
    let holes = |level| {
        let ledger = at(level, &host);
        let names: Vec<String> = ledger.holes().map(|row| row.name.to_string()).collect();
        names.join(" ")
    };
    assert_eq!(
        holes("haswell"),
        format!("ADX SMAP CLFLUSHOPT CLWB XSAVEC XGETBV_ECX_1 PREFETCHW{}", values_of(&host))
    );
    assert_eq!(row(&at("haswell", &host), "SMAP").means, Means::Cr4(21));
    assert_eq!(row(&at("haswell", &host), "AVX512F").means, Means::Xcr0(0b111 << 5));
    assert_eq!(row(&at("nehalem", &host), "AVX2").means, Means::Xcr0(1 << 2));
    assert_eq!(row(&at("sandybridge", &host), "AVX2").means, Means::AdvertisedOnly);
    assert_eq!(row(&at("haswell", &host), "RDSEED").means, Means::Exiting(Control::RDSEED_EXITING));
    assert_eq!(row(&at("haswell", &host), "XSAVES").means, Means::NotEnabled(Control::ENABLE_XSAVES));
    assert_eq!(row(&at("haswell", &host), "SHA").means, Means::Absent);
    assert_eq!(row(&at("haswell", &host), "MONITOR").means, Means::Exiting(Control::MONITOR_EXITING));
    assert_eq!(row(&at("nehalem", &host), "TSC-Deadline").means, Means::Msr(0x6e0));
}

/// The values of x87 that show through on a host.
fn values_of(host: &HostPolicy) -> String {
    let mut text = String::new();
    for (loss, name) in [
        (Feature::ZeroFcsFds, " x87 FCS and FDS saved"),
        (Feature::FdpExcptnOnly, " x87 FDP of every instruction"),
    ] {
        if !host.raw.contains(loss) {
            text.push_str(name);
        }
    }
    text
}

#[test]
fn a_cpu_with_every_control_keeps_what_it_can() {
    let all = Controls { pin: !0, primary: !0, secondary: !0, tertiary: !0 };
    let none = Enforcement::choose(FeatureSet::EMPTY, &all, true);
    for control in [
        Control::MWAIT_EXITING,
        Control::MONITOR_EXITING,
        Control::RDRAND_EXITING,
        Control::RDSEED_EXITING,
        Control::ENCLS_EXITING,
        Control::ENCLV_EXITING,
        Control::LOADIWKEY_EXITING,
    ] {
        assert!(none.has(control), "{control}");
    }
    for control in [Control::ENABLE_USER_WAIT, Control::ENABLE_PCONFIG, Control::ENABLE_MSR_LIST] {
        assert!(!none.has(control), "{control}");
    }
    assert!(none.tsx_off());
    let every = Enforcement::choose(FeatureSet::matching(|_| true), &all, true);
    assert_eq!((every.primary, every.secondary & none.secondary), (0, 0));
    assert!(every.has(Control::ENABLE_USER_WAIT) && every.has(Control::ENABLE_PCONFIG));
    assert_eq!((every.tsx_ctrl, every.tsx_off()), (Some(0), false));
    let bare = Enforcement::choose(FeatureSet::EMPTY, &Controls::default(), false);
    assert_eq!(bare, Enforcement::default());
}

#[test]
fn tsx_is_off_where_the_cpu_has_the_switch() {
    let with = Dump { arch_capabilities: 1 << 7, ..XEON_GRANITE_RAPIDS };
    let [ebx, ecx, edx] = with.leaf7;
    let with = Dump { leaf7: [ebx | 1 << 11, ecx, edx | 1 << 29], ..with };
    let off = at("haswell", &with.policy());
    assert_eq!(row(&off, "RTM").means, Means::TsxCtrl);
    assert!(row(&off, "RTM").is_hole(), "XTEST runs: {}", row(&off, "RTM"));
    let without = at("haswell", &Dump { arch_capabilities: 0, ..with }.policy());
    assert_eq!(row(&without, "RTM").means, Means::AdvertisedOnly);
}

#[test]
fn values_that_show_are_rows() {
    let host = dumped("corei7_skylake_x");
    let ledger = at("haswell", &host);
    let told = GuestPolicy::render(level("haswell"), SHAPE, &host).unwrap().phys_bits();
    let width = row(&ledger, "MAXPHYADDR");
    assert_eq!(width.values, Some((told.into(), host.phys_bits.into())));
    assert_eq!(width.means == Means::Same, told == host.phys_bits);
    assert_eq!(row(&at("nehalem", &host), "PDPE1GB").means, Means::AdvertisedOnly);
}

#[test]
fn moves_make_freer_or_tighter() {
    let (old, new) = (dumped("corei7_haswell_4770"), dumped("corei7_skylake_x"));
    let guest = GuestPolicy::render(level("haswell"), SHAPE, &old).unwrap();
    let (there, here) = (Ledger::new(&guest, &old), Ledger::new(&guest, &new));
    assert!(here.changes(&here).is_empty());
    let forth = here.changes(&there);
    assert!(forth.iter().any(|change| change.now.name == "ADX" && change.freer()), "{forth:?}");
    let back = there.changes(&here);
    assert_eq!(forth.len(), back.len());
    assert!(back.iter().any(|change| change.now.name == "ADX" && !change.freer()));
    let text: Vec<_> = forth.iter().map(ToString::to_string).collect();
    assert!(text.contains(&"freer: ADX: absent in this CPU -> advertised only: IT WORKS".into()), "{text:?}");
}

#[test]
fn text_and_json_name_every_hole() {
    for (what, _, _, ledger) in ledgers() {
        let text = ledger.to_string();
        let mut json = String::new();
        json::object(&mut json, |object| ledger.json(object)).unwrap();
        for hole in ledger.holes() {
            assert!(
                text.lines().any(|line| line.trim_start().starts_with(&*hole.name)),
                "{what}: {}",
                hole.name
            );
            assert!(json.contains(&format!("{{\"name\":\"{}\"", hole.name)), "{what}: {}", hole.name);
        }
        assert!(text.lines().all(|line| line.len() < 160), "{what}: {text}");
    }
}

#[test]
fn bytes_are_the_inverse_and_small() {
    for (what, _, _, ledger) in ledgers() {
        let bytes = ledger.encode();
        assert!(bytes.len() < MAX_LEDGER_ENCODED / 2, "{what}: {} bytes", bytes.len());
        assert_eq!(Ledger::decode(&bytes), Ok(ledger.clone()), "{what}");
        let companion = Companion { ledger: Some(ledger), seen: Some(vec![1, 2, 3]) };
        assert_eq!(Companion::decode(&companion.encode()), Ok(companion), "{what}");
    }
    assert_eq!(Companion::decode(&[]), Ok(Companion::default()));
    assert_eq!(Companion::decode(&Companion::default().encode()), Ok(Companion::default()));
}

#[test]
fn bad_bytes_are_named() {
    let ledger = at("haswell", &dumped("corei7_skylake_x"));
    let good = ledger.encode();
    let trailing = [good.as_slice(), &[0]].concat();
    assert_eq!(Ledger::decode(&trailing), Err(LedgerError::Trailing(1)));
    assert!(matches!(Ledger::decode(&good[..good.len() - 1]), Err(LedgerError::Malformed(_))));
    assert_eq!(Ledger::decode(&[0xa1, 0, 2]), Err(LedgerError::Version(2)));
    let long = vec![0; MAX_LEDGER_ENCODED + 1];
    assert!(matches!(Ledger::decode(&long), Err(LedgerError::Length { .. })));
    let double = Ledger { rows: vec![ledger.rows[0].clone(), ledger.rows[0].clone()], ..ledger.clone() };
    assert_eq!(Ledger::decode(&double.encode()), Err(LedgerError::Double(ledger.rows[0].name.to_string())));
    for text in ["", "a\nb", "\u{1b}[2J", "ü", &"n".repeat(60)] {
        let name = LedgerRow { name: text.to_string().into(), ..ledger.rows[0].clone() };
        let bad = Ledger { rows: vec![name], ..ledger.clone() };
        assert!(matches!(Ledger::decode(&bad.encode()), Err(LedgerError::Text(_))), "{text:?}");
    }
    let seen = Companion { ledger: None, seen: Some(vec![0; MAX_SEEN + 1]) };
    assert!(matches!(Companion::decode(&seen.encode()), Err(LedgerError::Length { what: "audit", .. })));
    assert!(matches!(
        Companion::decode(&vec![0; MAX_COMPANION + 1]),
        Err(LedgerError::Length { what: "companion", .. })
    ));
}

#[test]
fn means_of_a_later_version_are_shown() {
    let ledger = at("haswell", &dumped("corei7_skylake_x"));
    let later = LedgerRow { means: Means::Other(77, 5), ..ledger.rows[0].clone() };
    let later = Ledger { rows: vec![later], ..ledger };
    let read = Ledger::decode(&later.encode()).unwrap();
    assert!(read.rows[0].is_hole(), "what is not known is not counted on");
    assert!(read.to_string().contains("77:0x5"));
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Ledger::decode(&bytes).map(|ledger| ledger.to_string());
        let _ = Companion::decode(&bytes);
    }

    #[test]
    fn mutated_ledgers(level in 0..LEVELS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let host = big_host();
        let guest = GuestPolicy::render(LEVELS[level], SHAPE, &host);
        prop_assume!(guest.is_ok());
        let companion = Companion { ledger: Some(Ledger::new(&guest.unwrap(), &host)), seen: None };
        let mut bytes = companion.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        match Companion::decode(&bytes) {
            Ok(read) => {
                let again = Companion::decode(&read.encode());
                prop_assert_eq!(again.as_ref(), Ok(&read));
                let ledger = read.ledger.unwrap_or_else(|| companion.ledger.unwrap());
                prop_assert!(!ledger.to_string().is_empty());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn hiding_more_never_enables_more(bits in any::<u64>()) {
        let all = Controls { pin: !0, primary: !0, secondary: !0, tertiary: !0 };
        let some = FeatureSet::matching(|feature| bits >> (feature as u16 % 64) & 1 != 0);
        let fewer = some.intersection(FeatureSet::matching(|feature| !(feature as u16).is_multiple_of(3)));
        let (more, less) = (Enforcement::choose(some, &all, true), Enforcement::choose(fewer, &all, true));
        for control in [Control::ENABLE_RDTSCP, Control::ENABLE_INVPCID, Control::ENABLE_XSAVES, Control::ENABLE_USER_WAIT] {
            prop_assert!(more.has(control) || !less.has(control));
        }
        for control in [Control::RDRAND_EXITING, Control::RDSEED_EXITING, Control::ENCLS_EXITING, Control::MONITOR_EXITING] {
            prop_assert!(less.has(control) || !more.has(control));
        }
    }
}
