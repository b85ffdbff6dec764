//! COM1 of a guest: what is taken from its UART, and when it is left alone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::guest::mailbox::Request;
use crate::run::Outcome;
use crate::testing::{Host, host};
use crate::vm::{Change, Vm};

const IO: u32 = 30;
const EXTERNAL_INTERRUPT: u32 = 1;
const COM1: u64 = 0x3f8;

/// A VM whose guest has printed this.
fn prints(host: &Host, text: &'static [u8]) -> Arc<Vm> {
    let vm = host.running("a");
    for byte in text {
        host.guest_does(move |guest| {
            guest.gprs[0] = u64::from(*byte);
            guest.set(vmx_types::field::EXIT_QUALIFICATION, COM1 << 16);
            guest.exits(IO, 1);
        });
    }
    host.guest_does(|guest| guest.exits(EXTERNAL_INTERRUPT, 0));
    while host.left_to_do() != 0 {
        assert!(matches!(host.run(&vm), Outcome::Yield));
    }
    vm
}

/// What is kept of it.
fn kept(vm: &Vm) -> Vec<u8> {
    let output = vm.console.lock();
    let (_, (older, newer)) = output.ring().since(0);
    [older, newer].concat()
}

#[test]
fn what_a_guest_prints_is_taken_in_order() {
    let host = host();
    let vm = prints(&host, b"hello");
    assert_eq!((vm.printed(), kept(&vm).len()), (5, 0), "it is in the UART yet");
    vm.drain_uart();
    assert_eq!((vm.printed(), kept(&vm)), (5, b"hello".to_vec()));
    vm.drain_uart();
    assert_eq!(vm.printed(), 5);
}

#[test]
fn the_uart_of_a_vm_on_its_way_is_left_alone() {
    let host = host();
    let vm = prints(&host, b"hello");
    vm.console.lock().hold();
    vm.drain_uart();
    vm.empty_uart();
    assert_eq!((kept(&vm).len(), vm.platform.lock().uart_output_len()), (0, 5), "its state is the target's");
    vm.apply(Change::Pause).unwrap();
    vm.apply(Change::Run).unwrap();
    vm.drain_uart();
    assert_eq!(kept(&vm), b"hello", "here it runs again");
}

#[test]
fn a_guest_that_waits_for_its_uart_hears_that_there_is_room() {
    let host = host();
    let vm = host.running("a");
    let room = |vm: &Vm| vm.platform.lock().uart_takes_output();
    host.opens_interrupts(&vm);
    vm.mailboxes[0].requests.store(0, Ordering::Relaxed);
    let heard = |vm: &Vm| {
        let mut platform = vm.platform.lock();
        platform.io_read(0x3fa, 1, vm.clock.now());
        platform.take_kicks();
    };
    vm.platform.lock().io_write(0x3f8, 1, 1, vm.clock.now());
    heard(&vm);
    assert!(room(&vm));
    vm.drain_uart();
    assert_eq!(vm.mailboxes[0].requests.load(Ordering::Relaxed), 0, "it did not wait");
    for _ in 0..100_000 {
        if !room(&vm) {
            break;
        }
        vm.platform.lock().io_write(0x3f8, 1, 0x2e, vm.clock.now());
    }
    assert!(!room(&vm));
    heard(&vm);
    vm.drain_uart();
    assert!(room(&vm));
    assert_eq!(vm.mailboxes[0].requests.load(Ordering::Relaxed), Request::Interrupt as u32);
}

#[test]
fn a_slow_port_holds_its_guest_back_until_the_vm_is_gone() {
    let host = host();
    let vm = host.running("a");
    let _port = vm.console.lock().attach(hw::arch::tsc::micros());
    for _ in 0..6 << 10 {
        vm.platform.lock().io_write(0x3f8, 1, 0x2e, vm.clock.now());
        vm.drain_uart();
    }
    assert_eq!(kept(&vm).len(), shell::GuestOutput::AHEAD);
    let printed = vm.printed();
    assert!(printed > shell::GuestOutput::AHEAD as u64);
    vm.empty_uart();
    assert_eq!((kept(&vm).len() as u64, vm.printed()), (printed, printed), "nothing is lost with the VM");
}

#[test]
fn a_byte_is_typed_at_a_vm_that_is_here() {
    let host = host();
    let vm = host.running("a");
    host.opens_interrupts(&vm);
    vm.mailboxes[0].requests.store(0, Ordering::Relaxed);
    assert!(vm.offer(b'x'));
    assert_eq!(vm.mailboxes[0].requests.load(Ordering::Relaxed), Request::Interrupt as u32);
    assert_eq!(vm.platform.lock().io_read(0x3f8, 1, vm.clock.now()), u32::from(b'x'));
    vm.console.lock().hold();
    assert!(!vm.offer(b'y'), "the UART is on its way");
    vm.console.lock().release();
    vm.apply(Change::Still).unwrap();
    assert!(!vm.offer(b'z'), "so is the VM");
    assert_eq!(vm.platform.lock().io_read(0x3fd, 1, vm.clock.now()) & 1, 0, "nothing came");
}
