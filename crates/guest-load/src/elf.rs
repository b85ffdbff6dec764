//! ELF32 and ELF64 headers, as far as a loader needs them.

use alloc::vec::Vec;

use crate::bytes::{part, u16_at, u32_at, u64_at};
use crate::error::LoadError;
use crate::layout::Space;
use vm_types::{Gpa, GuestMemory};

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const MACHINE_386: u16 = 3;
const MACHINE_X86_64: u16 = 62;
/// Bounds the work that a malicious file can cause.
const MAX_LOADED: usize = 1024;
pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_NOTE: u32 = 4;

/// One program header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) paddr: u64,
    pub(crate) file_len: u64,
    pub(crate) mem_len: u64,
    pub(crate) align: u64,
}

/// An ELF file whose program headers are inside the file.
pub(crate) struct Elf<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) entry: u64,
    pub(crate) segments: Vec<Segment>,
}

pub(crate) fn is_elf64(file: &[u8]) -> bool {
    file.starts_with(MAGIC) && file.get(4) == Some(&CLASS_64)
}

pub(crate) fn is_elf32(file: &[u8]) -> bool {
    file.starts_with(MAGIC) && file.get(4) == Some(&CLASS_32)
}

impl<'a> Elf<'a> {
    /// Parses the file header and all program headers.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, LoadError> {
        let wide = is_elf64(file);
        let encoding = file.get(5).copied().unwrap_or(0);
        if encoding != 1 {
            let need = "only little-endian (1) runs on x86";
            return Err(LoadError::Field { what: "ELF data encoding", value: encoding.into(), need });
        }
        let machine = u16_at(file, "ELF machine", 18)?;
        if machine != if wide { MACHINE_X86_64 } else { MACHINE_386 } {
            let need = "need x86 (3 in ELF32, 0x3e in ELF64)";
            return Err(LoadError::Field { what: "ELF machine", value: machine.into(), need });
        }
        let header = "ELF header";
        let (entry, table, size_at, size) = if wide {
            (u64_at(file, header, 24)?, u64_at(file, header, 32)?, 54, 56)
        } else {
            (u32_at(file, header, 24)?.into(), u32_at(file, header, 28)?.into(), 42, 32)
        };
        let entry_size = u16_at(file, header, size_at)?;
        let count = u16_at(file, header, size_at + 2)?;
        if count != 0 && entry_size != size {
            let need = "need 0x20 in ELF32, 0x38 in ELF64";
            return Err(LoadError::Field { what: "ELF program header size", value: entry_size.into(), need });
        }
        let table = part(file, "ELF program headers", table, u64::from(count) * u64::from(size))?;
        let read = |header| if wide { segment64(header) } else { segment32(header) };
        let segments = table.chunks_exact(usize::from(size)).map(read).collect::<Result<_, _>>()?;
        Ok(Elf { file, entry, segments })
    }

    pub(crate) fn of_kind(&self, kind: u32) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |segment| segment.kind == kind)
    }

    /// The bytes that the file has for a segment.
    pub(crate) fn data(&self, segment: &Segment) -> Result<&'a [u8], LoadError> {
        part(self.file, "ELF segment", segment.offset, segment.file_len)
    }

    /// The physical address of `e_entry`, which is a virtual one where a segment holds it at that.
    pub(crate) fn physical_entry(&self) -> u64 {
        let offset =
            |segment: &Segment| self.entry.checked_sub(segment.vaddr).filter(|at| *at < segment.mem_len);
        let physical = |segment: &Segment| Some(offset(segment)?.wrapping_add(segment.paddr));
        self.of_kind(PT_LOAD).find_map(physical).unwrap_or(self.entry)
    }

    /// Loads every PT_LOAD segment at its physical address and checks that `entry` is inside one.
    pub(crate) fn load<M: GuestMemory + ?Sized>(
        &self,
        space: &mut Space<'_, M>,
        entry: u64,
    ) -> Result<(), LoadError> {
        let count = self.of_kind(PT_LOAD).count();
        if count > MAX_LOADED {
            let need = "more than 1024 to load";
            return Err(LoadError::Field { what: "ELF segments", value: count as u64, need });
        }
        let mut entered = false;
        for segment in self.of_kind(PT_LOAD).filter(|segment| segment.mem_len != 0) {
            if segment.file_len > segment.mem_len {
                let need = "longer than its memory";
                return Err(LoadError::Field {
                    what: "ELF segment file size",
                    value: segment.file_len,
                    need,
                });
            }
            let data = self.data(segment)?;
            let at = space.claim("ELF segment", segment.paddr, segment.mem_len)?;
            space.write(at, data)?;
            space.zero(Gpa(at.0 + segment.file_len), segment.mem_len - segment.file_len)?;
            entered |= entry >= at.0 && entry - at.0 < segment.mem_len;
        }
        if entered {
            return Ok(());
        }
        Err(LoadError::Field { what: "ELF entry point", value: entry, need: "not inside a loaded segment" })
    }
}

fn segment64(header: &[u8]) -> Result<Segment, LoadError> {
    let what = "ELF program header";
    Ok(Segment {
        kind: u32_at(header, what, 0)?,
        flags: u32_at(header, what, 4)?,
        offset: u64_at(header, what, 8)?,
        vaddr: u64_at(header, what, 16)?,
        paddr: u64_at(header, what, 24)?,
        file_len: u64_at(header, what, 32)?,
        mem_len: u64_at(header, what, 40)?,
        align: u64_at(header, what, 48)?,
    })
}

fn segment32(header: &[u8]) -> Result<Segment, LoadError> {
    let word = |offset| u32_at(header, "ELF program header", offset);
    Ok(Segment {
        kind: word(0)?,
        flags: word(24)?,
        offset: word(4)?.into(),
        vaddr: word(8)?.into(),
        paddr: word(12)?.into(),
        file_len: word(16)?.into(),
        mem_len: word(20)?.into(),
        align: word(28)?.into(),
    })
}
