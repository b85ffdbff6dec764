//! Pages that were harvested and not yet sent.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::PageSet;

/// A set of guest page numbers that knows how many it holds, and where none are: a few dirty pages of a large VM are
/// found without a walk over all its bits.
#[derive(Debug)]
pub struct Backlog {
    pages: PageSet,
    /// Which words of `pages` may hold one.
    words: PageSet,
    len: AtomicU64,
}

impl Backlog {
    /// The empty set of pages `0..pages`.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let words = pages.div_ceil(64);
        Self { pages: PageSet::new(pages), words: PageSet::new(words), len: AtomicU64::new(0) }
    }

    /// Adds all pages of a word at once: bit `n` of `bits` is page `first + n`. `first` is a multiple of 64. Returns the
    /// number of pages in `bits`.
    #[inline]
    pub fn insert_word(&self, first: u64, bits: u64) -> u32 {
        let new = self.pages.insert_word(first, bits);
        let pages = bits.count_ones();
        if new != 0 {
            let added = if new == bits { pages } else { Self::count_again(new) };
            self.len.fetch_add(added.into(), Ordering::Relaxed);
            self.words.insert(first / 64);
        }
        pages
    }

    /// The host's code counts bits the long way. A call, since the compiler would count both words each time and take
    /// one of the two figures.
    #[cold]
    #[inline(never)]
    fn count_again(bits: u64) -> u32 {
        bits.count_ones()
    }

    /// Takes the first page at or after `from` out.
    pub fn take(&self, from: u64) -> Option<u64> {
        let mut word = from / 64;
        let mut bits = self.pages.word(word * 64) & u64::MAX << (from % 64);
        while bits == 0 {
            word = self.words.next(word + 1)?;
            bits = self.pages.word(word * 64);
            if bits == 0 {
                self.words.remove(word);
            }
        }
        let page = word * 64 + u64::from(bits.trailing_zeros());
        if self.pages.remove(page) {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        Some(page)
    }

    /// True where the page is in.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        self.pages.contains(page)
    }

    /// Number of pages in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Empties the set from page `from`, a multiple of 512, on, in a bounded step; the rest is as in
    /// [`PageSet::drain_some`].
    pub fn clear_some(&self, from: u64, budget: u32) -> Option<u64> {
        self.pages.drain_some(from, budget, |first, bits| {
            self.len.fetch_sub(bits.count_ones().into(), Ordering::Relaxed);
            self.words.remove(first / 64);
            1
        })
    }

    /// Empties the set. The work is that of the pages in it.
    pub fn clear(&self) {
        let mut from = 0;
        while let Some(word) = self.words.next(from) {
            // eight words, and one step
            let _ = self.clear_some(word / 8 * 512, 1);
            self.words.remove(word);
            from = word + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn gives_back_what_was_put_in() {
        let set = Backlog::new(1 << 20);
        set.insert_word(64, 0b101);
        set.insert_word(64, 0b111);
        set.insert_word(1 << 19, 1 << 63);
        assert_eq!(set.count(), 4);
        assert!(set.contains(66) && !set.contains(67));
        let mut taken = Vec::new();
        while let Some(page) = set.take(taken.last().map_or(0, |last| last + 1)) {
            taken.push(page);
        }
        assert_eq!(taken, [64, 65, 66, (1 << 19) + 63]);
        assert_eq!((set.count(), set.take(0)), (0, None));
        set.insert_word(128, 3);
        set.insert_word(1 << 18, 3);
        set.clear();
        assert_eq!((set.count(), set.contains(128), set.take(0)), (0, false, None));
    }

    #[test]
    fn takes_from_where_it_is_told() {
        let set = Backlog::new(1024);
        set.insert_word(0, 1 << 5);
        set.insert_word(640, 1);
        assert_eq!(set.take(6), Some(640));
        assert_eq!(set.take(6), None);
        assert_eq!(set.take(0), Some(5));
    }
}
