//! What the audit notes of the code that it is shown, and how long pages stay both executable and writable.

use alloc::sync::Arc;

use translation::{Permission, Point};
use vm_types::Gpa;
use x86_decode::CodeSize;

use super::{Code, is_due, put_off};
use crate::testing::{Host, host};
use crate::vm::{Change, Vm, tracking};
use hw::arch::tsc;

const RIP: u64 = 0x10_0020;

/// A VM with the audit on, which has run nowhere: no CPU has to flush.
fn audited(host: &Host) -> Arc<Vm> {
    let vm = host.vm("a");
    vm.apply(Change::Run).unwrap();
    vm.start_audit().unwrap();
    while tracking::poll() {}
    vm
}

/// The instruction at `rip` wants a page. False where it has to try again.
fn wants(vm: &Vm, rip: u64, page: u64, wanted: Permission, code: &'static [u8]) -> bool {
    let at = Point { rip, regs: 0 };
    let read = |window: &mut [u8]| {
        window[..code.len()].copy_from_slice(code);
        Code { len: code.len(), linear: page << 12, entry: 0, mode: CodeSize::Bits32 }
    };
    vm.audit_fault(0, at, Gpa(page << 12), wanted, read).unwrap()
}

fn fetches(vm: &Vm, rip: u64, page: u64) {
    assert!(wants(vm, rip, page, Permission::Execute, &[]));
}

fn writes(vm: &Vm, rip: u64, page: u64) {
    assert!(wants(vm, rip, page, Permission::Write, &[]));
}

#[test]
fn a_write_to_another_page_takes_the_permission_to_execute_it() {
    let host = host();
    let vm = audited(&host);
    fetches(&vm, RIP, 0x100);
    writes(&vm, RIP + 1, 0x100);
    assert!(!is_due());
    assert_eq!(vm.close_open_pages(), 0, "another instruction, which need not be fetched from there");
}

#[test]
fn an_instruction_that_writes_to_its_own_page_gets_both() {
    let host = host();
    let vm = audited(&host);
    put_off();
    fetches(&vm, RIP, 0x100);
    fetches(&vm, RIP, 0x101);
    for page in [0x100, 0x101, 0x100] {
        writes(&vm, RIP, page); // it lies across two pages
    }
    assert!(!is_due(), "for a while");
    host.pass(tsc::ticks(100_000));
    assert!(is_due());
    assert_eq!(vm.close_open_pages(), 2, "each once");
    assert!(!is_due());
}

#[test]
fn a_window_is_as_long_for_a_page_that_is_opened_later() {
    let host = host();
    let vm = audited(&host);
    host.pass(tsc::ticks(10_000_000));
    fetches(&vm, RIP, 0x100);
    writes(&vm, RIP, 0x100);
    assert!(!is_due(), "the window begins with the first page");
    assert!(vm.end_audit());
    assert!(!is_due(), "nothing is left to close");
}

#[test]
fn an_instruction_that_needs_ever_more_pages_gets_ahead() {
    let host = host();
    let vm = audited(&host);
    for page in 0..8 {
        fetches(&vm, RIP, 0x200 + page);
    }
    assert_eq!(vm.close_open_pages(), 0);
    fetches(&vm, RIP, 0x208);
    assert_eq!(vm.close_open_pages(), 1, "more than are kept in mind");
}

#[test]
fn findings_stay_when_it_ends() {
    let host = host();
    let vm = audited(&host);
    assert!(vm.begin_audit().is_err());
    assert!(wants(&vm, RIP, 0x100, Permission::Execute, &[0x90, 0xf4]));
    let seen = vm.audited(|findings, _| (findings.pages, findings.instructions));
    assert!(seen.0 == 1 && seen.1 >= 2, "{seen:?}");
    assert!(vm.end_audit() && !vm.end_audit());
    // The tables are as they were, and nobody looks at anything any more.
    writes(&vm, RIP, 0x100);
    assert!(wants(&vm, RIP, 0x101, Permission::Execute, &[0x90]));
    assert!(!is_due());
    assert_eq!(vm.audited(|findings, heading| (findings.pages, heading.running)), (1, false));
    let findings = vm.audited(|findings, _| findings.clone());
    let other = host.vm("b");
    other.set_findings(findings);
    assert_eq!(other.audited(|findings, _| (findings.pages, findings.instructions)), seen, "they go along");
}
