//! EPT violations: devices, writes that are noticed, and what is no memory at all.

use core::task::Poll;

use hw::vmx::flush;
use migrate::ownership::Entry;
use translation::DirtyMethod;
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{RAX, START, UD};
use crate::testing::{After, CPUS, Host, host};
use crate::vm::Vm;

const READ: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 4;
const READABLE: u64 = 1 << 3;
/// The address that a linear one translates to, not a table of the guest's.
const FINAL: u64 = 3 << 7;

/// The local APIC, and what it calls itself.
const LAPIC: u64 = 0xfee0_0000;
const VERSION: u64 = 0x0005_0014;
const NOTHING_THERE: u64 = 0xd000_0000;

/// The instruction `code` at RIP does an access to `gpa` that the tables do not allow.
fn violation(host: &Host, vm: &Vm, code: &[u8], qualification: u64, gpa: u64) -> After {
    vm.memory.write(Gpa(START), code).unwrap();
    host.exit(vm, move |guest| {
        guest.set(field::GUEST_RIP, START);
        guest.gprs[RAX] = 0x1234_5678;
        guest.set(field::EXIT_QUALIFICATION, qualification);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, gpa);
        guest.set(field::GUEST_LINEAR_ADDRESS, gpa);
        // The CPU gives no length for these.
        guest.exits(ExitReason::EptViolation as u32, 0xdead);
    })
}

fn track(vm: &alloc::sync::Arc<Vm>, method: DirtyMethod) {
    while vm.start_tracking(method).map(|started| started.expect("there is memory for it")).is_pending() {}
    vm.memory.logged.drain(|_, _| {});
}

#[test]
fn a_load_from_a_device_is_carried_out() {
    let host = host();
    let vm = host.running("a");
    let code = [0xa1, 0x30, 0x00, 0xe0, 0xfe]; // MOV EAX, [LAPIC + 30H]
    let after = violation(&host, &vm, &code, READ | FINAL, LAPIC + 0x30);
    assert_eq!(after.back().rip, START + 5);
    assert_eq!(after.back().gprs[RAX] & 0xff, VERSION & 0xff);
    assert_ne!(after.back().gprs[RAX], 0x1234_5678);
}

#[test]
fn a_store_to_a_device_reaches_it() {
    let host = host();
    let vm = host.running("a");
    let code = [0xa3, 0x80, 0x00, 0xe0, 0xfe]; // MOV [LAPIC + 80H], EAX
    let after = violation(&host, &vm, &code, WRITE | FINAL, LAPIC + 0x80);
    assert_eq!(after.back().rip, START + 5);
    assert_eq!(vm.vcpus[0].vcpu.lock().vcpu.apic.cr8(), 7, "the high half of the task priority");
}

#[test]
fn where_nothing_is_loads_give_ones() {
    let host = host();
    let vm = host.running("a");
    let code = [0xa1, 0x00, 0x00, 0x00, 0xd0];
    let after = violation(&host, &vm, &code, READ | FINAL, NOTHING_THERE);
    assert_eq!((after.back().rip, after.back().gprs[RAX]), (START + 5, 0xffff_ffff));
}

#[test]
fn an_instruction_that_is_not_carried_out_is_undefined_and_its_vm_goes_on() {
    let host = host();
    let vm = host.running("a");
    let code = [0xdd, 0x05, 0x00, 0x00, 0x00, 0xd0]; // FLD
    let after = violation(&host, &vm, &code, READ | FINAL, NOTHING_THERE);
    assert_eq!((after.injected.as_slice(), after.back().rip), ([UD].as_slice(), START));
    let after = violation(&host, &vm, &[], FETCH | FINAL, NOTHING_THERE);
    assert_eq!(after.injected, [UD], "FF FF is no instruction");
}

#[test]
fn what_an_instruction_carried_out_writes_to_memory_is_noticed() {
    const RSI: usize = 6;
    const RDI: usize = 7;
    const TO: Gpa = Gpa(0x20_3ffe);
    let host = host();
    let vm = host.running("a");
    vm.memory.write(Gpa(START), &[0xa5]).unwrap(); // MOVSD
    vm.memory.logged.drain(|_, _| {});
    let after = host.exit(&vm, |guest| {
        (guest.gprs[RSI], guest.gprs[RDI]) = (NOTHING_THERE, TO.0);
        guest.set(field::EXIT_QUALIFICATION, READ | FINAL);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, NOTHING_THERE);
        guest.exits(ExitReason::EptViolation as u32, 0);
    });
    assert_eq!(after.back().gprs[RDI], TO.0 + 4);
    let mut word = [0; 4];
    vm.memory.read(TO, &mut word).unwrap();
    assert_eq!(word, [0xff; 4]);
    let marked: alloc::vec::Vec<u64> = (0..1024).filter(|gfn| vm.memory.logged.contains(*gfn)).collect();
    assert_eq!(marked, [TO.gfn(), TO.gfn() + 1], "both pages that it crosses, and no other");
}

#[test]
fn a_write_to_a_protected_page_is_noticed_and_goes_on() {
    let host = host();
    let vm = host.running("a");
    track(&vm, DirtyMethod::WriteProtect);
    let protected = WRITE | READABLE | FINAL;
    // The last one is not the frequent kind: an IRET had unblocked NMIs.
    for (number, more) in [(0, 0), (1, FETCH << 3), (2, READ), (3, 1 << 12)] {
        let gpa = 0x20_0000 + (number << 12);
        let after = host.exit(&vm, move |guest| {
            guest.set(field::EXIT_QUALIFICATION, protected | more);
            guest.set(field::GUEST_PHYSICAL_ADDRESS, gpa + 0x123);
            guest.exits(ExitReason::EptViolation as u32, 0);
        });
        assert_eq!((after.injected.len(), after.back().rip), (0, START), "{more:#x}");
        assert!(vm.memory.logged.contains(gpa >> 12), "{more:#x}");
    }
    assert_eq!(vm.memory.logged.count(), 4);
    assert_eq!(host.vcpu_state(&vm).interruptibility, 8, "the IRET runs again, and blocks them until then");
}

#[test]
fn a_write_of_the_hypervisor_across_pages_marks_each_of_them() {
    let host = host();
    let vm = host.running("a");
    vm.memory.logged.drain(|_, _| {});
    vm.memory.write(Gpa(0x20_0fff), &[1; 0x1002]).unwrap();
    vm.memory.write(Gpa(0x30_0000), &[]).unwrap();
    assert!((0x200..0x203).all(|gfn| vm.memory.logged.contains(gfn)));
    assert_eq!(vm.memory.logged.count(), 3);
    assert!(vm.memory.write(Gpa(0x3f_ffff), &[1; 2]).is_err(), "it ends beyond the RAM");
    assert_eq!(vm.memory.logged.count(), 3);
}

#[test]
fn a_new_guest_finds_no_byte_of_the_one_before() {
    const FROM: Gpa = Gpa(0x11_0000);
    let host = host();
    let mut bytes = alloc::vec![0xa5; 0x40_0000 - FROM.0 as usize];
    for name in ["a", "b", "c"] {
        let vm = host.vm(name);
        vm.memory.read(FROM, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0), "{name}");
        bytes.fill(0xa5);
        vm.memory.write(FROM, &bytes).unwrap();
        crate::vm::registry::remove(&vm);
        drop(vm);
        while crate::vm::remains::poll() {}
    }
}

#[test]
fn a_full_log_of_written_pages_is_emptied_into_the_set_of_them() {
    let host = host();
    let vm = host.running("a");
    track(&vm, DirtyMethod::Pml);
    let after = host.exit(&vm, |guest| {
        let mut count = 0;
        while guest.logs_write(0x10_0000 + (count << 12)) {
            count += 1;
        }
        assert_eq!(count, 512);
        guest.exits(ExitReason::PmlFull as u32, 0);
    });
    assert_eq!((after.injected.len(), after.back().rip), (0, START));
    assert!((0x100..0x300).all(|gfn| vm.memory.logged.contains(gfn)));
    assert_eq!(vm.memory.logged.count(), 512);
    host.exit(&vm, |guest| {
        assert!(guest.logs_write(0x5000), "there is room again");
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
    host.vcpu_state(&vm);
    assert!(vm.memory.logged.contains(5), "a vCPU that leaves its CPU leaves nothing in the log");
}

/// The guest is scheduled on the calling CPU and writes a page, which is in its log.
fn logs_a_page(host: &Host, vm: &Vm) {
    assert_eq!(vm.vcpus[0].gate.enter(vm.state_cell()), Entry::Run);
    host.exit(vm, |guest| {
        assert!(guest.logs_write(0x7000));
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
}

#[test]
fn a_harvest_finds_what_is_in_the_log_of_a_vcpu_that_is_on_a_cpu() {
    let host = host();
    let vm = host.running("a");
    let slot = &vm.vcpus[0];
    track(&vm, DirtyMethod::Pml);
    host.on(slot.cpu(), || {
        logs_a_page(&host, &vm);
        host.flushes();
        // The CPUs serve what they are asked for.
        let pages = (0..1000).find_map(|_| {
            let harvested = vm.harvest();
            host.run(&vm);
            (0..CPUS).for_each(|cpu| host.on(cpu, flush::serve));
            match harvested {
                Poll::Ready(pages) => Some(pages),
                Poll::Pending => None,
            }
        });
        assert_eq!(pages, Some(1));
        assert!(!host.flushes().is_empty(), "what the CPU has cached of the tables is dropped");
    });
}

#[test]
fn another_cpu_harvests_only_when_the_vcpu_has_given_up_its_log() {
    let host = host();
    let vm = host.running("a");
    let slot = &vm.vcpus[0];
    track(&vm, DirtyMethod::Pml);
    host.on(slot.cpu(), || logs_a_page(&host, &vm));
    let harvest = || {
        (0..100).find_map(|_| {
            (0..CPUS).for_each(|cpu| host.on(cpu, flush::serve));
            match host.on(1 - slot.cpu(), || vm.harvest()) {
                Poll::Ready(pages) => Some(pages),
                Poll::Pending => None,
            }
        })
    };
    assert_eq!(harvest(), None, "its CPU has not answered");
    host.on(slot.cpu(), || host.run(&vm));
    assert_eq!(harvest(), Some(1));
}

#[test]
fn an_event_that_cannot_be_delivered_ends_the_vm() {
    let host = host();
    let vm = host.running("a");
    let after = host.exit(&vm, |guest| {
        guest.set(field::IDT_VECTORING_INFO, 0x8000_0020);
        guest.set(field::EXIT_QUALIFICATION, WRITE | FINAL);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, NOTHING_THERE);
        guest.exits(ExitReason::EptViolation as u32, 0);
    });
    assert!(alloc::format!("{}", after.stopped()).contains("vector 0x20"));
}

#[test]
fn an_address_beyond_the_width_of_the_guest_ends_the_vm() {
    let host = host();
    let vm = host.running("a");
    let after = violation(&host, &vm, &[0xa3, 0, 0, 0, 0xd0], WRITE | FINAL, 1 << 51);
    assert!(alloc::format!("{}", after.stopped()).contains("beyond the guest's memory"));
}
