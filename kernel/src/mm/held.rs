//! Bytes in frames of their own, such as a boot module: given back, zeroed, when the last user lets go.

use super::{Hpa, frame};

/// The bytes.
#[derive(Debug)]
pub(crate) struct Held {
    start: Hpa,
    len: u64,
}

impl Held {
    /// Takes over `len` bytes from `start` on, which nobody else writes or gives back: a boot module, or what
    /// [`frame::alloc_contiguous`] returned.
    pub(crate) const fn new(start: Hpa, len: u64) -> Self {
        Self { start, len }
    }

    /// How many.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Them.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: RAM that is mapped and ours until drop; nothing writes there meanwhile.
        unsafe { core::slice::from_raw_parts(self.start.0 as *const u8, self.len as usize) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.len != 0 {
            frame::free(self.start, self.len);
        }
    }
}
