//! IPIs that a guest sends without an exit, on a CPU with IPI virtualization, [`HOME`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::apicv::{does, interrupt, with_x2apic, wrmsr};
use super::posted::turn;
use crate::guest::mailbox::Request;
use crate::run::Outcome;
use crate::testing::{HOME, Host, host, small};
use crate::vm::Vm;
use crate::vm::sched::{Scheduler, Turn};
use cmdline::VmOptions;
use hw::mock::Ipi;
use hw::platform::irq;
use migrate::ownership::Change;
use vmx_types::apic::TERTIARY;
use vmx_types::field;
use vmx_types::reason::ExitReason as R;
use x86::msr;

const fn ipi(to: usize, vector: u8) -> Ipi {
    Ipi { to: to as u32, vector: Some(vector) }
}

/// A VM of two vCPUs, whose APICs take interrupts in x2APIC mode.
fn two(host: &Host) -> Arc<Vm> {
    let vm = host.running_with(&VmOptions { vcpus: 2, ..small("a") });
    with_x2apic(host, &vm, HOME);
    for (register, value) in [(msr::APIC_BASE, 0xfee0_0c00), (0x80f, 0x1ff)] {
        let mut vcpu = vm.vcpus[1].vcpu.lock();
        vcpu.vcpu.apic.msr_write(register, value, vm.clock.now()).unwrap();
    }
    vm.mailboxes[1].requests.store(0, Ordering::Relaxed); // its clock was set
    host.ipis();
    vm
}

/// vCPU 0 sends this, in a turn of its own. Whether it went on.
fn sends(host: &Host, vm: &Vm, icr: u64) -> bool {
    let exits = vm.exits();
    turn(host, vm, move |guest| {
        if guest.sends_ipi(icr) {
            guest.exits(R::Cpuid as u32, 2);
        }
    });
    let counted = vm.mailboxes[0].exits.all().find(|counted| counted.number == R::ApicWrite as u16);
    assert_eq!(vm.exits(), exits + 2);
    counted.is_none()
}

const TO_1: u64 = 1 << 32;

#[test]
fn ipi_virtualization_goes_with_the_mode() {
    let host = host();
    let vm = host.running("a");
    for (base, on) in [(0xfee0_0900, TERTIARY), (0xfee0_0d00, TERTIARY), (0xfee0_0100, 0)] {
        wrmsr(&host, &vm, HOME, msr::APIC_BASE, base);
        does(&host, &vm, HOME, move |guest| {
            assert_eq!(guest.read(field::PROC_BASED_CONTROLS_3), on, "{base:#x}");
            guest.exits(R::Cpuid as u32, 2);
        });
    }
}

/// To itself, by its ID: it has the CPU, which is notified.
#[test]
fn who_is_in_the_guest_gets_it_without_an_exit() {
    let host = host();
    let vm = two(&host);
    let injected = turn(&host, &vm, |guest| {
        assert!(guest.sends_ipi(0x71));
        assert!(guest.gets(irq::POSTED));
        guest.exits(R::Cpuid as u32, 2);
    });
    assert_eq!((injected, host.ipis()), ([interrupt(0x71)].into(), [ipi(HOME, irq::POSTED)].into()));
}

#[test]
fn who_waits_for_its_turn_finds_it_then() {
    let host = host();
    let vm = two(&host);
    let other = &vm.mailboxes[1];
    other.begin();
    other.queue();
    assert!(sends(&host, &vm, TO_1 | 0x72));
    assert_eq!(host.ipis(), [], "nobody is told");
    assert_eq!(other.requests.load(Ordering::Relaxed), 0);
    other.begin();
    assert_eq!(other.requests.load(Ordering::Relaxed), Request::Interrupt as u32);
    let mut vcpu = vm.vcpus[1].vcpu.lock();
    vcpu.vcpu.apic.catch_up(vm.clock.now());
    assert_eq!(vcpu.vcpu.apic.pending(), Some(0x72));
}

/// One that may use no more of the CPU for now is woken as one that sleeps.
#[test]
fn who_sleeps_is_woken() {
    let host = host();
    let vm = two(&host);
    let other = &vm.mailboxes[1];
    for held in [false, true] {
        other.begin();
        if held {
            other.queue();
            assert_eq!(other.waits_until(1, u64::MAX), Some(u64::MAX));
        } else {
            other.doze(u64::MAX);
        }
        assert!(sends(&host, &vm, TO_1 | 0x73));
        assert_eq!(host.ipis(), [ipi(other.cpu(), irq::WAKE)]);
        other.hear();
        assert_eq!(other.waits_until(1, 0), None);
        vm.vcpus[1].vcpu.lock().vcpu.apic.catch_up(vm.clock.now());
        other.requests.store(0, Ordering::Relaxed);
        host.ipis();
    }
    // One that is held finds by itself what came while it was queued.
    other.begin();
    other.queue();
    assert!(sends(&host, &vm, TO_1 | 0x73));
    assert_eq!(other.waits_until(1, u64::MAX), None);
    // One that has something when it falls asleep does not.
    assert!(sends(&host, &vm, TO_1 | 0x74));
    other.doze(u64::MAX);
    assert_eq!(other.waits_until(1, 0), None);
}

/// The CPU that is interrupted does not know for whom: its scheduler looks.
#[test]
fn the_scheduler_finds_whom_a_cpu_has_woken() {
    let host = host();
    let vm = host.running("a");
    with_x2apic(&host, &vm, HOME);
    let mut scheduler = Scheduler::default();
    host.guest_does(|guest| guest.exits(R::Hlt as u32, 1));
    while !matches!(host.turn(&mut scheduler), Turn::Idle(_)) {}
    assert_eq!(vm.mailboxes[0].cpu(), HOME);
    host.ipis();
    // As a CPU with another vCPU of the VM would do it.
    let table = vm.apics.posted();
    table.of(0).unwrap().post(0x75);
    assert!(matches!(host.turn(&mut scheduler), Turn::Idle(_)), "nobody has said so");
    host.on(HOME, || irq::dispatch(irq::WAKE));
    host.injected();
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(host.injected(), [interrupt(0x75)]);
}

#[test]
fn who_moves_is_woken_on_its_new_cpu() {
    let host = host();
    let vm = two(&host);
    let other = &vm.mailboxes[1];
    other.begin();
    other.doze(u64::MAX);
    let elsewhere = 1 - other.cpu();
    other.moves_to(elsewhere, || {});
    host.ipis();
    assert!(sends(&host, &vm, TO_1 | 0x76));
    assert_eq!(host.ipis(), [ipi(elsewhere, irq::WAKE)]);
    // What came before is known to the new one.
    other.moves_to(1 - elsewhere, || {});
    assert_eq!(other.waits_until(1, 0), None);
}

#[test]
fn what_the_cpu_cannot_send_exits_and_is_sent() {
    let host = host();
    let vm = two(&host);
    vm.mailboxes[1].begin();
    vm.mailboxes[1].queue();
    // To all but itself; then to nobody, and a vector that no APIC sends.
    assert!(!sends(&host, &vm, 0xc_0077));
    {
        let apic = &mut vm.vcpus[1].vcpu.lock().vcpu.apic;
        apic.catch_up(vm.clock.now());
        assert_eq!(apic.pending(), Some(0x77));
    }
    assert_eq!(vm.vcpus[0].vcpu.lock().vcpu.apic.msr_read(0x830, vm.clock.now()), Ok(0xc_0077));
    for icr in [2 << 32 | 0x78, TO_1 | 5] {
        assert!(!sends(&host, &vm, icr), "{icr:#x}");
    }
    // One that is switched off is no CPU's to reach.
    vm.vcpus[1].vcpu.lock().vcpu.apic.msr_write(0x80f, 0xff, vm.clock.now()).unwrap();
    let exits = Vec::from_iter(vm.mailboxes[0].exits.all().map(|counted| counted.count));
    turn(&host, &vm, |guest| assert!(!guest.sends_ipi(TO_1 | 0x79)));
    assert_ne!(exits, Vec::from_iter(vm.mailboxes[0].exits.all().map(|counted| counted.count)));
    assert!(!vm.apics.posted().of(1).unwrap().has_mail());
}

/// A CPU has left it where nobody is told; the VM stops, and its records are taken.
#[test]
fn what_nobody_was_told_of_travels() {
    let host = host();
    let vm = two(&host);
    let slot = &vm.vcpus[1];
    slot.gate.enter(vm.state_cell());
    slot.begin();
    slot.queue();
    assert!(sends(&host, &vm, TO_1 | 0x7b));
    vm.apply(Change::Pause).unwrap();
    host.on(slot.cpu(), || vm.take_off());
    let apic = &mut slot.vcpu.lock().vcpu.apic;
    apic.catch_up(vm.clock.now());
    assert_eq!(apic.pending(), Some(0x7b));
}

#[test]
fn a_reset_forgets_what_was_posted() {
    let host = host();
    let vm = two(&host);
    vm.mailboxes[1].begin();
    vm.mailboxes[1].queue();
    assert!(sends(&host, &vm, TO_1 | 0x7a));
    vm.mailboxes[1].begin();
    let mut vcpu = vm.vcpus[1].vcpu.lock();
    vcpu.vcpu.apic = devices::LocalApic::new(1, &vm.board, &vm.apics);
    vcpu.vcpu.apic.catch_up(vm.clock.now());
    assert!(!vcpu.vcpu.apic.has_request() && !vm.apics.posted().of(1).unwrap().has_mail());
    assert!(matches!(host.on(HOME, || host.run(&vm)), Outcome::Yield), "the other one goes on");
}
