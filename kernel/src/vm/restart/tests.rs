//! Guests that reset themselves: which of them boot again, and when.

use alloc::sync::Arc;
use alloc::vec::Vec;

use cmdline::VmOptions;
use vm_types::OnReset;

use super::due;
use crate::guest::StopReason;
use crate::testing::{Host, host};
use crate::vm::{Change, State, Vm};
use hw::arch::tsc;

/// A VM whose guest has reset itself.
fn reset(host: &Host) -> Arc<Vm> {
    let vm = host.running("a");
    vm.ended(StopReason::Reset);
    vm
}

fn names(vms: &[Arc<Vm>]) -> Vec<alloc::string::String> {
    vms.iter().map(|vm| vm.name.owned()).collect()
}

#[test]
fn a_guest_that_resets_itself_boots_again_once() {
    let host = host();
    let vm = reset(&host);
    assert_eq!(vm.state(), State::Stopped);
    assert_eq!(names(&due(|_| true)), ["a"]);
    assert_eq!(names(&due(|_| true)), [""; 0]);
    assert!(!vm.restarts.lock().waits());
}

#[test]
fn one_that_powers_off_or_is_to_stop_does_not() {
    let host = host();
    let off = host.running("off");
    off.ended(StopReason::PowerOff);
    let options =
        VmOptions { name: "stop".into(), mem_mib: 4, on_reset: OnReset::Stop, ..VmOptions::default() };
    let stops = host.vm_with(&options);
    stops.apply(Change::Run).unwrap();
    stops.ended(StopReason::TripleFault);
    assert_eq!(stops.state(), State::Stopped);
    assert_eq!(names(&due(|_| true)), [""; 0]);
}

#[test]
fn one_that_is_not_admitted_waits() {
    let host = host();
    let _vm = reset(&host);
    assert!(due(|_| false).is_empty());
    assert_eq!(names(&due(|_| true)), ["a"]);
}

#[test]
fn one_that_comes_back_at_once_waits_for_a_second() {
    let host = host();
    let vm = reset(&host);
    assert_eq!(due(|_| true).len(), 1);
    vm.restarts.lock().began(tsc::micros());
    for change in [Change::Reset, Change::Anew, Change::Run] {
        vm.apply(change).unwrap();
    }
    vm.ended(StopReason::TripleFault);
    assert!(due(|_| true).is_empty());
    host.pass(tsc::ticks(900_000));
    assert!(due(|_| true).is_empty());
    host.pass(tsc::ticks(200_000));
    assert_eq!(names(&due(|_| true)), ["a"]);
}

#[test]
fn one_that_is_destroyed_meanwhile_does_not_boot() {
    let host = host();
    let vm = reset(&host);
    vm.apply(Change::Destroy).unwrap();
    assert!(due(|_| true).is_empty());
    assert!(due(|_| true).is_empty());
}

#[test]
fn one_without_a_kernel_stays_stopped() {
    let host = host();
    let vm = host.running("a");
    *vm.source.lock() = None;
    vm.ended(StopReason::Reset);
    assert!(due(|_| true).is_empty());
    assert!(!vm.restarts.lock().waits());
    assert!(vm.has_no_kernel().starts_with("vm a came from a host that gave no kernel along"));
}
