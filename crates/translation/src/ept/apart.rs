//! Mapping and giving back, in bounded steps: the tables of a terabyte are half a million entries.

use core::sync::atomic::Ordering;
use vm_types::{Gpa, Hpa};

use super::entry::{ADDRESS, SIZE_2M, is_table};
use super::table::{Ept, Frames};
use crate::mmu::Mmu;
use crate::words::OutOfMemory;

/// Most pages that a step gives back, and directories of 512 entries that it goes through.
const FREED: usize = 64;
const DIRECTORIES: usize = 4;
const GIB: u64 = 1 << 30;

/// A run of memory that is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmapped {
    /// Where the guest is to see it.
    pub gpa: Gpa,
    /// Where it lies.
    pub hpa: Hpa,
    /// Bytes, as for [`Mmu::map`].
    pub len: u64,
}

impl Unmapped {
    /// Maps a part of it in one bounded step. True while some is left.
    ///
    /// # Errors
    /// [`OutOfMemory`]; a part may be mapped then.
    pub fn step(&mut self, mmu: &mut dyn Mmu) -> Result<bool, OutOfMemory> {
        // Within one GiB, and where it has to be small pages, within one of their tables.
        let large = self.gpa.0.is_multiple_of(SIZE_2M) && self.hpa.0.is_multiple_of(SIZE_2M);
        let span = if large { GIB } else { SIZE_2M };
        let piece = (span - self.gpa.0 % span).min(self.len);
        mmu.map(self.gpa, self.hpa, piece)?;
        *self = Self { gpa: Gpa(self.gpa.0 + piece), hpa: Hpa(self.hpa.0 + piece), len: self.len - piece };
        Ok(self.len > 0)
    }
}

impl<'m, F: Frames<'m>> Ept<'m, F> {
    /// Gives back a bounded part of the tables, all but the root. True while some are left.
    pub(crate) fn take_apart(&mut self) -> bool {
        let keep = self.retired.len().saturating_sub(FREED);
        if keep < self.retired.len() {
            self.retired.drain(keep..).for_each(|page| self.frames.free(page));
            return true;
        }
        for _ in 0..DIRECTORIES {
            let Some(directory) = self.directories.pop() else {
                return self.take_third_level_apart();
            };
            if directory == 0 {
                continue; // a GiB without memory
            }
            let entries = self.table(directory).iter();
            let leaves =
                entries.map(|entry| entry.swap(0, Ordering::AcqRel)).filter(|entry| is_table(*entry));
            self.retired.extend(leaves.map(|entry| Hpa(entry & ADDRESS)));
            self.retired.push(Hpa(directory));
        }
        true
    }

    /// The tables above the directories.
    fn take_third_level_apart(&mut self) -> bool {
        let mut some = false;
        for entry in self.table(self.root.0) {
            let third = entry.swap(0, Ordering::AcqRel);
            if is_table(third) {
                self.retired.push(Hpa(third & ADDRESS));
                some = true;
            }
        }
        some
    }
}
