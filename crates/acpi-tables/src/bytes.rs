//! Little-endian fields out of untrusted bytes.

use crate::{AddressSpace, GenericAddress};

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A generic address structure; `None` where it is absent (address 0).
pub(crate) fn gas_at(bytes: &[u8], at: usize) -> Option<GenericAddress> {
    let space = match u8_at(bytes, at)? {
        0 => AddressSpace::Memory,
        1 => AddressSpace::Io,
        2 => AddressSpace::PciConfig,
        other => AddressSpace::Other(other),
    };
    let address = u64_at(bytes, at.checked_add(4)?)?;
    (address != 0).then_some(GenericAddress { space, bits: u8_at(bytes, at + 1)?, address })
}

/// The sub-tables behind `at`: each starts with its type and its length, in fields that `head` reads.
pub(crate) fn records(
    table: &[u8],
    mut at: usize,
    head: impl Fn(&[u8]) -> Option<(u16, usize)>,
) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let (kind, len) = head(table.get(at..)?)?;
        let end = at.checked_add(len)?;
        // A record of length 0 would be met for ever.
        let record = table.get(at..end).filter(|r| !r.is_empty())?;
        at = end;
        Some((kind, record))
    })
}
