//! RDMSR and WRMSR: what the guest's policy lists, everything else #GP(0).

use cpu_policy::{MsrKind, MsrRead, MsrWrite};
use vm_types::{apic_register, nospec};
use vmx_types::field;

use super::{GENERAL_PROTECTION, Next, control};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::arch::msr as hardware;
use hw::vmx::vmcs::Current;

/// Written once for each interrupt.
const X2APIC_EOI: u32 = 0x800 + apic_register::EOI as u32;
/// Written for work that is to be done outside of an interrupt handler.
const X2APIC_SELF_IPI: u32 = 0x800 + apic_register::SELF_IPI as u32;

/// RDMSR. Inlined into both loops of the vCPU, of which one measures.
#[inline(always)]
pub(super) fn read(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>) -> Next {
    let index = vcpu.ecx();
    let value = match vcpu.policy.read_msr(index) {
        MsrRead::Value(value) => {
            vcpu.context.untouched();
            value
        }
        MsrRead::Gp => return GENERAL_PROTECTION,
        MsrRead::Emulate(kind) => match emulated_read(vcpu, vm, vmcs, index, kind) {
            Some(value) => value,
            None => return GENERAL_PROTECTION,
        },
    };
    vcpu.set_edx_eax(value);
    Next::Advance
}

/// An MTRR by the number that the guest gave.
fn register(all: &[u64], number: u8) -> Option<&u64> {
    let number = usize::from(number);
    if number < all.len() { all.get(nospec::index(number, all.len())) } else { None }
}

/// WRMSR.
#[inline(always)]
pub(super) fn write(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>) -> Next {
    match vcpu.ecx() {
        X2APIC_EOI => end_of_interrupt(vcpu, vm),
        X2APIC_SELF_IPI => self_ipi(vcpu),
        _ => other_write(vcpu, vm, vmcs),
    }
}

#[inline(never)]
fn end_of_interrupt(vcpu: &mut Vcpu, vm: &Guest) -> Next {
    // That the APIC is in x2APIC mode says that the policy has it.
    if !vcpu.apic.x2apic() || vcpu.edx_eax() != 0 {
        return GENERAL_PROTECTION;
    }
    vcpu.end_of_interrupt(vm);
    Next::Advance
}

#[inline(never)]
fn self_ipi(vcpu: &mut Vcpu) -> Next {
    let value = vcpu.edx_eax();
    let Some(vector) = u8::try_from(value).ok().filter(|_| vcpu.apic.x2apic()) else {
        return GENERAL_PROTECTION;
    };
    vcpu.apic.self_ipi(vector);
    vcpu.attention = true;
    Next::Advance
}

/// The policy has checked the value already.
#[inline(never)]
fn other_write(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>) -> Next {
    let (index, value) = (vcpu.ecx(), vcpu.edx_eax());
    match vcpu.policy.write_msr(index, value) {
        MsrWrite::Ignore => Next::Advance,
        MsrWrite::Gp => GENERAL_PROTECTION,
        MsrWrite::Emulate(kind) => emulated_write(vcpu, vm, vmcs, index, value, kind),
    }
}

#[inline(always)]
fn emulated_read(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, index: u32, kind: MsrKind) -> Option<u64> {
    Some(match kind {
        MsrKind::Tsc => vm.clock.now().tsc.wrapping_add(vcpu.tsc_adjust()),
        MsrKind::TscAdjust => vcpu.tsc_adjust(),
        MsrKind::ApicBase => vcpu.apic.base(),
        MsrKind::TscDeadline | MsrKind::X2apic(_) => {
            vcpu.read_apic(vm, |apic, now| apic.msr_read(index, now)).ok()?
        }
        MsrKind::MtrrVariable(n) => *register(&vcpu.mtrr.variable, n)?,
        MsrKind::MtrrFixed(n) => *register(&vcpu.mtrr.fixed, n)?,
        MsrKind::MtrrDefType => vcpu.mtrr.def_type,
        MsrKind::Efer => vcpu.control_regs(vmcs).efer,
        MsrKind::MiscFeatures => u64::from(vcpu.cpuid.is_faulting()),
        MsrKind::SysenterCs => u64::from(vmcs.read(field::GUEST_IA32_SYSENTER_CS)),
        MsrKind::SysenterEsp => vmcs.read(field::GUEST_IA32_SYSENTER_ESP),
        MsrKind::SysenterEip => vmcs.read(field::GUEST_IA32_SYSENTER_EIP),
        MsrKind::Pat => vmcs.read(field::GUEST_IA32_PAT),
        MsrKind::FsBase => vmcs.read(field::GUEST_FS_BASE),
        MsrKind::SpecCtrl => vcpu.context.spec_ctrl(),
        MsrKind::PredCmd | MsrKind::FlushCmd => return None, // write-only
        MsrKind::GsBase => vmcs.read(field::GUEST_GS_BASE),
        // Live in the hardware; they exit only where the bitmap was not told to let them pass.
        MsrKind::TscAux
        | MsrKind::Star
        | MsrKind::Lstar
        | MsrKind::Cstar
        | MsrKind::Fmask
        | MsrKind::KernelGsBase => hardware::read_safe(index)?,
    })
}

#[inline(never)]
fn emulated_write(
    vcpu: &mut Vcpu,
    vm: &Guest,
    vmcs: Current<'_>,
    index: u32,
    value: u64,
    kind: MsrKind,
) -> Next {
    match kind {
        MsrKind::Tsc => {
            let shown = vm.clock.now().tsc.wrapping_add(vcpu.tsc_adjust());
            vcpu.set_tsc_adjust(vm, vmcs, vcpu.tsc_adjust().wrapping_add(value.wrapping_sub(shown)));
        }
        MsrKind::TscAdjust => vcpu.set_tsc_adjust(vm, vmcs, value),
        MsrKind::TscDeadline | MsrKind::ApicBase | MsrKind::X2apic(_) => {
            let Ok(sent) = vcpu.apic.msr_write(index, value, vm.clock.now()) else {
                return GENERAL_PROTECTION;
            };
            vcpu.sent(vm, sent);
        }
        MsrKind::MtrrVariable(n) => {
            if let Some(register) = vcpu.mtrr.variable.get_mut(usize::from(n)) {
                *register = value;
            }
        }
        MsrKind::MtrrFixed(n) => {
            if let Some(register) = vcpu.mtrr.fixed.get_mut(usize::from(n)) {
                *register = value;
            }
        }
        MsrKind::MtrrDefType => vcpu.mtrr.def_type = value,
        MsrKind::Efer => {
            let new = vcpu.control_regs(vmcs).write_efer(value, &vcpu.limits());
            return control::apply(vcpu, vm, vmcs, new);
        }
        MsrKind::MiscFeatures => vcpu.cpuid.set_faulting(value & 1 != 0),
        MsrKind::SysenterCs => vmcs.write(field::GUEST_IA32_SYSENTER_CS, value as u32),
        MsrKind::SysenterEsp => vmcs.write(field::GUEST_IA32_SYSENTER_ESP, value),
        MsrKind::SysenterEip => vmcs.write(field::GUEST_IA32_SYSENTER_EIP, value),
        MsrKind::Pat => vmcs.write(field::GUEST_IA32_PAT, value),
        MsrKind::FsBase => vmcs.write(field::GUEST_FS_BASE, value),
        MsrKind::SpecCtrl => vcpu.context.set_spec_ctrl(value),
        MsrKind::GsBase => vmcs.write(field::GUEST_GS_BASE, value),
        MsrKind::TscAux
        | MsrKind::Star
        | MsrKind::Lstar
        | MsrKind::Cstar
        | MsrKind::Fmask
        | MsrKind::KernelGsBase
        | MsrKind::PredCmd
        | MsrKind::FlushCmd => {
            if !hardware::write_safe(index, value) {
                return GENERAL_PROTECTION;
            }
        }
    }
    Next::Advance
}
