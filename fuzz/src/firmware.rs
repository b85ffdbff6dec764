//! What boot loader, firmware and the boot before leave in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use acpi_tables::{Acpi, Registers, find_rsdp};
use bootinfo::{BootInfo, MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC};

/// Memory that holds `bytes` at `base` and nothing else.
fn view<'m>(bytes: &'m [u8], base: u64) -> impl Fn(u64, usize) -> Option<&'m [u8]> {
    move |address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(base)?).ok()?;
        bytes.get(at..at.checked_add(len)?)
    }
}

/// Hand-over of a boot loader: a byte that picks the protocol, then memory from 0x9000 on.
pub fn bootinfo(data: &[u8]) {
    let Some((pick, memory)) = data.split_first() else { return };
    let magics = [MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC];
    let magic = magics[usize::from(*pick) % magics.len()];
    if let Ok(info) = BootInfo::parse(magic, 0x9000, &view(memory, 0x9000)) {
        assert!(info.memory.iter().all(|r| r.start < r.end));
        let usable = info.usable(4096);
        assert!(usable.ranges().iter().all(|(start, end)| start < end && (start | end) % 4096 == 0));
    }
}

/// ACPI tables: memory from 0xE0000 on, where a BIOS has its RSDP.
pub fn acpi(data: &[u8]) {
    let memory = view(data, 0xE_0000);
    match find_rsdp(&memory).map(|rsdp| Acpi::parse(rsdp, &memory)) {
        Some(Ok(acpi)) => {
            for scope in acpi.dmar.iter().flat_map(|dmar| &dmar.reserved).flat_map(|region| &region.devices) {
                assert_eq!(scope.resolve(|bus, _, _| Some(bus)).is_some(), !scope.path.is_empty());
            }
            if let Some(Registers::Memory(_, stride)) = acpi.spcr.and_then(|spcr| spcr.uart()) {
                assert!(matches!(stride, 1 | 2 | 4));
            }
        }
        Some(Err(error)) => assert!(!error.to_string().is_empty()),
        None => {}
    }
}

/// The memory of the log's ring after a reset. The header's check is made right where the first byte asks for it, so
/// that mutations get behind it.
pub fn log_ring(data: &[u8]) {
    let Some((pick, memory)) = data.split_first() else { return };
    let words: Vec<AtomicU64> = memory
        .chunks_exact(8)
        .map(|word| AtomicU64::new(word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))))
        .collect();
    if pick & 1 == 1 {
        log_ring::reseal(&words);
    }
    if let Some(text) = log_ring::recover(&words) {
        assert!(
            text.len() <= words.len() * 8 * 3,
            "more than what was there, replacement characters counted"
        );
        // What is there is what a ring goes on with.
        assert_eq!(log_ring::recover(&words), Some(text));
        words.iter().skip(4).for_each(|word| word.store(!word.load(Ordering::Relaxed), Ordering::Relaxed));
        assert!(words.len() > 4 && log_ring::recover(&words).is_none());
    }
}

/// A ring as a boot leaves it.
pub(crate) fn ring_seed() -> Vec<u8> {
    let words: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
    if let Some(mut ring) = log_ring::LogRing::new(&words) {
        for line in 0..20 {
            ring.push(format!("[    0.{line:06}] boot: stage {line}\n").as_bytes());
        }
    }
    let bytes = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    std::iter::once(1).chain(bytes).collect()
}
