//! What the audit of a VM asks of its tables: a page is executed or written, not both.

use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::PageSet;

use super::entry::{EXECUTE, EXECUTED, KEPT, PRESENT, SPLIT_MAY_MERGE, WRITE, is_table};
use super::table::Ept;
use super::track::TABLE;
use crate::frames::{Frames, Table};
use crate::words::{Admitted, DirtyMethod, Kept, OutOfMemory, Permission};

impl<'m, F: Frames<'m>> Ept<'m, F> {
    /// From the next flush on, the first fetch from each page of a region is noticed. Returns the number of entries
    /// touched.
    pub(crate) fn audit_region(&self, entry: &AtomicU64) -> u32 {
        let value = entry.load(Ordering::Acquire);
        if !is_table(value) {
            entry.fetch_and(!EXECUTE, Ordering::AcqRel);
            return 0;
        }
        // One that is kept has been fetched since the audit began.
        let old = |leaf: &&AtomicU64| leaf.load(Ordering::Acquire) & KEPT == 0;
        for leaf in self.table(value).iter().filter(old) {
            leaf.fetch_and(!(EXECUTE | EXECUTED), Ordering::AcqRel);
        }
        TABLE
    }

    pub(super) fn keep_page(&mut self, gpa: u64, wanted: Permission) -> Result<Option<Kept>, OutOfMemory> {
        let Some((mut entry, level)) = self.leaf(gpa) else { return Ok(None) };
        let bit = match wanted {
            Permission::Execute => EXECUTE,
            Permission::Write => WRITE,
        };
        let value = entry.load(Ordering::Acquire);
        if value & bit != 0 || value & PRESENT == 0 {
            return Ok(None);
        }
        let executable = self.large & EXECUTE != 0;
        if level != 1 {
            // Where large pages must not be executable, one that is executed stays split.
            self.split(entry, 0, 0, if executable { SPLIT_MAY_MERGE } else { 0 })?;
            let Some((leaf, _)) = self.leaf(gpa) else { return Ok(None) };
            entry = leaf;
        } else if !executable && let Some(above) = self.region(gpa >> 21) {
            above.fetch_and(!SPLIT_MAY_MERGE, Ordering::AcqRel);
        }
        let before = entry.fetch_and(!(EXECUTE | WRITE), Ordering::AcqRel);
        entry.fetch_or(KEPT, Ordering::AcqRel);
        Ok(Some(Kept {
            executed: before & EXECUTED != 0,
            already: before & (KEPT | EXECUTE | WRITE) == KEPT,
        }))
    }

    pub(super) fn admit_to_page(&self, gpa: u64, admitted: Admitted, logged: &PageSet) {
        let Some((entry, 1)) = self.leaf(gpa) else { return };
        if admitted != Admitted::Code {
            entry.fetch_and(!KEPT, Ordering::AcqRel);
            if self.tracking == Some(DirtyMethod::WriteProtect) {
                logged.insert(gpa >> 12);
            }
        }
        let bits = match admitted {
            Admitted::Code => EXECUTE | EXECUTED,
            Admitted::Data => WRITE,
            Admitted::Both => EXECUTE | EXECUTED | WRITE,
        };
        entry.fetch_or(bits, Ordering::AcqRel);
    }

    pub(crate) fn take_execution(&self, gpa: u64) {
        // one that is kept needs no other look
        if let Some((entry, 1)) = self.leaf(gpa)
            && entry.load(Ordering::Acquire) & KEPT == 0
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
            let kept = self.auditing && leaf.load(Ordering::Acquire) & KEPT != 0;
            let mut add = if protected || kept { 0 } else { WRITE };
            if !self.auditing {
                add |= if code { EXECUTE } else { 0 };
                leaf.fetch_and(!(KEPT | EXECUTED), Ordering::AcqRel);
            }
            leaf.fetch_or(add, Ordering::AcqRel);
        }
    }
}
