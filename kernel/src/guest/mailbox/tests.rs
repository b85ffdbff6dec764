//! What CPUs ask of a running vCPU, and what it answers.

use core::sync::atomic::Ordering;

use scheduling::wake::WOKEN;
use vmx_types::field;

use super::{Mailbox, Request};
use crate::run::Outcome;
use crate::testing::{HOME, host};
use crate::vm::Change;
use hw::mock::Ipi;
use hw::platform::irq;

const KICK: Ipi = Ipi { to: HOME as u32, vector: Some(irq::KICK) };

#[test]
fn a_request_kicks_the_cpu_of_its_vcpu_and_no_other() {
    let host = host();
    let (here, there) = (Mailbox::new(0, None), Mailbox::new(HOME, None));
    there.wake.store(u64::MAX, Ordering::Relaxed);
    there.post(Request::Interrupt);
    assert_eq!(host.ipis(), [KICK]);
    there.post(Request::Clock);
    assert_eq!(there.requests.load(Ordering::Relaxed), 0b1001, "one does not take another one's place");
    assert_eq!((there.wake.load(Ordering::Relaxed), host.ipis()), (WOKEN, [KICK].into()));
    here.post(Request::Interrupt);
    assert_eq!(host.ipis(), [], "the CPU that asks looks by itself");
    host.on(HOME, || here.post(Request::Interrupt));
    assert_eq!(host.ipis(), [Ipi { to: 0, ..KICK }]);
}

/// It looks before its turn; only what others wait for is worth an interrupt of whoever has the CPU.
#[test]
fn who_waits_for_its_turn_is_told_without_a_kick() {
    let host = host();
    let there = Mailbox::new(HOME, None);
    there.begin();
    assert!(!there.tell(Request::Interrupt, || false));
    assert_eq!(host.ipis(), [KICK], "it may be in the guest");
    there.queue();
    assert!(!there.tell(Request::Interrupt, || false));
    assert_eq!((there.requests.load(Ordering::Relaxed), host.ipis()), (1, [].into()));
    there.post(Request::Pause);
    assert_eq!(host.ipis(), [KICK]);
    there.requests.store(0, Ordering::Relaxed);
    assert_eq!(there.waits_until(1, u64::MAX), Some(u64::MAX), "it may use no more of the CPU for now");
    there.tell(Request::Interrupt, || false);
    assert_eq!((there.waits_until(1, u64::MAX), host.ipis()), (None, [KICK].into()));
    there.queue();
    there.begin();
    there.doze(u64::MAX);
    assert_eq!(there.waits_until(1, 0), None, "what it was told keeps it awake");
    there.requests.store(0, Ordering::Relaxed);
    there.doze(u64::MAX);
    assert!(there.tell(Request::Interrupt, || false));
    assert_eq!(host.ipis(), [KICK]);
}

/// The CPU that gets a vCPU was kicked before it could find that it has: it halted for up to 100 ms more.
#[test]
fn a_cpu_that_gets_a_vcpu_is_kicked_once_it_can_find_it() {
    let host = host();
    let mailbox = Mailbox::new(0, None);
    host.ipis();
    mailbox.moves_to(HOME, || assert_eq!((mailbox.cpu(), host.ipis()), (HOME, [].into())));
    assert_eq!(host.ipis(), [KICK]);
}

#[test]
fn requests_are_served_before_the_guest_is_entered() {
    let host = host();
    let vm = host.running("a");
    let mailbox = &vm.mailboxes[0];
    vm.clock.set(1 << 40);
    let (offset, seen) = (vm.clock.offset(), alloc::sync::Arc::clone(mailbox));
    mailbox.post(Request::DrainPml);
    mailbox.post(Request::Clock);
    host.guest_does(move |guest| {
        assert_eq!(seen.requests.load(Ordering::Relaxed), 0, "all of them are answered");
        assert_eq!(guest.read(field::TSC_OFFSET), offset);
        guest.exits(1, 0);
    });
    assert!(matches!(host.run(&vm), Outcome::Yield));
    assert_eq!(host.left_to_do(), 0);
}

#[test]
fn an_old_request_to_pause_means_nothing() {
    let host = host();
    let vm = host.running("a");
    vm.mailboxes[0].post(Request::Pause);
    assert!(matches!(host.run(&vm), Outcome::Yield), "it runs again");
    assert_eq!(vm.mailboxes[0].requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_vcpu_that_is_told_to_pause_is_not_entered() {
    let host = host();
    let vm = host.running("a");
    host.run(&vm);
    let exits = vm.exits();
    vm.apply(Change::Pause).unwrap();
    vm.mailboxes[0].post(Request::Pause);
    vm.mailboxes[0].post(Request::DrainPml);
    assert!(matches!(host.run(&vm), Outcome::Paused));
    assert_eq!((vm.exits(), host.loaded_on(&vm)), (exits, None));
    let drain = Request::DrainPml as u32;
    assert_eq!(
        vm.mailboxes[0].requests.load(Ordering::Relaxed),
        drain,
        "answered by its gate, once it is off"
    );
}
