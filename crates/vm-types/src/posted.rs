//! Posted-interrupt descriptors (SDM 29.6): interrupts that others leave for a vCPU, as CPUs with posted interrupts read them; and
//! where those are by the ID of the vCPU's APIC, for CPUs that leave interrupts there by themselves (IPI virtualization).
//!
//! Whoever has an interrupt for the vCPU sets its bit, and then ON. Whoever takes them clears ON, and then takes the bits: one
//! that comes in between has ON set again. All of it is read and written while other CPUs do the same, by locked instructions.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::MAX_VCPUS;

/// ON: something was left since somebody looked last.
const ON: u64 = 1 << 0;
/// SN: a CPU that leaves something tells nobody, and leaves ON alone.
const SN: u64 = 1 << 1;
/// Where the notification vector begins in its word, and the CPU that gets it.
const NV: u32 = 16;
const NDST: u32 = 32;
/// A pointer to a descriptor is one.
const VALID: u64 = 1 << 0;

/// That descriptor. Edge-triggered interrupts alone are left there: a CPU that takes them leaves the trigger mode as it is.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct PostedInterrupts {
    /// PIR: a bit for each vector.
    requests: [AtomicU64; 4],
    /// ON, SN, and whom a CPU notifies that has set ON.
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

    /// A CPU that leaves something from now on notifies that one, by its APIC's ID as an interrupt command has it. Whether something
    /// was left before, of which nobody may have been told.
    #[must_use]
    pub fn notify(&self, vector: u8, destination: u32) -> bool {
        let to = u64::from(vector) << NV | u64::from(destination) << NDST;
        let update = |notice| Some(notice & ON | to);
        let before = self.notice.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).unwrap_or(ON);
        if before & SN != 0 && self.requests.iter().any(|requests| requests.load(Ordering::Relaxed) != 0) {
            self.notice.fetch_or(ON, Ordering::Release);
            return true;
        }
        before & ON != 0
    }

    /// A CPU that leaves something tells nobody: who calls this looks by itself, by [`Self::notify`].
    pub fn suppress(&self) {
        self.notice.fetch_or(SN, Ordering::AcqRel);
    }

    /// Drops what was left.
    pub fn clear(&self) {
        self.take(|_, _| {});
    }
}

/// The descriptors of a VM, and the table by which a CPU finds them (SDM 29.1.6).
#[repr(C, align(512))]
#[derive(Debug)]
pub struct PostedTable {
    /// By the ID of the APIC: where its descriptor is, and whether it takes interrupts.
    pointers: [AtomicU64; MAX_VCPUS as usize],
    descriptors: Vec<Arc<PostedInterrupts>>,
}

impl PostedTable {
    /// That of a VM with so many vCPUs, of which none takes interrupts.
    #[must_use]
    pub fn new(vcpus: u16) -> Arc<Self> {
        let descriptors = (0..vcpus).map(|_| Arc::default()).collect();
        Arc::new(Self { pointers: [const { AtomicU64::new(0) }; MAX_VCPUS as usize], descriptors })
    }

    /// The descriptor of a vCPU.
    #[must_use]
    pub fn of(&self, id: usize) -> Option<&Arc<PostedInterrupts>> {
        self.descriptors.get(id)
    }

    /// The last entry that there is.
    #[must_use]
    pub fn last(&self) -> u16 {
        self.descriptors.len().saturating_sub(1) as u16
    }

    /// Whether CPUs leave interrupts for this vCPU by themselves. For one that takes none, they leave that to software.
    pub fn set_takes(&self, id: usize, takes: bool) {
        if let (Some(pointer), Some(descriptor)) = (self.pointers.get(id), self.of(id)) {
            let at = Arc::as_ptr(descriptor).addr() as u64;
            pointer.store(if takes { at | VALID } else { 0 }, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What a CPU with IPI virtualization does. True where it notifies.
    fn leaves(posted: &PostedInterrupts, vector: u8) -> bool {
        posted.requests[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::SeqCst);
        let before = posted.notice.load(Ordering::SeqCst);
        if before & (ON | SN) != 0 {
            return false;
        }
        posted.notice.fetch_or(ON, Ordering::SeqCst);
        true
    }

    #[test]
    fn what_nobody_is_told_of_is_found() {
        let posted = PostedInterrupts::default();
        assert!(!posted.notify(0xf2, 0x1234_5678));
        assert_eq!(posted.notice.load(Ordering::Relaxed), 0x1234_5678_00f2_0000, "SDM 29.1.6: NDST, NV");
        assert!(leaves(&posted, 0x41) && !leaves(&posted, 0x42) && posted.any());
        assert!(posted.notify(0xf3, 1), "nobody has looked since");
        posted.clear();
        posted.suppress();
        assert!(!leaves(&posted, 0x43) && !posted.any());
        assert!(posted.notify(0xf2, 1) && posted.any());
        posted.clear();
        assert!(!posted.notify(0xf2, 1) && leaves(&posted, 0x44));
        posted.clear();
        posted.suppress();
        posted.post(0x45);
        assert!(posted.any(), "who leaves it by software kicks whoever is to know");
        assert!(posted.notify(0xf2, 1));
    }

    #[test]
    fn a_table_has_those_that_take_interrupts() {
        let table = PostedTable::new(3);
        assert_eq!((align_of_val(&*table), table.last()), (512, 2), "it is in one page");
        let entry = |id: usize| table.pointers[id].load(Ordering::Relaxed);
        table.set_takes(1, true);
        let at = Arc::as_ptr(table.of(1).unwrap()).addr() as u64;
        assert_eq!((entry(0), entry(1), entry(2)), (0, at | 1, 0));
        assert_eq!(at % 64, 0);
        table.set_takes(1, false);
        table.set_takes(3, true);
        assert_eq!((entry(1), entry(3)), (0, 0));
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
