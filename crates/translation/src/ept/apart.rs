//! Giving back, in bounded steps: the tables of a terabyte are half a million entries.

use core::sync::atomic::Ordering;
use vm_types::Hpa;

use super::entry::{ADDRESS, is_table};
use super::table::Ept;
use crate::frames::Frames;

/// Most pages that a step gives back, and directories of 512 entries that it goes through.
const FREED: usize = 64;
const DIRECTORIES: usize = 4;

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
