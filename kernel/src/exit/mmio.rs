//! Accesses to guest-physical addresses that are not memory: the instruction is decoded and carried out.

use alloc::format;
use vm_types::{Gpa, GuestMemory};
use vmx_types::field::{self, Segment as VmcsSegment};
use x86_decode::{ExecuteError, MAX_LEN, MmioBus, Place, Progress, Segment};

use super::{Next, fatal, memory};
use crate::vcpu::Vcpu;
use crate::vm::{Effect, Vm};
use crate::vmx::vmcs::Current;

const RSP: usize = 4;

/// What the instruction reads and writes: the device, or nothing, at the address of the violation. MOVS has a second
/// operand, which is translated.
struct Bus<'a> {
    vm: &'a Vm,
    vcpu: &'a mut Vcpu,
    vmcs: Current,
    gpa: Gpa,
    effect: Option<Effect>,
}

impl Bus<'_> {
    fn locate(&mut self, place: Place, write: bool) -> Result<Gpa, Next> {
        match place {
            Place::Operand => Ok(self.gpa),
            Place::Logical { segment, offset } => {
                let linear = self.vmcs.read(vmcs_segment(segment).base()).wrapping_add(offset);
                memory::translate(self.vcpu, self.vm, self.vmcs, linear, write)
            }
        }
    }
}

const fn vmcs_segment(segment: Segment) -> VmcsSegment {
    match segment {
        Segment::Es => VmcsSegment::Es,
        Segment::Cs => VmcsSegment::Cs,
        Segment::Ss => VmcsSegment::Ss,
        Segment::Ds => VmcsSegment::Ds,
        Segment::Fs => VmcsSegment::Fs,
        Segment::Gs => VmcsSegment::Gs,
    }
}

impl MmioBus for Bus<'_> {
    type Error = Next;

    fn read(&mut self, place: Place, size: u8) -> Result<u64, Next> {
        let gpa = self.locate(place, false)?;
        let mut bytes = [0; 8];
        if self.vm.memory.read(gpa, &mut bytes[..usize::from(size)]).is_ok() {
            return Ok(u64::from_le_bytes(bytes));
        }
        let mut platform = self.vm.platform.lock();
        let value = platform.mmio_read(self.vcpu.index as usize, gpa, size, self.vm.clock.now());
        self.vcpu.watch(&platform);
        Ok(value)
    }

    fn write(&mut self, place: Place, size: u8, value: u64) -> Result<(), Next> {
        let gpa = self.locate(place, true)?;
        if self.vm.memory.write(gpa, &value.to_le_bytes()[..usize::from(size)]).is_err() {
            let mut platform = self.vm.platform.lock();
            let index = self.vcpu.index as usize;
            self.effect = platform.mmio_write(index, gpa, size, value, self.vm.clock.now());
            self.vcpu.watch(&platform);
        }
        Ok(())
    }
}

/// Carries out the instruction at RIP, whose memory operand is at `gpa`.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current, gpa: Gpa) -> Next {
    let rip = vmcs.read(field::GUEST_RIP);
    let linear = vmcs.read(field::GUEST_CS_BASE).wrapping_add(rip);
    let state = memory::paging_state(vcpu, vm, vmcs);
    let user = vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3 == 3;
    let mut bytes = [0; MAX_LEN];
    let fetched = match x86_decode::fetch(&vm.memory, &state, linear, user, &mut bytes) {
        Ok(fetched) => &bytes[..fetched],
        Err(error) => return fatal(format!("the instruction at {linear:#x} cannot be read: {error}")),
    };
    let insn = match x86_decode::decode(fetched, vcpu.code_size(vmcs)) {
        Ok(insn) => insn,
        Err(error) => return not_emulated(gpa, rip, fetched, &error),
    };
    let mut gprs = vcpu.context.gprs;
    gprs[RSP] = vmcs.read(field::GUEST_RSP);
    let mut rflags = vmcs.read(field::GUEST_RFLAGS);
    let mut bus = Bus { vm, vcpu, vmcs, gpa, effect: None };
    let progress = match x86_decode::execute(&insn, &mut gprs, &mut rflags, &mut bus) {
        Ok(progress) => progress,
        Err(ExecuteError::Bus(fault)) => return fault,
        Err(ExecuteError::BitOutside { bit }) => {
            return not_emulated(gpa, rip, fetched, &format!("bit {bit} is outside the operand"));
        }
    };
    let effect = bus.effect;
    vcpu.context.gprs = gprs;
    vmcs.write(field::GUEST_RFLAGS, rflags);
    vmcs.write(field::GUEST_RSP, gprs[RSP]);
    match (effect.map_or(Next::Advance, |effect| vcpu.effect(vm, effect)), progress) {
        (Next::Advance, Progress::Done) => Next::AdvanceBy(u64::from(insn.len)),
        (Next::Advance, Progress::Again) => Next::Resume,
        (other, _) => other,
    }
}

#[cold]
fn not_emulated(gpa: Gpa, rip: u64, bytes: &[u8], why: &dyn core::fmt::Display) -> Next {
    fatal(format!(
        "access to {gpa}, not memory, by an instruction that is not emulated: {why}, RIP {rip:#x}, bytes {bytes:02x?}"
    ))
}
