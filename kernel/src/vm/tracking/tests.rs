//! Which pages are noticed as written, and the order in which a harvest goes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::task::Poll;

use cmdline::VmOptions;
use translation::DirtyMethod::{AccessDirty, Pml, WriteProtect};
use translation::{Backing, Cause, Change, DirtyMethod};
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;

use super::poll;
use crate::guest::mailbox::Request;
use crate::testing::{HOME, Host, TURN_US, host, small};
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::{Change as Ownership, Vm};
use hw::arch::tsc;
use hw::mm::guest::Cleared;
use hw::mock::{Flush, Ipi};
use hw::platform::irq;
use hw::vmx::flush;

const EPT_VIOLATION: u32 = 48;
const EXTERNAL_INTERRUPT: u32 = 1;
/// A write by a linear address to a page that is readable and executable (SDM table 27-7).
const WRITE: u64 = 1 << 1 | 1 << 3 | 1 << 5 | 3 << 7;
const KICK: Ipi = Ipi { to: HOME as u32, vector: Some(irq::KICK) };

fn track(vm: &Arc<Vm>, method: DirtyMethod) {
    while vm.start_tracking(method).is_pending() {}
}

/// A harvest of a VM that nobody has to be asked about; the pages that wait to be sent then.
fn harvest(vm: &Vm) -> (u64, Vec<u64>) {
    for _ in 0..100 {
        if let Poll::Ready(pages) = vm.harvest() {
            let mut backlog = Vec::new();
            while let Some(page) = vm.to_send.take(0) {
                backlog.push(page);
            }
            return (pages, backlog);
        }
    }
    panic!("the harvest does not end")
}

/// A VM that its home CPU has, tracked from then on.
fn tracked_on_its_cpu(host: &Host, scheduler: &mut Scheduler, method: DirtyMethod) -> Arc<Vm> {
    let vm = host.running("a");
    assert_eq!(host.turn(scheduler), Turn::Ran);
    while vm.start_tracking(method).is_pending() {
        host.on(HOME, flush::serve);
    }
    host.ipis();
    host.flushes();
    vm
}

/// The guest writes to a page that is write-protected, then the host wants its CPU.
fn writes(host: &Host, page: u64) {
    host.guest_does(move |guest| {
        guest.set(field::EXIT_QUALIFICATION, WRITE);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, page << 12);
        guest.exits(EPT_VIOLATION, 0);
    });
    host.guest_does(|guest| guest.exits(EXTERNAL_INTERRUPT, 0));
}

#[test]
fn what_the_hypervisor_writes_is_harvested_once() {
    let host = host();
    for (number, method) in [Pml, AccessDirty, WriteProtect].into_iter().enumerate() {
        let vm = host.vm(&alloc::format!("vm{number}"));
        vm.memory.write(Gpa(0x20_0000), b"before").unwrap();
        track(&vm, method);
        assert_eq!(vm.tracking(), Some(method));
        assert_eq!(harvest(&vm), (0, Vec::new()), "{method:?}: nothing since it began");
        vm.memory.write(Gpa(0x30_0ffe), b"two pages").unwrap();
        vm.memory.fill_page(0x123, 5).unwrap();
        vm.memory.write(Gpa(0x30_0008), b"again").unwrap();
        assert_eq!(harvest(&vm), (3, Vec::from([0x123, 0x300, 0x301])), "{method:?}");
        assert_eq!(harvest(&vm), (0, Vec::new()), "{method:?}: no page twice");
    }
}

/// Pages of a vCPU's log and pages that it faulted on are its own; of a flag in the tables nobody knows whose it is.
#[test]
fn who_writes_is_known_by_log_and_fault_alone() {
    let host = host();
    let options = VmOptions { vcpus: 2, ..small("a") };
    let mut scheduler = Scheduler::default();
    let vm = host.running_with(&options);
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    assert_eq!(vm.dirtied(), None, "nothing is tracked");
    let mut before = 0;
    for (method, known) in [(WriteProtect, true), (AccessDirty, false), (Pml, true)] {
        while vm.start_tracking(method).is_pending() {
            host.on(HOME, flush::serve);
        }
        match method {
            Pml => host.guest_does(|guest| {
                assert!(guest.logs_write(0x24_5678) && guest.logs_write(0x10_0000));
                guest.exits(EXTERNAL_INTERRUPT, 0);
            }),
            _ => writes(&host, 0x200),
        }
        host.turn(&mut scheduler);
        host.on(HOME, || vm.vcpus[0].vcpu.lock().drain_log_of_stopped(&vm));
        // The hypervisor's own writes are no vCPU's.
        vm.memory.write(Gpa(0x30_0000), b"device").unwrap();
        let found = vm.dirtied();
        assert_eq!(found.is_some(), known, "{method:?}");
        let first = vm.vcpus[0].dirtied.load(Ordering::Relaxed);
        assert!(found.is_none_or(|found| found == [first, 0]), "{method:?}: the other has not run");
        let wanted = match method {
            Pml => 2,
            _ => 1, // of what a fault resolves it is known; the tables' flags make none
        };
        assert_eq!(first - before, wanted, "{method:?}");
        before = first;
        while vm.end_tracking().is_pending() {
            host.on(HOME, flush::serve);
        }
    }
}

#[test]
fn what_is_cleared_is_noticed() {
    let host = host();
    let vm = host.vm("a");
    track(&vm, WriteProtect);
    let mut cleared = Cleared::default();
    while vm.memory.clear_some(&mut cleared, 256 << 10) {}
    assert_eq!(harvest(&vm).0, vm.memory.pages());
}

#[test]
fn pages_are_read_only_after_every_cpu_has_flushed() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = tracked_on_its_cpu(&host, &mut scheduler, WriteProtect);
    writes(&host, 0x200);
    host.turn(&mut scheduler);
    assert_eq!(host.left_to_do(), 0);
    host.ipis();
    host.flushes();
    for _ in 0..5 {
        assert_eq!(vm.harvest(), Poll::Pending, "CPU 1 may have the page as writable");
    }
    let root = vm.mmu.lock().cached().unwrap().0;
    assert_eq!((host.ipis(), host.flushes()), (Vec::from([KICK]), Vec::from([Flush::Ept(0, root)])), "once");
    assert!(vm.mmu.lock().first_write(0x200 << 12, &vm.memory.logged), "it was armed again before that");
    host.on(HOME, flush::serve);
    assert_eq!(host.flushes(), [Flush::Ept(HOME, root)]);
    assert_eq!(vm.harvest(), Poll::Ready(1));
    assert_eq!(vm.to_send.take(0), Some(0x200));
    while vm.harvest().is_pending() {
        host.on(HOME, flush::serve);
    }
    assert_eq!(vm.to_send.take(0), Some(0x200), "what was written meanwhile is sent again");
}

fn violation(page: u64) -> vmx_types::qualification::EptViolation {
    vmx_types::qualification::EptViolation::decode(WRITE, page << 12)
}

#[test]
fn a_cpu_that_did_not_run_it_is_left_alone() {
    let host = host();
    let vm = host.vm("a");
    host.flushes();
    host.ipis();
    track(&vm, WriteProtect);
    assert_eq!(harvest(&vm), (0, Vec::new()));
    let root = vm.mmu.lock().cached().unwrap().0;
    let flushes = host.flushes();
    assert!(!flushes.contains(&Flush::Ept(HOME, root)) && host.ipis().is_empty(), "{flushes:?}");
}

#[test]
fn a_harvest_waits_for_the_log_of_a_running_vcpu() {
    let host = host();
    assert_eq!(Vm::best_method(), Pml);
    let mut scheduler = Scheduler::default();
    let vm = tracked_on_its_cpu(&host, &mut scheduler, Pml);
    host.guest_does(|guest| {
        assert!(guest.logs_write(0x24_5678));
        assert!(guest.logs_write(0x10_0000));
        guest.exits(EXTERNAL_INTERRUPT, 0);
    });
    host.turn(&mut scheduler);
    assert_eq!(vm.memory.logged.count(), 0, "they are in the log of the CPU alone");
    assert_eq!(vm.harvest(), Poll::Pending);
    let drain = Request::DrainPml as u32;
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed) & drain, drain);
    assert_eq!(host.ipis(), [KICK]);
    host.on(HOME, flush::serve);
    assert_eq!(vm.harvest(), Poll::Pending, "a flush is no answer to that");
    host.turn(&mut scheduler);
    assert_eq!(vm.vcpus[0].requests.load(Ordering::Relaxed) & drain, 0);
    assert_eq!(vm.harvest(), Poll::Pending, "the tables are armed, and CPU 1 is to flush");
    host.on(HOME, flush::serve);
    assert_eq!(vm.harvest(), Poll::Ready(2));
    assert_eq!([vm.to_send.take(0), vm.to_send.take(0)], [Some(0x100), Some(0x245)]);
}

#[test]
fn a_vcpu_that_is_taken_off_leaves_no_log_behind() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = tracked_on_its_cpu(&host, &mut scheduler, Pml);
    host.guest_does(|guest| {
        assert!(guest.logs_write(0x24_5000));
        guest.exits(EXTERNAL_INTERRUPT, 0);
    });
    host.turn(&mut scheduler);
    vm.apply(Ownership::Still).unwrap();
    host.turn(&mut scheduler);
    assert!(vm.is_off() && vm.memory.logged.contains(0x245));
    // It is asked, and being off it has answered.
    while vm.harvest().is_pending() {
        host.on(HOME, flush::serve);
    }
    assert_eq!(vm.to_send.take(0), Some(0x245));
}

#[test]
fn tracking_ends_by_itself() {
    let host = host();
    let vm = host.vm("a");
    track(&vm, WriteProtect);
    vm.stop_tracking();
    assert_eq!((vm.tracking(), vm.is_changing()), (None, true));
    while poll() {}
    assert!(!vm.is_changing());
    // Nothing is protected any more: a write that exits is none of tracking's.
    vm.fault(0, Cause::violation(violation(0x200))).unwrap();
    assert!(!vm.memory.logged.contains(0x200));
}

#[test]
fn tracking_that_begins_again_is_not_ended_by_the_end_before() {
    let host = host();
    let vm = host.vm("a");
    track(&vm, WriteProtect);
    vm.stop_tracking();
    track(&vm, WriteProtect);
    while poll() {}
    assert_eq!(vm.tracking(), Some(WriteProtect));
    assert_eq!(vm.mmu.lock().under_way(), None);
    vm.memory.write(Gpa(0x20_0000), b"noticed").unwrap();
    assert_eq!(harvest(&vm), (1, Vec::from([0x200])));
}

#[test]
fn a_change_goes_on_in_turns() {
    let host = host();
    let vm = host.vm("a");
    host.slow(tsc::ticks(TURN_US));
    let mut turns = 1;
    while vm.start_tracking(WriteProtect).is_pending() {
        turns += 1;
    }
    assert!(turns > 2, "{turns}");
    vm.changes(Change::Untrack);
    turns = 0;
    while poll() {
        turns += 1;
    }
    assert!(turns > 2, "{turns}");
}

#[test]
fn a_change_of_a_vm_that_is_gone_is_forgotten() {
    let host = host();
    let vm = host.vm("a");
    track(&vm, WriteProtect);
    vm.stop_tracking();
    vm.destroy();
    while crate::vm::remains::poll() {}
    drop(vm);
    assert!(poll(), "there was one");
    assert!(!poll());
}
