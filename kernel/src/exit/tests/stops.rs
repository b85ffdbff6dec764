//! Exits that end a VM: that one, with a reason, and nothing else.

use vmx_types::field;
use vmx_types::reason::ExitReason as R;

use crate::guest::StopReason;
use crate::run::Outcome;
use crate::testing::{Host, host};

/// The VM's error, for an exit with this number.
fn error_of(host: &Host, number: u32) -> alloc::string::String {
    let (vm, other) = (host.running("a"), host.running("b"));
    let after = host.exit(&vm, move |guest| {
        guest.set(field::GUEST_PHYSICAL_ADDRESS, 0x12_3000);
        guest.exits(number, 1);
    });
    let text = match after.stopped() {
        StopReason::Error(text) => text.clone(),
        reason => panic!("{number}: {reason}"),
    };
    assert!(matches!(host.run(&other), Outcome::Yield), "{number}: the other VM goes on");
    for vm in [vm, other] {
        host.on(0, || vm.take_off());
        crate::vm::registry::remove(&vm);
        drop(vm);
        while crate::vm::remains::poll() {}
    }
    text
}

#[test]
fn exits_of_what_is_never_turned_on_end_the_vm_with_a_reason() {
    let host = host();
    for reason in
        [R::MonitorTrapFlag, R::Spp, R::BusLock, R::InstructionTimeout, R::DrAccess, R::GdtrIdtr, R::LdtrTr]
    {
        assert!(error_of(&host, reason as u32).contains("never turned on"), "{reason:?}");
    }
}

#[test]
fn signals_to_the_host_cpu_end_the_vm_with_a_reason() {
    let host = host();
    for reason in [R::Init, R::Sipi, R::IoSmi, R::OtherSmi] {
        assert!(error_of(&host, reason as u32).contains("host CPU"), "{reason:?}");
    }
}

#[test]
fn a_reason_that_the_sdm_does_not_define_ends_the_vm_and_is_named() {
    let host = host();
    for number in [35_u32, 127, 0xffff] {
        assert!(error_of(&host, number).contains(&alloc::format!("exit reason {number},")), "{number}");
    }
}

#[test]
fn tables_that_the_cpu_finds_wrong_end_the_vm_with_the_address() {
    let host = host();
    assert_eq!(error_of(&host, R::EptMisconfiguration as u32), "EPT misconfiguration at gpa 0x123000");
}

#[test]
fn an_entry_that_fails_ends_the_vm_with_the_reason() {
    const ENTRY_FAILURE: u32 = 1 << 31;
    let host = host();
    let text = error_of(&host, ENTRY_FAILURE | R::InvalidGuestState as u32);
    assert!(text.contains("qualification 0x0"), "{text}");
}
