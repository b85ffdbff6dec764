//! CPUID: the guest's own table, never the host's.

use super::Next;
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::vmx::vmcs::Current;

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
pub(super) fn handle(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current) -> Next {
    let gprs = &vcpu.context.gprs;
    let (leaf, subleaf) = (gprs[RAX] as u32, gprs[RCX] as u32);
    let entry = vm.policy.table().lookup(leaf, subleaf);
    if entry.is_dynamic() {
        let state = vcpu.cpuid_dynamic(vm, vmcs);
        answer(&mut vcpu.context.gprs, &entry.fixed(subleaf, &state));
    } else {
        answer(&mut vcpu.context.gprs, entry.regs());
    }
    Next::Advance
}
