//! Export and import.

use alloc::string::String;

use vm_types::{Gpa, GuestMemory};
use vmx_types::state::VcpuState;

use crate::testing::{Host, host};
use crate::vm::Vm;

type Change = fn(&mut VcpuState);

fn import(vm: &Vm, state: &VcpuState) -> Result<(), String> {
    let mut vcpu = vm.vcpus[0].vcpu.lock();
    vcpu.release(vm);
    vcpu.import(vm, state).map_err(|error| error.why)
}

/// A state in which every field has a value of its own.
fn full(host: &Host, vm: &Vm) -> VcpuState {
    let mut state = host.vcpu_state(vm);
    state.gprs = core::array::from_fn(|number| 0x1000 + number as u64);
    state.rip = 0x10_1234;
    state.rflags = 0x246;
    state.cr2 = 0xffff_8000_1234_5678;
    state.cr3 = 0x20_0000;
    state.cr4 = 1 << 5;
    state.xcr0 = 7;
    for (number, segment) in state.segments.iter_mut().enumerate().take(6) {
        segment.selector = (number as u16 + 1) << 3;
    }
    state.gdtr.base = 0x5000;
    state.gdtr.limit = 0x7f;
    state.idtr.base = 0x6000;
    state.idtr.limit = 0x7ff;
    state.debug = [0x11, 0x12, 0x13, 0x14, 0xffff_4ff1];
    state.dr7 = 0x401;
    state.sysenter = [0x10, 0xffff_8000_0000_1000, 0xffff_8000_0000_2000];
    state.pat = 0x0007_0106_0007_0406;
    state.msrs = [0x23_0010_0000_0000, 0xffff_8000_0000_3000, 0xffff_8000_0000_4000, 0x4_7700, 0x7000];
    state.tsc_aux = 0x55;
    state.interruptibility = 8;
    state.event_info = 0x8000_0b0d;
    state.event_error_code = 0x18;
    state.nmi_pending = true;
    state.tsc_adjust = 0x1_0000;
    state.mtrr.variable[3] = 0xf000_0800;
    state.mtrr.fixed[4] = 0x0606_0606_0606_0606;
    state.misc_features = Some(1);
    state.xsave[160..176].copy_from_slice(b"sixteen of XMM0.");
    state
}

#[test]
fn what_is_imported_is_exported_again() {
    let host = host();
    let vm = host.running("a");
    let state = full(&host, &vm);
    import(&vm, &state).unwrap();
    assert_eq!(host.vcpu_state(&vm), state);
    // Not on another CPU alone.
    host.on(1, || assert_eq!(host.vcpu_state(&vm), state));
    let bytes = state.to_bytes();
    assert_eq!(VcpuState::from_bytes(&bytes), Ok(state));
}

#[test]
fn a_halted_vcpu_arrives_halted() {
    let host = host();
    let vm = host.running("a");
    let mut state = host.vcpu_state(&vm);
    state.halted = true;
    import(&vm, &state).unwrap();
    assert_eq!(host.vcpu_state(&vm), state);
}

#[test]
fn what_a_guest_may_not_have_is_refused_by_its_field() {
    let host = host();
    let vm = host.running_at("a", "nehalem");
    let good = host.vcpu_state(&vm);
    let wrong: [(&str, Change); 17] = [
        ("CR0", |state| state.cr0 |= 1 << 6),
        ("CR4", |state| state.cr4 |= 1 << 20),
        ("CR3", |state| state.cr3 = 1 << 60),
        ("IA32_EFER", |state| state.efer |= 1 << 12),
        ("XCR0", |state| state.xcr0 = 7),
        ("IA32_LSTAR", |state| state.msrs[1] = 1 << 63),
        ("IA32_FMASK", |state| state.msrs[3] = 1 << 32),
        ("IA32_KERNEL_GS_BASE", |state| state.msrs[4] = 1 << 47),
        ("IA32_TSC_AUX", |state| state.tsc_aux = 1 << 32),
        ("DR6", |state| state.debug[4] = 1 << 32),
        ("IA32_SYSENTER_CS", |state| state.sysenter[0] = 1 << 32),
        ("PAT", |state| state.pat = 2),
        ("RFLAGS", |state| state.rflags = 0),
        ("CS", |state| state.segments[1].rights = 0),
        ("IA32_SPEC_CTRL", |state| state.spec_ctrl = Some(1)),
        ("MISC_FEATURES_ENABLES", |state| state.misc_features = Some(1)),
        ("PDPTE", |state| state.pdptes = Some([0; 4])),
    ];
    for (field, change) in wrong {
        let mut state = good.clone();
        change(&mut state);
        let why = import(&vm, &state).expect_err(field);
        assert!(why.contains(field), "{field}: {why}");
    }
    import(&vm, &good).unwrap();
    assert_eq!(host.vcpu_state(&vm), good);
}

#[test]
fn an_xsave_area_with_reserved_bits_is_refused() {
    let host = host();
    let vm = host.running_at("a", "nehalem");
    let good = host.vcpu_state(&vm);
    for change in [
        (|state| state.xsave[512] = 0x80) as Change, // XSTATE_BV
        |state| state.xsave[27] = 0x80,              // MXCSR
        |state| state.xsave[520] = 1,                // XCOMP_BV
        |state| state.xsave.truncate(100),
        |state| state.xsave.resize(1 << 16, 0),
    ] {
        let mut state = good.clone();
        change(&mut state);
        assert!(import(&vm, &state).is_err());
    }
}

#[test]
fn an_older_source_leaves_its_pae_entries_in_memory() {
    const TABLE: u64 = 0x20_0040;
    let host = host();
    let vm = host.running("a");
    let mut state = host.vcpu_state(&vm);
    (state.cr3, state.cr4, state.cr0) = (TABLE, 1 << 5, state.cr0 | 1 << 31);
    vm.memory.write(Gpa(TABLE + 8), &0x30_0001_u64.to_le_bytes()).unwrap();
    import(&vm, &state).unwrap();
    assert_eq!(host.vcpu_state(&vm).pdptes, Some([0, 0x30_0001, 0, 0]));
}
