//! What is in the hardware while a vCPU is there, and what it finds when it comes back.

use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use vmx_types::reason::ExitReason;
use x86::msr;

use crate::testing::{Host, host};
use crate::vm::Vm;

/// Gives the CPU back and has the vCPU taken off it.
fn leaves(vm: &Vm) {
    vm.vcpus[0].vcpu.lock().release(vm);
}

fn starts_with(host: &Host, vm: &Vm, change: impl FnOnce(&mut vmx_types::state::VcpuState)) {
    let mut state = host.vcpu_state(vm);
    change(&mut state);
    vm.vcpus[0].vcpu.lock().import(vm, &state).expect("a state of this guest");
}

#[test]
fn msrs_that_do_not_exit_are_those_of_the_guest_that_runs() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    let of = |n: u64| [n, 0x1000 + n, 0x2000 + n, 0x3000 + n, 0x4000 + n];
    starts_with(&host, &a, |state| state.msrs = of(1));
    starts_with(&host, &b, |state| state.msrs = of(2));
    let live = || super::super::LIVE_MSRS.map(|msr| host.msr(0, msr).unwrap());
    host.run(&a);
    assert_eq!(live(), of(1));
    // What it writes by itself goes with it.
    host.set_msr(0, msr::LSTAR, 0x7777);
    leaves(&a);
    host.run(&b);
    assert_eq!(live(), of(2));
    leaves(&b);
    host.on(1, || host.run(&a));
    assert_eq!(host.msr(1, msr::LSTAR), Some(0x7777));
    host.on(1, || leaves(&a));
}

#[test]
fn a_level_without_rdtscp_finds_no_tsc_aux_of_another_guest() {
    let host = host();
    let (old, new) = (host.running_at("old", "penryn"), host.running_at("new", "haswell"));
    starts_with(&host, &new, |state| state.tsc_aux = 0x99);
    // One that an older host gave it: it cannot read that.
    starts_with(&host, &old, |state| state.tsc_aux = 0x55);
    host.run(&new);
    assert_eq!(host.msr(0, msr::TSC_AUX), Some(0x99));
    leaves(&new);
    host.run(&old);
    assert_eq!(host.msr(0, msr::TSC_AUX), Some(0));
    leaves(&old);
    assert_eq!(host.vcpu_state(&new).tsc_aux, 0x99);
}

#[test]
fn vector_registers_stay_with_their_guest() {
    const XMM1: usize = 176;
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    host.run(&a);
    host.set_xstate(0, XMM1, b"what A has there");
    host.run(&a);
    leaves(&a);
    host.run(&b);
    assert_eq!(host.xstate(0)[XMM1..XMM1 + 16], [0; 16]);
    leaves(&b);
    host.on(1, || host.run(&a));
    assert_eq!(&host.xstate(1)[XMM1..XMM1 + 16], b"what A has there");
    host.on(1, || leaves(&a));
}

#[test]
fn an_instruction_carried_out_on_a_vector_register_changes_that_one_alone() {
    const XMM0: usize = 160;
    const XMM1: usize = 176;
    let host = host();
    let vm = host.running("a");
    host.exit(&vm, |guest| {
        guest.gprs[3] = 1 << 9;
        guest.set(field::EXIT_QUALIFICATION, 4 | 3 << 8); // CR4.OSFXSR
        guest.exits(ExitReason::CrAccess as u32, 3);
    });
    host.set_xstate(0, XMM1, b"what is in XMM1.");
    // MOVUPS XMM0, [D0000000H]
    vm.memory.write(Gpa(0x10_0023), &[0x0f, 0x10, 0x05, 0, 0, 0, 0xd0]).unwrap();
    let after = host.exit(&vm, |guest| {
        guest.set(field::EXIT_QUALIFICATION, 1 | 3 << 7);
        guest.set(field::GUEST_PHYSICAL_ADDRESS, 0xd000_0000);
        guest.exits(ExitReason::EptViolation as u32, 0);
    });
    assert_eq!((after.injected.as_slice(), after.back().rip), ([].as_slice(), 0x10_002a));
    assert_eq!(host.xstate(0)[XMM0..XMM0 + 16], [0xff; 16]);
    assert_eq!(&host.xstate(0)[XMM1..XMM1 + 16], b"what is in XMM1.");
}

#[test]
fn debug_registers_and_cr2_are_those_of_the_guest_that_runs() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    starts_with(&host, &a, |state| {
        state.debug = [0x100, 0x200, 0x300, 0x400, 0xffff_4ff0];
        state.cr2 = 0x1234_5000;
    });
    let live = |cpu| ["dr0", "dr1", "dr2", "dr3", "dr6", "cr2"].map(|name| host.register(cpu, name));
    host.run(&a);
    assert_eq!(live(0), [0x100, 0x200, 0x300, 0x400, 0xffff_4ff0, 0x1234_5000]);
    leaves(&a);
    host.run(&b);
    assert_eq!(live(0), [0, 0, 0, 0, 0xffff_0ff0, 0]);
}

#[test]
fn a_vcpu_that_leaves_its_cpu_takes_its_log_of_written_pages_along() {
    let host = host();
    let vm = host.running("a");
    host.exit(&vm, |guest| {
        assert!(guest.logs_write(0x9000));
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
    vm.memory.logged.drain(|_, _| {});
    leaves(&vm);
    assert!(vm.memory.logged.contains(9));
}

#[test]
fn every_vcpu_has_a_vpid_of_its_own_and_gives_it_back() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    let vpid = |vm: &Vm| vm.vcpus[0].vcpu.lock().vcpu.vpid.get();
    let (first, second) = (vpid(&a), vpid(&b));
    assert!(first != 0 && second != 0 && first != second);
    host.exit(&a, move |guest| {
        assert_eq!(guest.read(field::VPID), u64::from(first));
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
    leaves(&a);
    crate::vm::registry::remove(&a);
    drop(a);
    while crate::vm::remains::poll() {}
    assert_eq!(vpid(&host.running("c")), first);
}
