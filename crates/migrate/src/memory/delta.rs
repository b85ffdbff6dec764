//! A page as what differs from the copy that the target holds.
//!
//! ```text
//! delta := (varint(bytes to keep)  varint(n), n > 0  n new bytes)*
//! ```
//! What lies behind the last piece is kept. An empty delta is a page that did not change.

use super::varint;
use crate::page::PAGE_BYTES;

/// Pieces closer than this are sent as one: two varints cost as much.
const GAP: usize = 4;

/// Writes what turns `old` into `new` to `out`; its length, `None` where `out` has no room for it.
pub(crate) fn pack(old: &[u8; PAGE_BYTES], new: &[u8; PAGE_BYTES], out: &mut [u8]) -> Option<usize> {
    let (mut len, mut kept) = (0, 0);
    let mut at = 0;
    while let Some(start) = differing(old, new, at) {
        let (mut end, mut same) = (start + 1, 0);
        while same < GAP && end + same < PAGE_BYTES {
            if old.get(end + same) == new.get(end + same) {
                same += 1;
            } else {
                end += same + 1;
                same = 0;
            }
        }
        let piece = new.get(start..end)?;
        let room = out.get_mut(len..).filter(|room| room.len() >= 2 * varint::MAX + piece.len())?;
        let mut head = varint::put(room, (start - kept) as u64);
        head += varint::put(room.get_mut(head..)?, piece.len() as u64);
        room.get_mut(head..head + piece.len())?.copy_from_slice(piece);
        len += head + piece.len();
        kept = end;
        at = end;
    }
    Some(len)
}

/// The first byte from `at` on that differs.
fn differing(old: &[u8; PAGE_BYTES], new: &[u8; PAGE_BYTES], at: usize) -> Option<usize> {
    let (a, b) = (old.get(at..)?, new.get(at..)?);
    let mut n = at;
    for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return Some(n + (differ.trailing_zeros() / 8) as usize);
        }
        n += 8;
    }
    (n..PAGE_BYTES).find(|&i| old.get(i) != new.get(i))
}

/// Applies a delta to `page`; `None` where it is not one. The page is spoilt then.
pub(crate) fn unpack(mut delta: &[u8], page: &mut [u8; PAGE_BYTES]) -> Option<()> {
    let mut at = 0usize;
    while !delta.is_empty() {
        let (keep, n) = varint::get(delta)?;
        let (count, m) = varint::get(delta.get(n..)?)?;
        let (keep, count) = (usize::try_from(keep).ok()?, usize::try_from(count).ok()?);
        let (piece, rest) = delta.get(n + m..)?.split_at_checked(count)?;
        at = at.checked_add(keep)?;
        let end = at.checked_add(count).filter(|_| count > 0)?;
        page.get_mut(at..end)?.copy_from_slice(piece);
        at = end;
        delta = rest;
    }
    Some(())
}
