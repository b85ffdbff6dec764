//! Hardware task switches, which VMX leaves to the hypervisor: [`vmx_types::task`] carries them out, here is the guest's
//! memory for it.

use alloc::format;
use alloc::string::String;
use vm_types::GuestMemory;
use vmx_types::event::{Event, EventKind, vector};
use vmx_types::field::{self, Segment};
use vmx_types::flow::{BLOCKED_BY_NMI, Flow};
use vmx_types::paging::ControlRegs;
use vmx_types::state::{SegmentState, TableState};
use vmx_types::task::{self, Source, Task, TaskError, TaskMemory, TaskSwitch};
use x86_decode::{Access, AccessKind, PagingState, Translation, WalkError};

use super::{Next, fatal, inject};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::arch::debug;
use hw::vmx::vmcs::Current;

const PAGE: u32 = x86::PAGE_SIZE as u32;
/// DR6.BT: a task with its T flag set is entered.
const DR6_TASK: u64 = 1 << 15;

/// The guest's memory as its page tables show it to the CPU itself.
struct Memory<'a> {
    vm: &'a Guest,
    paging: PagingState,
    pdptes: Option<[u64; 4]>,
}

impl Memory<'_> {
    /// Calls `touch` with each piece that lies in one page.
    fn pieces(
        &self,
        linear: u32,
        len: usize,
        kind: AccessKind,
        mut touch: impl FnMut(&Translation, core::ops::Range<usize>) -> Result<(), vm_types::MemoryError>,
    ) -> Result<(), TaskError<String>> {
        let mut done = 0;
        while done < len {
            let at = linear.wrapping_add(done as u32);
            let piece = (len - done).min((PAGE - at % PAGE) as usize);
            let access = Access { kind, user: false, ac: false, pkru: 0 };
            let found =
                x86_decode::translate(&self.vm.memory, &self.paging, at.into(), access).map_err(|error| {
                    match error {
                        WalkError::PageFault { error_code } => {
                            debug::set_cr2(at.into());
                            TaskError::Fault(Event::exception(vector::PAGE_FAULT, Some(error_code)))
                        }
                        other => TaskError::Memory(format!("task switch: {at:#x}: {other}")),
                    }
                })?;
            touch(&found, done..done + piece)
                .map_err(|error| TaskError::Memory(format!("task switch: {at:#x}: {error}")))?;
            done += piece;
        }
        Ok(())
    }
}

impl TaskMemory for Memory<'_> {
    type Error = String;

    fn read(&mut self, linear: u32, bytes: &mut [u8]) -> Result<(), TaskError<String>> {
        let vm = self.vm;
        self.pieces(linear, bytes.len(), AccessKind::Read, |found, piece| {
            found.mark(&vm.memory);
            vm.memory.read(found.gpa, &mut bytes[piece])
        })
    }

    fn write(&mut self, linear: u32, bytes: &[u8]) -> Result<(), TaskError<String>> {
        let vm = self.vm;
        // Both pages are there before the first byte is written.
        self.pieces(linear, bytes.len(), AccessKind::Write, |_, _| Ok(()))?;
        self.pieces(linear, bytes.len(), AccessKind::Write, |found, piece| {
            found.mark(&vm.memory);
            vm.memory.write(found.gpa, &bytes[piece])
        })
    }

    fn load_cr3(&mut self, cr3: u64) -> Result<(), TaskError<String>> {
        self.paging.cr3 = cr3;
        let PagingState { cr0, cr4, efer, .. } = self.paging;
        if (ControlRegs { cr0, cr3, cr4, efer }).pae_paging() {
            let pdptes = Vcpu::read_pdptes(self.vm, cr3, self.paging.phys_bits);
            let pdptes = pdptes.map_err(|_| TaskError::Fault(Event::GENERAL_PROTECTION))?;
            self.paging.pdptes = pdptes;
            self.pdptes = Some(pdptes);
        }
        Ok(())
    }
}

/// A task switch by an instruction, or by an event that `how` says came through a task gate.
#[cold]
pub(super) fn switch(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, how: TaskSwitch) -> Next {
    let event = vmcs.interrupted_event();
    let instruction = if how.is_instruction(event) { vmcs.read(field::EXIT_INSTRUCTION_LENGTH) } else { 0 };
    let old = current(vcpu, vmcs, instruction);
    let mut task = old;
    let mut memory = Memory { vm, paging: vcpu.paging_state(vmcs), pdptes: None };
    let result = task::switch(&mut task, how, event, &mut memory);
    if task != old {
        let nmi = event.is_some_and(|event| event.kind == EventKind::Nmi);
        if let Err(next) = enter(vcpu, vm, vmcs, &task, memory.pdptes) {
            return next;
        }
        let mut blocked = vmcs.read(field::GUEST_INTERRUPTIBILITY) & BLOCKED_BY_NMI;
        match how.source {
            Source::Iret => blocked = 0,
            Source::Gate if nmi => blocked = BLOCKED_BY_NMI,
            _ => {}
        }
        vmcs.set_flow(Flow { rflags: task.rflags, interruptibility: blocked, pending_debug: 0 });
    }
    match result {
        Ok(false) => Next::Delivered,
        Ok(true) => {
            debug::set_dr6(debug::dr6() | DR6_TASK);
            inject(Event::exception(vector::DEBUG, None))
        }
        Err(TaskError::Fault(event)) => inject(event),
        Err(TaskError::Narrow) => fatal(format!("task switch to a 16-bit TSS, selector {:#x}", how.selector)),
        Err(TaskError::Memory(why)) => fatal(why),
    }
}

/// The registers of the task that is left.
fn current(vcpu: &mut Vcpu, vmcs: Current<'_>, instruction: u32) -> Task {
    let regs = vcpu.control_regs(vmcs);
    let rip = vmcs.read(field::GUEST_RIP).wrapping_add(instruction.into()) & 0xffff_ffff;
    Task {
        gprs: core::array::from_fn(|n| vcpu.gpr(vmcs, n as u8)),
        rip,
        rflags: vmcs.read(field::GUEST_RFLAGS),
        cr0: regs.cr0,
        cr3: regs.cr3,
        dr7: vmcs.read(field::GUEST_DR7),
        segments: Segment::ALL.map(|segment| SegmentState {
            selector: vmcs.read(segment.selector()),
            base: vmcs.read(segment.base()),
            limit: vmcs.read(segment.limit()),
            rights: vmcs.read(segment.access_rights()),
        }),
        gdtr: TableState {
            base: vmcs.read(field::GUEST_GDTR_BASE),
            limit: vmcs.read(field::GUEST_GDTR_LIMIT),
        },
    }
}

/// Loads the registers of the task that is entered; RFLAGS excepted.
fn enter(
    vcpu: &mut Vcpu,
    vm: &Guest,
    vmcs: Current<'_>,
    task: &Task,
    pdptes: Option<[u64; 4]>,
) -> Result<(), Next> {
    let regs = ControlRegs { cr0: task.cr0, cr3: task.cr3, ..vcpu.control_regs(vmcs) };
    vcpu.set_control_regs(vm, vmcs, regs, pdptes)
        .map_err(|_| fatal("task switch in real mode, which has none".into()))?;
    for (number, value) in task.gprs.into_iter().enumerate() {
        vcpu.set_gpr(vmcs, number as u8, value);
    }
    vmcs.write(field::GUEST_RIP, task.rip);
    vmcs.write(field::GUEST_DR7, task.dr7);
    for (segment, state) in Segment::ALL.into_iter().zip(&task.segments) {
        vmcs.write(segment.selector(), state.selector);
        vmcs.write(segment.base(), state.base);
        vmcs.write(segment.limit(), state.limit);
        vmcs.write(segment.access_rights(), state.rights);
    }
    Ok(())
}
