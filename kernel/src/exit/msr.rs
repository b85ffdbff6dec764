//! RDMSR and WRMSR: an allow-list by the guest's policy, everything else #GP(0).

use super::{GENERAL_PROTECTION, Next};
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::vmx::vmcs::Current;

/// RDMSR.
pub(super) fn read(vcpu: &mut Vcpu, vm: &Vm, _vmcs: Current) -> Next {
    let msr = vcpu.ecx();
    if devices::owns_msr(msr) {
        let read = vm.platform.lock().msr_read(vcpu.index as usize, msr, vm.clock.now());
        vcpu.recheck = true;
        return match read {
            Ok(value) => {
                vcpu.set_edx_eax(value);
                Next::Advance
            }
            Err(_) => GENERAL_PROTECTION,
        };
    }
    GENERAL_PROTECTION
}

/// WRMSR.
pub(super) fn write(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current) -> Next {
    let (msr, value) = (vcpu.ecx(), vcpu.edx_eax());
    if msr == 0xc000_0080 {
        let limits = Vcpu::limits(vm);
        let new = vcpu.control_regs(vm, vmcs).write_efer(value, &limits);
        return super::control::apply(vcpu, vm, vmcs, new);
    }
    if devices::owns_msr(msr) {
        let wrote = vm.platform.lock().msr_write(vcpu.index as usize, msr, value, vm.clock.now());
        vcpu.recheck = true;
        return match wrote {
            Ok(None) => Next::Advance,
            Ok(Some(effect)) => vcpu.effect(vm, effect),
            Err(_) => GENERAL_PROTECTION,
        };
    }
    GENERAL_PROTECTION
}
