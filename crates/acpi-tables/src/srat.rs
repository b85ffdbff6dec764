//! SRAT: which memory is near which CPUs (5.2.16).

use alloc::vec::Vec;

use crate::bytes::{records, u8_at, u32_at, u64_at};

/// Memory of one NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeMemory {
    /// The node: its proximity domain.
    pub node: u32,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// Enabled memory in the table's order. What is not volatile is left out.
pub(crate) fn parse(table: &[u8]) -> Vec<NodeMemory> {
    let head = |b: &[u8]| Some((u8_at(b, 0)?.into(), u8_at(b, 1)?.into()));
    records(table, 48, head).filter(|(kind, _)| *kind == 1).filter_map(|(_, r)| memory(r)).collect()
}

fn memory(r: &[u8]) -> Option<NodeMemory> {
    const ENABLED: u32 = 1 << 0;
    const NON_VOLATILE: u32 = 1 << 2;
    let (start, length, flags) = (u64_at(r, 8)?, u64_at(r, 16)?, u32_at(r, 28)?);
    let end = start.checked_add(length).filter(|end| *end > start)?;
    (flags & (ENABLED | NON_VOLATILE) == ENABLED).then_some(NodeMemory { node: u32_at(r, 2)?, start, end })
}
