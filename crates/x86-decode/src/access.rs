//! Accesses to memory as the CPU makes them: by segment and offset, with every check before the first byte.
//!
//! The one place for it. Where an operand crosses a page, the second page lies anywhere, may be a device's, and may not
//! be there at all; looking the first byte up and going on from there reaches a page that is none of the program's.

use vm_types::{Gpa, GuestMemory};
use x86::PAGE_SIZE as PAGE;

use crate::code::CodeSize;
use crate::insn::{Segment, mask};
use crate::machine::{Cpu, Fault, Machine};
use crate::paging::{Access, AccessKind, CR4_LA57, CR4_PKE, WalkError, translate};

const CR0_PE: u64 = 1;
const CR0_AM: u64 = 1 << 18;
const RFLAGS_VM: u64 = 1 << 17;
const RFLAGS_AC: u64 = 1 << 18;

/// Rights in a segment register (SDM table 24-2).
const CODE: u32 = 1 << 3;
/// Of data: grows down. Of code: conforming.
const EXPAND_DOWN: u32 = 1 << 2;
/// Of data: may be written. Of code: may be read.
const WRITABLE_OR_READABLE: u32 = 1 << 1;
/// D/B: 32-bit.
const BIG: u32 = 1 << 14;
const UNUSABLE: u32 = 1 << 16;

/// Where an operand lies: an access to it can no longer fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Located {
    /// In one page, which is not RAM.
    Device(Gpa),
    /// Anywhere: the first `head` bytes from one address on, the rest from the other.
    Pages { first: Gpa, second: Gpa, head: usize },
}

/// Looks up `size` bytes at `segment:offset` for a read, or for a write or read-modify-write. Accessed and dirty flags
/// are set.
///
/// # Errors
/// What the CPU would raise instead of the access.
pub(crate) fn locate<M: Machine>(
    cpu: &Cpu,
    machine: &mut M,
    (segment, offset): (Segment, u64),
    size: u8,
    write: bool,
) -> Result<Located, Fault> {
    let linear = linear(cpu, machine, (segment, offset), size, write)?;
    let (user, ac) = (cpu.cpl == 3, cpu.rflags & RFLAGS_AC != 0);
    // Natural alignment up to 8 bytes; wider operands have rules of their own, which the CPU has checked.
    if user && ac && cpu.paging.cr0 & CR0_AM != 0 && size <= 8 && linear & (u64::from(size) - 1) != 0 {
        return Err(Fault::ALIGNMENT);
    }
    let pkru = if cpu.paging.cr4 & CR4_PKE != 0 { machine.pkru() } else { 0 };
    let kind = if write { AccessKind::Write } else { AccessKind::Read };
    let access = Access { kind, user, ac, pkru };
    let page = |linear: u64| {
        translate(machine.ram(), &cpu.paging, linear, access).map_err(|error| match error {
            WalkError::PageFault { error_code } => Fault::page(linear, error_code),
            WalkError::NonCanonical => Fault::PROTECTION,
        })
    };
    let head = (PAGE - linear % PAGE).min(size.into());
    let first = page(linear)?;
    let second = if head < u64::from(size) { page(wrapped(cpu, linear.wrapping_add(head)))? } else { first };
    // Both are there: only now is the access certain.
    first.mark(machine.ram());
    second.mark(machine.ram());
    Ok(Located::Pages { first: first.gpa, second: second.gpa, head: head as usize })
}

/// Linear addresses have 32 bits outside 64-bit mode.
fn wrapped(cpu: &Cpu, linear: u64) -> u64 {
    if cpu.code == CodeSize::Bits64 { linear } else { linear & 0xFFFF_FFFF }
}

/// Linear address of an offset without any check: the CPU has made them.
pub(crate) fn unchecked_linear<M: Machine>(cpu: &Cpu, machine: &M, segment: Segment, offset: u64) -> u64 {
    // ES, CS, SS and DS begin at 0 in 64-bit mode, whatever they hold (SDM 3A 3.4.4).
    let based = cpu.code != CodeSize::Bits64 || matches!(segment, Segment::Fs | Segment::Gs);
    let base = if based { machine.segment_base(segment) } else { 0 };
    wrapped(cpu, base.wrapping_add(offset))
}

fn linear<M: Machine>(
    cpu: &Cpu,
    machine: &M,
    (segment, offset): (Segment, u64),
    size: u8,
    write: bool,
) -> Result<u64, Fault> {
    let linear = unchecked_linear(cpu, machine, segment, offset);
    let last = u64::from(size) - 1;
    let allowed = if cpu.code == CodeSize::Bits64 {
        is_canonical(cpu, linear) && is_canonical(cpu, linear.wrapping_add(last))
    } else {
        segment_allows(cpu, machine, segment, (offset, offset + last), write)
    };
    match (allowed, segment) {
        (true, _) => Ok(linear),
        (false, Segment::Ss) => Err(Fault::STACK),
        (false, _) => Err(Fault::PROTECTION),
    }
}

/// Whether the bits above the width of linear addresses repeat their sign.
pub(crate) fn is_canonical(cpu: &Cpu, linear: u64) -> bool {
    let unused = if cpu.paging.cr4 & CR4_LA57 != 0 { 64 - 57 } else { 64 - 48 };
    ((linear << unused) as i64 >> unused) as u64 == linear
}

/// SDM 3A 5.3 and 5.5: limit, and in protected mode the type.
fn segment_allows<M: Machine>(
    cpu: &Cpu,
    machine: &M,
    segment: Segment,
    (first, last): (u64, u64),
    write: bool,
) -> bool {
    let register = machine.segment(segment);
    let has = |bits| register.rights & bits != 0;
    let limit = u64::from(register.limit);
    if cpu.paging.cr0 & CR0_PE != 0 && cpu.rflags & RFLAGS_VM == 0 {
        let needs_right = write || has(CODE);
        if has(UNUSABLE) || (write && has(CODE)) || (needs_right && !has(WRITABLE_OR_READABLE)) {
            return false;
        }
    }
    if has(EXPAND_DOWN) && !has(CODE) {
        first > limit && last <= if has(BIG) { 0xFFFF_FFFF } else { 0xFFFF }
    } else {
        last <= limit
    }
}

/// Reads up to 8 bytes, zero-extended.
pub(crate) fn read<M: Machine>(machine: &mut M, at: Located, size: u8) -> u64 {
    if let Located::Device(gpa) = at {
        return machine.load(gpa, size) & mask(size);
    }
    let mut bytes = [0; 8];
    read_bytes(machine, at, &mut bytes[..usize::from(size.min(8))]);
    u64::from_le_bytes(bytes)
}

/// Writes the low bytes of `value`, 8 at most.
pub(crate) fn write<M: Machine>(machine: &mut M, at: Located, size: u8, value: u64) {
    match at {
        Located::Device(gpa) => machine.store(gpa, size, value & mask(size)),
        Located::Pages { .. } => write_bytes(machine, at, &value.to_le_bytes()[..usize::from(size.min(8))]),
    }
}

/// Reads any number of bytes.
pub(crate) fn read_bytes<M: Machine>(machine: &mut M, at: Located, bytes: &mut [u8]) {
    let (first, second, head) = at.parts(bytes.len());
    let (head, tail) = bytes.split_at_mut(head);
    for (gpa, part) in [(first, head), (second, tail)] {
        if machine.ram().read(gpa, part).is_ok() {
            continue;
        }
        for (gpa, piece) in pieces(gpa, part.len()) {
            let value = machine.load(gpa, piece.len() as u8).to_le_bytes();
            part[piece.clone()].copy_from_slice(&value[..piece.len()]);
        }
    }
}

/// Writes any number of bytes.
pub(crate) fn write_bytes<M: Machine>(machine: &mut M, at: Located, bytes: &[u8]) {
    let (first, second, head) = at.parts(bytes.len());
    let (head, tail) = bytes.split_at(head);
    for (gpa, part) in [(first, head), (second, tail)] {
        if machine.ram().write(gpa, part).is_ok() {
            continue;
        }
        for (gpa, piece) in pieces(gpa, part.len()) {
            let mut value = [0; 8];
            value[..piece.len()].copy_from_slice(&part[piece.clone()]);
            machine.store(gpa, piece.len() as u8, u64::from_le_bytes(value));
        }
    }
}

impl Located {
    fn parts(self, len: usize) -> (Gpa, Gpa, usize) {
        match self {
            Located::Device(gpa) => (gpa, gpa, len),
            Located::Pages { first, second, head } => (first, second, head.min(len)),
        }
    }
}

/// What a bus makes of `len` bytes at `gpa`: one cycle where the number is a bus width, else the largest aligned ones.
fn pieces(gpa: Gpa, len: usize) -> impl Iterator<Item = (Gpa, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let (at, left) = (gpa.0.wrapping_add(done as u64), len - done);
        let aligned = 1 << at.trailing_zeros().min(3);
        let size = match left {
            0 => return None,
            1 | 2 | 4 | 8 if done == 0 => left,
            _ => [8, 4, 2, 1].into_iter().find(|size| *size <= left && *size <= aligned).unwrap_or(1),
        };
        done += size;
        Some((Gpa(at), done - size..done))
    })
}
