//! The tables themselves: making, finding, splitting, freeing.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::Hpa;

use super::entry::{
    ACCESSED, ADDRESS, DIRTY, LARGE, PRESENT, READ, SIZE_4K, WRITE, WRITE_BACK, index, is_table,
};
use super::work::Work;
use crate::frames::{Frames, Table};
use crate::words::{DirtyMethod, Eptp, OutOfMemory};

/// What the CPU can do, and what it must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// It sets accessed and dirty flags.
    pub access_dirty: bool,
    /// Large pages may be executable. Elsewhere they are mapped without that permission and split at the first fetch
    /// (CVE-2018-12207): a guest could otherwise stop the machine by changing a page's size.
    pub executable_large_pages: bool,
}

/// The tables of one VM.
///
/// Nothing is flushed when they are dropped, on whichever CPU that happens: no CPU uses the pointer any more, and
/// whoever gets its root page for other tables has each CPU drop what it knows of that pointer first ([`crate::load`]).
pub struct Ept<'m, F: Frames<'m>> {
    pub(crate) frames: F,
    pub(crate) root: Hpa,
    pub(crate) eptp: Eptp,
    /// The table of 2 MiB entries of each GiB, 0 for none: a leaf is found by two loads, a walk goes on anywhere.
    pub(crate) directories: Vec<u64>,
    /// Number of 2 MiB regions up to the last that something was mapped in: a small VM has less than a GiB of them.
    pub(crate) regions: u64,
    /// Permissions of a large page.
    pub(crate) large: u64,
    /// Number of large pages.
    pub(crate) large_pages: u64,
    /// Tables that no entry leads to any more. A CPU may have them cached until the next flush.
    pub(crate) retired: Vec<Hpa>,
    pub(crate) tracking: Option<DirtyMethod>,
    /// Pages are executed only after the audit has seen them.
    pub(crate) auditing: bool,
    pub(crate) work: Option<Work>,
    memory: PhantomData<&'m Table>,
}

impl<'m, F: Frames<'m>> Ept<'m, F> {
    /// Empty tables; `None` when the host is out of memory.
    #[must_use]
    pub fn new(frames: F, features: Features) -> Option<Self> {
        let root = frames.alloc()?;
        let access_dirty = if features.access_dirty { 1 << 6 } else { 0 };
        Some(Self {
            frames,
            root,
            // memory type write-back, page-walk length 4 (SDM 24.6.11)
            eptp: Eptp(root.0 | 6 | 3 << 3 | access_dirty),
            directories: Vec::new(),
            regions: 0,
            large: if features.executable_large_pages { PRESENT } else { READ | WRITE },
            large_pages: 0,
            retired: Vec::new(),
            tracking: None,
            auditing: false,
            work: None,
            memory: PhantomData,
        })
    }

    /// The table that an entry leads to.
    #[inline(always)]
    pub(crate) fn table(&self, entry: u64) -> &'m Table {
        self.frames.table(Hpa(entry & ADDRESS))
    }

    fn new_table(&self) -> Result<Hpa, OutOfMemory> {
        self.frames.alloc().ok_or(OutOfMemory)
    }

    /// The 2 MiB entry of a region (`gpa >> 21`); `None` where its GiB has no table.
    #[inline(always)]
    pub(crate) fn region(&self, region: u64) -> Option<&'m AtomicU64> {
        let directory = *self.directories.get((region >> 9) as usize)?;
        (directory != 0).then(|| &self.frames.table(Hpa(directory))[region as usize & 511])
    }

    /// The 4 KiB entries of a region, where it has them.
    #[inline(always)]
    pub(crate) fn leaves(&self, region: u64) -> Option<&'m Table> {
        let entry = self.region(region)?.load(Ordering::Acquire);
        is_table(entry).then(|| self.table(entry))
    }

    /// The entry that maps `gpa`, with its level: 1 for 4 KiB, 2 for 2 MiB.
    pub(crate) fn leaf(&self, gpa: u64) -> Option<(&'m AtomicU64, u32)> {
        let entry = self.region(gpa >> 21)?;
        let value = entry.load(Ordering::Acquire);
        Some(if is_table(value) { (&self.table(value)[index(gpa, 1)], 1) } else { (entry, 2) })
    }

    /// The table of `level` that covers `gpa`, 1 for 4 KiB entries, made where missing.
    pub(crate) fn table_for(&mut self, gpa: u64, level: u32) -> Result<&'m Table, OutOfMemory> {
        let gib = (gpa >> 30) as usize;
        if gib >= self.directories.len() {
            self.directories.try_reserve(gib + 1 - self.directories.len()).map_err(|_| OutOfMemory)?;
            self.directories.resize(gib + 1, 0);
        }
        self.regions = self.regions.max((gpa >> 21) + 1);
        let mut at = self.root.0;
        for above in (level + 1..=4).rev() {
            let entry = &self.table(at)[index(gpa, above)];
            at = entry.load(Ordering::Acquire);
            if at & PRESENT == 0 {
                at = self.new_table()?.0 | PRESENT;
                entry.store(at, Ordering::Release);
            }
            if above == 3 {
                self.directories[gib] = at & ADDRESS;
            }
        }
        Ok(self.table(at))
    }

    /// Splits a 2 MiB page into 512 of 4 KiB with the same bits, plus `add` and less `remove`.
    pub(crate) fn split(
        &mut self,
        entry: &AtomicU64,
        add: u64,
        remove: u64,
        mark: u64,
    ) -> Result<(), OutOfMemory> {
        let small = self.new_table()?;
        let large = entry.load(Ordering::Acquire);
        let bits = (large & !(ADDRESS | LARGE) | add) & !remove;
        let base = large & ADDRESS;
        for (number, leaf) in (0..).zip(self.table(small.0)) {
            leaf.store((base + number * SIZE_4K) | bits, Ordering::Relaxed);
        }
        entry.store(small.0 | PRESENT | mark, Ordering::Release);
        self.large_pages -= 1;
        Ok(())
    }

    /// Makes a region one large page again. Its table waits for a flush.
    pub(crate) fn merge(&mut self, entry: &AtomicU64, leaves: &Table) {
        let small = entry.load(Ordering::Acquire) & ADDRESS;
        let base = leaves[0].load(Ordering::Acquire) & ADDRESS;
        let bits = self.large | WRITE_BACK | LARGE | ACCESSED | DIRTY;
        entry.store(base | bits, Ordering::Release);
        self.retired.push(Hpa(small));
        self.large_pages += 1;
    }
}

impl<'m, F: Frames<'m>> Drop for Ept<'m, F> {
    fn drop(&mut self) {
        // What was taken apart before has little left.
        while self.take_apart() {}
        self.frames.free(self.root);
    }
}
