//! CPUID: the guest's own table, never the host's.

use cpu_policy::Entry;

use super::{GENERAL_PROTECTION, Next};
use crate::vcpu::Vcpu;
use hw::vmx::vmcs::Current;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;

#[inline(always)]
fn answer(gprs: &mut [u64; 16], &[eax, ebx, ecx, edx]: &[u32; 4]) {
    gprs[RAX] = u64::from(eax);
    gprs[RBX] = u64::from(ebx);
    gprs[RCX] = u64::from(ecx);
    gprs[RDX] = u64::from(edx);
}

/// Answers CPUID.
#[inline(always)]
pub(super) fn handle(vcpu: &mut Vcpu, vmcs: Current<'_>) -> Next {
    let gprs = &vcpu.context.gprs;
    let (leaf, subleaf) = (gprs[RAX] as u32, gprs[RCX] as u32);
    let entry = vcpu.cpuid.lookup(leaf, subleaf);
    if entry.is_dynamic() {
        return dynamic(vcpu, vmcs, *entry, subleaf);
    }
    answer(&mut vcpu.context.gprs, entry.regs());
    vcpu.context.untouched();
    Next::Advance
}

/// The rare answers: those that depend on the vCPU's state, and all of them under CPUID faulting.
#[inline(never)]
fn dynamic(vcpu: &mut Vcpu, vmcs: Current<'_>, entry: Entry, subleaf: u32) -> Next {
    if entry.faults() && vcpu.cpl(vmcs) != 0 {
        return GENERAL_PROTECTION;
    }
    let state = vcpu.cpuid_dynamic(vmcs);
    answer(&mut vcpu.context.gprs, &entry.fixed(subleaf, &state));
    Next::Advance
}
