//! Guest memory for the targets.

use std::cell::RefCell;

use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

/// RAM from 0 on.
pub struct Ram {
    range: [MemRange; 1],
    bytes: RefCell<Vec<u8>>,
}

impl Ram {
    pub fn new(len: usize) -> Self {
        Self { range: [MemRange { start: Gpa(0), len: len as u64 }], bytes: RefCell::new(vec![0; len]) }
    }

    /// As [`Ram::new`], with `bytes` at its start.
    pub fn filled(bytes: &[u8], len: usize) -> Self {
        let ram = Self::new(len);
        let n = bytes.len().min(len);
        ram.bytes.borrow_mut()[..n].copy_from_slice(&bytes[..n]);
        ram
    }

    fn place(&self, gpa: Gpa, len: usize) -> Result<core::ops::Range<usize>, MemoryError> {
        let end = gpa.0.checked_add(len as u64).filter(|end| *end <= self.range[0].len);
        end.map(|end| gpa.0 as usize..end as usize).ok_or(MemoryError { gpa, len })
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.range
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let at = self.place(gpa, buf.len())?;
        buf.copy_from_slice(&self.bytes.borrow()[at]);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let at = self.place(gpa, data.len())?;
        self.bytes.borrow_mut()[at].copy_from_slice(data);
        Ok(())
    }
}
