//! Events: which comes next, when, and that none is lost.

use vmx_types::field;
use vmx_types::reason::ExitReason as R;
use x86::msr;

use crate::run::Outcome;
use crate::testing::{After, Host, host};
use crate::vm::Vm;

const INTERRUPT_WINDOW: u64 = 1 << 2;
const NMI_WINDOW: u64 = 1 << 22;
const STI: u64 = 1;
const BLOCKED_BY_NMI: u64 = 1 << 3;
/// RFLAGS with IF, and without.
const OPEN: u64 = 0x202;
const CLOSED: u64 = 0x2;

const NMI: u32 = 0x8000_0202;

const fn interrupt(vector: u8) -> u32 {
    1 << 31 | vector as u32
}

fn wrmsr(host: &Host, vm: &Vm, index: u32, value: u64) {
    host.exit(vm, move |guest| {
        guest.gprs[1] = index.into();
        (guest.gprs[0], guest.gprs[2]) = (value & 0xffff_ffff, value >> 32);
        guest.exits(R::Wrmsr as u32, 2);
    });
}

/// An interrupt with that vector waits in the local APIC of the VM.
fn pends(host: &Host, vm: &Vm, vector: u8) {
    wrmsr(host, vm, msr::APIC_BASE, 0xfee0_0d00);
    wrmsr(host, vm, 0x80f, 0x1ff);
    wrmsr(host, vm, 0x83f, vector.into());
}

/// The guest comes back like this.
fn with(host: &Host, vm: &Vm, rflags: u64, interruptibility: u64) -> After {
    host.exit(vm, move |guest| {
        guest.set(field::GUEST_RFLAGS, rflags);
        guest.set(field::GUEST_INTERRUPTIBILITY, interruptibility);
        guest.exits(R::InterruptWindow as u32, 0);
    })
}

fn windows(host: &Host, vm: &Vm) -> u64 {
    let found = alloc::sync::Arc::new(core::sync::atomic::AtomicU64::new(0));
    let seen = alloc::sync::Arc::clone(&found);
    host.exit(vm, move |guest| {
        let controls = guest.read(field::PROC_BASED_CONTROLS);
        seen.store(controls & (INTERRUPT_WINDOW | NMI_WINDOW), core::sync::atomic::Ordering::Relaxed);
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
    found.load(core::sync::atomic::Ordering::Relaxed)
}

#[test]
fn an_event_whose_delivery_exited_is_delivered_again() {
    let host = host();
    let vm = host.running("a");
    for info in [interrupt(0x30), 0x8000_0b0e, NMI, 0x8000_0480, 0x8000_0603] {
        let after = host.exit(&vm, move |guest| {
            guest.set(field::IDT_VECTORING_INFO, info.into());
            guest.exits(R::PreemptionTimer as u32, 2);
        });
        assert_eq!(after.injected, [info]);
    }
}

#[test]
fn an_event_whose_delivery_an_interrupt_of_the_host_cut_short_travels_with_the_vcpu() {
    let host = host();
    let vm = host.running("a");
    host.guest_does(|guest| {
        guest.set(field::IDT_VECTORING_INFO, 0x8000_0480);
        guest.exits(R::ExternalInterrupt as u32, 2);
    });
    assert!(matches!(host.run(&vm), Outcome::Yield));
    let state = host.vcpu_state(&vm);
    assert_eq!((state.event_info, state.event_length), (0x8000_0480, 2));
    let after = host.exit(&vm, |guest| {
        assert_eq!(guest.read(field::ENTRY_INSTRUCTION_LENGTH), 2);
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
    assert_eq!(after.injected, [0x8000_0480]);
}

#[test]
fn an_interrupt_waits_until_the_guest_takes_interrupts_and_comes_once() {
    let host = host();
    let vm = host.running("a");
    pends(&host, &vm, 0x45);
    assert!(with(&host, &vm, CLOSED, 0).injected.is_empty());
    assert_eq!(windows(&host, &vm), INTERRUPT_WINDOW);
    assert_eq!(with(&host, &vm, OPEN, 0).injected, [interrupt(0x45)]);
    assert!(with(&host, &vm, OPEN, 0).injected.is_empty());
    assert_eq!(windows(&host, &vm), 0, "no exits for a window that nobody waits for");
}

#[test]
fn no_interrupt_comes_between_sti_and_the_next_instruction() {
    let host = host();
    let vm = host.running("a");
    pends(&host, &vm, 0x45);
    assert!(with(&host, &vm, OPEN, STI).injected.is_empty());
    let after = host.exit(&vm, |guest| guest.exits(R::Cpuid as u32, 2));
    assert_eq!(after.back().interruptibility, 0, "an instruction that is carried out here ends it");
    assert!(after.injected.is_empty(), "the CPU says when its window is open");
    let after = host.exit(&vm, |guest| guest.exits(R::InterruptWindow as u32, 0));
    assert_eq!(after.injected, [interrupt(0x45)]);
}

#[test]
fn an_nmi_comes_before_an_interrupt() {
    let host = host();
    let vm = host.running("a");
    pends(&host, &vm, 0x45);
    vm.platform.lock().raise_nmi();
    assert_eq!(with(&host, &vm, OPEN, 0).injected, [NMI]);
    assert_eq!(with(&host, &vm, OPEN, 0).injected, [interrupt(0x45)]);
}

#[test]
fn an_nmi_waits_while_another_one_is_handled_and_its_window_is_asked_for() {
    let host = host();
    let vm = host.running("a");
    with(&host, &vm, OPEN, BLOCKED_BY_NMI);
    vm.platform.lock().raise_nmi();
    assert!(with(&host, &vm, OPEN, BLOCKED_BY_NMI).injected.is_empty());
    assert_eq!(windows(&host, &vm), NMI_WINDOW);
    assert!(host.vcpu_state(&vm).nmi_pending);
    assert_eq!(with(&host, &vm, OPEN, 0).injected, [NMI]);
    assert!(!host.vcpu_state(&vm).nmi_pending);
}

#[test]
fn an_event_on_its_way_comes_before_an_interrupt_that_waits() {
    let host = host();
    let vm = host.running("a");
    pends(&host, &vm, 0x45);
    let after = host.exit(&vm, |guest| {
        guest.set(field::GUEST_RFLAGS, OPEN);
        guest.set(field::IDT_VECTORING_INFO, 0x8000_0b0d);
        guest.exits(R::PreemptionTimer as u32, 0);
    });
    assert_eq!(after.injected, [0x8000_0b0d]);
    assert_eq!(windows(&host, &vm), INTERRUPT_WINDOW);
}

#[test]
fn a_halted_guest_is_woken_behind_its_hlt() {
    let host = host();
    let vm = host.running("a");
    host.guest_does(|guest| {
        guest.set(field::GUEST_RFLAGS, OPEN);
        guest.exits(R::Hlt as u32, 1);
    });
    assert!(matches!(host.run(&vm), Outcome::Halted(_)));
    assert!(matches!(host.run(&vm), Outcome::Halted(_)), "nothing has come");
    vm.platform.lock().raise_nmi();
    let after = host.exit(&vm, |guest| {
        assert_eq!(guest.read(field::GUEST_RIP), 0x10_0021);
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
    assert_eq!(after.injected, [NMI]);
    assert!(!host.vcpu_state(&vm).halted);
}

#[test]
fn a_halted_guest_says_when_its_timer_is_due_and_wakes_then() {
    let host = host();
    let vm = host.running("a");
    pends(&host, &vm, 0x45);
    assert_eq!(with(&host, &vm, OPEN, 0).injected, [interrupt(0x45)]);
    wrmsr(&host, &vm, 0x80b, 0); // EOI
    wrmsr(&host, &vm, 0x832, 2 << 17 | 0x46);
    let due = vm.clock.now().tsc + 5_000_000;
    wrmsr(&host, &vm, msr::TSC_DEADLINE, due);
    host.guest_does(|guest| guest.exits(R::Hlt as u32, 1));
    let Outcome::Halted(at) = host.run(&vm) else { panic!("it is halted") };
    assert_eq!(at, vm.clock.host_tsc(due));
    host.pass(5_000_000);
    let after = host.exit(&vm, |guest| guest.exits(R::ExternalInterrupt as u32, 0));
    assert_eq!(after.injected, [interrupt(0x46)]);
}

#[test]
fn a_single_step_over_hlt_does_not_sleep() {
    const TF: u64 = 1 << 8;
    let host = host();
    let vm = host.running("a");
    let after = host.exit(&vm, |guest| {
        guest.set(field::GUEST_RFLAGS, CLOSED | TF);
        guest.exits(R::Hlt as u32, 1);
    });
    assert_eq!(after.back().rip, 0x10_0021);
    let state = host.vcpu_state(&vm);
    assert_eq!((state.halted, state.pending_debug & 1 << 14), (false, 1 << 14));
}
