//! VMs on their way off the host, and what is left of them.

use alloc::sync::Arc;

use crate::testing::{HOME, TURN_US, host};
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::{Change, State, ending, registry, remains};
use hw::arch::tsc;
use hw::mm::frame;
use hw::mock::Ipi;
use hw::platform::irq;

#[test]
fn a_vm_is_gone_once_its_cpu_has_let_go() {
    let host = host();
    let free = frame::stats().free;
    let mut scheduler = Scheduler::default();
    let vm = host.running("a");
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    host.ipis();
    let outcome = ending::order(&vm).unwrap();
    assert_eq!(host.ipis(), [Ipi { to: HOME as u32, vector: Some(irq::KICK) }]);
    ending::poll();
    assert_eq!((outcome.get(), vm.state()), (None, State::Ending));
    assert!(registry::holds(&vm) && !remains::poll(), "its memory is its guest's yet");
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX));
    ending::poll();
    assert_eq!(outcome.get(), Some(Ok(())));
    assert!(!registry::holds(&vm));
    while remains::poll() {}
    drop((vm, scheduler));
    assert_eq!(frame::stats().free, free);
}

#[test]
fn the_operator_is_told_of_a_cpu_that_does_not_answer() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = host.running("a");
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    let outcome = ending::order(&vm).unwrap();
    host.pass(tsc::ticks(4_900_000));
    ending::poll();
    assert_eq!(outcome.get(), None);
    host.pass(tsc::ticks(200_000));
    ending::poll();
    let why = outcome.get().unwrap().unwrap_err();
    assert!(why.starts_with("vm a: CPU 1 has not left its guest within 5 s: it is destroyed"), "{why}");
    assert!(registry::holds(&vm), "it may execute");
    host.turn(&mut scheduler);
    ending::poll();
    assert!(!registry::holds(&vm), "it is destroyed all the same");
}

#[test]
fn an_end_is_ordered_once_and_of_no_vm_in_a_hand_over() {
    let host = host();
    let vm = host.running("a");
    vm.apply(Change::Still).unwrap();
    assert!(ending::order(&vm).is_err());
    ending::poll();
    assert!(registry::holds(&vm));
    vm.apply(Change::Back).unwrap();
    let outcome = ending::order(&vm).unwrap();
    assert!(ending::order(&vm).is_err());
    ending::poll();
    assert_eq!(outcome.get(), Some(Ok(())));
}

#[test]
fn tables_are_given_back_in_turns_and_the_rest_by_the_last_who_knows_the_vm() {
    let host = host();
    let free = frame::stats().free;
    let vm = host.vm("a");
    let all = frame::stats().free;
    vm.destroy();
    host.slow(tsc::ticks(TURN_US));
    let mut turns = 0;
    while remains::poll() {
        turns += 1;
    }
    let tables = frame::stats().free;
    assert!(turns > 0 && tables > all, "{turns} turns");
    assert!(tables <= free - (4 << 20), "its RAM is still somebody's");
    assert_eq!(Arc::strong_count(&vm), 1);
    drop(vm);
    assert_eq!(frame::stats().free, free);
}
