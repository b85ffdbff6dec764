//! Which policy a new guest gets, and who is refused.

use alloc::string::ToString;

use cmdline::VmOptions;
use cpu_policy::{Baseline, Dump, Feature, GuestPolicy};

use vm_types::{GuestMemory, Topology};

use super::{fits, host as this_host, render, set_pool_baseline};
use crate::testing::{host, small};
use crate::vm::create;

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

/// CPUID, local APICs and the MADT name a vCPU by the same number.
#[test]
fn a_topology_has_the_same_ids_everywhere() {
    let host = host();
    let two = Topology { sockets: 2, cores: 2, threads: 2 };
    let options = VmOptions { vcpus: 8, topology: Some(two), ..small("a") };
    let vm = host.vm_with(&options);
    assert_eq!(vm.policy().shape().topology, two);
    let mut firmware = [0; 0x2000];
    vm.memory.read(devices::acpi::DEFAULT_BASE, &mut firmware).unwrap();
    let madt = firmware.windows(4).position(|bytes| bytes == b"APIC").expect("there is a MADT");
    // Behind its head of 44 bytes: processor local APICs, of 8 bytes each, the id in the fourth.
    let madt_ids = firmware[madt + 44..].chunks(8).take_while(|entry| entry[0] == 0).map(|entry| entry[3]);
    assert!(madt_ids.eq(0..8));
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let slot = slot.vcpu.lock();
        // What CPUID tells, and what IPIs are sent to.
        assert_eq!(slot.vcpu.index, index as u32);
        assert_eq!(slot.vcpu.apic.export().instance, index as u16);
    }
}

#[test]
fn another_level_is_no_other_topology() {
    let host = host();
    let two = Topology { sockets: 2, cores: 2, threads: 1 };
    let mut options = VmOptions { vcpus: 4, topology: Some(two), ..small("a") };
    let vm = host.vm_with(&options);
    let policy = create::at_level(&vm, &mut options, "haswell").unwrap();
    assert_eq!((policy.level_name(), policy.shape().topology), ("haswell", two));
    let wrong =
        VmOptions { vcpus: 6, topology: Some(Topology { sockets: 2, cores: 3, threads: 1 }), ..options };
    let why = render(&wrong, hw::mock::TSC_HZ).unwrap_err();
    assert!(why.starts_with("topology=2:3:1: threads and cores"), "{why}");
}
