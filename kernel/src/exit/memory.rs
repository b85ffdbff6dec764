//! EPT violations: memory that wants a permission or a dirty mark, or a device.

use alloc::format;
use ept::Fault;
use vm_types::Gpa;
use vmx_types::event::{Event, vector};
use vmx_types::field;
use vmx_types::qualification::EptViolation;
use x86_decode::{Access, AccessKind, PagingState, WalkError};

use super::{Next, audit, fatal, mmio};
use crate::arch::debug;
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::vmx::vmcs::Current;

const RFLAGS_AC: u64 = 1 << 18;

/// An access that the tables do not allow. Inlined: a first write takes 30 instructions less, other exits two more.
#[inline(always)]
pub(super) fn violation(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current, violation: EptViolation) -> Next {
    // What write protection brings by the thousand comes first.
    if violation.is_protected_write() && vm.mmu.lock().first_write(violation.gpa, &vm.memory.logged) {
        return Next::Resume;
    }
    other_violation(vcpu, vm, vmcs, violation)
}

#[inline(never)]
fn other_violation(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current, violation: EptViolation) -> Next {
    vcpu.block_nmis_again(vmcs, violation.qualification(), None);
    let resolved = vm.mmu.lock().fault(violation, &vm.memory.logged);
    match resolved {
        Ok(Fault::Resolved) => Next::Resume,
        Ok(Fault::FirstFetch) => audit::fetch(vcpu, vm, vmcs, violation),
        Ok(Fault::CodeWrite) => audit::write(vcpu, vm, vmcs, violation),
        Ok(Fault::Unmapped) if violation.fetch() => {
            fatal(format!("instruction fetch from {}, which is not memory", Gpa(violation.gpa)))
        }
        // There is no instruction to carry out: a table or the stack of the guest lies there.
        Ok(Fault::Unmapped) if let Some(event) = vmcs.interrupted_event() => {
            let gpa = Gpa(violation.gpa);
            fatal(format!("delivery of vector {:#x} reaches {gpa}, which is not memory", event.vector))
        }
        Ok(Fault::Unmapped) => mmio::handle(vcpu, vm, vmcs, Gpa(violation.gpa)),
        Err(error) => fatal(format!("{error}")),
    }
}

/// The page-modification log is full.
#[cold]
pub(super) fn log_full(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current) -> Next {
    vcpu.block_nmis_again(vmcs, vmcs.read(field::EXIT_QUALIFICATION), None);
    vcpu.drain_pml(vm, vmcs);
    Next::Resume
}

/// What a walk of the guest's page tables depends on.
pub(super) fn paging_state(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current) -> PagingState {
    let regs = vcpu.control_regs(vm, vmcs);
    PagingState {
        cr0: regs.cr0,
        cr3: regs.cr3,
        cr4: regs.cr4,
        efer: regs.efer,
        phys_bits: vm.policy.phys_bits(),
    }
}

/// Where a linear address of the guest lies, for an access by the hypervisor on the guest's behalf.
///
/// # Errors
/// The #PF to inject.
pub(super) fn translate(
    vcpu: &mut Vcpu,
    vm: &Vm,
    vmcs: Current,
    linear: u64,
    write: bool,
) -> Result<Gpa, Next> {
    let state = paging_state(vcpu, vm, vmcs);
    let user = vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3 == 3;
    let kind = if write { AccessKind::Write } else { AccessKind::Read };
    let ac = vmcs.read(field::GUEST_RFLAGS) & RFLAGS_AC != 0;
    x86_decode::walk(&vm.memory, &state, linear, Access { kind, user, ac }).map_err(|error| match error {
        WalkError::PageFault { error_code } => {
            debug::set_cr2(linear);
            super::inject(Event::exception(vector::PAGE_FAULT, Some(error_code)))
        }
        WalkError::NonCanonical => super::GENERAL_PROTECTION,
        WalkError::Memory(error) => fatal(format!("page walk for {linear:#x}: {error}")),
    })
}
