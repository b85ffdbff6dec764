//! Segment descriptors, and what a task switch loads of them (SDM 3A 3.4.5, 7.3 table 7-1).

use super::{Task, TaskError, TaskMemory, fault, is_virtual_8086};
use crate::event::vector;
use crate::field::Segment;
use crate::state::SegmentState;

const UNUSABLE: u32 = 1 << 16;
const CODE_OR_DATA: u32 = 1 << 4;
const TSS_BUSY: u64 = 1 << 41;
const ACCESSED: u64 = 1 << 40;

/// A descriptor and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Descriptor {
    at: u32,
    raw: u64,
}

impl Descriptor {
    /// The descriptor that `selector` names; one outside its table, or a null one, raises `vector`.
    pub(super) fn read<M: TaskMemory>(
        task: &Task,
        selector: u16,
        vector: u8,
        memory: &mut M,
    ) -> Result<Self, TaskError<M::Error>> {
        let ldtr = &task.segments[Segment::Ldtr as usize];
        let (base, limit) = match selector & 4 {
            0 => (task.gdtr.base, task.gdtr.limit),
            _ if ldtr.is_usable() => (ldtr.base, ldtr.limit),
            _ => return Err(fault(vector, selector)),
        };
        let offset = u32::from(selector & !7);
        if selector & !3 == 0 || offset + 7 > limit {
            return Err(fault(vector, selector));
        }
        let at = (base as u32).wrapping_add(offset);
        let mut bytes = [0; 8];
        memory.read(at, &mut bytes)?;
        Ok(Self { at, raw: u64::from_le_bytes(bytes) })
    }

    pub(super) fn write<M: TaskMemory>(&self, memory: &mut M) -> Result<(), TaskError<M::Error>> {
        memory.write(self.at, &self.raw.to_le_bytes())
    }

    pub(super) const fn set_busy(mut self, busy: bool) -> Self {
        self.raw = if busy { self.raw | TSS_BUSY } else { self.raw & !TSS_BUSY };
        self
    }

    pub(super) const fn base(&self) -> u32 {
        (self.raw >> 16 & 0xff_ffff) as u32 | (self.raw >> 56 << 24) as u32
    }

    /// In bytes.
    pub(super) const fn limit(&self) -> u32 {
        let limit = self.raw as u32 & 0xffff | (self.raw >> 32) as u32 & 0xf_0000;
        if self.raw & 1 << 55 != 0 { limit << 12 | 0xfff } else { limit }
    }

    const fn rights(&self) -> u32 {
        (self.raw >> 40) as u32 & 0xf0ff
    }

    const fn kind(&self) -> u32 {
        self.rights() & 0xf
    }

    const fn dpl(&self) -> u16 {
        (self.rights() >> 5 & 3) as u16
    }

    const fn is_code_or_data(&self) -> bool {
        self.rights() & CODE_OR_DATA != 0
    }

    pub(super) const fn is_present(&self) -> bool {
        self.rights() & 1 << 7 != 0
    }

    pub(super) const fn is_tss(&self, busy: bool) -> bool {
        !self.is_code_or_data() && self.kind() == if busy { 11 } else { 9 }
    }

    pub(super) const fn is_16_bit_tss(&self) -> bool {
        !self.is_code_or_data() && self.kind() & !2 == 1
    }

    /// As a segment register.
    pub(super) const fn segment(&self, selector: u16) -> SegmentState {
        SegmentState { selector, base: self.base() as u64, limit: self.limit(), rights: self.rights() }
    }
}

/// A segment register that has its selector and no descriptor yet: what an exception is raised in where the load of one
/// fails. Code and stack are flat, data is unusable; in virtual-8086 mode there are no descriptors.
pub(super) const fn before_load(which: Segment, selector: u16, cpl: u16, virtual_8086: bool) -> SegmentState {
    let dpl = (cpl as u32) << 5;
    match which {
        _ if virtual_8086 => {
            SegmentState { selector, base: (selector as u64) << 4, limit: 0xffff, rights: 0xf3 }
        }
        Segment::Cs => SegmentState { selector, base: 0, limit: u32::MAX, rights: 0xc09b | dpl },
        Segment::Ss => SegmentState { selector, base: 0, limit: u32::MAX, rights: 0xc093 | dpl },
        _ => null(selector),
    }
}

pub(super) const fn null(selector: u16) -> SegmentState {
    SegmentState { selector, base: 0, limit: 0, rights: UNUSABLE }
}

/// Loads the segment registers of the new task by their selectors: LDTR first, which the others may need.
pub(super) fn load_segments<M: TaskMemory>(
    task: &mut Task,
    memory: &mut M,
) -> Result<(), TaskError<M::Error>> {
    let ldtr = task.segments[Segment::Ldtr as usize].selector;
    if ldtr & 4 != 0 {
        return Err(fault(vector::INVALID_TSS, ldtr));
    }
    if ldtr & !3 != 0 {
        let descriptor = Descriptor::read(task, ldtr, vector::INVALID_TSS, memory)?;
        if descriptor.is_code_or_data() || descriptor.kind() != 2 || !descriptor.is_present() {
            return Err(fault(vector::INVALID_TSS, ldtr));
        }
        task.segments[Segment::Ldtr as usize] = descriptor.segment(ldtr);
    }
    if !is_virtual_8086(task) {
        let cpl = task.segments[Segment::Cs as usize].selector & 3;
        for which in &Segment::ALL[..6] {
            let selector = task.segments[*which as usize].selector;
            task.segments[*which as usize] = load(task, *which, selector, cpl, memory)?;
        }
    }
    if task.rip > u64::from(task.segments[Segment::Cs as usize].limit) {
        return Err(fault(vector::GENERAL_PROTECTION, 0));
    }
    Ok(())
}

fn load<M: TaskMemory>(
    task: &Task,
    which: Segment,
    selector: u16,
    cpl: u16,
    memory: &mut M,
) -> Result<SegmentState, TaskError<M::Error>> {
    let is_data = !matches!(which, Segment::Cs | Segment::Ss);
    if is_data && selector & !3 == 0 {
        return Ok(null(selector));
    }
    let mut descriptor = Descriptor::read(task, selector, vector::INVALID_TSS, memory)?;
    let (kind, dpl, rpl) = (descriptor.kind(), descriptor.dpl(), selector & 3);
    let conforming = kind & 0xc == 0xc;
    let legal = match which {
        Segment::Cs => kind & 8 != 0 && if conforming { dpl <= rpl } else { dpl == rpl },
        Segment::Ss => kind & 0xa == 2 && dpl == cpl && rpl == cpl,
        _ => kind & 0xa != 8 && (conforming || dpl >= cpl && dpl >= rpl),
    };
    if !legal || !descriptor.is_code_or_data() {
        return Err(fault(vector::INVALID_TSS, selector));
    }
    if !descriptor.is_present() {
        let vector = if which == Segment::Ss { vector::STACK_FAULT } else { vector::NOT_PRESENT };
        return Err(fault(vector, selector));
    }
    if descriptor.raw & ACCESSED == 0 {
        descriptor.raw |= ACCESSED;
        descriptor.write(memory)?;
    }
    Ok(descriptor.segment(selector))
}
