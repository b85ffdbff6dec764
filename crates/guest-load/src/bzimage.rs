//! Linux's bzImage by the 64-bit boot protocol (Linux, `Documentation/arch/x86/boot.rst` and `zero-page.rst`).

use alloc::vec::Vec;

use vm_types::{Gpa, GuestMemory};
use x86::PAGE_SIZE as PAGE;

use crate::Module;
use crate::bytes::{low32, part, put, u8_at, u16_at, u32_at, u64_at};
use crate::entry::{Entry, RSI};
use crate::error::LoadError;
use crate::layout::{LIMIT_4G, Space};
use crate::pvh::place_string;

const BOOT_FLAG: u16 = 0xAA55;
const MAGIC: &[u8] = b"HdrS";
/// The first version with xloadflags.
const MIN_VERSION: u16 = 0x020C;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// Start of the setup header, in the file and in the zero page.
const HEADER: usize = 0x1F1;
/// The zero page has room for the setup header up to here.
const HEADER_END: usize = 0x290;
const ENTRY_64: u64 = 0x200;
const LOADER_UNDEFINED: u8 = 0xFF;
const VIDEO_NORMAL: u16 = 0xFFFF;
const E820_MAX: u64 = 128;

pub(crate) fn is_bzimage(image: &[u8]) -> bool {
    image.get(0x202..0x206) == Some(MAGIC) && image.get(0x1FE..0x200) == Some(&BOOT_FLAG.to_le_bytes())
}

/// The checked setup header.
pub(crate) struct Setup<'a> {
    /// The protected-mode part.
    pub(crate) code: &'a [u8],
    header: &'a [u8],
    initrd_max: u64,
    cmdline_max: u64,
    preferred: u64,
    /// From the load address on, in bytes.
    memory: u64,
    /// Alignment of other load addresses, where the kernel is relocatable.
    relocatable: Option<u64>,
}

impl<'a> Setup<'a> {
    pub(crate) fn parse(image: &'a [u8]) -> Result<Self, LoadError> {
        let what = "bzImage setup header";
        let version = u16_at(image, what, 0x206)?;
        if version < MIN_VERSION {
            let need = "need 0x20c or newer (Linux 3.8)";
            return Err(LoadError::Field { what: "bzImage protocol version", value: version.into(), need });
        }
        let load_flags = u8_at(image, what, 0x211)?;
        if load_flags & LOADED_HIGH == 0 {
            let need = "need LOADED_HIGH (bit 0): a zImage cannot start here";
            return Err(LoadError::Field { what: "bzImage loadflags", value: load_flags.into(), need });
        }
        let xload_flags = u16_at(image, what, 0x236)?;
        if xload_flags & XLF_KERNEL_64 == 0 {
            let need = "need XLF_KERNEL_64 (bit 0): not a 64-bit kernel";
            return Err(LoadError::Field { what: "bzImage xloadflags", value: xload_flags.into(), need });
        }
        let sectors = match u8_at(image, what, HEADER as u64)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let start = (sectors + 1) * 512;
        let paragraphs = u32_at(image, what, 0x1F4)?;
        // The field counts 16 bytes and rounds up: the last paragraph may be cut short (memtest86+ ends in the middle of
        // it). What is loaded is the file, as GRUB and QEMU do.
        let least = (u64::from(paragraphs) * 16).saturating_sub(15);
        part(image, "bzImage protected-mode part (syssize)", start, least)?;
        let len = (image.len() as u64).saturating_sub(start);
        let code = part(image, "bzImage protected-mode part", start, len)?;
        if least <= ENTRY_64 {
            let need = "shorter than the way to its 64-bit entry";
            return Err(LoadError::Field { what: "bzImage syssize", value: paragraphs.into(), need });
        }
        let relocatable = u8_at(image, what, 0x234)? != 0;
        let align = u64::from(u32_at(image, what, 0x230)?);
        if relocatable && !align.is_power_of_two() {
            let need = "must be a power of two";
            return Err(LoadError::Field { what: "bzImage kernel_alignment", value: align, need });
        }
        // The byte behind the jump opcode at 0x200 is the header's length from 0x202 on.
        let header_end = 0x202 + usize::from(u8_at(image, what, 0x201)?);
        let header_end = header_end.min(HEADER_END);
        Ok(Setup {
            code,
            header: part(image, what, HEADER as u64, (header_end - HEADER) as u64)?,
            initrd_max: u64::from(u32_at(image, what, 0x22C)?) + 1,
            cmdline_max: u32_at(image, what, 0x238)?.into(),
            preferred: u64_at(image, what, 0x258)?,
            memory: u64::from(u32_at(image, what, 0x260)?).max(len),
            relocatable: relocatable.then_some(align.max(PAGE)),
        })
    }

    /// Takes the kernel's memory: at the address it prefers, else as low above that as it can be relocated.
    fn claim<M: GuestMemory + ?Sized>(&self, space: &mut Space<'_, M>) -> Result<Gpa, LoadError> {
        let what = "the kernel";
        match (space.claim(what, self.preferred, self.memory), self.relocatable) {
            (Err(_), Some(align)) => space.place_above(what, self.preferred, self.memory, align, LIMIT_4G),
            (claimed, _) => claimed,
        }
    }
}

pub(crate) fn load<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    image: &[u8],
    cmdline: &str,
    modules: &[Module<'_>],
    rsdp: Option<Gpa>,
) -> Result<Entry, LoadError> {
    let setup = Setup::parse(image)?;
    if cmdline.len() as u64 > setup.cmdline_max {
        return Err(LoadError::CommandLine { len: cmdline.len(), max: setup.cmdline_max });
    }
    let at = setup.claim(space)?;
    low32("bzImage load address", at.0 + setup.memory - 1)?;
    space.write(at, setup.code)?;
    let (initrd, initrd_len) = load_initrd(space, modules, setup.initrd_max)?;
    let cmdline = place_string(space, "the command line", cmdline)?;
    let zero_page = zero_page(space, &setup, rsdp, [cmdline.0, initrd.0, initrd_len])?;
    let zero_page = place_page(space, &zero_page)?;
    let mut entry = Entry::long64(space, at.0 + ENTRY_64)?;
    entry.gprs[RSI] = zero_page.0;
    Ok(entry)
}

fn place_page<M: GuestMemory + ?Sized>(space: &mut Space<'_, M>, page: &[u8]) -> Result<Gpa, LoadError> {
    let at = space.place_low("the zero page", PAGE, PAGE)?;
    space.write(at, page)?;
    Ok(at)
}

/// Joins the modules to one initrd, each on a 4-byte boundary, at the top of what the kernel can reach.
fn load_initrd<M: GuestMemory + ?Sized>(
    space: &mut Space<'_, M>,
    modules: &[Module<'_>],
    max: u64,
) -> Result<(Gpa, u64), LoadError> {
    let padded = |module: &Module<'_>| module.bytes.len().next_multiple_of(4) as u64;
    let len: u64 = modules.iter().map(padded).sum();
    if len == 0 {
        return Ok((Gpa(0), 0));
    }
    let start = space.place_high("the initrd", len, PAGE, max.min(LIMIT_4G))?;
    let mut at = start.0;
    for module in modules {
        space.write(Gpa(at), module.bytes)?;
        let end = at + module.bytes.len() as u64;
        at += padded(module);
        space.zero(Gpa(end), at - end)?;
    }
    Ok((start, len))
}

/// `struct boot_params`: the image's own setup header, and what a boot loader fills in.
fn zero_page<M: GuestMemory + ?Sized>(
    space: &Space<'_, M>,
    setup: &Setup<'_>,
    rsdp: Option<Gpa>,
    [cmdline, initrd, initrd_len]: [u64; 3],
) -> Result<Vec<u8>, LoadError> {
    let mut page = alloc::vec![0; PAGE as usize];
    put(&mut page, HEADER, setup.header);
    put(&mut page, 0x070, &rsdp.unwrap_or_default().0.to_le_bytes());
    put(&mut page, 0x1FA, &VIDEO_NORMAL.to_le_bytes());
    put(&mut page, 0x210, &[LOADER_UNDEFINED]);
    // setup_data: a list in memory, of which there is none, whatever the file has there.
    put(&mut page, 0x250, &0u64.to_le_bytes());
    for (offset, what, value) in
        [(0x218, "initrd", initrd), (0x21C, "initrd length", initrd_len), (0x228, "command line", cmdline)]
    {
        put(&mut page, offset, &low32(what, value)?.to_le_bytes());
    }
    let map = space.map();
    let count = u8::try_from(map.len()).ok().filter(|count| u64::from(*count) <= E820_MAX);
    let need = "the zero page holds 128";
    let count =
        count.ok_or(LoadError::Field { what: "memory map entries", value: map.len() as u64, need })?;
    put(&mut page, 0x1E8, &[count]);
    for (index, entry) in map.iter().enumerate() {
        let at = 0x2D0 + index * 20;
        put(&mut page, at, &entry.start.to_le_bytes());
        put(&mut page, at + 8, &entry.len.to_le_bytes());
        put(&mut page, at + 16, &(entry.kind as u32).to_le_bytes());
    }
    Ok(page)
}
