//! What CPU 0 sees of the vCPUs, and that one moves. Which one, and when, is the subject of `crates/scheduling/tests/balance.rs`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use scheduling::balance::{INTERVAL_US, LOOKS};
use scheduling::place::Place;

use super::Balancer;
use crate::testing::{HOME, Host, host};
use crate::vm::sched::{self, Scheduler, Turn};
use crate::vm::{Change, Vm, place};
use hw::arch::tsc;

/// As if guests were for CPU 0 alone, where none is placed: all else of the host is as it is.
fn to_cpu_0() -> Balancer {
    let mut places = place::cpus();
    places[HOME].vmx = false;
    Balancer::of(places)
}

/// Looks as often as one judgement takes, with a turn of the home CPU before each.
fn judged(host: &Host, balancer: &mut Balancer, scheduler: &mut Scheduler) {
    for _ in 0..LOOKS {
        host.turn(scheduler);
        balancer.look();
    }
}

fn to_be_on(vms: &[Arc<Vm>]) -> Vec<usize> {
    vms.iter().map(|vm| vm.vcpus[0].to_be_on()).collect()
}

#[test]
fn one_of_two_that_share_a_cpu_moves_and_runs_there() {
    let host = host();
    let vms = ["a", "b"].map(|name| host.running(name));
    let (mut balancer, mut home, mut new) = (to_cpu_0(), Scheduler::default(), Scheduler::default());
    for _ in 1..LOOKS {
        host.turn(&mut home);
        balancer.look();
    }
    assert_eq!(to_be_on(&vms), [HOME, HOME], "it has not been so for long");
    balancer.look();
    let moved = vms.iter().position(|vm| vm.vcpus[0].to_be_on() == 0).expect("one of them moves");
    assert_eq!(to_be_on(&vms)[1 - moved], HOME);
    host.turn(&mut home);
    let before = vms[moved].exits();
    assert_eq!(new.turn(tsc::ticks(1000)), Turn::Ran);
    assert!(vms[moved].exits() > before && host.loaded_on(&vms[moved]) == Some(0));
    assert!(!vms[moved].vcpus[0].is_pinned(), "it may move on");
    judged(&host, &mut balancer, &mut home);
    assert_eq!(to_be_on(&vms)[1 - moved], HOME, "one each is even");
}

/// Two VMs that an operator wants on [`HOME`].
fn pinned(host: &Host) -> [Arc<Vm>; 2] {
    let vms = ["a", "b"].map(|name| host.running(name));
    for vm in &vms {
        sched::pin(&vm.vcpus[0], HOME);
    }
    vms
}

#[test]
fn what_is_pinned_stays_and_the_other_moves() {
    let host = host();
    let vms = pinned(&host);
    let (mut balancer, mut home) = (to_cpu_0(), Scheduler::default());
    judged(&host, &mut balancer, &mut home);
    assert_eq!(to_be_on(&vms), [HOME, HOME]);
    let third = host.running("c");
    judged(&host, &mut balancer, &mut home);
    assert_eq!((to_be_on(&vms), third.vcpus[0].to_be_on()), ([HOME, HOME].into(), 0));
}

#[test]
fn what_is_pinned_no_longer_moves_again() {
    let host = host();
    let vms = pinned(&host);
    let (mut balancer, mut home) = (to_cpu_0(), Scheduler::default());
    judged(&host, &mut balancer, &mut home);
    assert!(vms[1].vcpus[0].unpin() && !vms[1].vcpus[0].unpin(), "it was pinned, and is not");
    assert_eq!(to_be_on(&vms), [HOME, HOME], "it stays until there is a reason");
    judged(&host, &mut balancer, &mut home);
    assert_eq!(to_be_on(&vms), [HOME, 0]);
}

#[test]
fn who_sleeps_or_may_not_run_wants_no_cpu() {
    let host = host();
    let vms = ["a", "b", "c"].map(|name| host.running(name));
    let (mut balancer, mut home) = (to_cpu_0(), Scheduler::default());
    host.turn(&mut home);
    vms[1].vcpus[0].wake.store(u64::MAX, Ordering::Relaxed);
    vms[1].vcpus[0].requests.store(0, Ordering::Relaxed);
    vms[2].apply(Change::Pause).unwrap();
    judged(&host, &mut balancer, &mut home);
    assert_eq!(to_be_on(&vms), [HOME; 3]);
}

#[test]
fn it_looks_from_time_to_time_and_not_at_all_where_one_cpu_takes_guests() {
    let host = host();
    let vm = host.running("a");
    let wanted = || vm.vcpus[0].watched.wanted.load(Ordering::Relaxed);
    let mut alone = Balancer::new();
    for _ in 0..4 {
        host.pass(tsc::ticks(INTERVAL_US));
        alone.poll();
    }
    assert_eq!(wanted(), 0, "CPU 0 takes none");
    let mut three =
        Balancer::of([0, 2, 4].map(|apic_id| Place { apic_id, vmx: true, ..Place::default() }).into());
    three.poll();
    three.poll();
    assert_eq!(wanted(), 1, "the time has not come");
    host.pass(tsc::ticks(INTERVAL_US));
    three.poll();
    assert_eq!(wanted(), 2);
}
