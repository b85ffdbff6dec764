//! An entropy device: kicked by a port, it writes to the guest's memory, which is marked, and raises an interrupt.

use cmdline::{Secret, VmOptions};
use devices::Platform;
use vm_types::{Gpa, GuestMemory, Now};
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{RAX, START};
use crate::entropy;
use crate::run::Outcome;
use crate::testing::{After, Host, host, small};
use crate::vm::Vm;
use core::sync::atomic::Ordering;

const PORTS: u16 = 0xc000;
const MEMORY: u64 = 0xe000_0000;
/// 00:02.0.
const FUNCTION: u32 = 1 << 31 | 2 << 11;
const TABLE: u64 = 0x20_0000;
const AVAILABLE: u64 = 0x20_1000;
const USED: u64 = 0x20_2000;
const BUFFER: u64 = 0x20_3000;

fn set_config(platform: &mut Platform, register: u32, size: u8, value: u32, now: Now) {
    platform.io_write(0xcf8, 4, FUNCTION | register, now);
    platform.io_write(0xcfc, size, value, now);
}

/// The driver has come to DRIVER_OK, with a queue of 64 chains of a buffer each.
fn driven(host: &Host) -> alloc::sync::Arc<Vm> {
    let vm = host.running_with(&VmOptions { pci: true, rng: true, ..small("a") });
    let now = vm.clock.now();
    vm.with_board(|platform| {
        set_config(platform, 0x10, 4, PORTS.into(), now);
        set_config(platform, 0x14, 4, MEMORY as u32, now);
        set_config(platform, 0x04, 2, 7, now);
        for (at, size, value) in [
            (20, 1, 1),
            (20, 1, 3),
            (8, 4, 1),
            (12, 4, 1),
            (20, 1, 0xb),
            (32, 8, TABLE),
            (40, 8, AVAILABLE),
            (48, 8, USED),
            (28, 2, 1),
            (20, 1, 0xf),
        ] {
            platform.mmio_write(Gpa(MEMORY + at), size, value, now);
        }
        assert_eq!(platform.mmio_read(Gpa(MEMORY + 20), 1, now), 0xf);
    });
    for index in 0..64_u64 {
        let descriptor = [(BUFFER + 64 * index).to_le_bytes(), (64 | 2_u64 << 32).to_le_bytes()].concat();
        vm.memory.write(Gpa(TABLE + 16 * index), &descriptor).unwrap();
        vm.memory.write(Gpa(AVAILABLE + 4 + 2 * index), &(index as u16).to_le_bytes()).unwrap();
    }
    vm
}

fn offer(vm: &Vm, count: u16) {
    vm.memory.write(Gpa(AVAILABLE + 2), &count.to_le_bytes()).unwrap();
}

fn used(vm: &Vm) -> u64 {
    vm.memory.read_u64(Gpa(USED)).unwrap() >> 16 & 0xffff
}

fn kick(host: &Host, vm: &Vm) -> After {
    host.exit(vm, |guest| {
        guest.gprs[RAX] = 0;
        guest.set(field::EXIT_QUALIFICATION, u64::from(PORTS) << 16 | 1);
        guest.exits(ExitReason::Io as u32, 2);
    })
}

#[test]
fn a_kick_brings_entropy_to_memory_that_is_marked() {
    let host = host();
    entropy::init(Secret::from_hex(&"5aa5".repeat(16)));
    let vm = driven(&host);
    offer(&vm, 1);
    vm.memory.logged.clear();
    let after = kick(&host, &vm);
    assert_eq!(after.back().rip, START + 2);
    assert_eq!(used(&vm), 1);
    let words: alloc::vec::Vec<u64> =
        (0..8).filter_map(|i| vm.memory.read_u64(Gpa(BUFFER + 8 * i))).collect();
    assert!(words.iter().all(|word| *word != 0), "{words:x?}");
    for gpa in [USED, BUFFER] {
        assert!(vm.memory.logged.contains(Gpa(gpa).gfn()), "{gpa:#x} was written");
    }
    assert!(!vm.memory.logged.contains(Gpa(TABLE).gfn()));
    let now = vm.clock.now();
    let isr = vm.with_board(|platform| platform.mmio_read(Gpa(MEMORY + 0x1000), 1, now));
    assert_eq!(isr, 1);
}

#[test]
fn what_one_look_leaves_is_done_before_the_guest_runs_on_and_others_have_their_turn() {
    let host = host();
    entropy::init(Secret::from_hex(&"5aa5".repeat(16)));
    let vm = driven(&host);
    // 64 bytes count as nine descriptors of 512: 57 requests a look.
    offer(&vm, 64);
    let after = kick(&host, &vm);
    assert!(matches!(after.outcome, Outcome::GivesWay), "{:?}", after.outcome);
    assert_eq!(used(&vm), 64);
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed), 0);
}
