//! Which vCPU runs next, for how long, and when its registers leave the CPU.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use cmdline::VmOptions;
use vmx_types::field;
use vmx_types::reason::ExitReason as R;

use super::{Scheduler, Turn};
use crate::guest::StopReason;
use crate::guest::mailbox::Request;
use crate::testing::{HOME, Host, host, small};
use crate::vcpu::Leaves;
use crate::vm::{Change, State, Vm};
use hw::arch::tsc;
use hw::mock::{Flush, Ipi};
use hw::platform::irq;

/// Basic exit reasons (SDM appendix C).
const EXTERNAL_INTERRUPT: u32 = 1;
const TRIPLE_FAULT: u32 = 2;
const CPUID: u32 = 10;
const HLT: u32 = 12;

/// Lets the guest wait in HLT with interrupts on.
fn halts(host: &Host) {
    host.guest_does(|guest| {
        guest.set(field::GUEST_RFLAGS, 0x202);
        guest.exits(HLT, 1);
    });
}

/// Has IRQ 0 come as vector 0x20, about 10 ms from now.
fn set_timer(vm: &Vm) {
    let mut platform = vm.platform.lock();
    let pic = [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xfe)];
    let pit = [(0x43, 0x30), (0x40, 0x9c), (0x40, 0x2e)];
    for (port, value) in pic.into_iter().chain(pit) {
        platform.io_write(port, 1, value, vm.clock.now());
    }
}

/// Which of the VMs has run since it had so many exits.
fn ran(vms: &[Arc<Vm>], before: &[u64]) -> Vec<usize> {
    (0..vms.len()).filter(|&at| vms[at].exits() != before[at]).collect()
}

#[test]
fn vms_of_a_cpu_run_in_turn() {
    let host = host();
    let vms = ["a", "b", "c"].map(|name| host.running(name));
    let mut scheduler = Scheduler::default();
    let mut order = Vec::new();
    for _ in 0..9 {
        let before = vms.each_ref().map(|vm| vm.exits());
        assert_eq!(host.turn(&mut scheduler), Turn::Ran);
        let who = ran(&vms, &before);
        assert_eq!(who.len(), 1, "a turn is one VM's");
        order.extend(who);
    }
    assert_eq!((&order[..3], &order[3..6]), (&order[3..6], &order[6..]), "in turn");
    let times = vms.each_ref().map(|vm| vm.ran());
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*least >= 3 * tsc::ticks(1000) && most - least < most / 50, "the same time for each: {times:?}");
}

#[test]
fn a_vm_is_entered_in_no_state_but_running() {
    use Change::{Arrive, Destroy, Doubt, End, GiveUp, Pause, Reset, Run, Still};
    let host = host();
    let mut scheduler = Scheduler::default();
    let ways: [(&[Change], State); 8] = [
        (&[], State::Paused),
        (&[Run, Pause], State::Paused),
        (&[Run, End], State::Stopped),
        (&[Run, Still], State::Leaving),
        (&[Run, Still, GiveUp], State::Given),
        (&[Arrive, Doubt], State::Unknown),
        (&[Reset], State::Resetting),
        (&[Destroy], State::Ending),
    ];
    for (number, (way, state)) in ways.into_iter().enumerate() {
        let vm = host.vm(&alloc::format!("vm{number}"));
        for change in way {
            vm.apply(*change).unwrap();
        }
        assert_eq!(vm.state(), state);
        assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX), "{state:?}");
        assert_eq!((vm.exits(), host.loaded_on(&vm)), (0, None), "{state:?}");
    }
}

#[test]
fn another_cpu_does_not_run_a_vm() {
    let host = host();
    let vm = host.running("a");
    assert_eq!(vm.vcpus[0].cpu(), HOME, "CPU 0 keeps the consoles");
    assert_eq!(Scheduler::default().turn(tsc::ticks(1000)), Turn::Idle(u64::MAX));
    assert_eq!(vm.exits(), 0);
}

#[test]
fn a_halted_vcpu_is_woken_by_its_deadline_and_not_before() {
    let host = host();
    let vm = host.running("a");
    set_timer(&vm);
    halts(&host);
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    let exits = vm.exits();
    let Turn::Idle(wake) = host.turn(&mut scheduler) else { panic!("it is halted") };
    let left = wake - tsc::read();
    assert!((tsc::ticks(9_000)..tsc::ticks(11_000)).contains(&left), "{left} ticks to its timer");
    host.pass(left - tsc::ticks(10));
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(wake));
    assert_eq!((vm.exits(), host.injected().len()), (exits, 0));
    host.pass(tsc::ticks(10));
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert!(vm.exits() > exits);
    assert_eq!(host.injected(), [1 << 31 | 0x20], "the timer's interrupt");
}

#[test]
fn a_request_wakes_a_halted_vcpu() {
    let host = host();
    let vm = host.running("a");
    halts(&host);
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX));
    host.ipis();
    vm.platform.lock().raise_nmi();
    vm.kick(devices::VcpuSet(1));
    assert_eq!(host.ipis(), [Ipi { to: HOME as u32, vector: Some(irq::KICK) }]);
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed), 0, "it is served");
    assert_eq!(host.injected(), [1 << 31 | 0x202], "the NMI that it is woken for");
}

/// The vCPU's CPU notes when it is to wake after another one has asked for something.
#[test]
fn a_request_is_not_slept_through() {
    let host = host();
    let vm = host.running("a");
    halts(&host);
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    let slot = &vm.vcpus[0];
    vm.platform.lock().raise_nmi();
    slot.post(Request::Interrupt);
    slot.wake.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(host.injected(), [1 << 31 | 0x202]);
}

#[test]
fn an_interrupt_of_the_host_takes_nothing_of_a_slice() {
    let host = host();
    let vms = ["a", "b"].map(|name| host.running(name));
    let mut scheduler = Scheduler::default();
    host.guest_does(|guest| {
        guest.runs_for(300_000);
        guest.exits(EXTERNAL_INTERRUPT, 0);
    });
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    let first = ran(&vms, &[0, 0])[0];
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(ran(&vms, &[0, 0]), [first], "it goes on");
    let time = vms[first].ran();
    assert!((tsc::ticks(1000)..tsc::ticks(1050)).contains(&time), "for the rest of its slice alone: {time}");
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_ne!(vms[1 - first].exits(), 0, "then it is the other's turn");
}

#[test]
fn a_share_of_a_quarter_is_a_quarter_of_the_time() {
    let host = host();
    let vm = host.running("a");
    vm.vcpus[0].share.store(25, Ordering::Relaxed);
    let mut scheduler = Scheduler::default();
    let began = tsc::read();
    for _ in 0..40 {
        if let Turn::Idle(wake) = host.turn(&mut scheduler) {
            host.pass(wake.saturating_sub(tsc::read()));
        }
    }
    let percent = vm.ran() * 100 / (tsc::read() - began);
    assert!((24..=27).contains(&percent), "{percent} %");
}

#[test]
fn what_one_may_not_use_is_another_ones() {
    let host = host();
    let vms = ["a", "b"].map(|name| host.running(name));
    vms[0].vcpus[0].share.store(10, Ordering::Relaxed);
    let mut scheduler = Scheduler::default();
    for _ in 0..40 {
        assert_eq!(host.turn(&mut scheduler), Turn::Ran, "there is always one that may");
    }
    let percent = vms[0].ran() * 100 / (vms[0].ran() + vms[1].ran());
    assert!((8..=12).contains(&percent), "{percent} %");
}

#[test]
fn registers_stay_until_another_vcpu_takes_the_cpu() {
    let host = host();
    let one = host.running("one");
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    host.flushes();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!((host.loaded_on(&one), host.flushes()), (Some(HOME), Vec::<Flush>::new()));
    let other = host.running("other");
    while other.exits() == 0 {
        assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    }
    assert_eq!((host.loaded_on(&one), host.loaded_on(&other)), (None, Some(HOME)));
}

#[test]
fn a_vm_that_ended_is_off_its_cpu_and_the_next_one_runs() {
    let host = host();
    let vms = ["a", "b"].map(|name| host.running(name));
    host.guest_does(|guest| guest.exits(TRIPLE_FAULT, 0));
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    let over = ran(&vms, &[0, 0])[0];
    assert_eq!((vms[over].state(), vms[over].is_off()), (State::Stopped, true));
    assert_eq!(vms[over].stop_reason(), Some(StopReason::TripleFault));
    assert_eq!(host.loaded_on(&vms[over]), None);
    for _ in 0..3 {
        assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    }
    assert_eq!(vms[over].exits(), 1);
    assert!(vms[1 - over].exits() >= 3);
}

#[test]
fn a_cpu_lets_go_of_a_vm_that_is_gone() {
    let host = host();
    let vm = host.running("a");
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert!(host.on(HOME, || vm.take_off()));
    crate::vm::registry::remove(&vm);
    while crate::vm::remains::poll() {}
    let gone = Arc::downgrade(&vm);
    drop(vm);
    assert!(gone.upgrade().is_some(), "the scheduler has it");
    assert_eq!(host.turn(&mut scheduler), Turn::Idle(u64::MAX));
    assert!(gone.upgrade().is_none());
}

/// The state changes, and the request comes, while the guest executes.
#[test]
fn a_vm_that_is_paused_in_the_middle_of_its_turn_leaves_its_cpu() {
    let host = host();
    let vm = host.running("a");
    let paused = Arc::clone(&vm);
    host.guest_does(move |guest| {
        paused.state_cell().change(Change::Pause).unwrap();
        paused.vcpus[0].requests.fetch_or(Request::Pause as u32, Ordering::Release);
        guest.exits(CPUID, 2);
    });
    let mut scheduler = Scheduler::default();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!((vm.exits(), vm.is_off(), host.loaded_on(&vm)), (1, true, None));
    assert_eq!(vm.state(), State::Paused);
}

/// WRMSR of a register of the x2APIC, by whoever runs next.
fn writes_msr(host: &Host, msr: u64, value: u64) {
    host.guest_does(move |guest| {
        (guest.gprs[1], guest.gprs[2], guest.gprs[0]) = (msr, value >> 32, value & 0xffff_ffff);
        guest.exits(R::Wrmsr as u32, 2);
    });
}

#[test]
fn who_wakes_another_vcpu_of_its_cpu_gives_way_to_it() {
    let host = host();
    let level = Some("haswell".into());
    let vm = host.running_with(&VmOptions { vcpus: 2, level, ..small("a") });
    let mut scheduler = Scheduler::default();
    let exits = |index: usize| vm.mailboxes[index].exits.total();
    // x2APIC on, INIT and a start-up IPI to all others.
    writes_msr(&host, 0x1b, 0xfee0_0d00);
    writes_msr(&host, 0x830, 0xc_4500);
    writes_msr(&host, 0x830, 0xc_4610);
    // vCPU 1 comes first, and waits; vCPU 0 makes way twice, and vCPU 1 has the rest of the turn.
    let began = tsc::read();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!((exits(0), exits(1)), (3, 1));
    let lasted = tsc::read() - began;
    assert!((tsc::ticks(1000)..tsc::ticks(1050)).contains(&lasted), "one turn for all: {lasted}");
}

#[test]
fn those_that_are_woken_again_and_again_leave_the_others_their_share() {
    let host = host();
    let busy = host.running_with(&VmOptions { vcpus: 2, ..small("a") });
    let other = host.running("b");
    let mut scheduler = Scheduler::default();
    let mut turns = 0;
    for _ in 0..24 {
        for mailbox in &busy.mailboxes {
            mailbox.wake.store(u64::MAX, Ordering::Relaxed); // it is halted
            assert!(mailbox.post(Request::Interrupt));
        }
        let before = other.exits();
        host.turn(&mut scheduler);
        turns += u32::from(other.exits() != before);
    }
    // Every other time goes by the row of three, of whom vCPU 1 waits and leaves its turn to the next.
    assert_eq!(turns, 8);
}

/// Lets the guest run for 0.3 ms. Then another CPU wakes the vCPU of this VM, by a kick.
fn is_kicked_for(host: &Host, woken: &Arc<Vm>) {
    let woken = Arc::clone(woken);
    host.guest_does(move |guest| {
        guest.runs_for(300_000);
        let goes_on = guest.meanwhile(0, || _ = woken.mailboxes[0].post(Request::Interrupt));
        assert!(!goes_on, "it is kicked");
    });
}

/// It runs at once, and who ran goes on after it for the rest of its turn.
#[test]
fn who_is_woken_from_another_cpu_does_not_wait_for_the_end_of_a_turn() {
    let host = host();
    let vms = ["a", "b", "c"].map(|name| host.running(name));
    let [a, b, c] = &vms;
    let mut scheduler = Scheduler::default();
    let all = [a, b, c];
    while lasts(&host, &mut scheduler, &all).1 != 2 {}
    b.mailboxes[0].wake.store(u64::MAX, Ordering::Relaxed); // it is halted
    let (before, had) = (a.ran(), b.exits());
    is_kicked_for(&host, b);
    assert_eq!(lasts(&host, &mut scheduler, &all).1, 0);
    assert_eq!(b.exits(), had, "it has only been woken");
    // In the turn that it gets it halts, and what is left is the first one's, who is kicked again.
    halts(&host);
    is_kicked_for(&host, b);
    assert_eq!(lasts(&host, &mut scheduler, &all).1, 0);
    assert_eq!(b.exits(), had + 1);
    b.platform.lock().raise_nmi();
    // Once is enough for a turn: this one goes on to its end.
    assert_eq!(lasts(&host, &mut scheduler, &all).1, 0);
    let ran = a.ran() - before;
    assert!((tsc::ticks(950)..tsc::ticks(1050)).contains(&ran), "a whole turn: {ran}");
    assert_eq!(b.exits(), had + 1);
    let order: Vec<usize> = (0..3).map(|_| lasts(&host, &mut scheduler, &all).1).collect();
    assert_eq!(order, [1, 1, 2], "it was woken; then by the row");
}

/// Runs a turn, in which the guest does this first. Its length in ticks, and who had it.
fn lasts(host: &Host, scheduler: &mut Scheduler, vms: &[&Arc<Vm>]) -> (u64, usize) {
    let before: Vec<u64> = vms.iter().map(|vm| vm.exits()).collect();
    let began = tsc::read();
    assert_eq!(host.on(HOME, || scheduler.turn(tsc::ticks(10_000))), Turn::Ran);
    let who = (0..vms.len()).find(|&at| vms[at].exits() != before[at]).expect("one of them ran");
    (tsc::read() - began, who)
}

#[test]
fn a_cpu_that_others_want_is_theirs_before_a_tick_of_linux_is_late() {
    let host = host();
    let first = host.running("a");
    let mut scheduler = Scheduler::default();
    let (alone, _) = lasts(&host, &mut scheduler, &[&first]);
    assert!(alone >= tsc::ticks(9_900), "{alone}");
    let second = host.running("b");
    let (shared, _) = lasts(&host, &mut scheduler, &[&first, &second]);
    assert!(shared < tsc::ticks(1_100), "{shared}");
    // One that is paused wants nothing.
    second.apply(Change::Pause).unwrap();
    host.on(HOME, || second.take_off());
    let (alone, _) = lasts(&host, &mut scheduler, &[&first, &second]);
    assert!(alone >= tsc::ticks(9_900), "{alone}");
}

#[test]
fn a_timer_that_is_due_cuts_the_turn_of_another_vcpu_and_has_the_next() {
    let host = host();
    let vms = ["a", "b", "c"].map(|name| host.running(name));
    let [a, b, c] = &vms;
    let mut scheduler = Scheduler::default();
    // All but one sleep, one of them for half a millisecond.
    while lasts(&host, &mut scheduler, &[a, b, c]).1 != 2 {}
    c.mailboxes[0].wake.store(u64::MAX, Ordering::Relaxed);
    while lasts(&host, &mut scheduler, &[a, b, c]).1 != 1 {}
    b.mailboxes[0].wake.store(tsc::read() + tsc::ticks(500), Ordering::Relaxed);
    let (ticks, who) = lasts(&host, &mut scheduler, &[a, b, c]);
    assert!(who == 0 && ticks < tsc::ticks(600), "{who} for {ticks}");
    assert_eq!(lasts(&host, &mut scheduler, &[a, b, c]).1, 1);
}

#[test]
fn siblings_whose_loops_nobody_sees_share_a_turn() {
    let host = host();
    let vm = host.running_with(&VmOptions { vcpus: 4, ..small("a") });
    let others = ["b", "c"].map(|name| host.running(name));
    let [mut scheduler, plain] = [HOME, 0].map(|cpu| {
        let mut scheduler = Scheduler::default();
        host.on(cpu, || scheduler.refresh());
        scheduler
    });
    assert!(!scheduler.blind && plain.blind);
    let now = tsc::read();
    let mut slices = |whose: &Arc<Vm>| {
        scheduler.next = scheduler.vcpus.iter().position(|(vm, _)| Arc::ptr_eq(vm, whose)).unwrap();
        [false, plain.blind].map(|blind| {
            scheduler.blind = blind;
            scheduler.shared_slice_us(now)
        })
    };
    assert_eq!(slices(&vm), [1000, 250], "CPU 0 has no pause-loop exiting");
    vm.mailboxes[1].wake.store(now + 1, Ordering::Relaxed);
    assert_eq!(slices(&vm), [1000, 333], "one sleeps");
    assert_eq!(slices(&others[0]), [1000, 1000], "the others' loops are no concern of it");
}

/// A tick of Linux that comes late by another tick is lost.
#[test]
fn a_timer_that_is_due_while_its_vcpu_waits_for_a_turn_brings_that_forward() {
    let host = host();
    let vms = ["a", "b", "c", "d", "e"].map(|name| host.running(name));
    let all = vms.each_ref();
    let mut scheduler = Scheduler::default();
    while lasts(&host, &mut scheduler, &all).1 != 4 {}
    // The fourth one's is due in the turn of the first, the third one's was before.
    vms[3].vcpus[0].due.store(tsc::read() + tsc::ticks(600), Ordering::Relaxed);
    vms[2].vcpus[0].due.store(tsc::read() - 1, Ordering::Relaxed);
    let turns: Vec<(u64, usize)> = (0..6).map(|_| lasts(&host, &mut scheduler, &all)).collect();
    let order: Vec<usize> = turns.iter().map(|(_, who)| *who).collect();
    assert_eq!(order, [2, 0, 3, 1, 2, 3], "every other one by the row");
    assert!(turns[0].0 < tsc::ticks(650), "the next one's timer cuts a turn short: {turns:?}");
}

#[test]
fn a_paused_vm_whose_timer_is_due_changes_nobodys_turn() {
    let host = host();
    let vms = ["a", "b", "c"].map(|name| host.running(name));
    let mut scheduler = Scheduler::default();
    let all = vms.each_ref();
    while lasts(&host, &mut scheduler, &all).1 != 2 {}
    vms[1].apply(Change::Pause).unwrap();
    host.on(HOME, || vms[1].take_off());
    vms[1].mailboxes[0].wake.store(tsc::read(), Ordering::Relaxed);
    let order: Vec<usize> = (0..6).map(|_| lasts(&host, &mut scheduler, &all).1).collect();
    assert_eq!(order, [0, 2, 0, 2, 0, 2]);
}

#[test]
fn after_one_that_spins_comes_a_sibling_that_works_and_others_keep_their_share() {
    let host = host();
    let vm = host.running_with(&VmOptions { vcpus: 3, ..small("a") });
    let other = host.running("b");
    let mut scheduler = Scheduler::default();
    // All are started.
    for _ in 0..8 {
        host.turn(&mut scheduler);
    }
    for slot in &vm.vcpus {
        slot.vcpu.lock().vcpu.activity = crate::vcpu::Activity::Running;
        slot.wake.store(0, Ordering::Relaxed);
    }
    let exits = |index: usize| vm.mailboxes[index].exits.total();
    // All but vCPU 1 spin.
    let (mut turns, mut others) = ([0_u32; 3], 0);
    for _ in 0..24 {
        let before = [exits(0), exits(1), exits(2)];
        let before_other = other.exits();
        for index in [0, 2] {
            let mut vcpu = vm.vcpus[index].vcpu.lock();
            (vcpu.vcpu.leaves, vcpu.vcpu.attention) = (Some(Leaves::Spins), true);
        }
        host.turn(&mut scheduler);
        for index in 0..3 {
            turns[index] += u32::from(exits(index) != before[index]);
        }
        others += u32::from(other.exits() != before_other);
    }
    // Those that spin leave at once, without an exit.
    assert_eq!((turns[0], turns[2]), (0, 0));
    assert!(turns[1] >= 10 && others >= 4, "{turns:?}, {others}");
}

/// `vm pin`: its old CPU lets go of it, whatever it does there, and no request is lost on the way.
#[test]
fn a_vcpu_that_is_pinned_is_let_go_of_and_runs_elsewhere() {
    let host = host();
    let (vm, other) = (host.running("a"), host.running("b"));
    let (mut old, mut new) = (Scheduler::default(), Scheduler::default());
    let slot = &vm.vcpus[0];
    while host.loaded_on(&vm) != Some(HOME) {
        host.turn(&mut old);
    }
    super::pin(slot, 0);
    // It is its old CPU's until that has looked.
    assert_eq!(slot.cpu(), HOME);
    slot.post(Request::Clock);
    host.ipis();
    assert_eq!(host.turn(&mut old), Turn::Ran);
    assert_eq!((slot.cpu(), host.loaded_on(&vm)), (0, None));
    let kicked: Vec<u32> = host.ipis().iter().map(|ipi| ipi.to).collect();
    assert!(kicked.contains(&0), "{kicked:?}");
    let before = (vm.exits(), other.exits());
    assert_eq!(new.turn(tsc::ticks(1000)), Turn::Ran);
    assert_eq!(host.loaded_on(&vm), Some(0));
    assert!(vm.exits() > before.0 && slot.requests.load(Ordering::Relaxed) == 0);
    for _ in 0..4 {
        host.turn(&mut old);
    }
    assert!(other.exits() > before.1, "who stays has the CPU");
    assert_eq!(host.loaded_on(&vm), Some(0));
    // And back, while it sleeps there.
    halts(&host);
    new.turn(tsc::ticks(1000));
    super::pin(slot, HOME);
    new.turn(tsc::ticks(1000));
    assert_eq!((slot.cpu(), host.loaded_on(&vm)), (HOME, None));
    slot.post(Request::Interrupt);
    for _ in 0..3 {
        host.turn(&mut old);
    }
    assert_eq!(slot.requests.load(Ordering::Relaxed), 0, "it has been looked at");
}
