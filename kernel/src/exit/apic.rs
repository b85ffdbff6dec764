//! What a CPU tells of accesses to a local APIC, where it knows them (SDM 29.4).

use translation::Cause;
use vm_types::{Gpa, apic_register};
use vmx_types::qualification::{ApicAccess, ApicAccessKind, EptViolation};

use super::{Next, memory};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use devices::LAPIC_BASE;
use hw::vmx::vmcs::Current;

/// Offset of EOI in the page.
const EOI: u16 = (apic_register::EOI as u16) << 4;

/// An access to the APIC-access page that the CPU has not carried out.
#[inline(always)]
pub(super) fn access(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, access: ApicAccess) -> Next {
    // Whatever is stored ends the interrupt, so nobody looks at the instruction. One that reads as well (XCHG, OR) would
    // get 0 from that register; as with other hypervisors, its target stays what it was.
    if access == (ApicAccess { offset: EOI, kind: ApicAccessKind::Write }) && vcpu.apic.xapic() {
        vcpu.end_of_interrupt(vm);
        return Next::Advance;
    }
    other(vcpu, vm, vmcs, access)
}

/// As a violation would have told of it: the instruction is looked at.
#[inline(never)]
fn other(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, access: ApicAccess) -> Next {
    const BY_LINEAR_ADDRESS: u64 = 3 << 7;
    let qualification = match access.kind {
        ApicAccessKind::Read | ApicAccessKind::EventDelivery => 1 | BY_LINEAR_ADDRESS,
        ApicAccessKind::Write => 1 << 1 | BY_LINEAR_ADDRESS,
        ApicAccessKind::Fetch => 1 << 2 | BY_LINEAR_ADDRESS,
        ApicAccessKind::GuestPhysical => 1,
    };
    let gpa = Gpa(LAPIC_BASE + u64::from(access.offset));
    let cause = Cause::violation(EptViolation::decode(qualification, gpa.0));
    memory::not_memory(vcpu, vm, vmcs, cause, gpa)
}

/// A write to the virtual-APIC page, which the CPU has carried out.
#[inline(never)]
pub(super) fn written(vcpu: &mut Vcpu, vm: &Guest, offset: u16) -> Next {
    let sent = vcpu.apic.written(offset, vm.clock.now());
    vcpu.sent(vm, sent);
    Next::Resume
}
