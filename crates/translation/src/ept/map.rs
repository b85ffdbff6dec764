//! Mapping, and what is mapped.

use core::sync::atomic::Ordering;
use vm_types::{Gpa, Hpa};

use super::entry::{ADDRESS, LARGE, PRESENT, SIZE_2M, SIZE_4K, WRITE_BACK, index};
use super::table::Ept;
use crate::frames::Frames;
use crate::words::OutOfMemory;

impl<'m, F: Frames<'m>> Ept<'m, F> {
    pub(super) fn map_pages(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
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

    pub(super) fn host_address(&self, gpa: Gpa) -> Option<Hpa> {
        let (entry, level) = self.leaf(gpa.0)?;
        let value = entry.load(Ordering::Acquire);
        let span = SIZE_4K << (9 * (level - 1));
        (value & PRESENT != 0).then(|| Hpa(value & ADDRESS & !(span - 1) | gpa.0 & (span - 1)))
    }
}
