//! Faults that the audit of a VM wants.

use alloc::format;
use translation::Backing;
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use x86::PAGE_SIZE as PAGE;
use x86_decode::{Access, AccessKind, CodeSize, MAX_LEN, PagingState};

use super::{Next, fatal};
use crate::guest::Guest;
use crate::guest::audit::{Fetch, WINDOW};
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

/// A page is executed for the first time, or after a write. `linear`: by what address, where it has one.
#[cold]
pub(super) fn fetch(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, gpa: Gpa, linear: Option<u64>) -> Next {
    let gpa = Gpa(gpa.0 & !(PAGE - 1));
    let again = match vm.mmu.lock().admit_code(gpa) {
        Ok(again) => again,
        Err(error) => return fatal(format!("{error}")),
    };
    // Before the page is read: what is written from here on is noticed. The VM's one vCPU runs here alone.
    vm.flush_here();
    let (rip, mode) = linear_rip(vcpu, vmcs);
    let at = linear.unwrap_or(rip);
    let linear = at & !(PAGE - 1);
    let paging = vcpu.paging_state(vmcs);
    let user = vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3 == 3;
    let entry = entry(vm, &paging, user, rip, mode, linear).unwrap_or(at - linear) as usize;
    let fetch = Fetch { gpa, linear, entry, rip, mode };
    vm.audit_fetch(&fetch, again, |window| fill(vm, &paging, user, gpa, linear, window));
    Next::Resume
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

/// A page that was decoded is about to be written.
#[cold]
pub(super) fn write(vcpu: &Vcpu, vm: &Guest, vmcs: Current<'_>, gpa: Gpa) -> Next {
    let gpa = Gpa(gpa.0 & !(PAGE - 1));
    let (rip, _) = linear_rip(vcpu, vmcs);
    let executable = vm.audit_write(rip, gpa);
    vm.mmu.lock().admit_write(gpa, executable, &vm.memory.logged);
    vm.mailboxes[vcpu.index as usize].has_dirtied(1);
    vm.flush_here();
    Next::Resume
}
