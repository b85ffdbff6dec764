//! Booting a VM again: when it is taken, what its guest finds, how it ends.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use cmdline::VmOptions;
use translation::{Backing, DirtyMethod};
use vm_types::{Gpa, GuestMemory, Topology};
use vmx_types::field;

use super::{Anew, order, poll};
use crate::guest::StopReason;
use crate::guest::mailbox::Request;
use crate::policy;
use crate::testing::{HOME, Host, TURN_US, file, host, small};
use crate::vm::outcome::Outcome;
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::source::Content;
use crate::vm::{Change, State, Vm, create, ending, registry};
use hw::arch::tsc;
use hw::mock::Flush;
use hw::vmx::flush;

/// Somewhere in the guest's memory where nothing is loaded.
const DATA: Gpa = Gpa(3 << 20);

/// An MSR that the levels do not let a guest at without an exit.
const MISC_ENABLE: u32 = 0x1a0;

fn anew(vm: &Vm) -> Anew {
    Anew { source: vm.source.lock().clone().unwrap(), policy: None, why: "" }
}

fn reset(vm: &Arc<Vm>) -> Outcome {
    let outcome = Outcome::default();
    order(vm, anew(vm), &outcome).unwrap();
    outcome
}

/// A VM that has run on its home CPU, which has it still.
fn has_run(host: &Host, scheduler: &mut Scheduler) -> Arc<Vm> {
    let vm = host.running("a");
    host.guest_does(|guest| {
        guest.set(field::GUEST_RIP, 0x12_3456);
        guest.gprs[3] = 7;
        guest.exits(1, 0);
    });
    assert_eq!(host.turn(scheduler), Turn::Ran);
    vm.memory.write(DATA, b"left").unwrap();
    vm
}

/// What lies at [`DATA`].
fn data(vm: &Vm) -> [u8; 4] {
    let mut data = [0; 4];
    vm.memory.read(DATA, &mut data).unwrap();
    data
}

/// CPU 0 and the home CPU do what they have to do, until the reset is over.
fn until_over(
    host: &Host,
    scheduler: &mut Scheduler,
    outcome: &Outcome,
) -> Result<(), alloc::string::String> {
    for _ in 0..1000 {
        poll();
        if let Some(result) = outcome.get() {
            return result;
        }
        host.on(HOME, flush::serve);
        host.turn(scheduler);
    }
    panic!("the reset does not end")
}

#[test]
fn a_guest_boots_anew_in_memory_that_is_clear() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = has_run(&host, &mut scheduler);
    vm.platform.lock().io_write(0x61, 1, 3, vm.clock.now());
    let time = vm.clock.now().tsc;
    let outcome = reset(&vm);
    assert_eq!((vm.state(), vm.has_begun()), (State::Resetting, false));
    assert_eq!(until_over(&host, &mut scheduler, &outcome), Ok(()));
    assert_eq!((vm.state(), data(&vm)), (State::Running, [0; 4]));
    assert!(vm.clock.now().tsc > time, "the time line goes on");
    assert_eq!(vm.platform.lock().io_read(0x61, 1, vm.clock.now()) & 3, 0, "the board is new");
    vm.apply(Change::Pause).unwrap();
    host.turn(&mut scheduler);
    let state = host.vcpu_state(&vm);
    assert_eq!((state.rip, state.gprs[3]), (0x10_0020, vm_at_start(&host).gprs[3]));
}

fn vm_at_start(host: &Host) -> vmx_types::VcpuState {
    host.vcpu_state(&host.vm("another"))
}

#[test]
fn nothing_is_touched_before_its_cpu_has_let_go() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = has_run(&host, &mut scheduler);
    let outcome = reset(&vm);
    for _ in 0..3 {
        assert!(!poll(), "there is nothing to do for CPU 0");
    }
    assert_eq!((data(&vm), host.loaded_on(&vm)), (*b"left", Some(HOME)));
    host.pass(tsc::ticks(5_100_000));
    poll();
    let why = outcome.get().unwrap().unwrap_err();
    assert!(why.starts_with("vm a: CPU 1 has not left its guest within 5 s: it is reset"), "{why}");
    assert_eq!(data(&vm), *b"left");
    while vm.state() != State::Running {
        host.turn(&mut scheduler);
        host.on(HOME, flush::serve);
        poll();
    }
    assert_eq!(data(&vm), [0; 4], "it goes on all the same");
}

#[test]
fn cpus_that_ran_it_forget_it_before_it_runs_again() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = has_run(&host, &mut scheduler);
    let outcome = reset(&vm);
    host.turn(&mut scheduler);
    host.flushes();
    for _ in 0..20 {
        poll();
    }
    assert_eq!((outcome.get(), vm.state()), (None, State::Resetting), "CPU 1 has not answered");
    assert_eq!(data(&vm), [0; 4]);
    let root = vm.mmu.lock().cached().unwrap().0;
    assert!(!host.flushes().contains(&Flush::Ept(HOME, root)));
    host.on(HOME, flush::serve);
    assert_eq!(host.flushes(), [Flush::Ept(HOME, root)]);
    poll();
    assert_eq!((outcome.get(), vm.state()), (Some(Ok(())), State::Running));
}

#[test]
fn a_reset_goes_on_in_turns() {
    let host = host();
    let vm = host.vm("a");
    host.slow(tsc::ticks(TURN_US));
    let outcome = reset(&vm);
    let mut turns = 0;
    while outcome.get().is_none() {
        poll();
        turns += 1;
    }
    assert!(turns > 16, "4 MiB are not cleared at once: {turns}");
}

#[test]
fn old_requests_and_an_old_end_are_forgotten() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = has_run(&host, &mut scheduler);
    host.guest_does(|guest| guest.exits(2, 0));
    host.turn(&mut scheduler);
    vm.restarts.lock().give_up();
    assert_eq!(vm.stop_reason(), Some(StopReason::TripleFault));
    vm.vcpus[0].post(Request::DrainPml);
    let outcome = reset(&vm);
    assert_eq!(until_over(&host, &mut scheduler, &outcome), Ok(()));
    assert_eq!(vm.stop_reason(), None);
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed) & Request::DrainPml as u32, 0);
}

#[test]
fn what_watched_the_guest_ends() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = host.vm("a");
    while vm.start_tracking(DirtyMethod::WriteProtect).is_pending() {}
    vm.start_audit().unwrap();
    let outcome = reset(&vm);
    assert_eq!(until_over(&host, &mut scheduler, &outcome), Ok(()));
    assert_eq!((vm.tracking(), vm.is_changing()), (None, false));
    assert!(!vm.stop_audit(), "none is on");
    assert_eq!(vm.mmu.lock().under_way(), None);
}

#[test]
fn a_vm_that_is_destroyed_meanwhile_does_not_boot() {
    let host = host();
    let vm = host.running("a");
    let outcome = reset(&vm);
    let end = ending::order(&vm).unwrap();
    poll();
    assert!(outcome.get().unwrap().unwrap_err().contains("it is not reset"));
    ending::poll();
    assert_eq!(end.get(), Some(Ok(())));
    assert!(registry::find("a").is_none() && !poll());
}

#[test]
fn a_kernel_that_cannot_be_loaded_stops_the_vm() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = has_run(&host, &mut scheduler);
    let mut bad = anew(&vm);
    bad.source.files[0].content = Content::Here(file(b"no kernel at all"));
    let outcome = Outcome::default();
    order(&vm, bad, &outcome).unwrap();
    until_over(&host, &mut scheduler, &outcome).unwrap_err();
    assert_eq!((vm.state(), data(&vm)), (State::Stopped, [0; 4]));
    assert!(matches!(vm.stop_reason(), Some(StopReason::Error(_))));
}

#[test]
fn a_vm_in_a_hand_over_is_not_reset() {
    let host = host();
    let vm = host.running("a");
    vm.apply(Change::Still).unwrap();
    vm.memory.write(DATA, b"left").unwrap();
    assert!(order(&vm, anew(&vm), &Outcome::default()).is_err());
    assert!(!poll());
    assert_eq!((vm.state(), data(&vm)), (State::Leaving, *b"left"));
}

/// What the guest of a running VM sees in EBX of CPUID leaf 7, by an exit of its own.
fn leaf_7(host: &Host, scheduler: &mut Scheduler) -> u64 {
    let seen = Arc::new(AtomicU64::new(u64::MAX));
    let answer = Arc::clone(&seen);
    host.guest_does(|guest| {
        (guest.gprs[0], guest.gprs[1]) = (7, 0);
        guest.exits(10, 2);
    });
    host.guest_does(move |guest| {
        answer.store(guest.gprs[3], Ordering::Relaxed);
        guest.exits(1, 0);
    });
    while host.left_to_do() != 0 {
        assert_eq!(host.turn(scheduler), Turn::Ran);
    }
    seen.load(Ordering::Relaxed)
}

#[test]
fn a_guest_that_boots_at_another_level_sees_that() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let topology = Some(Topology { sockets: 2, cores: 1, threads: 1 });
    let vm = host.running_with(&VmOptions { vcpus: 2, topology, ..small("a") });
    let before = leaf_7(&host, &mut scheduler);
    let oldest = policy::host().levels().next().unwrap().name;
    vm.msr_bitmaps.pass_reads(MISC_ENABLE);
    let mut lower = anew(&vm);
    lower.policy = Some(create::at_level(&vm, &mut lower.source.options, oldest).unwrap());
    let outcome = Outcome::default();
    order(&vm, lower, &outcome).unwrap();
    assert_eq!(until_over(&host, &mut scheduler, &outcome), Ok(()));
    assert_eq!(vm.policy().level_name(), oldest);
    assert_eq!(Some(vm.policy().shape().topology), topology, "its vCPUs stay where they are");
    assert!(vm.msr_bitmaps.read_exits(MISC_ENABLE), "what the level before let it at");
    let after = leaf_7(&host, &mut scheduler);
    assert!(before != after && after & !before == 0, "{before:#x} {after:#x}");
    assert_eq!(
        vm.source.lock().as_ref().unwrap().options.level.as_deref(),
        Some(oldest),
        "also the next time"
    );
}
