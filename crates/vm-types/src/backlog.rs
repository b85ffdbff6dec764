//! Pages that were harvested and not yet sent.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::PageSet;
use crate::dirty::{GROUP, is_empty};

/// A set of guest page numbers that knows how many it holds, and where none are: a few dirty pages of a large VM are
/// found without a walk over all its bits. One CPU at a time puts in and takes out.
#[derive(Debug)]
pub struct Backlog {
    pages: PageSet,
    /// Which 512 pages may hold one.
    groups: PageSet,
    len: AtomicU64,
}

/// 512 pages of a [`Backlog`], to which some are added.
#[derive(Debug)]
pub struct Adding<'b> {
    backlog: &'b Backlog,
    words: &'b [AtomicU64; 8],
    /// Number of its first page.
    first: u64,
    pages: u32,
    /// Those of them that were in.
    known: u32,
}

impl Adding<'_> {
    /// Adds pages: bit `n` of `bits` is page `n` of the 64 of `word`. A word beyond the eighth has none.
    #[inline(always)]
    pub fn add(&mut self, word: usize, bits: u64) {
        if self.join(word, bits) {
            self.pages += bits.count_ones();
        }
    }

    /// The same for one who goes over them anyway: they are counted as each is handed to `added`.
    #[inline(always)]
    pub fn add_each(&mut self, word: usize, bits: u64, mut added: impl FnMut(usize)) {
        let mut left = if self.join(word, bits) { bits } else { 0 };
        while left != 0 {
            added(left.trailing_zeros() as usize);
            self.pages += 1;
            left &= left - 1;
        }
    }

    /// False where there is no such word.
    #[inline(always)]
    fn join(&mut self, word: usize, bits: u64) -> bool {
        let Some(word) = self.words.get(word) else { return false };
        // Most are empty, and need no second count.
        if word.compare_exchange(0, bits, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.known += join(word, bits);
        }
        true
    }

    /// The number of pages that were added, those that were in included.
    #[inline(always)]
    pub fn end(self) -> u32 {
        if self.pages != 0 {
            self.backlog.len.fetch_add((self.pages - self.known).into(), Ordering::Relaxed);
            self.backlog.groups.insert(self.first / GROUP);
        }
        self.pages
    }
}

/// Returns how many of `bits` were in `word`.
#[cold]
#[inline(never)]
fn join(word: &AtomicU64, bits: u64) -> u32 {
    (word.fetch_or(bits, Ordering::AcqRel) & bits).count_ones()
}

impl Backlog {
    /// The empty set of pages `0..pages`.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let groups = pages.div_ceil(GROUP);
        Self { pages: PageSet::new(pages), groups: PageSet::new(groups), len: AtomicU64::new(0) }
    }

    /// The same of two sets that were made for it, both empty: of its pages, and of a page for each 512 of them.
    #[must_use]
    pub fn of(pages: PageSet, groups: PageSet) -> Self {
        Self { pages, groups, len: AtomicU64::new(0) }
    }

    /// Begins to add to the 512 pages from `first` on, a multiple of 512; `None` beyond the set's span. They count once
    /// [`Adding::end`] was called.
    #[inline(always)]
    pub fn adding(&self, first: u64) -> Option<Adding<'_>> {
        let words = self.pages.group(first)?;
        Some(Adding { backlog: self, words, first, pages: 0, known: 0 })
    }

    /// Takes the first page at or after `from` out.
    pub fn take(&self, from: u64) -> Option<u64> {
        let mut word = from / 64;
        let mut bits = self.pages.word(word * 64) & u64::MAX << (from % 64);
        while bits == 0 {
            word += 1;
            if word.is_multiple_of(8) {
                word = self.next_group(word / 8)? * 8;
            }
            bits = self.pages.word(word * 64);
        }
        let page = word * 64 + u64::from(bits.trailing_zeros());
        if self.pages.remove(page) {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        Some(page)
    }

    /// The first 512 pages, counted in such, at or after `from` that hold one.
    fn next_group(&self, from: u64) -> Option<u64> {
        let mut group = self.groups.next(from)?;
        while self.pages.group(group * GROUP).is_none_or(is_empty) {
            self.groups.remove(group);
            group = self.groups.next(group + 1)?;
        }
        Some(group)
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
        self.pages.drain_some(from, budget, |first, words| {
            let mut pages = 0;
            words.take(|_, bits| pages += u64::from(bits.count_ones()));
            self.len.fetch_sub(pages, Ordering::Relaxed);
            self.groups.remove(first / GROUP);
            8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    fn add(set: &Backlog, page: u64, bits: u64) -> Option<u32> {
        let mut adding = set.adding(page / GROUP * GROUP)?;
        let word = (page % GROUP / 64) as usize;
        // one way or the other
        if page & 64 == 0 {
            adding.add(word, bits);
        } else {
            let mut added = 0;
            adding.add_each(word, bits, |page| added |= 1 << page);
            assert_eq!(added, bits);
        }
        adding.add(8, bits);
        adding.add_each(8, bits, |_| panic!("no such word"));
        Some(adding.end())
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let set = Backlog::new(1 << 20);
        assert_eq!(add(&set, 64, 0b101), Some(2));
        assert_eq!(add(&set, 64, 0b111), Some(3));
        assert_eq!(add(&set, 1 << 19, 1 << 63), Some(1));
        assert_eq!(add(&set, 1 << 20, 1), None);
        assert_eq!(set.count(), 4);
        assert!(set.contains(66) && !set.contains(67));
        let mut taken = Vec::new();
        while let Some(page) = set.take(taken.last().map_or(0, |last| last + 1)) {
            taken.push(page);
        }
        assert_eq!(taken, [64, 65, 66, (1 << 19) + 63]);
        assert_eq!((set.count(), set.take(0)), (0, None));
        add(&set, 128, 3);
        add(&set, 1 << 18, 3);
        let mut from = Some(0);
        while let Some(at) = from {
            from = set.clear_some(at, 4096);
        }
        assert_eq!((set.count(), set.contains(128), set.take(0)), (0, false, None));
    }

    #[test]
    fn takes_from_where_it_is_told() {
        let set = Backlog::new(2048);
        add(&set, 0, 1 << 5);
        add(&set, 640, 1);
        add(&set, 704, 1 << 63);
        assert_eq!(set.take(6), Some(640));
        assert_eq!(set.take(6), Some(767));
        assert_eq!(set.take(6), None);
        assert_eq!(set.take(0), Some(5));
        // what is put back among 512 that were found empty
        add(&set, 1024, 2);
        add(&set, 64, 1);
        assert_eq!((set.take(1), set.take(65), set.take(0)), (Some(64), Some(1025), None));
    }

    /// Whatever is put in and taken out, from wherever.
    #[test]
    fn is_a_set() {
        const PAGES: u64 = 4096;
        let (set, mut model) = (Backlog::new(PAGES), BTreeSet::new());
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let page = random(PAGES);
            if random(3) == 0 {
                let bits = 1 | random(u64::MAX) & random(u64::MAX);
                add(&set, page, bits);
                model.extend((0..64).filter(|bit| bits >> bit & 1 != 0).map(|bit| page / 64 * 64 + bit));
            } else {
                let next = model.range(page..).next().copied();
                assert_eq!(set.take(page), next);
                next.map(|next| model.remove(&next));
            }
            assert_eq!(set.count(), model.len() as u64);
        }
    }
}
