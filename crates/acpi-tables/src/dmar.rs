//! DMAR: DMA remapping units (VT-d specification 4.1, chapter 8).

use alloc::vec::Vec;

use crate::bytes::{records, u8_at, u16_at, u64_at};

/// A remapping unit (DRHD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemappingUnit {
    /// PCI segment.
    pub segment: u16,
    /// Physical address of its registers.
    pub base: u64,
    /// It serves every device of the segment that no other unit names.
    pub all_devices: bool,
}

/// Memory that a device of the firmware may still reach by DMA (RMRR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedMemory {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

/// The DMAR.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dmar {
    /// Width of a DMA address in bits.
    pub address_bits: u8,
    /// Interrupt remapping is supported.
    pub interrupt_remapping: bool,
    /// Remapping units.
    pub units: Vec<RemappingUnit>,
    /// Reserved memory.
    pub reserved: Vec<ReservedMemory>,
}

pub(crate) fn parse(table: &[u8]) -> Option<Dmar> {
    let mut out = Dmar {
        address_bits: u8_at(table, 36)?.saturating_add(1),
        interrupt_remapping: u8_at(table, 37)? & 1 != 0,
        ..Dmar::default()
    };
    for (kind, r) in records(table, 48, |b| Some((u16_at(b, 0)?, u16_at(b, 2)?.into()))) {
        match kind {
            0 => out.units.extend(unit(r)),
            1 => out
                .reserved
                .extend(u64_at(r, 8).zip(u64_at(r, 16)).map(|(start, last)| ReservedMemory { start, last })),
            _ => {}
        }
    }
    Some(out)
}

fn unit(r: &[u8]) -> Option<RemappingUnit> {
    Some(RemappingUnit { segment: u16_at(r, 6)?, base: u64_at(r, 8)?, all_devices: u8_at(r, 4)? & 1 != 0 })
}
