//! Mapping in bounded steps: the tables of a terabyte are half a million entries.

use vm_types::{Gpa, Hpa};

use crate::backing::Backing;
use crate::words::OutOfMemory;

const SIZE_2M: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

/// A run of memory that is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmapped {
    /// Where the guest is to see it.
    pub gpa: Gpa,
    /// Where it lies.
    pub hpa: Hpa,
    /// Bytes, as for [`Backing::map`].
    pub len: u64,
}

impl Unmapped {
    /// Maps a part of it in one bounded step. True while some is left.
    ///
    /// # Errors
    /// [`OutOfMemory`]; a part may be mapped then.
    pub fn step(&mut self, backing: &mut impl Backing) -> Result<bool, OutOfMemory> {
        // Within one GiB, and where it has to be small pages, within one of their tables.
        let large = self.gpa.0.is_multiple_of(SIZE_2M) && self.hpa.0.is_multiple_of(SIZE_2M);
        let span = if large { GIB } else { SIZE_2M };
        let piece = (span - self.gpa.0 % span).min(self.len);
        backing.map(self.gpa, self.hpa, piece)?;
        *self = Self { gpa: Gpa(self.gpa.0 + piece), hpa: Hpa(self.hpa.0 + piece), len: self.len - piece };
        Ok(self.len > 0)
    }
}
