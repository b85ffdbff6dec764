//! Host-side preparation of kernel files: the compressed payload of a bzImage, and a `vmlinux` without what no
//! loader reads. A boot loader reads a lean file several times faster than the full one.

use alloc::vec::Vec;

use x86::PAGE_SIZE as PAGE;

use crate::bytes::{part, put, u32_at};
use crate::bzimage::{Setup, is_bzimage};
use crate::elf::{Elf, PT_LOAD, PT_NOTE, Segment, is_elf64};
use crate::error::LoadError;

/// How a bzImage's payload is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Format {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lzop,
    /// The legacy frame of `lz4 -l`.
    Lz4,
    Zstd,
    /// Not compressed: an ELF.
    Elf,
}

/// What a bzImage wraps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload<'a> {
    /// How `bytes` are compressed.
    pub format: Format,
    /// The compressed stream, which every tool of that format unpacks.
    pub bytes: &'a [u8],
    /// Length of what it unpacks to, as the image says; 0 for [`Format::Elf`].
    pub unpacked_len: u32,
}

/// Each format's first bytes.
const FORMATS: [(&[u8], Format); 8] = [
    (b"\x1f\x8b", Format::Gzip),
    (b"BZh", Format::Bzip2),
    (b"\x5d\x00\x00", Format::Lzma),
    (b"\xfd7zXZ\x00", Format::Xz),
    (b"\x89LZO", Format::Lzop),
    (b"\x02\x21\x4c\x18", Format::Lz4),
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
    (b"\x7fELF", Format::Elf),
];

/// Finds the compressed kernel in a bzImage by the setup header's `payload_offset` and `payload_length`.
///
/// # Errors
/// Not a bzImage of protocol 2.12 or newer, or the payload is outside the file or of no known format.
pub fn payload(image: &[u8]) -> Result<Payload<'_>, LoadError> {
    if !is_bzimage(image) {
        return Err(LoadError::NotAKernel);
    }
    let code = Setup::parse(image)?.code;
    let offset = u32_at(image, "bzImage payload_offset", 0x248)?;
    let len = u32_at(image, "bzImage payload_length", 0x24C)?;
    let bytes = part(code, "bzImage payload", offset.into(), len.into())?;
    let format = FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format);
    let first = u32_at(bytes, "bzImage payload", 0)?;
    let need = "the payload's first bytes are of no known compression";
    let format = format.ok_or(LoadError::Field { what: "bzImage payload", value: first.into(), need })?;
    if format == Format::Elf {
        return Ok(Payload { format, bytes, unpacked_len: 0 });
    }
    // The last four bytes are the unpacked length. gzip's own format ends with it; to the others Linux appends it.
    let tail = u64::from(len).saturating_sub(4);
    let unpacked_len = u32_at(bytes, "bzImage payload", tail)?;
    let own = if format == Format::Gzip { u64::from(len) } else { tail };
    Ok(Payload { format, bytes: part(bytes, "bzImage payload", 0, own)?, unpacked_len })
}

const HEADER_LEN: u64 = 64;
const PROGRAM_HEADER_LEN: u64 = 56;
/// Runs of zeros this long are left to the loader, which clears what the file does not have.
const ZERO_RUN: usize = 64 * 1024;

/// Rewrites an ELF64 to its PT_LOAD and PT_NOTE segments: no sections, no symbols, and no long runs of zeros.
/// It loads to the same memory as before.
///
/// # Errors
/// Not an ELF64 for x86, or a segment lies outside the file.
pub fn lean_elf(file: &[u8]) -> Result<Vec<u8>, LoadError> {
    if !is_elf64(file) {
        return Err(LoadError::NotAKernel);
    }
    let elf = Elf::parse(file)?;
    let loaded = elf.of_kind(PT_LOAD).fold(0, |sum: u64, segment| sum.saturating_add(segment.file_len));
    if loaded > file.len() as u64 {
        let need = "the segments overlap: together they are longer than the file";
        return Err(LoadError::Field { what: "ELF segments' length", value: loaded, need });
    }
    let mut parts: Vec<(Segment, &[u8])> = Vec::new();
    for segment in elf.segments.iter().filter(|segment| matches!(segment.kind, PT_LOAD | PT_NOTE)) {
        let data = elf.data(segment)?;
        if segment.kind == PT_NOTE {
            // Notes lie inside a loaded segment, too: linkers make them once, and short.
            parts.push((*segment, data));
        } else {
            split_at_zeros(segment, data, &mut parts);
        }
    }
    let count = u16::try_from(parts.len()).map_err(|_| LoadError::Field {
        what: "ELF segments",
        value: parts.len() as u64,
        need: "at most 65535 after zeros are cut out",
    })?;
    let mut lean = part(file, "ELF header", 0, HEADER_LEN)?.to_vec();
    // Program headers follow the file header; section fields are void.
    put(&mut lean, 32, &HEADER_LEN.to_le_bytes());
    put(&mut lean, 40, &[0; 8]);
    put(&mut lean, 56, &count.to_le_bytes());
    put(&mut lean, 58, &[0; 6]);
    let mut at = HEADER_LEN + u64::from(count) * PROGRAM_HEADER_LEN;
    for (index, (segment, data)) in parts.iter().enumerate() {
        let align = if segment.kind == PT_NOTE { segment.align.clamp(1, 8) } else { PAGE };
        // ELF wants the place in the file congruent to the address.
        at = at.saturating_add((segment.vaddr % align + align - at % align) % align);
        let header = HEADER_LEN as usize + index * PROGRAM_HEADER_LEN as usize;
        put(&mut lean, header, &segment.kind.to_le_bytes());
        put(&mut lean, header + 4, &segment.flags.to_le_bytes());
        let fields = [at, segment.vaddr, segment.paddr, data.len() as u64, segment.mem_len, align];
        for (field, value) in fields.iter().enumerate() {
            put(&mut lean, header + 8 + field * 8, &value.to_le_bytes());
        }
        put(&mut lean, at as usize, data);
        at += data.len() as u64;
    }
    Ok(lean)
}

/// Cuts a segment at page boundaries wherever a long run of zeros stands.
fn split_at_zeros<'a>(segment: &Segment, data: &'a [u8], parts: &mut Vec<(Segment, &'a [u8])>) {
    let page = PAGE as usize;
    let mut piece = (0, 0);
    let mut pieces = Vec::new();
    for (index, chunk) in data.chunks(page).enumerate() {
        if chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * page;
        if start - piece.1 >= ZERO_RUN {
            pieces.push(piece);
            piece = (start, start);
        }
        piece.1 = start + chunk.len();
    }
    pieces.push(piece);
    let ends = pieces.iter().skip(1).map(|piece| piece.0 as u64).chain([segment.mem_len]);
    for ((start, end), next) in pieces.iter().zip(ends) {
        let by = *start as u64;
        let moved = Segment {
            vaddr: segment.vaddr.wrapping_add(by),
            paddr: segment.paddr.wrapping_add(by),
            mem_len: next.saturating_sub(by),
            ..*segment
        };
        parts.push((moved, data.get(*start..*end).unwrap_or_default()));
    }
}
