//! Faults of translation: memory that wants a permission or a dirty mark, or a device.

use alloc::format;
use translation::{Backing, Cause, Fault, Permission};
use vm_types::Gpa;
use vmx_types::field::{self, Segment};
use vmx_types::qualification::EptViolation;
use x86_decode::{Access, AccessKind, Fault as GuestFault, WalkError};

use super::{Next, UNDEFINED, audit, emulate, fatal};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::vmx::vmcs::Current;

/// An access that the tables do not allow. Inlined: a first write takes 30 instructions less, other exits two more.
#[inline(always)]
pub(super) fn violation(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, violation: EptViolation) -> Next {
    // What write protection brings by the thousand comes first.
    if violation.is_protected_write() && vm.mmu.lock().first_write(violation.gpa, &vm.memory.logged) {
        vm.mailboxes[vcpu.index as usize].has_dirtied(1);
        return Next::Resume;
    }
    other_violation(vcpu, vm, vmcs, violation)
}

#[inline(never)]
fn other_violation(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, violation: EptViolation) -> Next {
    vcpu.block_nmis_again(vmcs, violation.qualification(), None);
    fault(vcpu, vm, vmcs, Cause::violation(violation))
}

/// A page fault under tables of the hypervisor's, which stand for the guest's own.
#[cold]
pub(super) fn page_fault(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, error_code: u32) -> Next {
    let linear = vmcs.read(field::EXIT_QUALIFICATION);
    fault(vcpu, vm, vmcs, Cause::page_fault(linear, error_code))
}

#[inline(always)]
fn fault(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, cause: Cause) -> Next {
    match vm.fault(vcpu.index, cause) {
        Ok(Fault::Resolved) => {
            if cause.write() {
                vm.mailboxes[vcpu.index as usize].has_dirtied(1);
            }
            Next::Resume
        }
        Ok(Fault::FirstFetch(gpa)) => {
            let linear = cause.linear_translation().then(|| linear(vmcs, cause));
            audit::fault(vcpu, vm, vmcs, gpa, Permission::Execute, linear)
        }
        Ok(Fault::CodeWrite(gpa)) => audit::fault(vcpu, vm, vmcs, gpa, Permission::Write, None),
        Ok(Fault::Unmapped(gpa)) => not_memory(vcpu, vm, vmcs, cause, gpa),
        Ok(Fault::Guests(error_code)) => {
            emulate::raise(GuestFault::page(linear(vmcs, cause), error_code as u32))
        }
        Err(error) => fatal(format!("{error}")),
    }
}

/// The linear address of an access that has one.
fn linear(vmcs: Current<'_>, cause: Cause) -> u64 {
    cause.as_page_fault().map_or_else(|| vmcs.read(field::GUEST_LINEAR_ADDRESS), |(linear, _)| linear)
}

/// An access to a device, or to nothing.
pub(super) fn not_memory(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, cause: Cause, gpa: Gpa) -> Next {
    if gpa.0 >> vcpu.policy.phys_bits() != 0 || !cause.linear_translation() {
        return bad_tables(vcpu, vm, vmcs, cause, gpa);
    }
    if let Some(event) = vmcs.interrupted_event() {
        // There is no instruction to carry out: a table or the stack of the guest lies there.
        return fatal(format!("delivery of vector {:#x} reaches {gpa}, which is not memory", event.vector));
    }
    if cause.fetch() {
        // A bus without a device answers with ones, and FF FF is no instruction.
        return UNDEFINED;
    }
    emulate::handle(vcpu, vm, vmcs, Some(gpa))
}

/// The guest's tables point where there is no memory. The CPU has gone on by its own width, which may be greater than
/// the guest's: the bits between are reserved for the guest, and only its own walk says so.
#[cold]
fn bad_tables(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, cause: Cause, gpa: Gpa) -> Next {
    let linear = linear(vmcs, cause);
    let mut user = vcpu.cpl(vmcs) == 3;
    // What is told of an access to a table is the walk's own: with A/D flags it writes whatever the program does (SDM 28.2.3.2).
    let kind = if cause.linear_translation() {
        match (cause.fetch(), cause.write()) {
            (true, _) => AccessKind::Execute,
            (_, true) => AccessKind::Write,
            _ => AccessKind::Read,
        }
    } else if vmcs.interrupted_event().is_some() {
        user = false; // the CPU's own: descriptors are read, the frame is written
        if is_descriptor(vmcs, linear) { AccessKind::Read } else { AccessKind::Write }
    } else {
        // The walks that the instruction asks for find the fault, each with what it is for.
        match emulate::carry_out(vcpu, vm, vmcs, None) {
            Ok(next) => return next,
            Err(_) if is_below_stack(vmcs, linear) => AccessKind::Write,
            Err(_) => AccessKind::Read,
        }
    };
    let state = vcpu.paging_state(vmcs);
    // The CPU has looked at SMAP and keys already.
    let access = Access { kind, user, ac: true, pkru: 0 };
    match x86_decode::walk(&vm.memory, &state, linear, access) {
        Err(WalkError::PageFault { error_code }) => emulate::raise(GuestFault::page(linear, error_code)),
        _ => fatal(format!("access to {gpa}, beyond the guest's memory")),
    }
}

/// Whether `linear` lies in the IDT, or in a table or task-state segment that delivers events.
fn is_descriptor(vmcs: Current<'_>, linear: u64) -> bool {
    let within = |base: u64, limit: u32| linear.wrapping_sub(base) <= u64::from(limit);
    within(vmcs.read(field::GUEST_IDTR_BASE), vmcs.read(field::GUEST_IDTR_LIMIT))
        || within(vmcs.read(field::GUEST_GDTR_BASE), vmcs.read(field::GUEST_GDTR_LIMIT))
        || [Segment::Ldtr, Segment::Tr]
            .into_iter()
            .any(|segment| within(vmcs.read(segment.base()), vmcs.read(segment.limit())))
}

/// Whether an instruction that is not carried out here, such as PUSH of a register, reaches `linear` by its stack.
fn is_below_stack(vmcs: Current<'_>, linear: u64) -> bool {
    /// ENTER with all its levels, and the frame of a far call.
    const DEEPEST: u64 = 512;
    let top = vmcs.read(Segment::Ss.base()).wrapping_add(vmcs.read(field::GUEST_RSP));
    top.wrapping_sub(linear).wrapping_sub(1) < DEEPEST
}

/// The page-modification log is full.
#[cold]
pub(super) fn log_full(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>) -> Next {
    vcpu.block_nmis_again(vmcs, vmcs.read(field::EXIT_QUALIFICATION), None);
    vcpu.drain_pml(vm, vmcs);
    Next::Resume
}
