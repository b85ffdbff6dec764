//! Exceptions that VMX hands to the hypervisor, and those that it raises.

use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{GP, START, UD};
use crate::guest::StopReason;
use crate::machine;
use crate::run::Outcome;
use crate::testing::host;

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const BANK_STATUS: u32 = 0x401;
/// Valid, uncorrected, enabled, signalled, action required: a memory read.
const POISON: u64 = 1 << 63 | 1 << 61 | 1 << 60 | 1 << 56 | 1 << 55 | 0x9f;

#[test]
fn an_alignment_check_is_given_to_the_guest_with_its_error_code() {
    let host = host();
    let vm = host.running("a");
    let after = host.exit(&vm, |guest| {
        guest.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0b11);
        guest.set(field::EXIT_INTERRUPTION_ERROR_CODE, 0);
        guest.exits(ExitReason::ExceptionOrNmi as u32, 2);
    });
    assert_eq!((after.injected.as_slice(), after.back().rip), ([0x8000_0b11].as_slice(), START));
    assert_ne!(after.back().rflags & 1 << 16, 0, "a fault is pushed with RF");
}

#[test]
fn a_debug_exception_is_given_to_the_guest_with_dr6_as_the_cpu_would_leave_it() {
    const DR6_CLEAR: u64 = 0xffff_0ff0;
    const GENERAL_DETECT: u64 = 1 << 13;
    let host = host();
    let vm = host.running("a");
    let after = host.exit(&vm, |guest| {
        guest.set(field::GUEST_DR7, 0x400 | GENERAL_DETECT);
        guest.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0301);
        guest.set(field::EXIT_QUALIFICATION, 1 << 14 | 2);
        guest.exits(ExitReason::ExceptionOrNmi as u32, 0);
    });
    assert_eq!(after.injected, [0x8000_0301]);
    assert_eq!(host.register(0, "dr6"), DR6_CLEAR | 1 << 14 | 2);
    assert_eq!(host.vcpu_state(&vm).dr7, 0x400);
}

#[test]
fn an_nmi_of_the_host_is_nothing_to_the_guest() {
    let host = host();
    let vm = host.running("a");
    let after = host.exit(&vm, |guest| {
        guest.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0202);
        guest.exits(ExitReason::ExceptionOrNmi as u32, 0);
    });
    assert_eq!((after.injected.len(), after.back().rip), (0, START));
}

#[test]
fn a_fault_in_the_delivery_of_a_fault_is_a_double_fault_and_the_next_a_triple_fault() {
    let host = host();
    let vm = host.running("a");
    let ac = |first: u64| {
        host.exit(&vm, move |guest| {
            guest.set(field::IDT_VECTORING_INFO, first);
            guest.set(field::GUEST_RIP, START);
            // RDMSR of nothing, for its #GP.
            guest.gprs[1] = u64::from(u32::MAX);
            guest.exits(ExitReason::Rdmsr as u32, 2);
        })
    };
    assert_eq!(ac(0).injected, [GP]);
    assert_eq!(ac(u64::from(GP)).injected, [0x8000_0b08]);
    assert_eq!(*ac(0x8000_0b08).stopped(), StopReason::TripleFault);
}

#[test]
fn real_mode_gets_no_error_code() {
    let host = host();
    let vm = host.running("a");
    host.exit(&vm, |guest| {
        guest.gprs[3] = 0x10;
        guest.set(field::EXIT_QUALIFICATION, 3 << 8);
        guest.exits(ExitReason::CrAccess as u32, 3);
    });
    let after = host.exit_for(&vm, ExitReason::Rdpmc, 2, 0);
    assert_eq!(after.injected, [GP & !(1 << 11)]);
}

#[test]
fn instructions_that_no_level_has_are_undefined() {
    use ExitReason as R;
    let host = host();
    let vm = host.running("a");
    for reason in [R::Vmcall, R::Vmxon, R::Vmlaunch, R::Vmread, R::Invept, R::Monitor, R::Mwait, R::Xsaves] {
        let after = host.exit_for(&vm, reason, 3, 0);
        assert_eq!((after.injected.as_slice(), after.back().rip), ([UD].as_slice(), START), "{reason:?}");
    }
    for reason in [R::Invd, R::Wbinvd, R::Pause, R::Invlpg] {
        assert!(host.exit_for(&vm, reason, 2, 0).injected.is_empty(), "{reason:?}");
    }
}

#[test]
fn memory_that_a_guest_has_used_and_lost_ends_that_vm_alone() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    let had = host.msr(0, MCG_CAP).unwrap_or(0);
    host.set_msr(0, MCG_CAP, 1 | 1 << 24);
    host.set_msr(0, MCG_STATUS, 0b110); // EIPV, MCIP
    host.set_msr(0, BANK_STATUS, POISON);
    let after = host.exit(&a, |guest| {
        guest.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0312);
        guest.exits(ExitReason::ExceptionOrNmi as u32, 0);
    });
    assert!(matches!(after.stopped(), StopReason::Error(why) if why.contains("machine check")));
    assert_eq!(host.msr(0, MCG_STATUS), Some(0), "the machine check is over");
    assert_eq!(host.msr(0, BANK_STATUS), Some(0), "and its bank empty");
    assert!(matches!(host.run(&b), Outcome::Yield));
    // Another time it is nothing: the bank holds no error any more.
    host.set_msr(0, MCG_STATUS, 0b101);
    let after = host.exit(&b, |guest| {
        guest.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0312);
        guest.exits(ExitReason::ExceptionOrNmi as u32, 0);
    });
    assert_eq!((after.injected.len(), after.back().rip), (0, START));
    host.set_msr(0, MCG_CAP, had);
    [MCG_STATUS, BANK_STATUS].into_iter().for_each(|msr| host.take_msr(0, msr));
    machine::Watch::default().poll();
}
