//! The audit as an operator turns it on and off, and how long a page stays both executable and writable.

use alloc::sync::Arc;

use vm_types::Gpa;
use vmx_types::qualification::EptViolation;

use super::poll;
use crate::testing::{HOME, Host, host};
use crate::vm::sched::{Scheduler, Turn};
use crate::vm::{Change, Vm, tracking};
use hw::arch::tsc;
use hw::mock::Flush;
use hw::vmx::flush;
use translation::{Backing, Cause, Fault};

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

/// The guest executes an instruction of [`PAGE`] that writes to the same page.
fn opens(vm: &Vm) {
    let gpa = Gpa(PAGE << 12);
    assert_eq!(fault(vm, FETCH), Fault::FirstFetch(AT));
    vm.mmu.lock().admit_code(gpa).unwrap();
    let fetch = crate::guest::audit::Fetch {
        gpa,
        linear: gpa.0,
        entry: 0,
        rip: RIP,
        mode: x86_decode::CodeSize::Bits32,
    };
    vm.audit_fetch(&fetch, false, |_| 0);
    assert_eq!(fault(vm, WRITE), Fault::CodeWrite(AT));
    let executable = vm.audit_write(RIP, gpa);
    assert!(executable, "it would never get ahead");
    vm.mmu.lock().admit_write(gpa, executable, &vm.memory.logged);
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
    let gpa = Gpa(PAGE << 12);
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT));
    assert_eq!(vm.mmu.lock().admit_code(gpa), Ok(false));
    assert_eq!(fault(&vm, WRITE), Fault::CodeWrite(AT), "a page that is executed is not written unnoticed");
    let executable = vm.audit_write(RIP, gpa);
    assert!(!executable, "the instruction is on another page");
    vm.mmu.lock().admit_write(gpa, executable, &vm.memory.logged);
    assert_eq!(fault(&vm, FETCH), Fault::FirstFetch(AT), "what was written is decoded again");
    assert_eq!(vm.mmu.lock().admit_code(gpa), Ok(true));
}

#[test]
fn a_page_is_both_for_a_tenth_of_a_second() {
    let host = host();
    let mut scheduler = Scheduler::default();
    let vm = audited(&host);
    assert_eq!(host.turn(&mut scheduler), Turn::Ran);
    opens(&vm);
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
    opens(&vm);
    vm.stop_audit();
    while tracking::poll() {}
    host.pass(tsc::ticks(200_000));
    assert!(!crate::guest::audit::is_due());
}
