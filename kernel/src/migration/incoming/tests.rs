//! What is refused before any of a VM comes.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use cmdline::VmOptions;
use migrate::{Hello, Offer, Origin, OriginFile, Shape, TargetVm};
use vm_types::{PAGE_SIZE, Topology};

use super::Arriving;
use crate::policy;
use crate::testing::{host, small};
use hw::arch::tsc;
use hw::mm::guest::layout;

/// The verdict on a VM of 4 MiB with that many vCPUs in its shape, and that many in its policy.
fn verdict(shape: u32, policy: u32) -> Result<(), String> {
    let policy = policy::render(&VmOptions { vcpus: policy, ..small("web") }, tsc::hz())?.encode();
    let hello = Hello {
        migration: [1; 16],
        vm_uuid: [2; 16],
        boot: [3; 16],
        vm_name: "web".to_string(),
        check_only: false,
        secret: None,
        purpose: None,
        port: None,
    };
    let ranges = Shape::page_ranges(&layout(1024 * PAGE_SIZE));
    let shape = Shape { vcpus: shape, ranges, tsc_hz: tsc::hz(), devices: Vec::new() };
    Arriving::default().check(&Offer {
        hello: &hello,
        policy: &policy,
        companion: &[],
        shape: &shape,
        origin: None,
    })
}

#[test]
fn a_machine_with_other_vcpus_than_its_policy_is_refused_by_both_numbers() {
    let _host = host();
    for (shape, policy) in [(1, 2), (2, 1), (64, 63), (3, 4)] {
        let says = alloc::format!("the machine has {shape} vCPUs, its CPU policy says {policy}");
        assert_eq!(verdict(shape, policy), Err(says));
    }
    for vcpus in [1, 2, 64] {
        assert_eq!(verdict(vcpus, vcpus), Ok(()));
    }
}

/// What a VM was made from decides how it boots anew: it is left out where that would be another machine.
#[test]
fn options_of_another_topology_are_left_out() {
    let host = host();
    let two = Topology { sockets: 2, cores: 1, threads: 1 };
    let vm = host.vm_with(&VmOptions { vcpus: 2, topology: Some(two), ..small("web") });
    let file = OriginFile { sha256: Some([7; 32]), len: 64, text: String::new(), url: None, stays: None };
    let source_of = |options: &str| {
        *vm.source.lock() = None;
        let mut arriving = Arriving { vm: Some(Arc::clone(&vm)), ..Arriving::default() };
        let origin =
            Origin { options: options.into(), args: String::new(), files: Vec::from([file.clone()]) };
        let wanted = arriving.wants(&origin);
        (wanted, vm.source.lock().as_ref().map(|source| source.options.topology()))
    };
    assert_eq!(source_of("mem=4 vcpus=2 topology=2:1:1"), (Vec::from([0]), Some(two)));
    for other in
        ["mem=4 vcpus=2", "mem=4", "mem=4 vcpus=4 topology=2:2:1", "mem=4 vcpus=64", "mem=4 sockets=2"]
    {
        assert_eq!(source_of(other), (Vec::new(), None), "{other}");
    }
}
