//! Mapping, and what is mapped.

use core::sync::atomic::Ordering;
use vm_types::{Gpa, Hpa};

use super::entry::{
    ACCESSED, ADDRESS, DEVICE, DIRTY, LARGE, PRESENT, READ, SIZE_2M, SIZE_4K, WRITE, WRITE_BACK, index,
};
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

    /// A page of a device's: readable and writable. It has been accessed and written before, so that the CPU neither logs
    /// it nor writes to its entry; and it is in none of the regions that changes go through.
    pub(super) fn map_device_page(&mut self, gpa: Gpa, hpa: Hpa) -> Result<(), OutOfMemory> {
        let regions = self.regions;
        let table = self.table_for(gpa.0, 1);
        self.regions = regions;
        let bits = READ | WRITE | WRITE_BACK | ACCESSED | DIRTY | DEVICE;
        table?[index(gpa.0, 1)].store(hpa.0 | bits, Ordering::Release);
        // Where memory lies above, changes come by here.
        if let Some(region) = self.region(gpa.0 >> 21) {
            region.fetch_or(DEVICE, Ordering::AcqRel);
        }
        Ok(())
    }

    pub(super) fn unmap_device_page(&self, gpa: Gpa) -> bool {
        let leaf = self.leaves(gpa.0 >> 21).map(|leaves| &leaves[index(gpa.0, 1)]);
        leaf.is_some_and(|leaf| {
            let was = leaf.load(Ordering::Acquire) & DEVICE != 0;
            if was {
                leaf.store(0, Ordering::Release);
            }
            was
        })
    }

    pub(super) fn host_address(&self, gpa: Gpa) -> Option<Hpa> {
        let (entry, level) = self.leaf(gpa.0)?;
        let value = entry.load(Ordering::Acquire);
        let span = SIZE_4K << (9 * (level - 1));
        (value & PRESENT != 0).then(|| Hpa(value & ADDRESS & !(span - 1) | gpa.0 & (span - 1)))
    }
}
