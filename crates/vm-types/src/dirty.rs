//! One bit for each page, set from any CPU.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages of eight words, which are looked at together: most of them are empty. They are those of a table of 4 KiB
/// entries as well.
pub(crate) const GROUP: u64 = 8 * 64;

/// A set of guest page numbers; every method may run on several CPUs at once.
#[derive(Debug)]
pub struct PageSet {
    words: Vec<AtomicU64>,
}

impl PageSet {
    /// The empty set of pages `0..pages`, the last one rounded up to a multiple of 512.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let words = (0..pages.div_ceil(GROUP) * 8).map(|_| AtomicU64::new(0)).collect();
        Self { words }
    }

    /// Adds a page; one outside the set's span is ignored.
    #[inline]
    pub fn insert(&self, page: u64) {
        if let Some(word) = self.words.get((page / 64) as usize) {
            word.fetch_or(1 << (page % 64), Ordering::Release);
        }
    }

    /// Adds all pages of a word at once: bit `n` of `bits` is page `64 * word + n`.
    #[inline(always)]
    fn insert_word(&self, word: u64, bits: u64) {
        if let Some(word) = self.words.get(word as usize) {
            word.fetch_or(bits, Ordering::Release);
        }
    }

    /// Adds pages. Those of a word that follow each other are written at once: most writes are near the last one.
    #[inline]
    pub fn insert_all(&self, mut pages: impl Iterator<Item = u64>) {
        let mut next = pages.next();
        while let Some(first) = next {
            let mut bits = 1 << (first % 64);
            next = loop {
                match pages.next() {
                    Some(page) if page / 64 == first / 64 => bits |= 1 << (page % 64),
                    other => break other,
                }
            };
            self.insert_word(first / 64, bits);
        }
    }

    /// Adds `pages` pages from `first` on.
    pub fn insert_range(&self, first: u64, pages: u64) {
        for page in first..first.saturating_add(pages) {
            self.insert(page);
        }
    }

    /// Takes a page out; true where it was in.
    #[inline]
    pub fn remove(&self, page: u64) -> bool {
        let Some(word) = self.words.get((page / 64) as usize) else { return false };
        let bit = 1 << (page % 64);
        word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// True where the page is in.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        self.words
            .get((page / 64) as usize)
            .is_some_and(|w| w.load(Ordering::Acquire) & 1 << (page % 64) != 0)
    }

    /// The first page at or after `from`.
    #[must_use]
    pub fn next(&self, from: u64) -> Option<u64> {
        let mut index = (from / 64) as usize;
        let mut bits = self.words.get(index)?.load(Ordering::Acquire) & (u64::MAX << (from % 64));
        while bits == 0 {
            index += 1;
            bits = self.words.get(index)?.load(Ordering::Acquire);
        }
        Some(index as u64 * 64 + u64::from(bits.trailing_zeros()))
    }

    /// Number of pages in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.load(Ordering::Acquire).count_ones())).sum()
    }

    /// Empties the set word by word and hands each non-empty word to `taken(first page, bits)`.
    #[inline]
    pub fn drain(&self, mut taken: impl FnMut(u64, u64)) {
        for (index, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                taken(index as u64 * 64, word.swap(0, Ordering::AcqRel));
            }
        }
    }

    /// The same from page `from`, a multiple of 512, on, in a bounded step, eight words at a time: each eight cost 8, and
    /// what `taken(first page, words)` says of those that are not empty. Stops where `budget` is used up, at most eight
    /// words late. Returns the page where the next step begins; `None` at the end.
    #[inline]
    pub fn drain_some(
        &self,
        from: u64,
        mut budget: u32,
        mut taken: impl FnMut(u64, Words<'_>) -> u32,
    ) -> Option<u64> {
        let groups = self.words.as_chunks::<8>().0.get((from / GROUP) as usize..)?;
        for (group, first) in groups.iter().zip((from / GROUP * GROUP..).step_by(GROUP as usize)) {
            if budget == 0 {
                return Some(first);
            }
            budget = budget.saturating_sub(8);
            if !is_empty(group) {
                budget = budget.saturating_sub(taken(first, Words(group)));
            }
        }
        None
    }

    /// The eight words of the 512 pages that begin with page `first`, a multiple of 512; `None` beyond the set's span.
    #[inline]
    pub(crate) fn group(&self, first: u64) -> Option<&[AtomicU64; 8]> {
        self.words.as_chunks::<8>().0.get((first / GROUP) as usize)
    }

    /// The pages of the word that begins with page `first`.
    pub(crate) fn word(&self, first: u64) -> u64 {
        self.words.get((first / 64) as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Empties the set.
    pub fn clear(&self) {
        self.drain(|_, _| ());
    }
}

/// Eight words of a set that is being emptied: the bits of 512 pages.
#[derive(Clone, Copy, Debug)]
pub struct Words<'s>(&'s [AtomicU64; 8]);

impl Words<'_> {
    /// Empties them, and hands each that was not empty to `taken(its number, its bits)`: 0 is that of the first 64 pages.
    #[inline(always)]
    pub fn take(self, mut taken: impl FnMut(usize, u64)) {
        for (number, word) in self.0.iter().enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                taken(number, word.swap(0, Ordering::AcqRel));
            }
        }
    }
}

/// Written out: a loop would be as long again.
#[inline(always)]
pub(crate) fn is_empty([a, b, c, d, e, f, g, h]: &[AtomicU64; 8]) -> bool {
    let bits = |word: &AtomicU64| word.load(Ordering::Relaxed);
    bits(a) | bits(b) | bits(c) | bits(d) | bits(e) | bits(f) | bits(g) | bits(h) == 0
}

/// A [`PageSet`] in the making: the words of a large one are not made at once.
#[derive(Debug)]
pub struct PageSetGrowing {
    words: Vec<AtomicU64>,
    span: usize,
}

impl PageSetGrowing {
    /// Of a set as [`PageSet::new`] makes it. None where there is no memory for it.
    #[must_use]
    pub fn new(pages: u64) -> Option<Self> {
        let span = usize::try_from(pages.div_ceil(GROUP)).ok()?.checked_mul(8)?;
        let mut words = Vec::new();
        words.try_reserve_exact(span).ok()?;
        Some(Self { words, span })
    }

    /// Makes up to `words` of its words. True while some are left.
    pub fn grow(&mut self, words: usize) -> bool {
        let now = (self.span - self.words.len()).min(words);
        self.words.extend((0..now).map(|_| AtomicU64::new(0)));
        self.words.len() < self.span
    }

    /// The set, whose pages beyond the words made so far are outside its span.
    #[must_use]
    pub fn finish(self) -> PageSet {
        PageSet { words: self.words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_in_steps() {
        let mut growing = PageSetGrowing::new(512 * 9 + 1).unwrap();
        let mut steps = 1;
        while growing.grow(32) {
            steps += 1;
        }
        let set = growing.finish();
        assert_eq!((steps, set.words.len()), (3, PageSet::new(512 * 9 + 1).words.len()));
        set.insert(512 * 9);
        assert_eq!((set.count(), set.next(0)), (1, Some(512 * 9)));
        assert!(PageSetGrowing::new(u64::MAX).is_none());
        assert!(!PageSetGrowing::new(0).unwrap().grow(8));
    }

    #[test]
    fn finds_what_was_put_in() {
        let set = PageSet::new(200);
        for page in [0, 63, 64] {
            set.insert(page);
        }
        set.insert_all([1 << 40, 199, 64, 65, 130, 65, 1 << 50].into_iter());
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(page) = set.next(from) {
            found.push(page);
            from = page + 1;
        }
        assert_eq!(found, [0, 63, 64, 65, 130, 199]);
        assert!(set.remove(64) && !set.remove(64) && !set.contains(64));
        assert_eq!(set.count(), 5);
        let mut words = Vec::new();
        set.drain(|first, bits| words.push((first, bits)));
        assert_eq!(words, [(0, 1 | 1 << 63), (64, 1 << 1), (128, 1 << 2), (192, 1 << 7)]);
        assert_eq!(set.count(), 0);
    }

    #[test]
    fn is_drained_in_steps() {
        let set = PageSet::new(512 * 10);
        for page in [3, 512 * 4, 512 * 4 + 1, 512 * 9 + 64] {
            set.insert(page);
        }
        let (mut steps, mut found) = (0, Vec::new());
        let mut from = Some(0);
        while let Some(at) = from {
            steps += 1;
            from = set.drain_some(at, 32, |first, words| {
                let mut cost = 0;
                words.take(|word, bits| {
                    found.push((first, word, bits));
                    cost += 8 * bits.count_ones();
                });
                cost
            });
        }
        assert_eq!(found, [(0, 0, 1 << 3), (512 * 4, 0, 3), (512 * 9, 1, 1)]);
        // 10 groups and 4 pages, at 4 of them a step
        assert_eq!((steps, set.count()), (4, 0));
        assert_eq!(set.drain_some(512 * 10, 4, |_, _| 0), None);
    }
}
