//! PVH: an ELF64 whose note names a 32-bit entry point (Xen, `docs/misc/pvh.pandoc` and
//! `xen/include/public/arch-x86/hvm/start_info.h`).

use alloc::vec::Vec;

use vm_types::{Gpa, GuestMemory};
use x86::PAGE_SIZE as PAGE;

use crate::Module;
use crate::bytes::{low32, part, put, u32_at};
use crate::elf::{Elf, PT_NOTE};
use crate::entry::{Entry, RBX};
use crate::error::LoadError;
use crate::layout::{LIMIT_4G, Space};

/// `XEN_ELFNOTE_PHYS32_ENTRY` of owner "Xen".
const NOTE_PHYS32_ENTRY: u32 = 18;
const NOTE_OWNER: &[u8] = b"Xen\0";
const START_MAGIC: u32 = 0x336E_C578;
const START_VERSION: u32 = 1;
const START_LEN: usize = 56;
/// Linux' COMMAND_LINE_SIZE without the NUL (`arch/x86/include/asm/setup.h`). Nothing in the file says so, and a longer
/// one ends in silence, before the first line is printed.
const CMDLINE_MAX: u64 = 2047;
/// Linux copies the memory map to the 128 entries of its zero page without looking, and adds one for the ISA range
/// (`arch/x86/platform/pvh/enlighten.c`).
const MAP_MAX: u64 = 127;

/// The entry point's physical address, where the file has the note.
pub(crate) fn entry_point(elf: &Elf<'_>) -> Result<Option<u64>, LoadError> {
    for segment in elf.of_kind(PT_NOTE) {
        if let Some(entry) = find_note(elf.data(segment)?, if segment.align == 8 { 8 } else { 4 })? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn find_note(notes: &[u8], align: u64) -> Result<Option<u64>, LoadError> {
    let what = "ELF note";
    let mut at = 0u64;
    // Whatever is too short for a note's header is padding.
    while at.saturating_add(12) <= notes.len() as u64 {
        let name_len = u64::from(u32_at(notes, what, at)?);
        let desc_len = u64::from(u32_at(notes, what, at + 4)?);
        let kind = u32_at(notes, what, at + 8)?;
        let name_at = at + 12;
        let desc_at = (name_at + name_len).next_multiple_of(align);
        let name = part(notes, what, name_at, name_len)?;
        let desc = part(notes, what, desc_at, desc_len)?;
        if kind == NOTE_PHYS32_ENTRY && name == NOTE_OWNER {
            let mut value = [0; 8];
            let place = value.get_mut(..desc.len()).filter(|place| matches!(place.len(), 4 | 8));
            let need = "must be 4 or 8";
            place
                .ok_or(LoadError::Field { what: "length of the PVH note", value: desc_len, need })?
                .copy_from_slice(desc);
            return Ok(Some(u64::from_le_bytes(value)));
        }
        at = (desc_at + desc_len).next_multiple_of(align);
    }
    Ok(None)
}

pub(crate) fn load<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    image: &[u8],
    cmdline: &str,
    modules: &[Module<'_>],
    rsdp: Option<Gpa>,
) -> Result<Entry, LoadError> {
    if cmdline.len() as u64 > CMDLINE_MAX {
        return Err(LoadError::CommandLine { len: cmdline.len(), max: CMDLINE_MAX });
    }
    let elf = Elf::parse(image)?;
    let rip = entry_point(&elf)?.ok_or(LoadError::NotAKernel)?;
    elf.load(space, rip)?;
    let mut list = Vec::new();
    for module in modules {
        let at = space.place_high("a module", module.bytes.len() as u64, PAGE, LIMIT_4G)?;
        space.write(at, module.bytes)?;
        let string = place_string(space, "a module's string", module.string)?;
        for field in [at.0, module.bytes.len() as u64, string.0, 0] {
            list.extend_from_slice(&field.to_le_bytes());
        }
    }
    let entries = space.map();
    if entries.len() as u64 > MAP_MAX {
        let need = "Linux takes 127";
        return Err(LoadError::Field { what: "memory map entries", value: entries.len() as u64, need });
    }
    let mut map = Vec::new();
    for entry in entries {
        map.extend_from_slice(&entry.start.to_le_bytes());
        map.extend_from_slice(&entry.len.to_le_bytes());
        map.extend_from_slice(&(entry.kind as u64).to_le_bytes());
    }
    let cmdline = place_string(space, "the command line", cmdline)?;
    let mut start = alloc::vec![0; START_LEN];
    put(&mut start, 0, &START_MAGIC.to_le_bytes());
    put(&mut start, 4, &START_VERSION.to_le_bytes());
    put(&mut start, 12, &(modules.len() as u32).to_le_bytes());
    put(&mut start, 16, &place(space, "the module list", &list)?.0.to_le_bytes());
    put(&mut start, 24, &cmdline.0.to_le_bytes());
    put(&mut start, 32, &rsdp.unwrap_or_default().0.to_le_bytes());
    put(&mut start, 40, &place(space, "the memory map", &map)?.0.to_le_bytes());
    put(&mut start, 48, &((map.len() / 24) as u32).to_le_bytes());
    let start = place(space, "the start information", &start)?;
    let mut entry = Entry::protected32(space, low32("PVH entry point", rip)?)?;
    entry.gprs[RBX] = start.0;
    Ok(entry)
}

/// Places a boot structure low in memory; an empty one is at 0.
pub(crate) fn place<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    what: &'static str,
    bytes: &[u8],
) -> Result<Gpa, LoadError> {
    if bytes.is_empty() {
        return Ok(Gpa(0));
    }
    let at = space.place_low(what, bytes.len() as u64, 8)?;
    space.write(at, bytes)?;
    Ok(at)
}

/// Places a string with its NUL.
pub(crate) fn place_string<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    what: &'static str,
    text: &str,
) -> Result<Gpa, LoadError> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    place(space, what, &bytes)
}
