//! Mapping, and what a violation makes of it.

use core::sync::atomic::Ordering;
use vm_types::{Backlog, Gpa, Hpa, PageSet};
use vmx_types::qualification::EptViolation;

use super::entry::{
    ADDRESS, DECODED, EXECUTE, LARGE, PRESENT, READ, SIZE_2M, SIZE_4K, WRITE, WRITE_BACK, index,
};
use super::table::Ept;
use crate::backing::Backing;
use crate::frames::Frames;
use crate::words::{Change, DirtyMethod, Fault, OutOfMemory, Step};

impl<'m, F: Frames<'m>> Backing for Ept<'m, F> {
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
                self.large_pages += 1;
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
        let (entry, level) = self.leaf(gpa.0)?;
        let value = entry.load(Ordering::Acquire);
        let span = SIZE_4K << (9 * (level - 1));
        (value & PRESENT != 0).then(|| Hpa(value & ADDRESS & !(span - 1) | gpa.0 & (span - 1)))
    }

    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool {
        if self.tracking != Some(DirtyMethod::WriteProtect) {
            return false;
        }
        let Some(leaves) = self.leaves(gpa >> 21) else { return false };
        let leaf = &leaves[index(gpa, 1)];
        if leaf.load(Ordering::Relaxed) & (PRESENT | DECODED) & !EXECUTE != READ {
            return false;
        }
        leaf.fetch_or(WRITE, Ordering::AcqRel);
        logged.insert(gpa >> 12);
        true
    }

    fn fault(&mut self, violation: EptViolation, logged: &PageSet) -> Result<Fault, OutOfMemory> {
        let Some((entry, level)) = self.leaf(violation.gpa) else { return Ok(Fault::Unmapped) };
        let value = entry.load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return Ok(Fault::Unmapped);
        }
        if violation.fetch() && value & EXECUTE == 0 {
            if self.auditing {
                return Ok(Fault::FirstFetch);
            }
            if level == 1 || self.large & EXECUTE != 0 {
                entry.fetch_or(EXECUTE, Ordering::AcqRel);
            } else {
                self.split(entry, EXECUTE, 0, 0)?;
            }
            return Ok(Fault::Resolved);
        }
        if violation.write() && value & WRITE == 0 {
            if value & DECODED != 0 {
                return Ok(Fault::CodeWrite);
            }
            // Also where nothing is tracked any more, and the walk that gives the permission back is not here yet.
            entry.fetch_or(WRITE, Ordering::AcqRel);
            if self.tracking == Some(DirtyMethod::WriteProtect) {
                logged.insert(violation.gpa >> 12);
            }
            return Ok(Fault::Resolved);
        }
        // Another CPU has resolved it meanwhile, or the CPU's cached translation was stale.
        Ok(Fault::Resolved)
    }

    fn under_way(&self) -> Option<Change> {
        self.work.as_ref().map(|work| work.change)
    }

    fn begin(&mut self, change: Change) {
        self.begin_change(change);
    }

    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        self.step_change(logged, backlog)
    }

    fn answered(&mut self) {
        self.was_answered();
    }

    fn admit_code(&mut self, gpa: Gpa) -> Result<bool, OutOfMemory> {
        self.make_executable(gpa.0)
    }

    fn admit_write(&mut self, gpa: Gpa, executable: bool, logged: &PageSet) {
        self.make_writable(gpa.0, executable, logged);
    }

    fn revoke_code(&mut self, gpa: Gpa) {
        self.take_execution(gpa.0);
    }

    fn take_apart(&mut self) -> bool {
        self.take_apart()
    }
}
