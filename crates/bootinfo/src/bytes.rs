//! Little-endian fields and NUL-terminated strings out of untrusted bytes.

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::MAX_STRING;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// The text up to the first NUL, at most [`MAX_STRING`] bytes; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_STRING).unwrap_or(bytes);
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

/// The NUL-terminated text at a physical address. It may end close to the end of readable memory, so it is read in
/// small pieces.
pub(crate) fn text_at<'m, M>(memory: &M, address: u64) -> Option<String>
where
    M: Fn(u64, usize) -> Option<&'m [u8]>,
{
    const PIECE: usize = 16;
    let mut all = alloc::vec::Vec::new();
    while all.len() < MAX_STRING {
        let at = address.checked_add(all.len() as u64)?;
        let piece = memory(at, PIECE).or_else(|| memory(at, 1));
        let Some(piece) = piece else { break };
        all.extend_from_slice(piece);
        if piece.contains(&0) {
            break;
        }
    }
    if all.is_empty() { None } else { Some(text(&all)) }
}
