//! What the target holds of each page, as far as the source remembers it: a hash of every page, a copy of hot ones.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::body::{PageRange, Shape};
use crate::page::{PAGE_BYTES, PageKind};

const WORDS: usize = PAGE_BYTES / 8;

/// Hashes of what was sent, 8 bytes a page.
///
/// The hash is NH (Black et al., "UMAC", CRYPTO 1999) over 64-bit words with a key as long as the page, folded to 64
/// bits by multiplication: two different pages have the same hash with a probability of about 2^-63, whatever they
/// hold, as long as the guest does not know the key.
#[derive(Clone)]
pub(crate) struct Sent {
    key: Box<[u64; WORDS + 4]>,
    ranges: Vec<PageRange>,
    /// By page of RAM; 0: not sent.
    hashes: Vec<u64>,
}

impl Sent {
    /// `None` where the host has no room for it.
    pub(crate) fn new(shape: &Shape, seed: [u8; 16]) -> Option<Self> {
        let pages = usize::try_from(shape.pages()).ok()?;
        let mut hashes = Vec::new();
        hashes.try_reserve_exact(pages).ok()?;
        hashes.resize(pages, 0);
        let half = |i: usize| seed.as_chunks::<8>().0.get(i).map_or(0, |b| u64::from_le_bytes(*b));
        let (mut state, other) = (half(0), half(1));
        let mut key = Box::new([0; WORDS + 4]);
        for word in key.iter_mut() {
            // SplitMix64 (Steele et al., OOPSLA 2014), the other half of the seed mixed in.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state ^ other;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word = z ^ z >> 31;
        }
        Some(Self { key, ranges: shape.ranges.clone(), hashes })
    }

    /// Takes note of what is to be sent; `false` where the target holds it already.
    pub(crate) fn is_news(&mut self, gfn: u64, content: PageKind, page: &[u8; PAGE_BYTES]) -> bool {
        let hash = match content {
            PageKind::Fill(word) => self.fold(u128::from(word) << 64 | 1),
            PageKind::Data => self.fold(self.nh(page)),
        };
        let mut before = 0;
        for range in &self.ranges {
            if let Some(offset) = gfn.checked_sub(range.first).filter(|&offset| offset < range.pages) {
                let index = usize::try_from(before + offset).unwrap_or(usize::MAX);
                return self.hashes.get_mut(index).is_none_or(|slot| core::mem::replace(slot, hash) != hash);
            }
            before += range.pages;
        }
        true
    }

    fn nh(&self, page: &[u8; PAGE_BYTES]) -> u128 {
        let (mut even, mut odd) = (0u128, 0u128);
        let product = |words: &[[u8; 8]; 2], key: &[u64; 2]| {
            let a = u64::from_le_bytes(words[0]).wrapping_add(key[0]);
            let b = u64::from_le_bytes(words[1]).wrapping_add(key[1]);
            u128::from(a) * u128::from(b)
        };
        let words = page.as_chunks::<8>().0.as_chunks::<4>().0;
        for (words, key) in words.iter().zip(self.key.as_chunks::<4>().0) {
            let ([wa, wb], [ka, kb]) = (words.as_chunks::<2>().0, key.as_chunks::<2>().0) else { continue };
            even = even.wrapping_add(product(wa, ka));
            odd = odd.wrapping_add(product(wb, kb));
        }
        even.wrapping_add(odd)
    }

    /// 128 bits to 64, never 0.
    fn fold(&self, wide: u128) -> u64 {
        let [.., a, b, c, d] = *self.key;
        let pair = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low) | 1;
        let sum = pair(a, b)
            .wrapping_mul(u128::from(wide as u64))
            .wrapping_add(pair(c, d).wrapping_mul(wide >> 64));
        ((sum >> 64) as u64).max(1)
    }
}

/// Copies of the pages sent last, one for each slot.
#[derive(Clone)]
pub(crate) struct Copies {
    /// Page frame + 1; 0: none.
    frames: Vec<u64>,
    pages: Vec<[u8; PAGE_BYTES]>,
}

impl Copies {
    /// `None` where the host has no room for them.
    pub(crate) fn new(slots: usize) -> Option<Self> {
        let (mut frames, mut pages) = (Vec::new(), Vec::new());
        frames.try_reserve_exact(slots).ok()?;
        pages.try_reserve_exact(slots).ok()?;
        frames.resize(slots, 0);
        pages.resize(slots, [0; PAGE_BYTES]);
        Some(Self { frames, pages })
    }

    fn slot(&self, gfn: u64) -> usize {
        (gfn % (self.frames.len() as u64).max(1)) as usize
    }

    /// What the target holds.
    pub(crate) fn get(&self, gfn: u64) -> Option<&[u8; PAGE_BYTES]> {
        let slot = self.slot(gfn);
        self.pages.get(slot).filter(|_| self.frames.get(slot) == Some(&(gfn + 1)))
    }

    /// Keeps what is sent.
    pub(crate) fn keep(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) {
        let slot = self.slot(gfn);
        if let (Some(frame), Some(copy)) = (self.frames.get_mut(slot), self.pages.get_mut(slot)) {
            *frame = gfn + 1;
            copy.copy_from_slice(page);
        }
    }

    /// The target holds something else now.
    pub(crate) fn forget(&mut self, gfn: u64) {
        let slot = self.slot(gfn);
        if let Some(frame) = self.frames.get_mut(slot).filter(|frame| **frame == gfn + 1) {
            *frame = 0;
        }
    }
}
