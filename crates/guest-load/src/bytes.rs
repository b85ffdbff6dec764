//! Checked little-endian reads of a file, and writes into a buffer being built.

use alloc::vec::Vec;

use crate::error::LoadError;

/// The part `offset..offset + len` of a file.
pub(crate) fn part<'a>(
    file: &'a [u8],
    what: &'static str,
    offset: u64,
    len: u64,
) -> Result<&'a [u8], LoadError> {
    let end = offset.saturating_add(len);
    let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
    let truncated = LoadError::Truncated { what, offset, end, len: file.len() as u64 };
    range.and_then(|(start, end)| file.get(start..end)).ok_or(truncated)
}

fn array<const N: usize>(file: &[u8], what: &'static str, offset: u64) -> Result<[u8; N], LoadError> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(part(file, what, offset, N as u64)?);
    Ok(bytes)
}

pub(crate) fn u8_at(file: &[u8], what: &'static str, offset: u64) -> Result<u8, LoadError> {
    array(file, what, offset).map(u8::from_le_bytes)
}

pub(crate) fn u16_at(file: &[u8], what: &'static str, offset: u64) -> Result<u16, LoadError> {
    array(file, what, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(file: &[u8], what: &'static str, offset: u64) -> Result<u32, LoadError> {
    array(file, what, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(file: &[u8], what: &'static str, offset: u64) -> Result<u64, LoadError> {
    array(file, what, offset).map(u64::from_le_bytes)
}

/// Overwrites `bytes` at `offset` of a buffer; grows it where it is too short.
pub(crate) fn put(buffer: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    if let Some(place) = buffer.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// An address known to be below 4 GiB as a protocol's 32-bit field.
pub(crate) fn low32(what: &'static str, value: u64) -> Result<u32, LoadError> {
    u32::try_from(value).map_err(|_| LoadError::Field { what, value, need: "must be below 4 GiB" })
}
