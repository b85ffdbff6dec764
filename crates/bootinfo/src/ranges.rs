//! A set of addresses as sorted, disjoint, non-adjacent ranges: the book-keeping of free physical memory.

use alloc::vec::Vec;

/// A set of addresses. Ranges are `(start, end)` with `end` exclusive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// The ranges in ascending order.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// How many addresses the set holds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether any address of `start..end` is in the set.
    #[must_use]
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        let first = self.ranges.partition_point(|r| r.1 <= start);
        start < end && self.ranges.get(first).is_some_and(|r| r.0 < end)
    }

    /// Whether all of `start..end` is in the set.
    #[must_use]
    pub fn contains(&self, start: u64, end: u64) -> bool {
        let first = self.ranges.partition_point(|r| r.1 <= start);
        start >= end || self.ranges.get(first).is_some_and(|r| r.0 <= start && end <= r.1)
    }

    /// Adds `start..end`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        // The ranges that touch or overlap the new one melt into it.
        let from = self.ranges.partition_point(|r| r.1 < start);
        let to = self.ranges.partition_point(|r| r.0 <= end);
        let merged = match self.ranges.get(from..to) {
            Some([first, .., last]) => (start.min(first.0), end.max(last.1)),
            Some([only]) => (start.min(only.0), end.max(only.1)),
            _ => (start, end),
        };
        self.ranges.splice(from..to, [merged]);
    }

    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.ranges.partition_point(|r| r.1 <= start);
        let to = self.ranges.partition_point(|r| r.0 < end);
        if from >= to {
            return;
        }
        let left = (self.ranges[from].0, start);
        let right = (end, self.ranges[to - 1].1);
        let keep = [left, right].into_iter().filter(|r| r.0 < r.1);
        self.ranges.splice(from..to, keep);
    }

    /// Takes `len` addresses, the first a multiple of `align` (a power of two), from the lowest place that has them.
    pub fn take_low(&mut self, len: u64, align: u64) -> Option<u64> {
        let at = self.ranges.iter().find_map(|&(start, end)| {
            let at = start.checked_add(align - 1)? & !(align - 1);
            (at.checked_add(len)? <= end).then_some(at)
        })?;
        self.remove(at, at + len);
        Some(at)
    }

    /// Takes `len` addresses, the first a multiple of `align` (a power of two), from the highest place that has them.
    pub fn take_high(&mut self, len: u64, align: u64) -> Option<u64> {
        let at = self.ranges.iter().rev().find_map(|&(start, end)| {
            let at = end.checked_sub(len)? & !(align - 1);
            (at >= start).then_some(at)
        })?;
        self.remove(at, at + len);
        Some(at)
    }
}
