//! Noticing writes: arming a region, and harvesting what was noticed.

use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::{Backlog, PageSet};

use super::entry::{ACCESSED, DIRTY, EXECUTE, LARGE, PRESENT, RECENT, SPLIT_MAY_MERGE, WRITE, is_table};
use super::table::Ept;
use crate::frames::{Frames, Table};
use crate::words::{DirtyMethod, OutOfMemory, STEP};

/// Entries of a table, as a cost.
pub(crate) const TABLE: u32 = 512;
/// Entries that a table costs that is cleared and then filled.
const NEW_TABLE: u32 = 2 * TABLE;

/// What re-arms a page.
const fn armed(method: DirtyMethod) -> u64 {
    match method {
        DirtyMethod::WriteProtect => WRITE,
        DirtyMethod::AccessDirty | DirtyMethod::Pml => DIRTY,
    }
}

impl<'m, F: Frames<'m>> Ept<'m, F> {
    /// From the next flush on, the first write to each page of a region is noticed. Returns the number of entries
    /// touched.
    pub(crate) fn arm_region(&mut self, entry: &AtomicU64, method: DirtyMethod) -> Result<u32, OutOfMemory> {
        let value = entry.load(Ordering::Acquire);
        if value & LARGE != 0 {
            self.split(entry, 0, armed(method), SPLIT_MAY_MERGE)?;
            return Ok(NEW_TABLE);
        }
        if !is_table(value) {
            return Ok(0);
        }
        entry.fetch_and(!(ACCESSED | RECENT), Ordering::AcqRel);
        for leaf in self.table(value) {
            leaf.fetch_and(!armed(method), Ordering::AcqRel);
        }
        Ok(TABLE)
    }

    /// Puts back what tracking and audit needed and need no more in a region: permissions, and the large page where
    /// neither is on. Returns whether it did the latter, and the number of entries touched.
    pub(crate) fn put_back_region(&mut self, entry: &AtomicU64) -> (bool, u32) {
        let value = entry.load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return (false, 0);
        }
        if value & LARGE != 0 {
            if !self.auditing {
                entry.fetch_or(self.large, Ordering::AcqRel);
            }
            return (false, 0);
        }
        let (idle, executable) = (self.tracking.is_none() && !self.auditing, self.large & EXECUTE != 0);
        let leaves = self.table(value);
        let fetched = leaves.iter().any(|leaf| leaf.load(Ordering::Acquire) & EXECUTE != 0);
        let may_merge = value & SPLIT_MAY_MERGE != 0 && (executable || !fetched);
        if idle && may_merge {
            self.merge(entry, leaves);
            return (true, TABLE);
        }
        if idle {
            entry.fetch_and(!SPLIT_MAY_MERGE, Ordering::AcqRel);
        }
        self.put_back_leaves(leaves, !may_merge || executable);
        (false, 2 * TABLE)
    }

    /// Takes the pages in `logged` from page `from` on into `backlog` and re-arms them. Returns where to go on.
    pub(crate) fn harvest_logged(
        &self,
        method: DirtyMethod,
        from: u64,
        logged: &PageSet,
        backlog: &Backlog,
        count: &mut u64,
    ) -> Option<u64> {
        let keep = !armed(method);
        logged.drain_some(from, STEP - TABLE, |first, words| {
            let leaves = self.leaves(first >> 9);
            let Some(mut adding) = backlog.adding(first) else {
                words.take(|_, _| ()); // no memory is there
                return 0;
            };
            words.take(|word, bits| match leaves {
                Some(leaves) => {
                    let leaves = &leaves.as_chunks::<64>().0[word & 7];
                    adding.add_each(word, bits, |page| {
                        leaves[page & 63].fetch_and(keep, Ordering::AcqRel);
                    });
                }
                None => adding.add(word, bits),
            });
            let pages = adding.end();
            *count += u64::from(pages);
            pages
        })
    }

    /// Takes the dirty flags of a region into `backlog`. Returns their number and that of the entries touched.
    ///
    /// A region whose entry nobody has used since the flush of the last harvest has no page written: a walk sets the
    /// accessed flag of each entry that it uses (SDM 28.3.5), and no CPU had one of them cached. So the last harvest,
    /// for which the guest stands, looks at what was used in the last round, however large the VM is. The flag alone
    /// would lose writes: between the moment it is taken here and the flush, a CPU with the entry cached makes pages
    /// below it dirty without setting it again. Hence [`RECENT`]: such a region is looked at once more.
    pub(crate) fn harvest_region(&self, region: u64, entry: &AtomicU64, backlog: &Backlog) -> (u64, u32) {
        let value = entry.load(Ordering::Acquire);
        if !is_table(value) || value & (ACCESSED | RECENT) == 0 {
            return (0, 0);
        }
        // Before the flags below are looked at: what is used from here on is seen by the next harvest.
        if value & ACCESSED != 0 {
            entry.fetch_or(RECENT, Ordering::AcqRel);
            entry.fetch_and(!ACCESSED, Ordering::AcqRel);
        } else {
            entry.fetch_and(!RECENT, Ordering::AcqRel);
        }
        (take_flags(region << 9, self.table(value), backlog), TABLE)
    }
}

/// Takes the dirty flags of 512 leaves into `backlog`. `first`: the number of their first page. By itself: where it is
/// inlined, the loop has no registers left.
#[inline(never)]
fn take_flags(first: u64, leaves: &Table, backlog: &Backlog) -> u64 {
    let Some(mut adding) = backlog.adding(first) else { return 0 };
    for (word, chunk) in leaves.as_chunks::<64>().0.iter().enumerate() {
        let mut bits = 0;
        for (shift, eight) in (0..).step_by(8).zip(chunk.as_chunks::<8>().0) {
            bits |= take_dirty(eight) << shift;
        }
        if bits != 0 {
            adding.add(word, bits);
        }
    }
    adding.end().into()
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
