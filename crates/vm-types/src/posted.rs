//! A posted-interrupt descriptor (SDM 29.6): interrupts that others leave for a vCPU, as CPUs with posted interrupts read them.
//!
//! Whoever has an interrupt for the vCPU sets its bit, and then ON. Whoever takes them clears ON, and then takes the bits: one
//! that comes in between has ON set again. All of it is read and written while other CPUs do the same, by locked instructions.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// ON: something was left since somebody looked last.
const ON: u64 = 1 << 0;

/// That descriptor. Edge-triggered interrupts alone are left there: a CPU that takes them leaves the trigger mode as it is.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct PostedInterrupts {
    /// PIR: a bit for each vector.
    requests: [AtomicU64; 4],
    /// ON, and what VT-d and IPI virtualization have in the same word.
    notice: AtomicU64,
    /// Software's: what else waits for the vCPU, of which CPUs know nothing. Who leaves something says what its bits are.
    pub others: AtomicU32,
}

impl PostedInterrupts {
    /// Leaves an interrupt there.
    #[inline]
    pub fn post(&self, vector: u8) {
        self.requests[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::Release);
        self.notice.fetch_or(ON, Ordering::Release);
    }

    /// Whether an interrupt was left since they were taken last.
    #[inline(always)]
    #[must_use]
    pub fn any(&self) -> bool {
        self.notice.load(Ordering::Acquire) & ON != 0
    }

    /// The same, or whatever else.
    #[inline(always)]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.any() || self.others.load(Ordering::Acquire) != 0
    }

    /// Takes what was left: 64 vectors at a time, from `quarter` * 64 on, where there are any.
    #[inline]
    pub fn take(&self, mut quarter_has: impl FnMut(u8, u64)) {
        self.notice.fetch_and(!ON, Ordering::AcqRel);
        for (quarter, requests) in (0..).zip(&self.requests) {
            // Those that are there by now were left before what is looked at next.
            if requests.load(Ordering::Relaxed) != 0 {
                quarter_has(quarter, requests.swap(0, Ordering::Acquire));
            }
        }
    }

    /// Drops what was left.
    pub fn clear(&self) {
        self.take(|_, _| {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn taken(posted: &PostedInterrupts) -> Vec<(u8, u64)> {
        let mut taken = Vec::new();
        posted.take(|quarter, vectors| taken.push((quarter, vectors)));
        taken
    }

    #[test]
    fn its_bits_are_where_the_sdm_has_them() {
        let posted = PostedInterrupts::default();
        assert_eq!((size_of_val(&posted), align_of_val(&posted)), (64, 64));
        assert_eq!(core::mem::offset_of!(PostedInterrupts, notice) * 8, 256, "ON");
        posted.post(0x45);
        assert_eq!(posted.requests[1].load(Ordering::Relaxed), 1 << 5);
        assert_eq!(posted.notice.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_left_is_taken_once() {
        let posted = PostedInterrupts::default();
        assert!(!posted.any());
        for vector in [0x10, 0x3f, 0x40, 0xff, 0x40] {
            posted.post(vector);
            assert!(posted.any());
        }
        assert_eq!(taken(&posted), [(0, 1 << 0x10 | 1 << 0x3f), (1, 1), (3, 1 << 63)]);
        assert!(!posted.any() && taken(&posted).is_empty());
        posted.post(0x80);
        posted.clear();
        assert!(!posted.any() && taken(&posted).is_empty());
    }
}
