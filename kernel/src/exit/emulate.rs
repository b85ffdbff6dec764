//! Instructions that the hypervisor carries out itself: accesses to what is not memory, and string I/O.

use devices::{LocalApic, Platform};
use vm_types::Gpa;
use vmx_types::event::Event;
use vmx_types::field::{self, Segment as VmcsSegment};
use vmx_types::qualification::CrAccess;
use x86_decode::{Cpu, DecodeError, Fault, MAX_LEN, Machine, Refused, Segment, SegmentRegister, Vector};

use super::{Next, UNDEFINED, control, inject};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::arch::{debug, xstate};
use hw::mm::guest::GuestRam;
use hw::vmx::vmcs::Current;

const RSP: usize = x86::RSP as usize;

/// The vCPU's VM as the instruction meets it.
struct Board<'a> {
    vm: &'a Guest,
    vcpu: &'a mut Vcpu,
    vmcs: Current<'a>,
    /// What a device asks for besides its registers.
    effect: Option<devices::Effect>,
    lmsw: Option<u16>,
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

impl Machine for Board<'_> {
    type Ram = GuestRam;

    fn ram(&self) -> &GuestRam {
        &self.vm.memory
    }

    fn segment(&self, segment: Segment) -> SegmentRegister {
        let segment = vmcs_segment(segment);
        SegmentRegister {
            base: self.vmcs.read(segment.base()),
            limit: self.vmcs.read(segment.limit()),
            rights: self.vmcs.read(segment.access_rights()),
        }
    }

    fn segment_base(&self, segment: Segment) -> u64 {
        self.vmcs.read(vmcs_segment(segment).base())
    }

    fn pkru(&mut self) -> u32 {
        xstate::pkru(self.vcpu.policy.xcr0_allowed(), self.vcpu.xcr0)
    }

    fn load(&mut self, gpa: Gpa, size: u8) -> u64 {
        if LocalApic::is_at(gpa) {
            return self.vcpu.read_apic(self.vm, |apic, now| apic.mmio_read(gpa, size, now));
        }
        self.vcpu.on_board(self.vm, |platform, now| platform.mmio_read(gpa, size, now))
    }

    fn store(&mut self, gpa: Gpa, size: u8, value: u64) {
        if LocalApic::is_at(gpa) {
            let sent = self.vcpu.apic.mmio_write(gpa, size, value, self.vm.clock.now());
            return self.vcpu.sent(self.vm, sent);
        }
        let access = |platform: &mut Platform, now| platform.mmio_write(gpa, size, value, now);
        self.effect = self.effect.or(self.vcpu.on_board(self.vm, access));
    }

    fn input(&mut self, port: u16, size: u8) -> u32 {
        self.vcpu.on_board(self.vm, |platform, now| platform.io_read(port, size, now))
    }

    fn output(&mut self, port: u16, size: u8, value: u32) {
        self.effect = self.vcpu.on_board(self.vm, |platform, now| platform.io_write(port, size, value, now));
    }

    fn vector(&mut self, register: u8) -> Vector {
        self.vcpu.vector(register)
    }

    fn set_vector(&mut self, register: u8, value: &Vector) {
        self.vcpu.set_vector(register, value);
    }

    fn lmsw(&mut self, word: u16) {
        self.lmsw = Some(word);
    }
}

/// Carries out the instruction at RIP, or one iteration of it. `faulted` is where the CPU met what is not memory.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, faulted: Option<Gpa>) -> Next {
    carry_out(vcpu, vm, vmcs, faulted).unwrap_or_else(|NotEmulated { error, bytes }| {
        // No way to tell what it would have done: the program is told, as it is of an instruction that is none, and
        // its VM goes on.
        let rip = vmcs.read(field::GUEST_RIP);
        log::debug!("{}: {error}, on no memory, at RIP {rip:#x}: {bytes:02x?}", vm.name.get());
        UNDEFINED
    })
}

/// An instruction that is not carried out here; nothing has changed.
pub(super) struct NotEmulated {
    error: DecodeError,
    bytes: [u8; MAX_LEN],
}

/// The same, and the answer where it cannot be done.
pub(super) fn carry_out(
    vcpu: &mut Vcpu,
    vm: &Guest,
    vmcs: Current<'_>,
    faulted: Option<Gpa>,
) -> Result<Next, NotEmulated> {
    let rip = vmcs.read(field::GUEST_RIP);
    let mut cpu = Cpu {
        gprs: vcpu.context.gprs,
        rflags: vmcs.read(field::GUEST_RFLAGS),
        rip,
        code: vcpu.code_size(vmcs),
        cpl: vcpu.cpl(vmcs),
        paging: vcpu.paging_state(vmcs),
    };
    cpu.gprs[RSP] = vmcs.read(field::GUEST_RSP);
    let mut board = Board { vm, vcpu, vmcs, effect: None, lmsw: None };
    match x86_decode::emulate(&mut cpu, &mut board, faulted) {
        Ok(()) => {}
        Err(Refused::Fault(fault)) => return Ok(raise(fault)),
        Err(Refused::NotEmulated { error, bytes }) => return Err(NotEmulated { error, bytes }),
    }
    let Board { effect, lmsw, .. } = board;
    vcpu.context.gprs = cpu.gprs;
    vmcs.write(field::GUEST_RFLAGS, cpu.rflags);
    vmcs.write(field::GUEST_RSP, cpu.gprs[RSP]);
    let next = match (effect, lmsw) {
        (Some(effect), _) => super::effect(vcpu, vm, effect),
        (_, Some(word)) => control::cr(vcpu, vm, vmcs, CrAccess::Lmsw(word)),
        _ => Next::Advance,
    };
    Ok(match next {
        // By nothing between two iterations, each of which may be single-stepped (SDM 3B 17.3.1.4).
        Next::Advance => Next::AdvanceBy(cpu.rip.wrapping_sub(rip)),
        other => other,
    })
}

/// Has the guest take an exception instead of the instruction.
pub(super) fn raise(fault: Fault) -> Next {
    if let Some(linear) = fault.cr2 {
        debug::set_cr2(linear);
    }
    inject(Event::exception(fault.vector, fault.error_code))
}
