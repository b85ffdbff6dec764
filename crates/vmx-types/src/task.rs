//! Hardware task switches (SDM 3A 7.3). A CPU checks the descriptor of the new TSS and leaves the rest to the hypervisor
//! (SDM 25.4.2): here it is done, for 32-bit TSSs. A 32-bit Linux has one, for #DF.

use crate::event::{Event, EventKind, vector};
use crate::field::Segment;
use crate::flow::RFLAGS_VM;
use crate::paging::{CR0_PG, CR0_TS};
use crate::state::{SegmentState, TableState};

mod descriptor;
#[cfg(test)]
mod tests;

use descriptor::{Descriptor, before_load, load_segments, null};

const RFLAGS_NT: u64 = 1 << 14;
/// DR7: L0 to L3 and LE, which belong to a task.
const DR7_LOCAL: u64 = 0x155;
/// Bytes of a 32-bit TSS.
const TSS_BYTES: usize = 0x68;
/// Offsets in it: EIP, EFLAGS, eight registers, six selectors are saved; CR3 and LDTR are only read.
const LINK: u32 = 0;
const CR3: usize = 0x1c;
const EIP: usize = 0x20;
const EFLAGS: usize = 0x24;
const REGISTERS: usize = 0x28;
const SELECTORS: usize = 0x48;
const LDTR: usize = 0x60;
const TRAP: usize = 0x64;

/// What brought the switch about: bits 31:30 of the exit qualification (SDM table 27-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// CALL
    Call,
    /// IRET with NT set.
    Iret,
    /// JMP
    Jmp,
    /// A task gate of the IDT.
    Gate,
}

/// A switch that was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskSwitch {
    /// Selector of the new TSS.
    pub selector: u16,
    /// By what.
    pub source: Source,
}

impl TaskSwitch {
    /// From the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        let source = match qualification >> 30 & 3 {
            0 => Source::Call,
            1 => Source::Iret,
            2 => Source::Jmp,
            _ => Source::Gate,
        };
        Self { selector: qualification as u16, source }
    }

    /// True where RIP of the old task has to be saved behind the instruction: all but interrupts and exceptions.
    #[must_use]
    pub fn is_instruction(self, event: Option<Event>) -> bool {
        self.source != Source::Gate || event.is_some_and(|event| event.needs_length())
    }
}

/// Registers of the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Task {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI.
    pub gprs: [u64; 8],
    /// RIP; of the old task, where it goes on.
    pub rip: u64,
    /// RFLAGS
    pub rflags: u64,
    /// CR0
    pub cr0: u64,
    /// CR3; it is loaded where paging is on.
    pub cr3: u64,
    /// DR7
    pub dr7: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: [SegmentState; 8],
    /// GDTR
    pub gdtr: TableState,
}

/// Why a switch ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskError<E> {
    /// The exception is raised in the task whose registers `Task` holds.
    Fault(Event),
    /// A TSS of 16 bits.
    Narrow,
    /// Memory, or what its owner says.
    Memory(E),
}

/// Memory of the guest by linear address, as the CPU itself reaches it.
pub trait TaskMemory {
    /// What ends an access.
    type Error;
    /// Reads.
    ///
    /// # Errors
    /// A page fault, or what its owner says.
    fn read(&mut self, linear: u32, bytes: &mut [u8]) -> Result<(), TaskError<Self::Error>>;
    /// Writes.
    ///
    /// # Errors
    /// The same.
    fn write(&mut self, linear: u32, bytes: &[u8]) -> Result<(), TaskError<Self::Error>>;
    /// Translations go by this CR3 from here on.
    ///
    /// # Errors
    /// What MOV to CR3 would raise.
    fn load_cr3(&mut self, cr3: u64) -> Result<(), TaskError<Self::Error>>;
}

/// An exception with a selector as its error code.
const fn fault<E>(vector: u8, selector: u16) -> TaskError<E> {
    TaskError::Fault(Event::exception(vector, Some(selector as u32 & 0xfffc)))
}

/// Carries out a switch. `event` came through the task gate, if one did. True: the new task's T flag wants a #DB first.
///
/// # Errors
/// [`TaskError`]. Before the old task is saved, `task` is unchanged; afterwards it is the new one.
pub fn switch<M: TaskMemory>(
    task: &mut Task,
    how: TaskSwitch,
    event: Option<Event>,
    memory: &mut M,
) -> Result<bool, TaskError<M::Error>> {
    let nested = matches!(how.source, Source::Call | Source::Gate);
    let new_tss = Descriptor::read(task, how.selector, vector::INVALID_TSS, memory)?;
    let busy = how.source == Source::Iret;
    if new_tss.is_16_bit_tss() {
        return Err(TaskError::Narrow);
    }
    if !new_tss.is_tss(busy) || new_tss.limit() < TSS_BYTES as u32 - 1 {
        return Err(fault(vector::INVALID_TSS, how.selector));
    }
    if !new_tss.is_present() {
        return Err(fault(vector::NOT_PRESENT, how.selector));
    }
    let mut image = [0; TSS_BYTES];
    memory.read(new_tss.base(), &mut image)?;
    save(task, how.source, memory)?;
    let old = task.segments[Segment::Tr as usize];
    if !nested {
        Descriptor::read(task, old.selector, vector::INVALID_TSS, memory)?.set_busy(false).write(memory)?;
    }
    if nested {
        memory.write(new_tss.base().wrapping_add(LINK), &old.selector.to_le_bytes())?;
    }
    let new_tss = new_tss.set_busy(true);
    new_tss.write(memory)?;
    let trap = enter(task, how.selector, &new_tss, &image, nested);
    if task.cr0 & CR0_PG != 0 {
        memory.load_cr3(task.cr3)?;
    }
    load_segments(task, memory)?;
    if let Some(Event { error_code: Some(code), kind: EventKind::Exception, .. }) = event {
        let esp = (task.gprs[4] as u32).wrapping_sub(4);
        let stack = task.segments[Segment::Ss as usize].base as u32;
        memory.write(stack.wrapping_add(esp), &code.to_le_bytes())?;
        task.gprs[4] = esp.into();
    }
    Ok(trap)
}

/// Saves the old task in its TSS.
fn save<M: TaskMemory>(task: &Task, source: Source, memory: &mut M) -> Result<(), TaskError<M::Error>> {
    let nt = if source == Source::Iret { RFLAGS_NT } else { 0 };
    let mut image = [0; SELECTORS + 24 - EIP];
    let registers = [task.rip, task.rflags & !nt].into_iter().chain(task.gprs);
    let selectors = task.segments[..6].iter().map(|segment| u64::from(segment.selector));
    for (bytes, value) in image.chunks_exact_mut(4).zip(registers.chain(selectors)) {
        bytes.copy_from_slice(&(value as u32).to_le_bytes());
    }
    memory.write((task.segments[Segment::Tr as usize].base as u32).wrapping_add(EIP as u32), &image)
}

/// Makes the registers those of the new task, segments by their selectors alone.
fn enter(task: &mut Task, selector: u16, tss: &Descriptor, image: &[u8; TSS_BYTES], nested: bool) -> bool {
    let word = |at: usize| image.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let half = |at: usize| word(at) as u16;
    if task.cr0 & CR0_PG != 0 {
        task.cr3 = word(CR3).into();
    }
    task.rip = word(EIP).into();
    // Reserved bits are as a CPU has them, whatever memory says.
    task.rflags = u64::from(word(EFLAGS)) & 0x003f_7fd5 | 2 | if nested { RFLAGS_NT } else { 0 };
    task.gprs = core::array::from_fn(|n| word(REGISTERS + 4 * n).into());
    let cpl = half(SELECTORS + 4 * Segment::Cs as usize) & 3;
    for (n, which) in Segment::ALL[..6].iter().enumerate() {
        task.segments[n] = before_load(*which, half(SELECTORS + 4 * n), cpl, is_virtual_8086(task));
    }
    task.segments[Segment::Ldtr as usize] = null(half(LDTR));
    task.segments[Segment::Tr as usize] = tss.segment(selector);
    task.cr0 |= CR0_TS;
    task.dr7 &= !DR7_LOCAL;
    half(TRAP) & 1 != 0
}

/// True for a task in virtual-8086 mode.
const fn is_virtual_8086(task: &Task) -> bool {
    task.rflags & RFLAGS_VM != 0
}
