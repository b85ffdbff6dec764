//! Ports: devices answer, and what they ask for besides is done.

use cmdline::VmOptions;
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{RAX, START};
use crate::guest::StopReason;
use crate::testing::{After, Host, host, small};
use crate::vm::Vm;

const COM1: u16 = 0x3f8;

const fn qualification(port: u16, size: u8, read: bool, string: bool) -> u64 {
    (port as u64) << 16 | (string as u64) << 4 | (read as u64) << 3 | (size as u64 - 1)
}

fn out(host: &Host, vm: &Vm, port: u16, size: u8, value: u64) -> After {
    host.exit(vm, move |guest| {
        guest.gprs[RAX] = value;
        guest.set(field::EXIT_QUALIFICATION, qualification(port, size, false, false));
        guest.exits(ExitReason::Io as u32, 2);
    })
}

fn input(host: &Host, vm: &Vm, port: u16, size: u8) -> u64 {
    let after = host.exit(vm, move |guest| {
        guest.gprs[RAX] = 0x1122_3344_5566_7788;
        guest.set(field::EXIT_QUALIFICATION, qualification(port, size, true, false));
        guest.exits(ExitReason::Io as u32, 2);
    });
    after.back().gprs[RAX]
}

fn printed(vm: &Vm) -> alloc::vec::Vec<u8> {
    vm.drain_uart();
    // Before the text stands how much there was of it.
    vm.console.lock().history(&mut 0, usize::MAX).split_off(8)
}

#[test]
fn debug_exit_ends_the_vm_that_asked_for_it_with_its_code() {
    let host = host();
    let vm = host.running_with(&VmOptions { debug_exit: true, ..small("a") });
    let after = out(&host, &vm, 0xf4, 1, 0x1_0021);
    assert_eq!(*after.stopped(), StopReason::DebugExit(0x21));
}

#[test]
fn debug_exit_is_a_port_like_any_other_where_nobody_asked_for_it() {
    let host = host();
    let vm = host.running("a");
    let after = out(&host, &vm, 0xf4, 1, 0x21);
    assert_eq!(after.back().rip, START + 2);
    assert!(host.written_to_ports().is_empty(), "no write of a guest reaches the host's ports");
}

#[test]
fn the_reset_control_resets_the_guest_and_not_the_host() {
    let host = host();
    let vm = host.running("a");
    assert!(out(&host, &vm, 0xcf9, 1, 0x02).back.is_some());
    assert_eq!(*out(&host, &vm, 0xcf9, 1, 0x06).stopped(), StopReason::Reset);
    assert!(host.written_to_ports().is_empty());
}

#[test]
fn the_keyboard_controller_resets_the_guest_too() {
    let host = host();
    let vm = host.running("a");
    assert_eq!(*out(&host, &vm, 0x64, 1, 0xfe).stopped(), StopReason::Reset);
}

#[test]
fn what_a_guest_prints_arrives_at_its_console() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    for byte in b"hello\n" {
        out(&host, &a, COM1, 1, u64::from(*byte));
    }
    out(&host, &b, COM1, 1, u64::from(b'B'));
    assert_eq!(printed(&a), b"hello\n");
    assert_eq!(printed(&b), b"B");
    assert!(host.written_to_ports().is_empty());
}

#[test]
fn a_guest_that_prints_without_looking_loses_nothing() {
    let host = host();
    let vm = host.running("a");
    for number in 0..5000_u32 {
        out(&host, &vm, COM1, 1, u64::from(number as u8));
    }
    let printed = printed(&vm);
    assert_eq!(printed.len(), 5000);
    assert!(printed.iter().enumerate().all(|(at, byte)| *byte == at as u8));
}

#[test]
fn an_unclaimed_port_reads_as_ones_of_its_size() {
    let host = host();
    host.set_port(0x1234, Some(0));
    let vm = host.running("a");
    assert_eq!(input(&host, &vm, 0x1234, 1), 0x1122_3344_5566_77ff);
    assert_eq!(input(&host, &vm, 0x1234, 2), 0x1122_3344_5566_ffff);
    assert_eq!(input(&host, &vm, 0x1234, 4), 0xffff_ffff, "a 32-bit destination clears the upper half");
    host.set_port(0x1234, None);
}

#[test]
fn outsb_prints_what_lies_in_memory_byte_by_byte() {
    const RCX: usize = 1;
    const RSI: usize = 6;
    const TEXT: Gpa = Gpa(0x20_0000);
    let host = host();
    let vm = host.running("a");
    vm.memory.write(Gpa(START), &[0xf3, 0x6e]).unwrap(); // REP OUTSB
    vm.memory.write(TEXT, b"ok").unwrap();
    let again = |first: bool| {
        host.exit(&vm, move |guest| {
            if first {
                (guest.gprs[RCX], guest.gprs[RSI], guest.gprs[2]) = (2, TEXT.0, COM1.into());
            }
            guest.set(field::EXIT_QUALIFICATION, qualification(COM1, 1, false, true) | 1 << 5);
            guest.exits(ExitReason::Io as u32, 2);
        })
    };
    let after = again(true);
    assert_eq!((after.back().rip, after.back().gprs[RCX]), (START, 1), "one element an exit");
    let after = again(false);
    assert_eq!(after.back().gprs[RCX], 0);
    assert_eq!(after.back().gprs[RSI], TEXT.0 + 2);
    assert_eq!(printed(&vm), b"ok");
}

#[test]
fn insb_marks_the_page_that_it_writes() {
    const RDI: usize = 7;
    const TO: Gpa = Gpa(0x20_1000);
    let host = host();
    let vm = host.running("a");
    vm.memory.write(Gpa(START), &[0x6c]).unwrap(); // INSB
    vm.memory.logged.drain(|_, _| {});
    let after = host.exit(&vm, |guest| {
        (guest.gprs[RDI], guest.gprs[2]) = (TO.0, 0x1234);
        guest.set(field::EXIT_QUALIFICATION, qualification(0x1234, 1, true, true));
        guest.exits(ExitReason::Io as u32, 1);
    });
    assert_eq!((after.back().rip, after.back().gprs[RDI]), (START + 1, TO.0 + 1));
    let mut byte = [0];
    vm.memory.read(TO, &mut byte).unwrap();
    assert_eq!(byte, [0xff]);
    assert!(vm.memory.logged.contains(TO.gfn()));
}
