//! The audit as an operator turns it on and off, and how long a page stays both executable and writable.

use alloc::sync::Arc;

use cmdline::VmOptions;
use vm_types::Gpa;
use vmx_types::field;
use vmx_types::qualification::EptViolation;
use vmx_types::reason::ExitReason;
use x86_decode::CodeSize;

use super::poll;
use crate::guest::audit::Code;
use crate::run::Outcome;
use crate::testing::{CPUS, HOME, Host, host, small};
use crate::vcpu::Activity;
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::{Change, Vm, tracking};
use hw::arch::tsc;
use hw::mock::Flush;
use hw::vmx::flush;
use translation::{Backing, Cause, DirtyMethod, Fault, Permission, Point};

const PAGE: u64 = 0x200;
const AT: Gpa = Gpa(PAGE << 12);
const RIP: u64 = 0x10_0020;
/// Accesses by a linear address (SDM table 27-7): a fetch from a page that is readable and writable, a write to one
/// that is readable and executable.
const FETCH: u64 = 1 << 2 | 3 << 3 | 3 << 7;
const WRITE: u64 = 1 << 1 | 5 << 3 | 3 << 7;

/// What the tables say of an access to [`PAGE`].
fn fault(vm: &Vm, access: u64) -> Fault {
    vm.fault(0, Cause::violation(EptViolation::decode(access, PAGE << 12))).unwrap()
}

/// A VM with the audit on.
fn audited(host: &Host) -> Arc<Vm> {
    let vm = host.running("a");
    vm.start_audit().unwrap();
    while tracking::poll() {}
    assert!(!vm.is_changing());
    vm
}

/// The instruction at `rip` of the first vCPU wants [`PAGE`], and gets it once CPUs have flushed.
fn gets(host: &Host, vm: &Vm, rip: u64, wanted: Permission) {
    let at = Point { rip, regs: 0 };
    let read = |_: &mut [u8]| Code { len: 0, linear: PAGE << 12, entry: 0, mode: CodeSize::Bits32 };
    while !vm.audit_fault(0, at, AT, wanted, read).unwrap() {
        host.on(HOME, flush::serve);
    }
}

/// The guest executes an instruction of [`PAGE`] that writes to the same page.
fn opens(host: &Host, vm: &Vm) {
    assert_eq!(fault(vm, FETCH), Fault::FirstFetch(AT));
    gets(host, vm, RIP, Permission::Execute);
    assert_eq!(fault(vm, WRITE), Fault::CodeWrite(AT));
    gets(host, vm, RIP, Permission::Write);
    assert_eq!(fault(vm, WRITE), Fault::Resolved, "it would never get ahead");
}

#[test]
fn an_audit_is_begun_once_and_ended_once() {
    let host = host();
    let vm = audited(&host);
    assert_eq!(vm.start_audit().unwrap_err(), "the audit of vm a is running");
    assert!(vm.audited(|_, heading| heading.running));
    assert!(vm.stop_audit() && vm.is_changing());
    assert!(!vm.stop_audit());
    while tracking::poll() {}
    assert!(!vm.audited(|_, heading| heading.running));
    assert_eq!(fault(&vm, FETCH), Fault::Resolved, "fetches are noticed no more");
}

#[test]
fn there_is_no_code_to_look_at_in_a_vm_that_is_over() {
    let host = host();
    let vm = host.running("a");
    vm.apply(Change::End).unwrap();
    assert_eq!(vm.start_audit().unwrap_err(), "vm a is stopped: there is no code to look at");
    assert!(!vm.is_changing() && !vm.stop_audit());
}

#[test]
fn a_page_is_executed_or_written() {
    let host = host();
    let vm = audited(&host);
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT));
    gets(&host, &vm, RIP, Permission::Execute);
    assert_eq!(fault(&vm, WRITE), Fault::CodeWrite(AT), "a page that is executed is not written unnoticed");
    gets(&host, &vm, RIP + 8, Permission::Write);
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT), "what was written is decoded again");
    gets(&host, &vm, RIP, Permission::Execute);
    assert_eq!(vm.audited(|findings, _| (findings.pages, findings.again)), (2, 1));
}

#[test]
fn a_page_is_both_for_a_tenth_of_a_second() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = audited(&host);
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    opens(&host, &vm);
    assert_eq!(fault(&vm, FETCH), Fault::Resolved, "both");
    host.pass(tsc::ticks(90_000));
    poll();
    assert_eq!(fault(&vm, FETCH), Fault::Resolved, "both for a while");
    host.flushes();
    host.pass(tsc::ticks(20_000));
    poll();
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT), "it is to be decoded again");
    host.on(HOME, flush::serve);
    let root = vm.mmu.lock().cached().unwrap().0;
    assert!(host.flushes().contains(&Flush::Ept(HOME, root)), "what a CPU has cached of it is dropped");
    // Nothing is open: nobody is bothered.
    host.pass(tsc::ticks(200_000));
    poll();
    host.on(HOME, flush::serve);
    assert_eq!(host.flushes(), []);
}

#[test]
fn an_audit_that_ends_leaves_no_page_to_close() {
    let host = host();
    let vm = audited(&host);
    opens(&host, &vm);
    vm.stop_audit();
    while tracking::poll() {}
    host.pass(tsc::ticks(200_000));
    assert!(!crate::guest::audit::is_due());
}

/// A VM of two vCPUs, of which each has run on a CPU of its own, with the audit on.
fn on_two(host: &Host) -> Arc<Vm> {
    let vm = host.running_with(&VmOptions { vcpus: 2, ..small("a") });
    vm.vcpus[1].vcpu.lock().vcpu.activity = Activity::Running;
    for cpu in 0..CPUS {
        host.guest_does(|guest| guest.exits(ExitReason::ExternalInterrupt as u32, 0));
        host.on(cpu, || host.run_vcpu(&vm, cpu));
    }
    vm.start_audit().unwrap();
    while vm.is_changing() {
        tracking::poll();
        host.on(HOME, flush::serve);
    }
    host.ipis();
    vm
}

/// A vCPU, on this CPU, makes an access to [`PAGE`] that exits; true where it is entered again after that.
fn exits(host: &Host, vm: &Vm, vcpu: usize, cpu: usize, access: u64) -> bool {
    exits_with(host, vm, vcpu, cpu, access, 0)
}

/// The same with that in a register.
fn exits_with(host: &Host, vm: &Vm, vcpu: usize, cpu: usize, access: u64, rbx: u64) -> bool {
    const RBX: usize = 3;
    host.guest_does(move |guest| {
        guest.gprs[RBX] = rbx;
        guest.set(field::GUEST_RIP, if access == FETCH { PAGE << 12 } else { RIP });
        guest.set(field::EXIT_QUALIFICATION, access);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, PAGE << 12);
        guest.set(field::GUEST_LINEAR_ADDRESS, PAGE << 12);
        guest.exits(ExitReason::EptViolation as u32, 0);
    });
    host.guest_does(|guest| guest.exits(ExitReason::ExternalInterrupt as u32, 0));
    let outcome = host.on(cpu, || host.run_vcpu(vm, vcpu));
    assert!(matches!(outcome, Outcome::Yield), "{outcome:?}");
    let entered = host.left_to_do() == 0;
    host.guest_does_nothing_more();
    entered
}

fn decoded(vm: &Vm) -> u64 {
    vm.audited(|findings, _| findings.pages)
}

#[test]
fn a_page_is_decoded_once_the_other_vcpus_cpu_has_flushed() {
    let host = host();
    let vm = on_two(&host);
    for _ in 0..3 {
        assert!(!exits(&host, &vm, 0, 0, FETCH), "it gives its CPU back");
    }
    assert_eq!(host.ipis().len(), 1, "the other one is asked once");
    assert_eq!(decoded(&vm), 0);
    // The other vCPU wants the same, and its CPU flushes while it is at it.
    assert!(exits(&host, &vm, 1, HOME, FETCH));
    assert_eq!(decoded(&vm), 1);
    assert!(exits(&host, &vm, 0, 0, FETCH), "by now it can be executed");
    assert_eq!(decoded(&vm), 1);
    assert_eq!(fault(&vm, FETCH), Fault::Resolved);
    // The other way round.
    assert!(!exits(&host, &vm, 1, HOME, WRITE));
    assert_eq!(
        (fault(&vm, WRITE), fault(&vm, FETCH)),
        (Fault::CodeWrite(AT), Fault::FirstFetch(AT)),
        "neither"
    );
    flush::serve();
    assert!(exits(&host, &vm, 1, HOME, WRITE));
    assert_eq!((fault(&vm, WRITE), fault(&vm, FETCH)), (Fault::Resolved, Fault::FirstFetch(AT)));
    assert_eq!(vm.audited(|findings, _| findings.again), 0);
}

/// Where it goes on meanwhile, the CPU that it left has to flush all the same.
#[test]
fn a_vcpu_that_moves_while_it_waits_waits_on() {
    let host = host();
    let vm = on_two(&host);
    assert!(!exits(&host, &vm, 1, HOME, FETCH));
    host.on(HOME, || vm.vcpus[1].vcpu.lock().release(&vm));
    host.on(0, || vm.vcpus[0].vcpu.lock().release(&vm));
    // On CPU 0, which flushes before it looks; its old one had not been asked for anything new.
    assert!(exits(&host, &vm, 1, 0, FETCH));
    assert!(!exits(&host, &vm, 1, 0, WRITE), "the CPU that it was on may have it cached");
    host.on(HOME, flush::serve);
    assert!(exits(&host, &vm, 1, 0, WRITE));
    assert_eq!(decoded(&vm), 1);
}

#[test]
fn an_audit_ends_while_a_vcpu_waits() {
    let host = host();
    let vm = on_two(&host);
    assert!(!exits(&host, &vm, 0, 0, FETCH));
    assert!(vm.stop_audit());
    assert!(exits(&host, &vm, 0, 0, FETCH), "nobody looks any more");
    assert_eq!((fault(&vm, FETCH), fault(&vm, WRITE)), (Fault::Resolved, Fault::Resolved), "it may be both");
    assert_eq!(decoded(&vm), 0);
    vm.start_audit().unwrap();
    while vm.is_changing() {
        tracking::poll();
        host.on(HOME, flush::serve);
    }
    assert!(!exits(&host, &vm, 0, 0, FETCH), "it is asked for again");
    host.on(HOME, flush::serve);
    assert!(exits(&host, &vm, 0, 0, FETCH));
    assert_eq!(decoded(&vm), 1);
}

/// A harvest comes between the request and the answer: the write is in the one after.
#[test]
fn a_write_that_waited_is_noticed() {
    let host = host();
    let vm = on_two(&host);
    while vm.start_tracking(DirtyMethod::WriteProtect).is_pending() {
        host.on(HOME, flush::serve);
    }
    assert!(!exits(&host, &vm, 0, 0, FETCH));
    host.on(HOME, flush::serve);
    assert!(exits(&host, &vm, 0, 0, FETCH));
    assert!(!exits(&host, &vm, 1, HOME, WRITE));
    let mut harvested = vm.harvest();
    while harvested.is_pending() {
        host.on(HOME, flush::serve);
        harvested = vm.harvest();
    }
    assert!(!vm.to_send.contains(PAGE) && !vm.memory.logged.contains(PAGE));
    let before = vm.vcpus[1].dirtied.load(core::sync::atomic::Ordering::Relaxed);
    assert!(exits(&host, &vm, 1, HOME, WRITE));
    assert!(vm.memory.logged.contains(PAGE));
    assert_eq!(vm.vcpus[1].dirtied.load(core::sync::atomic::Ordering::Relaxed), before + 1, "once");
}

/// Two vCPUs take a page from each other before either has executed an instruction.
#[test]
fn vcpus_that_want_a_page_in_turn_get_both() {
    let host = host();
    let vm = on_two(&host);
    let mut turns = 0;
    while vm.close_open_pages() == 0 {
        for (vcpu, access) in [(0, FETCH), (1, WRITE)] {
            for _ in 0..2 {
                exits(&host, &vm, vcpu, vcpu, access);
                host.on(1 - vcpu, flush::serve);
            }
        }
        turns += 1;
        assert!(turns <= 9, "they would never get ahead");
    }
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT), "it is to be decoded again");
}

/// A loop that counts has got ahead, though it is at the same instruction.
#[test]
fn vcpus_that_get_ahead_have_nothing_opened() {
    let host = host();
    let vm = on_two(&host);
    for round in 1..20 {
        for (vcpu, access) in [(0, FETCH), (1, WRITE)] {
            exits_with(&host, &vm, vcpu, vcpu, access, round);
            host.on(1 - vcpu, flush::serve);
            assert!(exits_with(&host, &vm, vcpu, vcpu, access, round));
        }
    }
    assert_eq!((decoded(&vm), vm.close_open_pages()), (19, 0));
}
