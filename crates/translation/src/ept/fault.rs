//! What a violation is.

use core::sync::atomic::Ordering;
use vm_types::{Gpa, PageSet};
use vmx_types::qualification::EptViolation;

use super::entry::{DEVICE, EXECUTE, KEPT, PRESENT, READ, WRITE, index};
use super::table::Ept;
use crate::frames::Frames;
use crate::words::{DirtyMethod, Fault, OutOfMemory};

impl<'m, F: Frames<'m>> Ept<'m, F> {
    #[inline]
    pub(super) fn give_back_write(&self, gpa: u64, logged: &PageSet) -> bool {
        if self.tracking != Some(DirtyMethod::WriteProtect) {
            return false;
        }
        let Some(leaves) = self.leaves(gpa >> 21) else { return false };
        let leaf = &leaves[index(gpa, 1)];
        if leaf.load(Ordering::Relaxed) & (PRESENT | KEPT) & !EXECUTE != READ {
            return false;
        }
        leaf.fetch_or(WRITE, Ordering::AcqRel);
        logged.insert(gpa >> 12);
        true
    }

    #[inline]
    pub(super) fn resolve(
        &mut self,
        violation: EptViolation,
        logged: &PageSet,
    ) -> Result<Fault, OutOfMemory> {
        let gpa = Gpa(violation.gpa);
        let Some((entry, level)) = self.leaf(gpa.0) else { return Ok(Fault::Unmapped(gpa)) };
        let value = entry.load(Ordering::Acquire);
        if value & PRESENT == 0 || value & DEVICE != 0 {
            return Ok(Fault::Unmapped(gpa));
        }
        if violation.fetch() && value & EXECUTE == 0 {
            if self.auditing {
                return Ok(Fault::FirstFetch(gpa));
            }
            if level == 1 || self.large & EXECUTE != 0 {
                entry.fetch_or(EXECUTE, Ordering::AcqRel);
            } else {
                self.split(entry, EXECUTE, 0, 0)?;
            }
            return Ok(Fault::Resolved);
        }
        if violation.write() && value & WRITE == 0 {
            // Where the audit is over, and the walk that gives the permission back is not here yet, nobody keeps it.
            if value & KEPT != 0 && self.auditing {
                return Ok(Fault::CodeWrite(gpa));
            }
            // Also where nothing is tracked any more, and the walk that gives the permission back is not here yet.
            entry.fetch_or(WRITE, Ordering::AcqRel);
            if self.tracking == Some(DirtyMethod::WriteProtect) {
                logged.insert(gpa.0 >> 12);
            }
            return Ok(Fault::Resolved);
        }
        // Another CPU has resolved it meanwhile, or the CPU's cached translation was stale.
        Ok(Fault::Resolved)
    }
}
