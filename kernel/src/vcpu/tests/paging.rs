//! Where a vCPU's tables come from, as its VMCS says it.

use translation::{Backing, HwPaging, Shadowed};
use vmx_types::control::{ProcBased, ProcBased2};
use vmx_types::event::vector;
use vmx_types::field;

use crate::testing::host;
use hw::mm::held::Held;
use hw::vmx::vmcs::{Current, Setup};

const NEED_EPT: ProcBased2 =
    ProcBased2::ENABLE_EPT.union(ProcBased2::UNRESTRICTED_GUEST).union(ProcBased2::ENABLE_PML);

/// INVLPG exits; page faults do; what of [`NEED_EPT`] is on.
fn controls(vmcs: Current<'_>) -> (bool, bool, ProcBased2) {
    let proc = ProcBased::from_bits_retain(vmcs.read(field::PROC_BASED_CONTROLS));
    let proc2 = ProcBased2::from_bits_retain(vmcs.read(field::PROC_BASED_CONTROLS_2));
    let faults = vmcs.read(field::EXCEPTION_BITMAP) >> vector::PAGE_FAULT & 1 != 0;
    (proc.contains(ProcBased::INVLPG_EXITING), faults, proc2 & NEED_EPT)
}

#[test]
fn below_ept_nothing_of_a_guests_paging_exits() {
    let host = host();
    let vm = host.running("a");
    let eptp = vm.mmu.lock().cached().expect("an EPT pointer");
    let mut vcpu = vm.vcpus[0].vcpu.lock();
    let (_, loaded) = vcpu.make_current(&vm);
    let vmcs = loaded.current();
    let (invlpg, faults, nested) = controls(vmcs);
    assert!(!invlpg && !faults && nested.contains(ProcBased2::ENABLE_EPT));
    assert_eq!(vmcs.read(field::EPT_POINTER), eptp.0);
    let cr3 = ProcBased::CR3_LOAD_EXITING | ProcBased::CR3_STORE_EXITING;
    assert_eq!(ProcBased::from_bits_retain(vmcs.read(field::PROC_BASED_CONTROLS)) & cr3, ProcBased::empty());
}

#[test]
fn with_tables_of_the_hypervisors_it_does_and_nothing_needs_ept() {
    let host = host();
    let vm = host.running("a");
    let mut vcpu = vm.vcpus[0].vcpu.lock();
    let (vcpu, mut loaded) = vcpu.make_current(&vm);
    loaded.set_up(&Setup {
        primary: 0,
        secondary: 0,
        tertiary: 0,
        msr_bitmaps: &vm.msr_bitmaps,
        apic: vcpu.apic.page(),
        posted: None,
        apic_access: vm.apic_access.as_ref().map(Held::hpa),
        paging: HwPaging::Shadowed(Shadowed { cr3: 0x1000, cr0: 0, cr4: 0 }),
        vpid: vcpu.vpid.get(),
        tsc_multiplier: None,
        pml: None,
    });
    let vmcs = loaded.current();
    assert_eq!(controls(vmcs), (true, true, ProcBased2::empty()));
    let proc2 = ProcBased2::from_bits_retain(vmcs.read(field::PROC_BASED_CONTROLS_2));
    assert!(!proc2.contains(ProcBased2::ENABLE_VPID), "an entry drops what the CPU has cached");
    let others = 1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;
    assert_eq!(vmcs.read(field::EXCEPTION_BITMAP) & others, others, "and what else exited still does");
}
