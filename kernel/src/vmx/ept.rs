//! Extended page tables (SDM 28.3), behind [`Mmu`].
//!
//! Large pages are mapped without execute permission and split at the first fetch, unless the CPU says that
//! it is safe (CVE-2018-12207): a guest could otherwise stop the machine by changing a page's size.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::{Gpa, PageSet};
use vmx_types::capability::Caps;
use vmx_types::qualification::EptViolation;

use crate::mm::{Hpa, frame};
use crate::vm::mmu::{DirtyMethod, Fault, Mmu, OutOfMemory};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const WRITE_BACK: u64 = 6 << 3;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
/// Ignored by the CPU: the large page was split for tracking or the audit alone and may be put back.
const SPLIT_MAY_MERGE: u64 = 1 << 52;
/// Ignored by the CPU: the audit has decoded the page, which nobody has written since. Executable, not writable.
const DECODED: u64 = 1 << 53;
/// Ignored by the CPU: the audit has decoded the page at some time.
const DECODED_ONCE: u64 = 1 << 54;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = READ | WRITE | EXECUTE;

const SIZE_4K: u64 = 1 << 12;
const SIZE_2M: u64 = 1 << 21;

/// The tables of one VM.
pub(crate) struct Ept {
    root: Hpa,
    eptp: u64,
    /// All tables but the root.
    pages: Vec<Hpa>,
    /// Of them those that tracking or the audit needed and that no entry leads to any more. A CPU may have them cached
    /// until the flush that follows: the next start of tracking makes them spare.
    retired: Vec<Hpa>,
    spare: Vec<Hpa>,
    /// While writes are tracked, and no large page exists: the table of each 2 MiB of guest memory, 0 for none.
    leaves: Vec<u64>,
    /// Permissions of a large page: EXECUTE only where the CPU is known safe.
    large: u64,
    tracking: Option<DirtyMethod>,
    /// Pages are executed only after the audit has seen them.
    auditing: bool,
}

type Table = [AtomicU64; 512];

/// A table page.
fn table(hpa: u64) -> &'static Table {
    // SAFETY: only addresses of table pages of a live Ept come here; they are 4 KiB pages of our own, identity
    // mapped, and the CPU's own accesses to them are what the atomics are for.
    unsafe { &*((hpa & ADDRESS) as *const Table) }
}

/// True where an entry above the last level leads to a table. One that is present is readable, so that two bits tell.
const fn is_table(entry: u64) -> bool {
    entry & (READ | LARGE) == READ
}

const fn index(gpa: u64, level: u32) -> usize {
    (gpa >> (12 + 9 * (level - 1))) as usize & 511
}

impl Ept {
    /// Empty tables; `None` when the host is out of memory.
    pub(crate) fn new(caps: &Caps, large_pages_executable: bool) -> Option<Self> {
        let root = frame::alloc_page()?;
        let access_dirty = if caps.ept_access_dirty() { 1 << 6 } else { 0 };
        let large = if large_pages_executable { PRESENT } else { READ | WRITE };
        // memory type write-back, page-walk length 4 (SDM 24.6.11)
        Some(Self {
            root,
            eptp: root.0 | 6 | 3 << 3 | access_dirty,
            pages: Vec::new(),
            retired: Vec::new(),
            spare: Vec::new(),
            leaves: Vec::new(),
            large,
            tracking: None,
            auditing: false,
        })
    }

    fn new_table(&mut self) -> Result<Hpa, OutOfMemory> {
        let page = frame::alloc_page().ok_or(OutOfMemory)?;
        self.pages.push(page);
        Ok(page)
    }

    /// The entry that maps `gpa`, with its level: 1 for 4 KiB, 2 for 2 MiB. A not-present entry ends the walk.
    fn entry(&self, gpa: u64) -> (&'static AtomicU64, u32) {
        self.entry_above(gpa, 1)
    }

    /// The same, but for a walk that ends at `lowest`.
    #[inline(always)]
    fn entry_above(&self, gpa: u64, lowest: u32) -> (&'static AtomicU64, u32) {
        let mut tables = self.root.0;
        for level in (lowest + 1..=4).rev() {
            let entry = &table(tables)[index(gpa, level)];
            let value = entry.load(Ordering::Acquire);
            if !is_table(value) {
                return (entry, level);
            }
            tables = value;
        }
        (&table(tables)[index(gpa, lowest)], lowest)
    }

    /// The table at `level` (1: of 4 KiB entries) that covers `gpa`, made where missing.
    fn table_for(&mut self, gpa: u64, level: u32) -> Result<&'static Table, OutOfMemory> {
        let mut current = table(self.root.0);
        for at in (level + 1..=4).rev() {
            let entry = &current[index(gpa, at)];
            let mut value = entry.load(Ordering::Acquire);
            if value & PRESENT == 0 {
                value = self.new_table()?.0 | PRESENT;
                entry.store(value, Ordering::Release);
            }
            current = table(value);
        }
        Ok(current)
    }

    /// Makes `tables` tables spare, or changes nothing.
    fn reserve(&mut self, tables: usize) -> Result<(), OutOfMemory> {
        let missing = tables.saturating_sub(self.spare.len());
        self.pages.try_reserve(missing).map_err(|_| OutOfMemory)?;
        self.spare.try_reserve(missing).map_err(|_| OutOfMemory)?;
        for done in 0..missing {
            let Some(page) = frame::alloc_page() else {
                self.pages.truncate(self.pages.len() - done);
                let keep = self.spare.len() - done;
                self.spare.drain(keep..).for_each(|page| frame::free(page, SIZE_4K));
                return Err(OutOfMemory);
            };
            self.pages.push(page);
            self.spare.push(page);
        }
        Ok(())
    }

    /// Remembers where the leaves of all memory are.
    fn index_leaves(&mut self) -> Result<(), OutOfMemory> {
        let mut end = 0;
        self.for_each_leaf_table(|first, _| end = end.max((first >> 9) as usize + 1));
        let mut leaves = Vec::new();
        leaves.try_reserve_exact(end).map_err(|_| OutOfMemory)?;
        leaves.resize(end, 0);
        self.for_each_leaf_table(|first, table| {
            leaves[(first >> 9) as usize] = core::ptr::from_ref(table) as u64;
        });
        self.leaves = leaves;
        Ok(())
    }

    /// The leaf of a page while writes are tracked.
    #[inline(always)]
    fn tracked_leaf(&self, gpa: u64) -> Option<&'static AtomicU64> {
        let leaves = *self.leaves.get((gpa >> 21) as usize)?;
        (leaves != 0).then(|| &table(leaves)[index(gpa, 1)])
    }

    /// Splits a 2 MiB page into 512 of 4 KiB with the same bits, plus `add`.
    fn split(&mut self, entry: &AtomicU64, add: u64, mark: u64) -> Result<(), OutOfMemory> {
        let small = self.spare.pop().map_or_else(|| self.new_table(), Ok)?;
        let large = entry.load(Ordering::Acquire);
        let bits = large & !(ADDRESS | LARGE) | add;
        let base = large & ADDRESS;
        for (number, leaf) in table(small.0).iter().enumerate() {
            leaf.store((base + number as u64 * SIZE_4K) | bits, Ordering::Relaxed);
        }
        entry.store(small.0 | PRESENT | mark, Ordering::Release);
        Ok(())
    }

    /// Calls `f` with the first page number and the entries of every table of 2 MiB entries.
    fn for_each_directory(&self, mut f: impl FnMut(u64, &'static Table)) {
        for (i4, e4) in table(self.root.0).iter().enumerate() {
            let e4 = e4.load(Ordering::Acquire);
            if e4 & PRESENT == 0 {
                continue;
            }
            for (i3, e3) in table(e4).iter().enumerate() {
                let e3 = e3.load(Ordering::Acquire);
                if e3 & PRESENT != 0 {
                    f((i4 as u64) << 27 | (i3 as u64) << 18, table(e3));
                }
            }
        }
    }

    /// Calls `f` with the first page number and the leaves of every table of 4 KiB pages.
    fn for_each_leaf_table(&self, mut f: impl FnMut(u64, &'static Table)) {
        self.for_each_directory(|first, directory| {
            for (number, entry) in directory.iter().enumerate() {
                let value = entry.load(Ordering::Acquire);
                if value & PRESENT != 0 && value & LARGE == 0 {
                    f(first | (number as u64) << 9, table(value));
                }
            }
        });
    }

    /// Puts back what tracking and audit needed and need no more: permissions, and large pages where neither is on.
    /// Returns the number of the latter.
    fn put_back(&mut self) -> u64 {
        let before = self.retired.len();
        let mut retired = core::mem::take(&mut self.retired);
        let large_bits = self.large | WRITE_BACK | LARGE | ACCESSED | DIRTY;
        let executable = self.large & EXECUTE != 0;
        let idle = self.tracking.is_none() && !self.auditing;
        self.for_each_directory(|_, directory| {
            for entry in directory {
                let value = entry.load(Ordering::Acquire);
                if value & PRESENT == 0 {
                    continue;
                }
                if value & LARGE != 0 {
                    if !self.auditing {
                        entry.fetch_or(self.large, Ordering::AcqRel);
                    }
                    continue;
                }
                let leaves = table(value);
                let fetched = leaves.iter().any(|leaf| leaf.load(Ordering::Acquire) & EXECUTE != 0);
                let may_merge = value & SPLIT_MAY_MERGE != 0 && (!fetched || executable);
                if idle && may_merge {
                    let base = leaves[0].load(Ordering::Acquire) & ADDRESS;
                    entry.store(base | large_bits, Ordering::Release);
                    retired.push(Hpa(value & ADDRESS));
                    continue;
                }
                if idle {
                    entry.fetch_and(!SPLIT_MAY_MERGE, Ordering::AcqRel);
                }
                for leaf in leaves {
                    self.put_back_leaf(leaf, !may_merge || executable);
                }
            }
        });
        self.retired = retired;
        (self.retired.len() - before) as u64
    }

    /// `code`: without an audit the page would be executable.
    fn put_back_leaf(&self, leaf: &AtomicU64, code: bool) {
        let value = leaf.load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return;
        }
        let mut add = 0;
        // what write protection keeps, the first write will give back
        let protected = self.tracking == Some(DirtyMethod::WriteProtect);
        let decoded = self.auditing && value & DECODED != 0;
        if !protected && !decoded {
            add |= WRITE;
        }
        if !self.auditing {
            add |= if code { EXECUTE } else { 0 };
            leaf.fetch_and(!(DECODED | DECODED_ONCE), Ordering::AcqRel);
        }
        leaf.fetch_or(add, Ordering::AcqRel);
    }

    /// Takes `bit` from the leaf of every page in `logged`, which is emptied into `harvested`.
    fn harvest_logged(&self, bit: u64, logged: &PageSet, harvested: &PageSet) -> u64 {
        let mut count = 0;
        logged.drain(|first, bits| {
            harvested.insert_word(first, bits);
            count += u64::from(bits.count_ones());
            let Some(leaf) = self.tracked_leaf(first << 12) else { return };
            // the leaf found is one of a table of 512
            let leaves = table(core::ptr::from_ref(leaf) as u64);
            let mut left = bits;
            while left != 0 {
                let at = (first & 511) as usize + left.trailing_zeros() as usize;
                leaves[at & 511].fetch_and(!bit, Ordering::AcqRel);
                left &= left - 1;
            }
        });
        count
    }

    /// Takes the dirty flags of all leaves into `harvested`.
    fn harvest_flags(&self, harvested: &PageSet) -> u64 {
        let mut count = 0;
        for (first, leaves) in (0..).step_by(512).zip(&self.leaves).filter(|(_, leaves)| **leaves != 0) {
            for (word, chunk) in table(*leaves).as_chunks::<64>().0.iter().enumerate() {
                let mut bits = 0;
                for (shift, eight) in (0..).step_by(8).zip(chunk.as_chunks::<8>().0) {
                    bits |= take_dirty(eight) << shift;
                }
                if bits != 0 {
                    harvested.insert_word(first + word as u64 * 64, bits);
                    count += u64::from(bits.count_ones());
                }
            }
        }
        count
    }
}

/// Clears the dirty flags of eight leaves; bit `n` of the answer is that of leaf `n`.
#[inline(always)]
fn take_dirty([a, b, c, d, e, f, g, h]: &[AtomicU64; 8]) -> u64 {
    let flag = |leaf: &AtomicU64| leaf.load(Ordering::Relaxed) as u32;
    // Most memory is not written between two harvests: eight at a look. Single names, not an array: it would go
    // through memory.
    let (va, vb, vc, vd) = (flag(a), flag(b), flag(c), flag(d));
    let (ve, vf, vg, vh) = (flag(e), flag(f), flag(g), flag(h));
    if (va | vb | vc | vd | ve | vf | vg | vh) & DIRTY as u32 == 0 {
        return 0;
    }
    let mut bits = 0;
    let mut take = |leaf: &AtomicU64, value: u32, bit: u64| {
        if value & DIRTY as u32 != 0 {
            leaf.fetch_and(!DIRTY, Ordering::AcqRel);
            bits |= bit;
        }
    };
    take(a, va, 1 << 0);
    take(b, vb, 1 << 1);
    take(c, vc, 1 << 2);
    take(d, vd, 1 << 3);
    take(e, ve, 1 << 4);
    take(f, vf, 1 << 5);
    take(g, vg, 1 << 6);
    take(h, vh, 1 << 7);
    bits
}

impl Mmu for Ept {
    fn root(&self) -> u64 {
        self.eptp
    }

    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
        let mut done = 0;
        while done < len {
            let (from, to) = (gpa.0 + done, hpa.0 + done);
            if (from | to) % SIZE_2M == 0 && len - done >= SIZE_2M {
                let entry = &self.table_for(from, 2)?[index(from, 2)];
                entry.store(to | self.large | WRITE_BACK | LARGE, Ordering::Release);
                done += SIZE_2M;
            } else {
                let entry = &self.table_for(from, 1)?[index(from, 1)];
                entry.store(to | PRESENT | WRITE_BACK, Ordering::Release);
                done += SIZE_4K;
            }
        }
        Ok(())
    }

    fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        let (entry, level) = self.entry(gpa.0);
        let value = entry.load(Ordering::Acquire);
        let span = SIZE_4K << (9 * (level - 1));
        (value & PRESENT != 0).then(|| Hpa(value & ADDRESS & !(span - 1) | gpa.0 & (span - 1)))
    }

    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool {
        if self.tracking != Some(DirtyMethod::WriteProtect) {
            return false;
        }
        let Some(leaf) = self.tracked_leaf(gpa) else { return false };
        if leaf.load(Ordering::Relaxed) & (PRESENT | DECODED) & !EXECUTE != READ {
            return false;
        }
        leaf.fetch_or(WRITE, Ordering::AcqRel);
        logged.insert(gpa >> 12);
        true
    }

    fn fault(&mut self, violation: EptViolation, logged: &PageSet) -> Result<Fault, OutOfMemory> {
        let (entry, level) = self.entry(violation.gpa);
        let value = entry.load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return Ok(Fault::Unmapped);
        }
        if violation.fetch() && value & EXECUTE == 0 {
            if self.auditing {
                return Ok(Fault::FirstFetch);
            }
            if level == 1 {
                entry.fetch_or(EXECUTE, Ordering::AcqRel);
            } else {
                self.split(entry, EXECUTE, 0)?;
            }
            return Ok(Fault::Resolved);
        }
        if violation.write() && value & WRITE == 0 {
            if value & DECODED != 0 {
                return Ok(Fault::CodeWrite);
            }
            if self.tracking != Some(DirtyMethod::WriteProtect) {
                return Ok(Fault::Resolved);
            }
            entry.fetch_or(WRITE, Ordering::AcqRel);
            logged.insert(violation.gpa >> 12);
            return Ok(Fault::Resolved);
        }
        // Another CPU has resolved it meanwhile, or the CPU's cached translation was stale.
        Ok(Fault::Resolved)
    }

    fn start_tracking(&mut self, method: DirtyMethod) -> Result<u64, OutOfMemory> {
        self.spare.append(&mut self.retired);
        let is_large = |entry: &AtomicU64| entry.load(Ordering::Acquire) & LARGE != 0;
        let mut large = 0;
        self.for_each_directory(|_, directory| large += directory.iter().filter(|e| is_large(e)).count());
        self.reserve(large)?;
        let mut directories = Vec::new();
        self.for_each_directory(|_, directory| directories.push(directory));
        for entry in directories.into_iter().flatten().filter(|e| is_large(e)) {
            self.split(entry, 0, SPLIT_MAY_MERGE)?;
        }
        self.index_leaves()?;
        let clear = match method {
            DirtyMethod::WriteProtect => WRITE,
            DirtyMethod::AccessDirty | DirtyMethod::Pml => DIRTY,
        };
        self.for_each_leaf_table(|_, leaves| {
            for leaf in leaves {
                leaf.fetch_and(!clear, Ordering::AcqRel);
            }
        });
        self.tracking = Some(method);
        Ok(large as u64)
    }

    fn stop_tracking(&mut self) -> u64 {
        self.tracking = None;
        self.leaves = Vec::new();
        self.put_back()
    }

    fn free_retired(&mut self) {
        let mut gone = core::mem::take(&mut self.retired);
        gone.append(&mut self.spare);
        gone.sort_unstable();
        self.pages.retain(|page| gone.binary_search(page).is_err());
        gone.into_iter().for_each(|page| frame::free(page, SIZE_4K));
    }

    fn harvest(&mut self, logged: &PageSet, harvested: &PageSet) -> u64 {
        match self.tracking {
            None => 0,
            Some(DirtyMethod::Pml) => self.harvest_logged(DIRTY, logged, harvested),
            Some(DirtyMethod::WriteProtect) => self.harvest_logged(WRITE, logged, harvested),
            // What the host wrote has no flag; what a CPU with PML logged all the same has one and counts once.
            Some(DirtyMethod::AccessDirty) => {
                self.harvest_logged(DIRTY, logged, harvested) + self.harvest_flags(harvested)
            }
        }
    }

    fn start_audit(&mut self) {
        self.auditing = true;
        self.for_each_directory(|_, directory| {
            for entry in directory {
                let value = entry.load(Ordering::Acquire);
                if value & LARGE != 0 {
                    entry.fetch_and(!EXECUTE, Ordering::AcqRel);
                } else if is_table(value) {
                    for leaf in table(value) {
                        leaf.fetch_and(!(EXECUTE | DECODED_ONCE), Ordering::AcqRel);
                    }
                }
            }
        });
    }

    fn stop_audit(&mut self) {
        self.auditing = false;
        let _ = self.put_back();
    }

    fn admit_code(&mut self, gpa: Gpa) -> Result<bool, OutOfMemory> {
        let (mut entry, level) = self.entry(gpa.0);
        let executable = self.large & EXECUTE != 0;
        if level != 1 {
            // Where large pages must not be executable, one that is executed stays split.
            self.split(entry, 0, if executable { SPLIT_MAY_MERGE } else { 0 })?;
            entry = self.entry(gpa.0).0;
        } else if !executable {
            self.entry_above(gpa.0, 2).0.fetch_and(!SPLIT_MAY_MERGE, Ordering::AcqRel);
        }
        // never both, not even for an instant: another CPU could write behind the audit's back
        let before = entry.fetch_and(!WRITE, Ordering::AcqRel);
        entry.fetch_or(EXECUTE | DECODED | DECODED_ONCE, Ordering::AcqRel);
        Ok(before & DECODED_ONCE != 0)
    }

    fn admit_write(&mut self, gpa: Gpa, executable: bool, logged: &PageSet) {
        let (entry, level) = self.entry(gpa.0);
        if level != 1 {
            return;
        }
        entry.fetch_and(if executable { !DECODED } else { !(DECODED | EXECUTE) }, Ordering::AcqRel);
        entry.fetch_or(WRITE, Ordering::AcqRel);
        if self.tracking == Some(DirtyMethod::WriteProtect) {
            logged.insert(gpa.0 >> 12);
        }
    }

    fn revoke_code(&mut self, gpa: Gpa) {
        let (entry, level) = self.entry(gpa.0);
        // one that is decoded and unwritten needs no other look
        if level == 1 && entry.load(Ordering::Acquire) & DECODED == 0 {
            entry.fetch_and(!EXECUTE, Ordering::AcqRel);
        }
    }
}

impl Drop for Ept {
    fn drop(&mut self) {
        for page in self.pages.drain(..).chain([self.root]) {
            frame::free(page, SIZE_4K);
        }
    }
}
