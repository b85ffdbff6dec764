//! How the CPUs of a guest start: INIT, start-up IPIs, and what a vCPU does that waits for them.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use cmdline::VmOptions;
use vmx_types::field::{self, Segment};
use vmx_types::reason::ExitReason as R;

use crate::guest::StopReason;
use crate::run::Outcome;
use crate::testing::{Host, host, small};
use crate::vm::Vm;

/// IA32_APIC_BASE, and the command register of the x2APIC.
const APIC_BASE: u64 = 0x1b;
const ICR: u64 = 0x830;
/// To all but the sender: INIT, a start-up IPI with this page, an NMI.
const INIT: u64 = 0xc_4500;
const SIPI: u64 = 0xc_4600;
const NMI: u64 = 0xc_4400;

/// A VM with two vCPUs whose first one is in x2APIC mode.
fn two(host: &Host) -> Arc<Vm> {
    let level = Some("haswell".into());
    let vm = host.running_with(&VmOptions { vcpus: 2, level, ..small("a") });
    writes(host, &vm, APIC_BASE, 0xfee0_0d00);
    vm
}

/// vCPU 0 writes to an MSR.
fn writes(host: &Host, vm: &Vm, msr: u64, value: u64) -> Outcome {
    let after = host.exit(vm, move |guest| {
        (guest.gprs[1], guest.gprs[2], guest.gprs[0]) = (msr, value >> 32, value & 0xffff_ffff);
        guest.exits(R::Wrmsr as u32, 2);
    });
    assert!(after.injected.is_empty(), "WRMSR {msr:#x} faults");
    after.outcome
}

fn entries(host: &Host, vm: &Vm) -> u64 {
    let before = vm.mailboxes[1].exits.total();
    let outcome = host.run_vcpu(vm, 1);
    let entries = vm.mailboxes[1].exits.total() - before;
    assert_eq!(entries == 0, matches!(outcome, Outcome::Halted(u64::MAX)), "{outcome:?}");
    entries
}

#[test]
fn all_but_the_first_wait() {
    let host = host();
    let vm = two(&host);
    assert_eq!(entries(&host, &vm), 0);
    let state = vm.vcpus[1].vcpu.lock().export(&vm);
    assert!(state.wait_for_sipi && !state.halted);
    assert!(!host.vcpu_state(&vm).wait_for_sipi);
}

#[test]
fn init_and_a_start_up_ipi_start_it_in_real_mode() {
    let host = host();
    let vm = two(&host);
    for icr in [INIT, SIPI | 0x9a, SIPI | 0x9a] {
        writes(&host, &vm, ICR, icr);
    }
    assert_ne!(vm.mailboxes[1].requests.load(Ordering::Relaxed), 0, "its CPU is told");
    host.guest_does(|guest| {
        assert_eq!(guest.read(Segment::Cs.base()), 0x9_a000);
        assert_eq!((guest.read(field::GUEST_RIP), guest.read(field::GUEST_CR0) & 1), (0, 0));
        assert_eq!(guest.gprs[2], 0x306f2, "EDX has the signature of the level");
        guest.exits(R::ExternalInterrupt as u32, 0);
    });
    assert!(entries(&host, &vm) > 0);
    assert_eq!(host.left_to_do(), 0);
}

#[test]
fn a_start_up_ipi_means_nothing_to_one_that_runs() {
    let host = host();
    let vm = two(&host);
    writes(&host, &vm, ICR, SIPI | 0x9a);
    entries(&host, &vm);
    let before = vm.vcpus[1].vcpu.lock().export(&vm);
    writes(&host, &vm, ICR, SIPI | 0x55);
    entries(&host, &vm);
    let after = vm.vcpus[1].vcpu.lock().export(&vm);
    assert_eq!((after.rip, after.segments), (before.rip, before.segments));
}

#[test]
fn an_nmi_does_not_start_it_and_comes_once_it_has_started() {
    let host = host();
    let vm = two(&host);
    writes(&host, &vm, ICR, NMI);
    assert_eq!(entries(&host, &vm), 0);
    writes(&host, &vm, ICR, SIPI | 0x10);
    host.injected();
    assert!(entries(&host, &vm) > 0);
    assert_eq!(host.injected(), [0x8000_0202]);
}

#[test]
fn init_takes_one_that_runs_back() {
    let host = host();
    let vm = two(&host);
    writes(&host, &vm, ICR, SIPI | 0x10);
    entries(&host, &vm);
    writes(&host, &vm, ICR, INIT);
    assert_eq!(entries(&host, &vm), 0);
    assert!(vm.vcpus[1].vcpu.lock().export(&vm).wait_for_sipi);
    writes(&host, &vm, ICR, SIPI | 0x20);
    assert!(entries(&host, &vm) > 0);
}

/// It would go on in firmware, which starts the machine again.
#[test]
fn init_of_the_first_one_is_a_reset() {
    let host = host();
    let vm = two(&host);
    // To APIC ID 0.
    assert!(matches!(writes(&host, &vm, ICR, 0x4500), Outcome::Stopped(StopReason::Reset)));
}

#[test]
fn a_storm_of_start_up_ipis_ends_no_turn_late() {
    let host = host();
    let vm = two(&host);
    for page in 0..100 {
        writes(&host, &vm, ICR, SIPI | page);
        writes(&host, &vm, ICR, INIT);
    }
    assert_eq!(entries(&host, &vm), 0);
}

#[test]
fn a_vm_has_as_many_as_this_version_and_this_cpu_run() {
    let host = host();
    let text = |vcpus| host.try_vm(&VmOptions { vcpus, ..small("a") }).map(|_| ()).unwrap_err();
    assert!(text(0).contains("0 vCPUs"), "{}", text(0));
    assert!(text(65).contains("65 vCPUs"), "{}", text(65));
    assert_eq!(host.try_vm(&VmOptions { vcpus: 64, ..small("b") }).unwrap().vcpus.len(), 64);
}
