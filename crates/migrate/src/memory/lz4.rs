//! LZ4 block format, one page at a time (`lz4_Block_format.md` of the LZ4 project).
//!
//! Greedy, one probe a position, positions in 16 bits: a page needs no more, and the table stays in the L1 cache.

use alloc::boxed::Box;

use crate::page::PAGE_BYTES;

const MIN_MATCH: usize = 4;
/// The last bytes of a block are literals; a match starts no later than 12 bytes before the end.
const TAIL: usize = 5;
const LAST_START: usize = PAGE_BYTES - 12;
const TABLE_BITS: u32 = 12;
/// The step between probes grows by one every so many misses: data that does not compress is given up soon.
const SKIP_SHIFT: usize = 5;

/// Compresses pages.
#[derive(Clone)]
pub(crate) struct Lz4 {
    /// Position + 1 of the last place with that hash; 0 for none.
    table: Box<[u16; 1 << TABLE_BITS]>,
}

impl Lz4 {
    pub(crate) fn new() -> Self {
        Self { table: Box::new([0; 1 << TABLE_BITS]) }
    }

    /// Writes the block of `page` to `out`; its length, `None` where `out` has no room for it.
    pub(crate) fn pack(&mut self, page: &[u8; PAGE_BYTES], out: &mut [u8]) -> Option<usize> {
        self.table.fill(0);
        let mut out = Out { bytes: out, len: 0 };
        let (mut at, mut anchor, mut misses) = (0, 0, 0);
        while at <= LAST_START {
            let word = word(page, at);
            let slot = self.table.get_mut((word.wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS)) as usize)?;
            let before = usize::from(*slot);
            *slot = at as u16 + 1;
            if before == 0 || self::word(page, before - 1) != word {
                at += 1 + (misses >> SKIP_SHIFT);
                misses += 1;
                continue;
            }
            let mut from = before - 1;
            while at > anchor && from > 0 && page.get(at - 1) == page.get(from - 1) {
                at -= 1;
                from -= 1;
            }
            let len = MIN_MATCH + common(page, from + MIN_MATCH, at + MIN_MATCH);
            out.sequence(page.get(anchor..at)?, Some((at - from, len)))?;
            at += len;
            anchor = at;
            misses = 0;
        }
        out.sequence(page.get(anchor..)?, None)?;
        Some(out.len)
    }
}

fn word(page: &[u8; PAGE_BYTES], at: usize) -> u32 {
    page.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Bytes that are the same from `a` and from the later `b` on, the tail left out.
fn common(page: &[u8; PAGE_BYTES], a: usize, b: usize) -> usize {
    let end = PAGE_BYTES - TAIL;
    let rest = page.get(b..end).unwrap_or_default();
    let early = page.get(a..).unwrap_or_default();
    let mut n = 0;
    for (x, y) in rest.as_chunks::<8>().0.iter().zip(early.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return n + (differ.trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    n + rest.iter().zip(early).skip(n).take_while(|(x, y)| x == y).count()
}

struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Out<'_> {
    /// Literals, then a match of that distance and length.
    fn sequence(&mut self, literals: &[u8], found: Option<(usize, usize)>) -> Option<()> {
        let extra = found.map_or(0, |(_, len)| len - MIN_MATCH);
        self.put((literals.len().min(15) << 4 | extra.min(15)) as u8)?;
        self.length(literals.len())?;
        let end = self.len.checked_add(literals.len())?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(literals);
        self.len = end;
        if let Some((distance, _)) = found {
            self.put(distance as u8)?;
            self.put((distance >> 8) as u8)?;
            self.length(extra)?;
        }
        Some(())
    }

    /// What of a length does not fit into the token.
    fn length(&mut self, len: usize) -> Option<()> {
        let Some(mut rest) = len.checked_sub(15) else { return Some(()) };
        while rest >= 255 {
            self.put(255)?;
            rest -= 255;
        }
        self.put(rest as u8)
    }

    fn put(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }
}

/// Decodes a block into `page`, which it has to fill exactly; `None` where it does not.
pub(crate) fn unpack(mut block: &[u8], page: &mut [u8; PAGE_BYTES]) -> Option<()> {
    let mut at = 0usize;
    loop {
        let token = take(&mut block, 1)?.first().copied()?;
        let literals = length(usize::from(token >> 4), &mut block)?;
        let end = at.checked_add(literals)?;
        page.get_mut(at..end)?.copy_from_slice(take(&mut block, literals)?);
        at = end;
        if block.is_empty() {
            return (at == PAGE_BYTES).then_some(());
        }
        let distance = usize::from(u16::from_le_bytes(*take(&mut block, 2)?.first_chunk()?));
        let len = length(usize::from(token & 15), &mut block)?.checked_add(MIN_MATCH)?;
        let from = at.checked_sub(distance).filter(|_| distance > 0)?;
        let end = at.checked_add(len).filter(|&end| end <= PAGE_BYTES)?;
        if distance >= len {
            page.copy_within(from..from + len, at);
        } else {
            // The match overlaps what it makes: a pattern that repeats.
            for i in at..end {
                let byte = *page.get(i - distance)?;
                *page.get_mut(i)? = byte;
            }
        }
        at = end;
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(front)
}

/// A length of which the token holds `low`.
fn length(low: usize, block: &mut &[u8]) -> Option<usize> {
    let mut len = low;
    if low == 15 {
        loop {
            let byte = take(block, 1)?.first().copied()?;
            len += usize::from(byte);
            if byte != 255 {
                break;
            }
            if len > PAGE_BYTES {
                return None;
            }
        }
    }
    Some(len)
}
