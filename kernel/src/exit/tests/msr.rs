//! RDMSR and WRMSR: the policy's list, and nothing of the host's behind it.

use vmx_types::field;
use vmx_types::reason::ExitReason;
use x86::msr;

use super::{GP, RAX, RCX, RDX, START};
use crate::testing::{After, Host, host};
use crate::vm::Vm;

pub(super) fn rdmsr(host: &Host, vm: &Vm, index: u32) -> (After, u64) {
    let after = host.exit(vm, move |guest| {
        guest.gprs[RCX] = index.into();
        (guest.gprs[RAX], guest.gprs[RDX]) = (u64::MAX, u64::MAX);
        guest.exits(ExitReason::Rdmsr as u32, 2);
    });
    let gprs = after.back().gprs;
    (after, gprs[RDX] << 32 | gprs[RAX])
}

pub(super) fn wrmsr(host: &Host, vm: &Vm, index: u32, value: u64) -> After {
    host.exit(vm, move |guest| {
        guest.gprs[RCX] = index.into();
        // The upper halves of the registers mean nothing.
        guest.gprs[RAX] = value & 0xffff_ffff | 0xdead << 32;
        guest.gprs[RDX] = value >> 32 | 0xbeef << 32;
        guest.exits(ExitReason::Wrmsr as u32, 2);
    })
}

#[test]
fn an_unknown_msr_is_a_fault_at_the_instruction() {
    let host = host();
    let vm = host.running("a");
    for index in [0x1, 0x3a, 0x480, 0xc000_0105, u32::MAX] {
        let (after, _) = rdmsr(&host, &vm, index);
        assert_eq!((after.injected.as_slice(), after.back().rip), ([GP].as_slice(), START), "{index:#x}");
        assert_eq!(after.back().gprs[RAX], u64::MAX, "a fault leaves the registers alone");
        let after = wrmsr(&host, &vm, index, 0);
        assert_eq!((after.injected.as_slice(), after.back().rip), ([GP].as_slice(), START), "{index:#x}");
    }
}

#[test]
fn a_write_outside_the_policy_reaches_nothing_of_the_host() {
    let host = host();
    let vm = host.running("a");
    let before = host.msr(0, msr::FEATURE_CONTROL);
    assert!(before.is_some());
    wrmsr(&host, &vm, msr::FEATURE_CONTROL, 0);
    assert_eq!(host.msr(0, msr::FEATURE_CONTROL), before);
}

#[test]
fn bits_of_efer_outside_the_level_are_a_fault_and_change_nothing() {
    const SVME: u64 = 1 << 12;
    const SCE: u64 = 1;
    let host = host();
    let vm = host.running("a");
    assert_eq!(wrmsr(&host, &vm, msr::EFER, SVME).injected, [GP]);
    assert_eq!(rdmsr(&host, &vm, msr::EFER).1, 0);
    let after = wrmsr(&host, &vm, msr::EFER, SCE);
    assert_eq!((after.injected.len(), after.back().rip), (0, START + 4));
    assert_eq!(rdmsr(&host, &vm, msr::EFER).1, SCE);
}

#[test]
fn rdmsr_answers_what_the_guest_wrote() {
    let host = host();
    let vm = host.running("a");
    for (index, value) in [
        (0x174, 0x10),
        (0x175, 0xffff_8000_0000_1000),
        (0x176, 0x7fff_ffff_f000),
        (msr::PAT, 0x0007_0106_0007_0406),
        (msr::FS_BASE, 0x1234_5678_9000),
        (msr::GS_BASE, 0xffff_ffff_8000_0000),
        (0x200, 0xf000_0006),
        (0x201, 0xf000_0800),
        (0x20f, 0x8_0000_0800),
        (0x250, 0x0606_0606_0606_0606),
        (0x26f, 0x0505_0505_0505_0505),
        (0x2ff, 0xc06),
        (msr::LSTAR, 0xffff_ffff_8100_0000),
    ] {
        assert!(wrmsr(&host, &vm, index, value).injected.is_empty(), "{index:#x}");
        let (after, read) = rdmsr(&host, &vm, index);
        assert_eq!((after.injected.len(), read), (0, value), "{index:#x}");
    }
}

#[test]
fn an_address_that_is_not_canonical_is_a_fault_before_it_reaches_the_vmcs() {
    let host = host();
    let vm = host.running("a");
    for index in [0x175, msr::FS_BASE, msr::GS_BASE, msr::LSTAR, msr::KERNEL_GS_BASE] {
        assert_eq!(wrmsr(&host, &vm, index, 1 << 63).injected, [GP], "{index:#x}");
    }
    assert_eq!(host.msr(0, msr::LSTAR), Some(0));
}

#[test]
fn the_tsc_that_a_guest_sets_goes_on_from_there_and_shows_in_tsc_adjust() {
    const TSC: u32 = 0x10;
    const TSC_ADJUST: u32 = 0x3b;
    const AHEAD: u64 = 1 << 40;
    let host = host();
    let vm = host.running("a");
    assert_eq!(rdmsr(&host, &vm, TSC_ADJUST).1, 0);
    wrmsr(&host, &vm, TSC, AHEAD);
    let now = rdmsr(&host, &vm, TSC).1;
    assert!((AHEAD..AHEAD + 1_000_000).contains(&now), "{now:#x}");
    let adjust = rdmsr(&host, &vm, TSC_ADJUST).1;
    assert!((AHEAD - 1_000_000_000..AHEAD).contains(&adjust), "{adjust:#x}");
    let after = host.exit(&vm, |guest| guest.exits(ExitReason::Rdtsc as u32, 2));
    let gprs = after.back().gprs;
    assert!(gprs[RDX] << 32 | gprs[RAX] > now, "RDTSC where it exits goes by the same line");
    // The CPU adds the same to what RDTSC reads without an exit.
    let expected = vm.clock.offset().wrapping_add(adjust);
    host.exit(&vm, move |guest| {
        assert_eq!(guest.read(field::TSC_OFFSET), expected);
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
}

#[test]
fn the_deadline_timer_interrupts_when_the_guest_said() {
    const SVR: u32 = 0x80f;
    const LVT_TIMER: u32 = 0x832;
    const X2APIC_ON: u64 = 0xfee0_0d00;
    const VECTOR: u32 = 0x41;
    let host = host();
    let vm = host.running("a");
    assert!(wrmsr(&host, &vm, msr::APIC_BASE, X2APIC_ON).injected.is_empty());
    wrmsr(&host, &vm, SVR, 0x1ff);
    wrmsr(&host, &vm, LVT_TIMER, 2 << 17 | u64::from(VECTOR));
    let due = vm.clock.now().tsc + 100_000;
    wrmsr(&host, &vm, msr::TSC_DEADLINE, due);
    let early = host.exit(&vm, |guest| {
        guest.set(field::GUEST_RFLAGS, 0x202);
        guest.exits(ExitReason::PreemptionTimer as u32, 0);
    });
    assert!(early.injected.is_empty());
    host.pass(200_000);
    let late = host.exit(&vm, |guest| guest.exits(ExitReason::PreemptionTimer as u32, 0));
    assert_eq!(late.injected, [1 << 31 | VECTOR]);
}
