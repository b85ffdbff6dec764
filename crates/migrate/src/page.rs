//! What a page holds: one word over and over, or data.

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
    let words = page.as_chunks::<8>().0;
    let word = |i: usize| words.get(i).map_or(0, |w| u64::from_le_bytes(*w));
    let first = word(0);
    if word(511) != first || word(256) != first || word(1) != first || word(100) != first {
        return PageKind::Data;
    }
    let blocks = words.as_chunks::<STRIDE>().0;
    let same = if first == 0 {
        blocks.iter().all(|block| block.iter().fold(0, |acc, w| acc | u64::from_le_bytes(*w)) == 0)
    } else {
        blocks.iter().all(|block| block.iter().all(|w| u64::from_le_bytes(*w) == first))
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
