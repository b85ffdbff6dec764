//! What boot loader and firmware leave in memory.

use acpi_tables::{Acpi, find_rsdp};
use bootinfo::{BootInfo, MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC};

/// Memory that holds `bytes` at `base` and nothing else.
fn view<'m>(bytes: &'m [u8], base: u64) -> impl Fn(u64, usize) -> Option<&'m [u8]> {
    move |address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(base)?).ok()?;
        bytes.get(at..at.checked_add(len)?)
    }
}

/// Hand-over of a Multiboot loader: a byte that picks the protocol, then memory from 0x9000 on.
pub fn bootinfo(data: &[u8]) {
    let Some((pick, memory)) = data.split_first() else { return };
    let magic = if pick & 1 == 0 { MULTIBOOT1_MAGIC } else { MULTIBOOT2_MAGIC };
    if let Ok(info) = BootInfo::parse(magic, 0x9000, &view(memory, 0x9000)) {
        assert!(info.memory.iter().all(|r| r.start < r.end));
        let usable = info.usable(4096);
        assert!(usable.ranges().iter().all(|(start, end)| start < end && (start | end) % 4096 == 0));
    }
}

/// ACPI tables: memory from 0xE0000 on, where a BIOS has its RSDP.
pub fn acpi(data: &[u8]) {
    let memory = view(data, 0xE_0000);
    if let Some(Err(error)) = find_rsdp(&memory).map(|rsdp| Acpi::parse(rsdp, &memory)) {
        assert!(!error.to_string().is_empty());
    }
}
