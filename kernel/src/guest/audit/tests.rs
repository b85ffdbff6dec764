//! What the audit notes of fetches, and which writes it lets have both.

use alloc::sync::Arc;

use vm_types::Gpa;
use x86_decode::CodeSize;

use super::{Fetch, is_due, put_off};
use crate::testing::{Host, host};
use crate::vm::Vm;
use hw::arch::tsc;

const RIP: u64 = 0x10_0020;

/// A VM with the audit on, but for the tables.
fn audited(host: &Host) -> Arc<Vm> {
    let vm = host.vm("a");
    vm.begin_audit().unwrap();
    vm
}

fn fetch(vm: &Vm, rip: u64, page: u64, code: &'static [u8]) {
    let fetch = Fetch { gpa: Gpa(page << 12), linear: page << 12, entry: 0, rip, mode: CodeSize::Bits32 };
    vm.audit_fetch(&fetch, false, |window| {
        window[..code.len()].copy_from_slice(code);
        code.len()
    });
}

#[test]
fn a_write_to_another_page_takes_the_permission_to_execute_it() {
    let host = host();
    let vm = audited(&host);
    fetch(&vm, RIP, 0x100, &[]);
    assert!(!vm.audit_write(RIP, Gpa(0x101 << 12)));
    assert!(
        !vm.audit_write(RIP + 1, Gpa(0x100 << 12)),
        "another instruction, which need not be fetched from there"
    );
    assert!(!is_due());
    assert_eq!(vm.close_open_pages(), 0);
}

#[test]
fn an_instruction_that_writes_to_its_own_page_gets_both() {
    let host = host();
    let vm = audited(&host);
    put_off();
    fetch(&vm, RIP, 0x100, &[]);
    fetch(&vm, RIP, 0x101, &[]);
    for page in [0x100, 0x101, 0x100] {
        assert!(vm.audit_write(RIP, Gpa(page << 12)), "it lies across two pages");
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
    fetch(&vm, RIP, 0x100, &[]);
    assert!(vm.audit_write(RIP, Gpa(0x100 << 12)));
    assert!(!is_due(), "the window begins with the first page");
    assert!(vm.end_audit());
}

#[test]
fn an_instruction_that_needs_ever_more_pages_gets_ahead() {
    let host = host();
    let vm = audited(&host);
    for page in 0..9 {
        fetch(&vm, RIP, 0x200 + page, &[]);
    }
    assert!(vm.audit_write(RIP, Gpa(0x300 << 12)), "more than are kept in mind");
    assert_eq!(vm.close_open_pages(), 1);
}

#[test]
fn findings_stay_when_it_ends() {
    let host = host();
    let vm = audited(&host);
    assert!(vm.begin_audit().is_err());
    fetch(&vm, RIP, 0x100, &[0x90, 0xf4]);
    let seen = vm.audited(|findings, _| (findings.pages, findings.instructions));
    assert!(seen.0 == 1 && seen.1 >= 2, "{seen:?}");
    assert!(vm.end_audit() && !vm.end_audit());
    assert!(!vm.audit_write(RIP, Gpa(0x100 << 12)), "nothing is opened any more");
    fetch(&vm, RIP, 0x101, &[0x90]);
    assert_eq!(vm.audited(|findings, heading| (findings.pages, heading.running)), (1, false));
    let findings = vm.audited(|findings, _| findings.clone());
    let other = host.vm("b");
    other.set_findings(findings);
    assert_eq!(other.audited(|findings, _| (findings.pages, findings.instructions)), seen, "they go along");
}
