//! A turn of a vCPU: what ends it, what it does for other CPUs, what it leaves behind.

use core::sync::atomic::Ordering;

use hw::arch::tsc;
use hw::mock::{Flush, Ipi};
use migrate::ownership::{Change, Entry};
use vmx_types::field;
use vmx_types::reason::ExitReason as R;

use crate::guest::mailbox::Request;
use crate::run::Outcome;
use crate::testing::host;

#[test]
fn a_paused_vm_gives_its_cpu_back_and_is_entered_no_more() {
    let host = host();
    let vm = host.running("a");
    let slot = &vm.vcpus[0];
    assert_eq!(slot.gate.enter(vm.state_cell()), Entry::Run);
    host.run(&vm);
    vm.apply(Change::Pause).unwrap();
    let exits = vm.exits();
    assert!(matches!(host.run(&vm), Outcome::Paused));
    assert_eq!(vm.exits(), exits);
    assert_eq!(slot.vcpu.lock().loaded_on(), None, "all of it is in memory");
    assert_eq!(slot.gate.enter(vm.state_cell()), Entry::TakeOff);
}

#[test]
fn a_vm_that_is_paused_while_it_runs_is_left_at_its_next_exit() {
    let host = host();
    let vm = host.running("a");
    vm.vcpus[0].gate.enter(vm.state_cell());
    let mailbox = alloc::sync::Arc::clone(&vm.mailboxes[0]);
    host.guest_does(move |guest| {
        mailbox.requests.fetch_or(Request::Pause as u32, Ordering::Relaxed);
        guest.exits(R::Cpuid as u32, 2);
    });
    vm.state_cell().change(Change::Pause).unwrap();
    assert!(matches!(host.run(&vm), Outcome::Paused));
    assert_eq!(host.vcpu_state(&vm).rip, 0x10_0022, "the exit was dealt with");
}

#[test]
fn an_old_request_to_pause_means_nothing_to_a_vm_that_runs_again() {
    let host = host();
    let vm = host.running("a");
    vm.vcpus[0].post(Request::Pause);
    assert!(matches!(host.run(&vm), Outcome::Yield));
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_request_kicks_the_cpu_of_the_vcpu_and_is_acknowledged_when_it_is_served() {
    let host = host();
    let vm = host.running("a");
    let slot = &vm.vcpus[0];
    host.run(&vm);
    host.ipis();
    let other = 1 - slot.cpu();
    host.on(other, || slot.post(Request::DrainPml));
    let kicks = host.ipis();
    assert!(matches!(kicks[..], [Ipi { vector: Some(hw::platform::irq::KICK), .. }]), "{kicks:?}");
    assert_eq!(slot.requests.load(Ordering::Relaxed), Request::DrainPml as u32);
    host.exit(&vm, |guest| guest.exits(R::ExternalInterrupt as u32, 0));
    assert_eq!(slot.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_clock_that_is_set_is_taken_up_before_the_guest_runs_again() {
    let host = host();
    let vm = host.running("a");
    host.run(&vm);
    vm.clock.set(1 << 50);
    vm.vcpus[0].post(Request::Clock);
    let offset = vm.clock.offset();
    host.exit(&vm, move |guest| {
        assert_eq!(guest.read(field::TSC_OFFSET), offset);
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
}

#[test]
fn a_turn_ends_in_time_whatever_the_guest_does() {
    let host = host();
    let vm = host.running("a");
    // Exits without end, each of a microsecond.
    for _ in 0..2000 {
        host.guest_does(|guest| {
            guest.runs_for(1000);
            guest.exits(R::Cpuid as u32, 0);
        });
    }
    let began = tsc::read();
    assert!(matches!(host.run(&vm), Outcome::Yield));
    assert!(tsc::read() - began < 2 * tsc::ticks(1000), "{}", tsc::read() - began);
    assert!(host.left_to_do() > 0);
}

#[test]
fn the_preemption_timer_is_set_to_the_end_of_the_turn() {
    let host = host();
    let vm = host.running("a");
    let until = tsc::read() + tsc::ticks(1000);
    host.exit(&vm, move |guest| {
        let timer = guest.read(field::PREEMPTION_TIMER);
        assert!(timer << 5 <= until, "{timer}");
        assert!(timer << 5 > tsc_of(1000) - tsc_of(50), "{timer}");
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
}

const fn tsc_of(us: u64) -> u64 {
    us * hw::mock::TSC_HZ / 1_000_000
}

#[test]
#[should_panic(expected = "a VMCS is still on CPU")]
fn a_vcpu_on_one_cpu_is_not_run_on_another() {
    let host = host();
    let vm = host.running("a");
    host.run(&vm);
    host.on(1, || host.run(&vm));
}

#[test]
fn a_vcpu_that_comes_to_another_cpu_finds_nothing_of_an_older_stay_there() {
    let host = host();
    let vm = host.running("a");
    host.run(&vm);
    let release = || vm.vcpus[0].vcpu.lock().release(&vm);
    release();
    host.on(1, || {
        host.run(&vm);
        release();
    });
    host.flushes();
    host.run(&vm);
    let flushes = host.flushes();
    assert!(flushes.iter().any(|flush| matches!(flush, Flush::Vpid(0, _))), "{flushes:?}");
}

#[test]
fn exits_are_counted_and_timed_by_reason() {
    let host = host();
    let vm = host.running("a");
    vm.vcpus[0].exits.set_timed(true);
    for _ in 0..3 {
        host.guest_does(|guest| guest.exits(R::Cpuid as u32, 2));
    }
    host.run(&vm);
    let counted = vm.vcpus[0].exits.all().find(|counted| counted.number == R::Cpuid as u16).unwrap();
    assert_eq!((counted.count, counted.timed, counted.text()), (3, 3, R::Cpuid.text()));
    assert!(counted.ticks > 0);
}
