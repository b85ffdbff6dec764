//! Faults that the audit of a VM wants.

use alloc::format;
use translation::{Permission, Point};
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use x86::PAGE_SIZE as PAGE;
use x86_decode::{Access, AccessKind, CodeSize, MAX_LEN, PagingState};

use super::{Next, fatal};
use crate::guest::Guest;
use crate::guest::audit::{Code, WINDOW};
use crate::vcpu::Vcpu;
use hw::vmx::vmcs::Current;

/// Guest-linear address of the instruction.
fn linear_rip(vcpu: &Vcpu, vmcs: Current<'_>) -> (u64, CodeSize) {
    let rip = vmcs.read(field::GUEST_RIP);
    let mode = vcpu.code_size(vmcs);
    // CS begins at 0 in 64-bit mode (SDM 3A 3.4.4).
    let based = || vmcs.read(field::GUEST_CS_BASE).wrapping_add(rip) & 0xffff_ffff;
    (if mode == CodeSize::Bits64 { rip } else { based() }, mode)
}

/// The audit keeps the page from what the vCPU wants. `linear`: by what address it fetches, where that has one.
#[cold]
pub(super) fn fault(
    vcpu: &mut Vcpu,
    vm: &Guest,
    vmcs: Current<'_>,
    gpa: Gpa,
    wanted: Permission,
    linear: Option<u64>,
) -> Next {
    let gpa = Gpa(gpa.0 & !(PAGE - 1));
    let index = vcpu.index;
    let (rip, mode) = linear_rip(vcpu, vmcs);
    let registers = vcpu.context.gprs.iter();
    let regs = registers.fold(vmcs.read(field::GUEST_RSP), |sum, register| sum.rotate_left(5) ^ register);
    let at = Point { rip, regs };
    let read = |window: &mut [u8]| {
        let at = linear.unwrap_or(rip);
        let linear = at & !(PAGE - 1);
        let paging = vcpu.paging_state(vmcs);
        let user = vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3 == 3;
        let entry = entry(vm, &paging, user, rip, mode, linear).unwrap_or(at - linear) as usize;
        Code { len: fill(vm, &paging, user, gpa, linear, window), linear, entry, mode }
    };
    match vm.audit_fault(index, at, gpa, wanted, read) {
        Ok(true) => {
            if wanted == Permission::Write {
                vm.mailboxes[index as usize].has_dirtied(1);
            }
            Next::Resume
        }
        Ok(false) => Next::Yield,
        Err(error) => fatal(format!("{error}")),
    }
}

/// Offset in the page at `linear` of the first instruction that begins there: that at `rip`, or the one behind it
/// where it crosses over from the page before.
fn entry(vm: &Guest, paging: &PagingState, user: bool, rip: u64, mode: CodeSize, linear: u64) -> Option<u64> {
    if rip & !(PAGE - 1) == linear {
        return Some(rip - linear);
    }
    let mut bytes = [0; MAX_LEN];
    let count = x86_decode::fetch(&vm.memory, paging, rip, user, &mut bytes).ok()?;
    let insn = isa_audit::decode(bytes.get(..count)?, mode).ok()?;
    rip.wrapping_add(u64::from(insn.len)).checked_sub(linear).filter(|offset| *offset < PAGE)
}

/// Reads a page, and the start of the one that follows it in linear memory where the guest could fetch from it.
fn fill(vm: &Guest, paging: &PagingState, user: bool, gpa: Gpa, linear: u64, window: &mut [u8]) -> usize {
    let Some((page, rest)) = window.split_at_mut_checked(PAGE as usize) else { return 0 };
    if vm.memory.read(gpa, page).is_err() {
        return 0;
    }
    let access = Access { kind: AccessKind::Execute, user, ac: false, pkru: 0 };
    let next = x86_decode::walk(&vm.memory, paging, linear.wrapping_add(PAGE), access);
    if next.is_ok_and(|next| vm.memory.read(next, rest).is_ok()) { WINDOW } else { PAGE as usize }
}
