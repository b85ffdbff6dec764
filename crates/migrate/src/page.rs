//! What a page holds: one word over and over, or data.

use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a page, as an array length.
pub const PAGE_BYTES: usize = 4096;

/// Words compared before the next branch: 128 bytes.
const STRIDE: usize = 16;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageKind {
    /// This 8-byte little-endian word over and over; 0 is a zero page.
    Fill(u64),
    /// Anything else.
    Data,
}

/// Looks at a page: a few words spread over it first, then all of them until one differs.
#[must_use]
pub fn scan(page: &[u8; PAGE_BYTES]) -> PageKind {
    scan_words(page.as_chunks::<8>().0, |word| u64::from_le_bytes(*word))
}

/// The same of a page that a guest may write to meanwhile: each word is read once.
#[must_use]
pub fn scan_shared(page: &[AtomicU64; PAGE_BYTES / 8]) -> PageKind {
    scan_words(page, |word| u64::from_le(word.load(Ordering::Relaxed)))
}

#[inline(always)]
fn scan_words<W>(words: &[W], read: impl Fn(&W) -> u64) -> PageKind {
    let Some((first, last)) = words.first().zip(words.last()) else { return PageKind::Data };
    let first = read(first);
    let differs = |i: usize| words.get(i).is_some_and(|word| read(word) != first);
    if read(last) != first || differs(256) || differs(1) || differs(100) {
        return PageKind::Data;
    }
    let blocks = words.as_chunks::<STRIDE>().0;
    let same = if first == 0 {
        blocks.iter().all(|block| block.iter().fold(0, |acc, word| acc | read(word)) == 0)
    } else {
        blocks.iter().all(|block| block.iter().all(|word| read(word) == first))
    };
    if same { PageKind::Fill(first) } else { PageKind::Data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for base in [0u8, 0xcc] {
            let mut page = [base; PAGE_BYTES];
            assert_eq!(scan(&page), PageKind::Fill(u64::from_le_bytes([base; 8])));
            let words = [const { AtomicU64::new(0) }; PAGE_BYTES / 8];
            words.iter().for_each(|word| word.store(u64::from_ne_bytes([base; 8]), Ordering::Relaxed));
            assert_eq!(scan_shared(&words), scan(&page));
            for word in &words {
                word.fetch_xor(1 << 60, Ordering::Relaxed);
                assert_eq!(scan_shared(&words), PageKind::Data);
                word.fetch_xor(1 << 60, Ordering::Relaxed);
            }
            for at in 0..PAGE_BYTES {
                page[at] ^= 0x10;
                assert_eq!(scan(&page), PageKind::Data, "byte {at}");
                page[at] ^= 0x10;
            }
        }
    }

    #[test]
    fn fill_keeps_the_byte_order() {
        let mut page = [0; PAGE_BYTES];
        for chunk in page.chunks_exact_mut(8) {
            chunk.copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        }
        assert_eq!(scan(&page), PageKind::Fill(0x0807_0605_0403_0201));
    }
}
