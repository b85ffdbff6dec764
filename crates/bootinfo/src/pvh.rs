//! PVH start info (Xen, `xen/include/public/arch-x86/hvm/start_info.h`), as QEMU's `-kernel` hands it over too.

use crate::bytes::{text_at, u32_at, u64_at};
use crate::{BootError, BootInfo, MAX_ENTRIES, MAX_MODULES, PVH_MAGIC, Via};

/// Bytes of version 1, which has the memory map; version 0 ends before that.
const INFO_LEN: usize = 56;
const MODULE_LEN: u64 = 32;
const REGION_LEN: u64 = 24;
/// Bytes of an ACPI 2.0 RSDP.
const RSDP_LEN: usize = 36;

pub(crate) fn parse<'m, M>(address: u64, memory: &M) -> Result<BootInfo, BootError>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    let info = memory(address, INFO_LEN).ok_or(BootError::Unreadable(address))?;
    let short = |at| u32_at(info, at).unwrap_or(0);
    let long = |at| u64_at(info, at).unwrap_or(0);
    if short(0) != PVH_MAGIC {
        return Err(BootError::Unreadable(address));
    }
    let mut out = BootInfo::empty(Via::Pvh);
    let line = |at: u64| if at == 0 { None } else { text_at(memory, at) };
    out.command_line = line(long(24)).unwrap_or_default();
    let entry = |table: u64, index: u64, len: u64| {
        let at = index.checked_mul(len).and_then(|offset| table.checked_add(offset))?;
        memory(at, len as usize)
    };
    for index in 0..u64::from(short(12)).min(MAX_MODULES as u64) {
        let Some(module) = entry(long(16), index, MODULE_LEN) else { break };
        let field = |at| u64_at(module, at).unwrap_or(0);
        out.push_module(field(0), field(0).saturating_add(field(8)), line(field(16)).unwrap_or_default());
    }
    let regions = if short(4) == 0 { 0 } else { u64::from(short(48)).min(MAX_ENTRIES as u64) };
    for index in 0..regions {
        let Some(region) = entry(long(40), index, REGION_LEN) else { break };
        let (start, len) = (u64_at(region, 0).unwrap_or(0), u64_at(region, 8).unwrap_or(0));
        out.push_region(start, len, u32_at(region, 16).unwrap_or(0));
    }
    if long(32) != 0 {
        out.rsdp = memory(long(32), RSDP_LEN).or_else(|| memory(long(32), 20)).map(Into::into);
    }
    Ok(out)
}
