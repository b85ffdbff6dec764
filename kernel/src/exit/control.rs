//! Control registers and XCR0, limited to what the guest's level offers.

use alloc::format;
use vmx_types::field;
use vmx_types::paging::{CR0_TS, ControlRegs, CrFault};
use vmx_types::qualification::CrAccess;
use x86_decode::CodeSize;

use super::{GENERAL_PROTECTION, Next, fatal};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::arch::xstate;
use hw::vmx::vmcs::Current;

/// CR0.PE, MP, EM and TS: what LMSW loads; it cannot clear PE.
const LMSW: u64 = 0xf;

/// MOV to and from CR, CLTS, LMSW.
#[inline(never)]
pub(super) fn cr(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, access: CrAccess) -> Next {
    let regs = vcpu.control_regs(vmcs);
    let limits = vcpu.limits();
    let cs_long = vcpu.code_size(vmcs) == CodeSize::Bits64;
    let new = match access {
        CrAccess::Write { cr: 0, gpr } => regs.write_cr0(vcpu.gpr(vmcs, gpr), cs_long),
        CrAccess::Write { cr: 3, gpr } => regs.write_cr3(vcpu.gpr(vmcs, gpr), &limits),
        CrAccess::Write { cr: 4, gpr } => regs.write_cr4(vcpu.gpr(vmcs, gpr), &limits),
        CrAccess::Write { cr: 8, gpr } => return write_cr8(vcpu, vcpu.gpr(vmcs, gpr)),
        CrAccess::Read { cr: 3, gpr } => {
            vcpu.set_gpr(vmcs, gpr, regs.cr3);
            return Next::Advance;
        }
        CrAccess::Read { cr: 8, gpr } => {
            let class = vcpu.apic.cr8();
            vcpu.set_gpr(vmcs, gpr, u64::from(class));
            return Next::Advance;
        }
        CrAccess::Clts => Ok(ControlRegs { cr0: regs.cr0 & !CR0_TS, ..regs }),
        CrAccess::Lmsw(word) => {
            let loaded = u64::from(word) & LMSW | regs.cr0 & 1;
            regs.write_cr0(regs.cr0 & !LMSW | loaded, cs_long)
        }
        CrAccess::Write { cr, .. } | CrAccess::Read { cr, .. } => {
            return fatal(format!("access to CR{cr}, which never exits"));
        }
    };
    apply(vcpu, vm, vmcs, new)
}

/// Makes new control registers the guest's, or faults.
pub(super) fn apply(
    vcpu: &mut Vcpu,
    vm: &Guest,
    vmcs: Current<'_>,
    new: Result<ControlRegs, CrFault>,
) -> Next {
    let old = vcpu.control_regs(vmcs);
    let loaded = new.and_then(|new| {
        let pdptes = old
            .loads_pdptes(&new)
            .then(|| Vcpu::read_pdptes(vm, new.cr3, vcpu.policy.phys_bits()))
            .transpose()?;
        Ok((new, pdptes))
    });
    match loaded {
        Err(_) => GENERAL_PROTECTION,
        Ok((new, pdptes)) => match vcpu.set_control_regs(vm, vmcs, new, pdptes) {
            Ok(()) => Next::Advance,
            Err(_) => fatal(
                "the guest enters real mode, which this CPU cannot run: it lacks unrestricted guest (Westmere and later have it)"
                    .into(),
            ),
        },
    }
}

fn write_cr8(vcpu: &mut Vcpu, value: u64) -> Next {
    if value > 0xf {
        return GENERAL_PROTECTION;
    }
    vcpu.apic.set_cr8(value as u8);
    vcpu.attention = true;
    Next::Advance
}

/// XSETBV (SDM volume 1, 13.3): XCR0 within the level, and consistent.
#[inline(never)]
pub(super) fn xsetbv(vcpu: &mut Vcpu, vmcs: Current<'_>) -> Next {
    let value = vcpu.edx_eax();
    let cpl = vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3;
    if cpl != 0 || vcpu.ecx() != 0 || !vcpu.policy.xcr0_valid(value) {
        return GENERAL_PROTECTION;
    }
    vcpu.xcr0 = value;
    xstate::set_xcr0(value);
    Next::Advance
}
