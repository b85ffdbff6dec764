//! Control registers and XCR0, within the level.

use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{GP, RAX, RBX, RCX, RDX, START, in_user_mode};
use crate::testing::{After, Host, host};
use crate::vm::Vm;

const PE: u64 = 1;
const TS: u64 = 1 << 3;
const PG: u64 = 1 << 31;

/// MOV to a control register.
fn mov_to(host: &Host, vm: &Vm, cr: u64, value: u64) -> After {
    host.exit(vm, move |guest| {
        guest.gprs[RBX] = value;
        guest.set(field::EXIT_QUALIFICATION, cr | (RBX as u64) << 8);
        guest.exits(ExitReason::CrAccess as u32, 3);
    })
}

fn xsetbv(host: &Host, vm: &Vm, register: u64, value: u64) -> After {
    host.exit(vm, move |guest| {
        guest.gprs[RCX] = register;
        (guest.gprs[RAX], guest.gprs[RDX]) = (value & 0xffff_ffff, value >> 32);
        guest.exits(ExitReason::Xsetbv as u32, 3);
    })
}

#[test]
fn a_bit_of_cr4_outside_the_level_is_a_fault_and_changes_nothing() {
    const PAE: u64 = 1 << 5;
    const VMXE: u64 = 1 << 13;
    const SMEP: u64 = 1 << 20;
    let host = host();
    let vm = host.running_at("a", "nehalem");
    for bit in [VMXE, SMEP, 1 << 23, 1 << 63] {
        let after = mov_to(&host, &vm, 4, PAE | bit);
        assert_eq!((after.injected.as_slice(), after.back().rip), ([GP].as_slice(), START), "{bit:#x}");
    }
    assert_eq!(host.vcpu_state(&vm).cr4, 0);
    assert!(mov_to(&host, &vm, 4, PAE).injected.is_empty());
    assert_eq!(host.vcpu_state(&vm).cr4, PAE);
    host.exit(&vm, |guest| {
        assert_eq!(guest.read(field::CR4_READ_SHADOW), PAE);
        assert_eq!(
            guest.read(field::GUEST_CR4) & VMXE,
            VMXE,
            "VMX asks for it, and the guest does not see it"
        );
        guest.exits(ExitReason::ExternalInterrupt as u32, 0);
    });
}

#[test]
fn paging_without_protection_is_a_fault() {
    let host = host();
    let vm = host.running("a");
    assert_eq!(mov_to(&host, &vm, 0, PG).injected, [GP]);
    assert_eq!(host.vcpu_state(&vm).cr0 & (PG | PE), PE);
}

#[test]
fn a_guest_goes_into_long_mode_and_the_cpu_with_it() {
    const PAE: u64 = 1 << 5;
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const IA32E_MODE_GUEST: u64 = 1 << 9;
    let host = host();
    let vm = host.running("a");
    mov_to(&host, &vm, 4, PAE);
    mov_to(&host, &vm, 3, 0x20_0000);
    super::msr::wrmsr(&host, &vm, x86::msr::EFER, LME);
    let mode = |expected: u64| {
        host.exit(&vm, move |guest| {
            assert_eq!(guest.read(field::ENTRY_CONTROLS) & IA32E_MODE_GUEST, expected);
            guest.exits(ExitReason::ExternalInterrupt as u32, 0);
        })
    };
    mode(0);
    assert!(mov_to(&host, &vm, 0, PG | PE).injected.is_empty());
    mode(IA32E_MODE_GUEST);
    let state = host.vcpu_state(&vm);
    assert_eq!((state.efer, state.cr3), (LME | LMA, 0x20_0000));
    // LME is not to be changed while paging is on.
    assert_eq!(super::msr::wrmsr(&host, &vm, x86::msr::EFER, 0).injected, [GP]);
}

#[test]
fn pae_paging_loads_its_four_entries_from_memory_and_faults_on_reserved_bits() {
    const PAE: u64 = 1 << 5;
    const TABLE: Gpa = Gpa(0x20_0020);
    let host = host();
    let vm = host.running("a");
    mov_to(&host, &vm, 4, PAE);
    mov_to(&host, &vm, 3, TABLE.0);
    vm.memory.write(TABLE, &0x20_1007_u64.to_le_bytes()).unwrap(); // R/W and U/S are reserved
    let after = mov_to(&host, &vm, 0, PG | PE);
    assert_eq!((after.injected.as_slice(), after.back().rip), ([GP].as_slice(), START + 6));
    vm.memory.write(TABLE, &0x20_1001_u64.to_le_bytes()).unwrap();
    assert!(mov_to(&host, &vm, 0, PG | PE).injected.is_empty());
    assert_eq!(host.vcpu_state(&vm).pdptes, Some([0x20_1001, 0, 0, 0]));
}

#[test]
fn cr8_is_the_priority_of_the_local_apic() {
    let host = host();
    let vm = host.running("a");
    assert!(mov_to(&host, &vm, 8, 5).injected.is_empty());
    assert_eq!(vm.vcpus[0].vcpu.lock().vcpu.apic.cr8(), 5);
    let after = host.exit_for(&vm, ExitReason::CrAccess, 3, 8 | 1 << 4 | (RAX as u64) << 8);
    assert_eq!(after.back().gprs[RAX], 5);
    for value in [0x10, 1 << 63] {
        assert_eq!(mov_to(&host, &vm, 8, value).injected, [GP], "{value:#x}");
    }
    assert_eq!(vm.vcpus[0].vcpu.lock().vcpu.apic.cr8(), 5);
}

#[test]
fn clts_and_lmsw_change_what_they_may() {
    let host = host();
    let vm = host.running("a");
    let before = host.vcpu_state(&vm).cr0;
    mov_to(&host, &vm, 0, before | TS);
    assert_eq!(host.vcpu_state(&vm).cr0, before | TS);
    host.exit_for(&vm, ExitReason::CrAccess, 2, 2 << 4);
    assert_eq!(host.vcpu_state(&vm).cr0, before);
    // LMSW sets MP, EM and TS and cannot clear PE.
    host.exit_for(&vm, ExitReason::CrAccess, 3, 3 << 4 | 0x8 << 16);
    assert_eq!(host.vcpu_state(&vm).cr0, before & !0xf | TS | PE);
}

#[test]
fn xcr0_takes_what_the_level_has_and_nothing_else() {
    const AVX: u64 = 7;
    const AVX512: u64 = 0xe7;
    let host = host();
    let vm = host.running_at("a", "haswell");
    for (register, value) in [(0, 0), (0, 2), (0, 5), (0, AVX512), (0, 1 << 63 | 1), (1, AVX)] {
        let after = xsetbv(&host, &vm, register, value);
        assert_eq!((after.injected.as_slice(), after.back().rip), ([GP].as_slice(), START), "{value:#x}");
    }
    assert_eq!(host.vcpu_state(&vm).xcr0, 1);
    assert!(xsetbv(&host, &vm, 0, AVX).injected.is_empty());
    assert_eq!(host.register(0, "xcr0"), AVX, "it is in the hardware while the guest runs");
    assert_eq!(host.vcpu_state(&vm).xcr0, AVX);
}

#[test]
fn xsetbv_is_a_fault_in_user_mode() {
    let host = host();
    let vm = host.running_at("a", "haswell");
    let after = host.exit(&vm, |guest| {
        in_user_mode(guest);
        (guest.gprs[RCX], guest.gprs[RAX], guest.gprs[RDX]) = (0, 7, 0);
        guest.exits(ExitReason::Xsetbv as u32, 3);
    });
    assert_eq!(after.injected, [GP]);
    assert_eq!(host.vcpu_state(&vm).xcr0, 1);
}

#[test]
fn an_init_that_a_guest_sends_to_itself_does_not_stop_it() {
    // The only vCPU has nobody to start it again.
    let host = host();
    let vm = host.running("a");
    const X2APIC_ON: u64 = 0xfee0_0d00;
    super::msr::wrmsr(&host, &vm, x86::msr::APIC_BASE, X2APIC_ON);
    let after = super::msr::wrmsr(&host, &vm, 0x830, 3 << 18 | 5 << 8 | 1 << 14);
    assert!(after.back.is_some());
}
