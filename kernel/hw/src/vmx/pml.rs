//! The page-modification log of one vCPU (SDM 28.3.6).

use core::sync::atomic::{AtomicU64, Ordering};

use crate::mm::{Hpa, frame};

/// Entries in the log.
pub const ENTRIES: u16 = 512;

/// One 4 KiB page of 512 guest-physical addresses, filled by the CPU from the last entry down.
#[derive(Debug)]
pub struct PmlBuffer(Hpa);

impl PmlBuffer {
    /// Allocates a log; `None` when the host is out of memory.
    #[must_use]
    pub fn new() -> Option<Self> {
        frame::alloc_page().map(Self)
    }

    /// Its address for the VMCS.
    #[must_use]
    pub const fn hpa(&self) -> Hpa {
        self.0
    }

    /// The number of each 4 KiB page logged. `index` is the VMCS' PML index: the next free entry, 511 when empty, wrapped
    /// to 0xffff when full.
    #[inline]
    pub fn logged(&self, index: u16) -> impl ExactSizeIterator<Item = u64> {
        let first = usize::from(index.wrapping_add(1)).min(usize::from(ENTRIES));
        // SAFETY: the page is ours, 512 aligned words, and lives as long as self.
        let entries = unsafe { &*(self.0.0 as *const [AtomicU64; ENTRIES as usize]) };
        entries[first..].iter().map(|entry| entry.load(Ordering::Relaxed) >> 12)
    }
}

impl Drop for PmlBuffer {
    fn drop(&mut self) {
        frame::free(self.0, 4096);
    }
}
