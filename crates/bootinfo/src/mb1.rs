//! Multiboot 1 information (Multiboot 0.6.96, 3.3).

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::bytes::{text_at, u32_at, u64_at};
use crate::{BootError, BootInfo, MAX_ENTRIES, MAX_MODULES, Via};

/// Loaders that begin every line with the file's name, whatever that is.
const NAMING: [&str; 5] = ["qemu", "PXELINUX ", "SYSLINUX ", "ISOLINUX ", "EXTLINUX "];
const INFO_LEN: usize = 88;
const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

pub(crate) fn parse<'m, M>(address: u64, memory: &M) -> Result<BootInfo, BootError>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let info = memory(address, INFO_LEN).ok_or(BootError::Unreadable(address))?;
    let field = |at: usize| u32_at(info, at).unwrap_or(0);
    let flags = field(0);
    let mut out = BootInfo::empty(Via::Multiboot1);

    if flags & HAS_LOADER_NAME != 0 {
        out.loader = text_at(memory, field(64).into()).unwrap_or_default();
    }
    let named = NAMING.iter().any(|name| out.loader.starts_with(name));
    if flags & HAS_COMMAND_LINE != 0 {
        out.command_line = without_file(text_at(memory, field(16).into()).unwrap_or_default(), named);
    }
    if flags & HAS_MODULES != 0 {
        let count = (field(20) as usize).min(MAX_MODULES);
        for i in 0..count as u64 {
            let Some(entry) = memory(u64::from(field(24)) + i * 16, 16) else { break };
            let (Some(start), Some(end), Some(line)) = (u32_at(entry, 0), u32_at(entry, 4), u32_at(entry, 8))
            else {
                break;
            };
            let line = if line == 0 { None } else { text_at(memory, line.into()) };
            out.push_module(start.into(), end.into(), without_file(line.unwrap_or_default(), named));
        }
    }
    if flags & HAS_MAP != 0 {
        map(&mut out, memory, field(48).into(), field(44).into());
    } else if flags & HAS_MEMORY != 0 {
        // mem_lower and mem_upper, in KiB from 0 and from 1 MiB.
        out.push_region(0, u64::from(field(4)) * 1024, 1);
        out.push_region(0x10_0000, u64::from(field(8)) * 1024, 1);
    }
    Ok(out)
}

fn map<'m, M>(out: &mut BootInfo, memory: &M, address: u64, len: u64)
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let mut at = address;
    let end = address.saturating_add(len);
    while at < end && out.memory.len() < MAX_ENTRIES {
        let Some(entry) = memory(at, 24) else { break };
        let (Some(size), Some(start), Some(len), Some(kind)) =
            (u32_at(entry, 0), u64_at(entry, 4), u64_at(entry, 12), u32_at(entry, 20))
        else {
            break;
        };
        // `size` does not count itself.
        if size < 20 {
            break;
        }
        out.push_region(start, len, kind);
        at = at.saturating_add(u64::from(size) + 4);
    }
}

/// Some loaders put the file's name in front of the line, others do not; options never look like a path.
fn without_file(line: String, always: bool) -> String {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
    let path = !first.contains('=') && (always || first.contains(['/', '.']));
    if path { rest.trim_start().to_owned() } else { line }
}
