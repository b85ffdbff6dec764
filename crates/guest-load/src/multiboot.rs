//! Multiboot 1 (specification 0.6.96): ELF32 kernels, and any file whose header carries the address fields.

use alloc::vec::Vec;

use vm_types::{Gpa, GuestMemory};
use x86::PAGE_SIZE as PAGE;

use crate::Module;
use crate::bytes::{low32, part, put, u32_at};
use crate::elf::{self, Elf};
use crate::entry::{Entry, RAX, RBX};
use crate::error::LoadError;
use crate::layout::{LIMIT_4G, MapKind, RESERVED_END, RESERVED_START, Space};
use crate::pvh::{place, place_string};

const HEADER_MAGIC: u32 = 0x1BAD_B002;
const BOOT_MAGIC: u64 = 0x2BAD_B002;
/// The header lies wholly within the first 8192 bytes.
const SEARCH: usize = 8192;
/// Flag bits 0 to 15 that a loader must understand or refuse; bit 2 (video mode) is a wish that we answer with
/// "no video information".
const REQUIRED_UNKNOWN: u32 = 0xFFF8;
const FLAG_ADDRESSES: u32 = 1 << 16;
const LOADER_NAME: &str = "Flexvisor";

const INFO_LEN: usize = 116;
/// Memory sizes, command line, modules, memory map, loader name.
const INFO_FLAGS: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;

/// A header whose checksum holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    offset: u64,
    flags: u32,
}

pub(crate) fn find_header(image: &[u8]) -> Option<Header> {
    let head = image.get(..image.len().min(SEARCH))?;
    let words = head.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
    let words: Vec<u32> = words.collect();
    let offset = words.windows(3).position(|window| match window {
        [HEADER_MAGIC, flags, sum] => HEADER_MAGIC.wrapping_add(*flags).wrapping_add(*sum) == 0,
        _ => false,
    })?;
    let flags = *words.get(offset + 1)?;
    Some(Header { offset: offset as u64 * 4, flags })
}

pub(crate) fn load<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    image: &[u8],
    cmdline: &str,
    modules: &[Module<'_>],
) -> Result<Entry, LoadError> {
    let header = find_header(image).ok_or(LoadError::NotAKernel)?;
    if header.flags & REQUIRED_UNKNOWN != 0 {
        let need = "bits 3 to 15 ask for what no loader knows";
        return Err(LoadError::Field { what: "Multiboot flags", value: header.flags.into(), need });
    }
    let rip = if header.flags & FLAG_ADDRESSES != 0 {
        load_by_addresses(space, image, header)?
    } else if elf::is_elf32(image) {
        let elf = Elf::parse(image)?;
        let entry = elf.physical_entry();
        elf.load(space, entry)?;
        entry
    } else {
        let need = "a file that is no ELF32 needs the address fields (bit 16)";
        return Err(LoadError::Field { what: "Multiboot flags", value: header.flags.into(), need });
    };
    let info = write_info(space, cmdline, modules)?;
    let mut entry = Entry::protected32(space, low32("Multiboot entry point", rip)?)?;
    entry.gprs[RAX] = BOOT_MAGIC;
    entry.gprs[RBX] = info.0;
    Ok(entry)
}

/// Loads by the header's address fields (specification 3.1.3) and returns the entry point.
fn load_by_addresses<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    image: &[u8],
    header: Header,
) -> Result<u64, LoadError> {
    let field = |what, index: u64| u32_at(image, what, header.offset + 12 + index * 4).map(u64::from);
    let header_addr = field("Multiboot header_addr", 0)?;
    let load_addr = field("Multiboot load_addr", 1)?;
    let load_end = field("Multiboot load_end_addr", 2)?;
    let bss_end = field("Multiboot bss_end_addr", 3)?;
    let entry = field("Multiboot entry_addr", 4)?;
    let before = header_addr.checked_sub(load_addr).filter(|before| *before <= header.offset);
    let need = "must lie from load_addr on, by no more than the header's place in the file";
    let before =
        before.ok_or(LoadError::Field { what: "Multiboot header_addr", value: header_addr, need })?;
    let offset = header.offset - before;
    let len = match load_end {
        0 => (image.len() as u64).saturating_sub(offset),
        end => end.checked_sub(load_addr).ok_or(LoadError::Field {
            what: "Multiboot load_end_addr",
            value: end,
            need: "must not be below load_addr",
        })?,
    };
    let data = part(image, "Multiboot load_addr to load_end_addr", offset, len)?;
    let mem_len = match bss_end {
        0 => len,
        end => end.checked_sub(load_addr).filter(|mem_len| *mem_len >= len).ok_or(LoadError::Field {
            what: "Multiboot bss_end_addr",
            value: end,
            need: "must not be below load_end_addr",
        })?,
    };
    if entry < load_addr || entry - load_addr >= mem_len {
        let need = "not inside what is loaded";
        return Err(LoadError::Field { what: "Multiboot entry_addr", value: entry, need });
    }
    let at = space.claim("Multiboot image", load_addr, mem_len)?;
    space.write(at, data)?;
    space.zero(Gpa(at.0 + len), mem_len - len)?;
    Ok(entry)
}

/// Places the modules above 1 MiB, one page-aligned after the other, and the information structure
/// (specification 3.3) low.
fn write_info<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    cmdline: &str,
    modules: &[Module<'_>],
) -> Result<Gpa, LoadError> {
    let mut list = Vec::new();
    for module in modules {
        let len = module.bytes.len() as u64;
        let at = space.place_above("a module", RESERVED_END, len, PAGE, LIMIT_4G)?;
        space.write(at, module.bytes)?;
        let string = place_string(space, "a module's string", module.string)?;
        for field in [at.0, at.0 + len, string.0, 0] {
            // All are at most 4 GiB; an end of exactly 4 GiB is 0, as a wrapping sum in the guest has it.
            list.extend_from_slice(&(field as u32).to_le_bytes());
        }
    }
    let map = space.map();
    let above = |entry: &&crate::MapEntry| entry.kind == MapKind::Ram && entry.start == RESERVED_END;
    let upper_kib = map.iter().find(above).map_or(0, |entry| entry.len >> 10);
    let mut mmap = Vec::new();
    for entry in &map {
        mmap.extend_from_slice(&20u32.to_le_bytes());
        mmap.extend_from_slice(&entry.start.to_le_bytes());
        mmap.extend_from_slice(&entry.len.to_le_bytes());
        mmap.extend_from_slice(&(entry.kind as u32).to_le_bytes());
    }
    let cmdline = place_string(space, "the command line", cmdline)?;
    let mods = place(space, "the module list", &list)?;
    let mmap_at = place(space, "the memory map", &mmap)?;
    let name = place_string(space, "the loader's name", LOADER_NAME)?;
    let mut info = alloc::vec![0; INFO_LEN];
    for (offset, value) in [
        (0, u64::from(INFO_FLAGS)),
        (4, RESERVED_START >> 10),
        (8, upper_kib),
        (16, cmdline.0),
        (20, modules.len() as u64),
        (24, mods.0),
        (44, mmap.len() as u64),
        (48, mmap_at.0),
        (64, name.0),
    ] {
        put(&mut info, offset, &low32("Multiboot information", value)?.to_le_bytes());
    }
    place(space, "the Multiboot information", &info)
}
