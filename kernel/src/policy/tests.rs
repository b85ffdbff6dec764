//! Which policy a new guest gets, and who is refused.

use alloc::string::ToString;

use cmdline::VmOptions;
use cpu_policy::{Baseline, Dump, Feature, GuestPolicy};

use super::{fits, host as this_host, render, set_pool_baseline};
use crate::testing::{host, small};

/// A lesser member of the pool.
const HASWELL: &str = include_str!("../../../crates/cpu-policy/tests/dumps/corei7_haswell_4770.cpu");

fn at(level: Option<&str>) -> Result<GuestPolicy, alloc::string::String> {
    let options = VmOptions { level: level.map(ToString::to_string), ..small("a") };
    render(&options, hw::mock::TSC_HZ)
}

#[test]
fn a_level_that_there_is_not_is_refused_with_those_there_are() {
    let _host = host();
    let why = at(Some("zen")).unwrap_err();
    assert!(why.contains("level=zen") && why.contains("haswell"), "{why}");
}

#[test]
fn a_level_beyond_this_host_is_refused_with_what_it_lacks() {
    let _host = host();
    let why = at(Some("sapphirerapids")).unwrap_err();
    assert!(why.to_lowercase().contains("avx512") || why.contains("lacks"), "{why}");
    assert!(!super::levels_of_this_host().contains("sapphirerapids"));
}

#[test]
fn a_guest_without_a_level_gets_what_the_whole_pool_has() {
    let _host = host();
    assert!(at(None).unwrap().has(Feature::Avx512f));
    let weaker = Dump::parse(HASWELL).unwrap().policy();
    set_pool_baseline(Baseline::meet([this_host(), &weaker]));
    let (pooled, named) = (at(None), at(Some("skylake-server")));
    set_pool_baseline(None);
    assert!(!pooled.as_ref().unwrap().has(Feature::Avx512f));
    assert_eq!(pooled.unwrap().fits(&weaker), Ok(()));
    assert!(named.unwrap().has(Feature::Avx512f), "the operator's word goes before the pool's");
    assert!(at(None).unwrap().has(Feature::Avx512f), "alone again");
}

#[test]
fn what_was_rendered_here_fits_here() {
    let _host = host();
    for level in this_host().levels() {
        let policy = at(Some(level.name)).unwrap();
        assert_eq!(fits(&policy), Ok(()), "{}", level.name);
        assert_eq!(policy.level_name(), level.name);
    }
    assert_eq!(fits(&at(None).unwrap()), Ok(()));
}
