//! From state to state, and what that asks of the CPUs.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::guest::StopReason;
use crate::guest::mailbox::Request;
use crate::testing::{HOME, Host, host};
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::{Change, State, Vm, registry, remains};
use hw::mm::frame;
use hw::mock::Ipi;
use hw::platform::irq;
use scheduling::wake::WOKEN;

const KICK: Ipi = Ipi { to: HOME as u32, vector: Some(irq::KICK) };

/// How a VM comes to a state.
fn way(state: State) -> &'static [Change] {
    use Change::{Arrive, Destroy, Doubt, End, GiveUp, Reset, Run, Still};
    match state {
        State::Paused => &[],
        State::Running => &[Run],
        State::Stopped => &[Run, End],
        State::Leaving => &[Run, Still],
        State::Given => &[Run, Still, GiveUp],
        State::Unknown => &[Run, Still, GiveUp, Doubt],
        State::Incoming => &[Arrive],
        State::Resetting => &[Reset],
        State::Ending => &[Destroy],
    }
}

fn vm_in(host: &Host, state: State) -> Arc<Vm> {
    let vm = host.vm("a");
    for change in way(state) {
        vm.apply(*change).unwrap();
    }
    assert_eq!(vm.state(), state);
    vm
}

/// One whose registers are on its home CPU.
fn on_its_cpu(host: &Host, scheduler: &mut Scheduler) -> Arc<Vm> {
    let vm = host.running("a");
    assert_eq!(host.turn(scheduler), Turn::Ran);
    assert_eq!((vm.is_off(), host.loaded_on(&vm)), (false, Some(HOME)));
    host.ipis();
    vm
}

/// All that a refused change could have touched.
fn seen(vm: &Vm) -> (State, bool, u32, u32, Option<StopReason>) {
    let slot = &vm.vcpus[0];
    let requests = slot.requests.load(Ordering::Relaxed);
    (vm.state(), vm.has_begun(), requests, slot.share.load(Ordering::Relaxed), vm.stop_reason())
}

#[test]
fn a_change_that_does_not_fit_changes_nothing() {
    let host = host();
    for state in State::ALL {
        let mut vm = vm_in(&host, state);
        vm.vcpus[0].share.store(30, Ordering::Relaxed);
        host.ipis();
        for change in Change::ALL {
            let before = seen(&vm);
            let result = vm.apply(change);
            let Some(next) = state.step(change) else {
                let refusal = result.unwrap_err();
                assert!(refusal.starts_with(&alloc::format!("vm a is {}, ", state.name())), "{refusal}");
                assert_eq!(seen(&vm), before, "{state:?} {change:?}");
                assert!(host.ipis().is_empty(), "{state:?} {change:?}");
                continue;
            };
            result.unwrap();
            assert_eq!(vm.state(), next, "{state:?} {change:?}");
            registry::remove(&vm);
            while remains::poll() {}
            vm = vm_in(&host, state);
            vm.vcpus[0].share.store(30, Ordering::Relaxed);
            host.ipis();
        }
        registry::remove(&vm);
        while remains::poll() {}
    }
}

#[test]
fn a_vm_that_goes_on_has_its_whole_share_and_looks_at_its_clock() {
    let host = host();
    let vm = host.vm("a");
    let slot = &vm.vcpus[0];
    slot.share.store(10, Ordering::Relaxed);
    slot.held_until.store(u64::MAX, Ordering::Relaxed);
    slot.wake.store(u64::MAX, Ordering::Relaxed);
    host.ipis();
    vm.apply(Change::Run).unwrap();
    assert_eq!(slot.share.load(Ordering::Relaxed), 100);
    assert_eq!((slot.held_until.load(Ordering::Relaxed), slot.wake.load(Ordering::Relaxed)), (0, WOKEN));
    assert_ne!(slot.requests.load(Ordering::Relaxed) & Request::Clock as u32, 0);
    assert_eq!(host.ipis(), [KICK], "its CPU may sleep");
}

#[test]
fn a_pause_is_over_once_the_other_cpu_has_let_go() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    vm.apply(Change::Pause).unwrap();
    assert_eq!(host.ipis(), [KICK]);
    assert_eq!((vm.holder(), vm.is_off()), (Some(HOME), false), "CPU 0 cannot take it off there");
    assert_eq!(host.loaded_on(&vm), Some(HOME));
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX));
    assert_eq!((vm.holder(), vm.is_off(), host.loaded_on(&vm)), (None, true, None));
    let exits = vm.exits();
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX));
    assert_eq!(vm.exits(), exits);
}

#[test]
fn the_home_cpu_takes_it_off_itself() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    vm.apply(Change::Still).unwrap();
    assert_eq!(host.on(HOME, || vm.holder()), None);
    assert_eq!((vm.is_off(), host.loaded_on(&vm)), (true, None));
}

#[test]
fn nobody_is_kicked_for_a_vm_that_is_off() {
    let host = host();
    let vm = host.running("a");
    host.ipis();
    vm.apply(Change::Pause).unwrap();
    assert_eq!(host.ipis(), [], "its CPU has not had it");
    assert!(vm.is_off());
}

#[test]
fn a_state_is_taken_from_the_cpu_that_has_it_to_another() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    vm.apply(Change::Still).unwrap();
    host.turn(&mut scheduler);
    let state = host.vcpu_state(&vm);
    assert_eq!((state.rip, host.loaded_on(&vm)), (0x10_0020, None), "exported on CPU 0, and left on none");
}

#[test]
#[should_panic(expected = "a VMCS is still on CPU Some(1)")]
fn a_vcpu_is_active_on_one_cpu_at_most() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    host.vcpu_state(&vm);
}

#[test]
fn the_end_of_a_guest_that_is_thrown_away_counts_for_nothing() {
    let host = host();
    for state in [State::Resetting, State::Ending] {
        let vm = vm_in(&host, state);
        vm.ended(StopReason::TripleFault);
        assert_eq!((vm.state(), vm.stop_reason()), (state, None));
        assert_eq!(vm.restarts.lock().count(), 0, "{state:?}");
        registry::remove(&vm);
    }
}

#[test]
fn a_guest_that_ends_while_it_is_paused_is_stopped() {
    let host = host();
    let vm = host.running("a");
    vm.apply(Change::Pause).unwrap();
    vm.ended(StopReason::PowerOff);
    assert_eq!((vm.state(), vm.stop_reason()), (State::Stopped, Some(StopReason::PowerOff)));
    assert!(!vm.restarts.lock().waits(), "who powers off does not boot again");
}

#[test]
fn a_held_vm_stands_still_and_goes_on() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    let look = || (vm.state(), vm.is_off(), host.loaded_on(&vm));
    assert_eq!(host.on(HOME, || vm.held(look)), Ok((State::Paused, true, None)));
    assert_eq!(vm.state(), State::Running);
    vm.apply(Change::Pause).unwrap();
    assert_eq!(vm.held(|| vm.state()), Ok(State::Paused));
    assert_eq!(vm.state(), State::Paused, "it did not run before");
}

#[test]
fn nothing_is_done_to_a_vm_that_its_cpu_keeps() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = on_its_cpu(&host, &mut scheduler);
    host.slow(10_000);
    let refusal = vm.held(|| panic!("it is on CPU 1")).unwrap_err();
    assert!(refusal.starts_with("vm a: CPU 1 has not left its guest within 10 ms"), "{refusal}");
    assert_eq!(vm.state(), State::Running, "it goes on");
    assert!(!vm.take_off());
    vm.destroy();
    assert!(registry::holds(&vm), "nor is it destroyed");
}

#[test]
fn a_destroyed_vm_gives_all_its_memory_back() {
    let host = host();
    let before = frame::stats().free;
    let vm = host.vm("a");
    assert!(frame::stats().free <= before - (4 << 20));
    vm.destroy();
    assert!(registry::find("a").is_none());
    while remains::poll() {}
    drop(vm);
    assert_eq!(frame::stats().free, before);
}

#[test]
fn the_power_button_reaches_the_guest() {
    let host = host();
    let vm = host.running("a");
    host.opens_interrupts(&vm);
    vm.vcpus[0].requests.store(0, Ordering::Relaxed);
    vm.press_power_button();
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed), Request::Interrupt as u32);
    let status = vm.platform.lock().io_read(0x600, 2, vm.clock.now());
    assert_eq!(status & 1 << 8, 1 << 8, "PWRBTN_STS");
}
