//! Multiboot 2 information (Multiboot 2.0, 3.4 to 3.6).

use crate::bytes::{text, u32_at, u64_at};
use crate::{BootError, BootInfo, MAX_ENTRIES, RegionKind, Via};

/// Largest information block that is read, in bytes.
const MAX_INFO: usize = 1 << 20;

pub(crate) const END: u32 = 0;
pub(crate) const COMMAND_LINE: u32 = 1;
pub(crate) const LOADER_NAME: u32 = 2;
pub(crate) const MODULE: u32 = 3;
const BASIC_MEMORY: u32 = 4;
pub(crate) const MEMORY_MAP: u32 = 6;
const EFI_64: u32 = 12;
pub(crate) const RSDP_1: u32 = 14;
pub(crate) const RSDP_2: u32 = 15;
const EFI_MEMORY_MAP: u32 = 17;

pub(crate) fn parse<'m, M>(address: u64, memory: &M) -> Result<BootInfo, BootError>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let unreadable = BootError::Unreadable(address);
    let head = memory(address, 8).ok_or(unreadable)?;
    let total = u32_at(head, 0).map_or(0, |len| len as usize);
    if !(8..=MAX_INFO).contains(&total) {
        return Err(unreadable);
    }
    let info = memory(address, total).ok_or(unreadable)?;

    let mut out = BootInfo::empty(Via::Multiboot2);
    let mut basic = None;
    let mut at = 8;
    while let (Some(kind), Some(size)) = (u32_at(info, at), u32_at(info, at + 4)) {
        let size = size as usize;
        // A tag that is too short for its own header would never end the walk.
        let Some(body) = size.checked_add(at).and_then(|end| info.get(at + 8..end)) else { break };
        match kind {
            END => break,
            COMMAND_LINE => out.command_line = text(body),
            LOADER_NAME => out.loader = text(body),
            MODULE => module(&mut out, body),
            BASIC_MEMORY => basic = u32_at(body, 0).zip(u32_at(body, 4)),
            MEMORY_MAP => map(&mut out, body),
            EFI_64 | EFI_MEMORY_MAP => out.via = Via::Multiboot2Efi,
            RSDP_1 if out.rsdp.is_none() => out.rsdp = Some(body.into()),
            RSDP_2 => out.rsdp = Some(body.into()),
            _ => {}
        }
        at += size.next_multiple_of(8);
    }
    if let (Some((lower, upper)), false) =
        (basic, out.memory.iter().any(|region| region.kind == RegionKind::Usable))
    {
        out.push_region(0, u64::from(lower) * 1024, 1);
        out.push_region(0x10_0000, u64::from(upper) * 1024, 1);
    }
    Ok(out)
}

fn module(out: &mut BootInfo, body: &[u8]) {
    if let (Some(start), Some(end), Some(line)) = (u32_at(body, 0), u32_at(body, 4), body.get(8..)) {
        out.push_module(start.into(), end.into(), text(line));
    }
}

fn map(out: &mut BootInfo, body: &[u8]) {
    let entry_size = u32_at(body, 0).unwrap_or(0) as usize;
    let Some(entries) = body.get(8..).filter(|_| entry_size >= 20) else { return };
    for entry in entries.chunks_exact(entry_size).take(MAX_ENTRIES) {
        if let (Some(start), Some(len), Some(kind)) = (u64_at(entry, 0), u64_at(entry, 8), u32_at(entry, 16))
        {
            out.push_region(start, len, kind);
        }
    }
}
