//! What the audit of a VM asks of its tables: a page is executed or written, not both.

use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::PageSet;

use super::entry::{DECODED, DECODED_ONCE, EXECUTE, PRESENT, SPLIT_MAY_MERGE, WRITE, is_table};
use super::table::Ept;
use super::track::TABLE;
use crate::frames::{Frames, Table};
use crate::words::{DirtyMethod, OutOfMemory};

impl<'m, F: Frames<'m>> Ept<'m, F> {
    /// From the next flush on, the first fetch from each page of a region is noticed. Returns the number of entries
    /// touched.
    pub(crate) fn audit_region(&self, entry: &AtomicU64) -> u32 {
        let value = entry.load(Ordering::Acquire);
        if !is_table(value) {
            entry.fetch_and(!EXECUTE, Ordering::AcqRel);
            return 0;
        }
        // One that is decoded has been fetched since the audit began.
        let old = |leaf: &&AtomicU64| leaf.load(Ordering::Acquire) & DECODED == 0;
        for leaf in self.table(value).iter().filter(old) {
            leaf.fetch_and(!(EXECUTE | DECODED_ONCE), Ordering::AcqRel);
        }
        TABLE
    }

    pub(crate) fn make_executable(&mut self, gpa: u64) -> Result<bool, OutOfMemory> {
        let Some((mut entry, level)) = self.leaf(gpa) else { return Ok(false) };
        let executable = self.large & EXECUTE != 0;
        if level != 1 {
            // Where large pages must not be executable, one that is executed stays split.
            self.split(entry, 0, 0, if executable { SPLIT_MAY_MERGE } else { 0 })?;
            let Some((leaf, _)) = self.leaf(gpa) else { return Ok(false) };
            entry = leaf;
        } else if !executable && let Some(above) = self.region(gpa >> 21) {
            above.fetch_and(!SPLIT_MAY_MERGE, Ordering::AcqRel);
        }
        // never both, not even for an instant: another CPU could write behind the audit's back
        let before = entry.fetch_and(!WRITE, Ordering::AcqRel);
        entry.fetch_or(EXECUTE | DECODED | DECODED_ONCE, Ordering::AcqRel);
        Ok(before & DECODED_ONCE != 0)
    }

    pub(crate) fn make_writable(&self, gpa: u64, executable: bool, logged: &PageSet) {
        let Some((entry, 1)) = self.leaf(gpa) else { return };
        entry.fetch_and(if executable { !DECODED } else { !(DECODED | EXECUTE) }, Ordering::AcqRel);
        entry.fetch_or(WRITE, Ordering::AcqRel);
        if self.tracking == Some(DirtyMethod::WriteProtect) {
            logged.insert(gpa >> 12);
        }
    }

    pub(crate) fn take_execution(&self, gpa: u64) {
        // one that is decoded and unwritten needs no other look
        if let Some((entry, 1)) = self.leaf(gpa)
            && entry.load(Ordering::Acquire) & DECODED == 0
        {
            entry.fetch_and(!EXECUTE, Ordering::AcqRel);
        }
    }

    /// Gives the leaves of a region the permissions back that nobody needs to keep any more. `code`: without an audit
    /// they would be executable.
    pub(crate) fn put_back_leaves(&self, leaves: &Table, code: bool) {
        // what write protection keeps, the first write will give back
        let protected = self.tracking == Some(DirtyMethod::WriteProtect);
        let present = |leaf: &&AtomicU64| leaf.load(Ordering::Acquire) & PRESENT != 0;
        for leaf in leaves.iter().filter(present) {
            let decoded = self.auditing && leaf.load(Ordering::Acquire) & DECODED != 0;
            let mut add = if protected || decoded { 0 } else { WRITE };
            if !self.auditing {
                add |= if code { EXECUTE } else { 0 };
                leaf.fetch_and(!(DECODED | DECODED_ONCE), Ordering::AcqRel);
            }
            leaf.fetch_or(add, Ordering::AcqRel);
        }
    }
}
