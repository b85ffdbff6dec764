//! What is refused before any of a VM comes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cmdline::VmOptions;
use migrate::{Hello, Offer, Shape, TargetVm};
use vm_types::PAGE_SIZE;

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
