//! The digest of a guest's whole RAM, over several polls.

use alloc::boxed::Box;

use vm_types::MemoryError;
use xxhash_rust::xxh64::xxh64;

use crate::body::Shape;
use crate::page::PAGE_BYTES;

/// Where the digest stands.
#[derive(Clone)]
pub(crate) struct RamDigest {
    next: u64,
    value: u64,
    page: Box<[u8; PAGE_BYTES]>,
}

impl RamDigest {
    pub(crate) fn new() -> Self {
        Self { next: 0, value: 0, page: Box::new([0; PAGE_BYTES]) }
    }

    /// Takes up to `budget` pages in; the digest, once it holds all of them.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) fn step(
        &mut self,
        shape: &Shape,
        budget: u64,
        mut read: impl FnMut(u64, &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError>,
    ) -> Result<Option<u64>, MemoryError> {
        for _ in 0..budget.max(1) {
            let Some(gfn) = shape.next_frame(self.next) else { return Ok(Some(self.value)) };
            read(gfn, &mut self.page)?;
            let page = xxh64(self.page.as_slice(), gfn);
            self.value = (self.value ^ page).wrapping_mul(0x9e37_79b1_85eb_ca87).rotate_left(31);
            self.next = gfn + 1;
        }
        Ok(None)
    }
}
