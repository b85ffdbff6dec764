//! MCFG: memory-mapped PCI configuration space (PCI Firmware Specification 3.3, 4.1.2).

use alloc::vec::Vec;

use crate::bytes::{u8_at, u16_at, u64_at};

/// Configuration space of one segment group's buses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EcamSegment {
    /// Physical address of bus 0 of the segment, whether or not `first_bus` is 0.
    pub base: u64,
    /// Segment group.
    pub segment: u16,
    /// First bus decoded.
    pub first_bus: u8,
    /// Last bus decoded.
    pub last_bus: u8,
}

pub(crate) fn parse(table: &[u8]) -> Vec<EcamSegment> {
    let entry = |e: &[u8]| {
        Some(EcamSegment {
            base: u64_at(e, 0)?,
            segment: u16_at(e, 8)?,
            first_bus: u8_at(e, 10)?,
            last_bus: u8_at(e, 11)?,
        })
    };
    let entries = table.get(44..).unwrap_or_default();
    entries.chunks_exact(16).filter_map(entry).filter(|s| s.first_bus <= s.last_bus).collect()
}
