//! Bytes in frames of their own, such as a boot module: given back, zeroed, when the last user lets go.

use super::{Hpa, PAGE, frame};

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
        if self.len == 0 {
            return &[]; // an empty file has no frame
        }
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

/// Room for bytes to come, where memory is scarce.
const MORE: u64 = 1 << 20;

/// Bytes that come piece by piece, to become [`Held`].
#[derive(Debug)]
pub(crate) struct Filling {
    start: Hpa,
    capacity: u64,
    len: u64,
}

impl Filling {
    /// None, and room for none.
    pub(crate) const fn new() -> Self {
        Self { start: Hpa(0), capacity: 0, len: 0 }
    }

    /// How many are there.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Makes room for `bytes` in all. False where the memory is not free in one piece.
    pub(crate) fn reserve(&mut self, bytes: u64) -> bool {
        if bytes <= self.capacity {
            return true;
        }
        let Some(capacity) = bytes.checked_next_multiple_of(PAGE) else { return false };
        let Some(start) = frame::alloc_contiguous(capacity, PAGE) else { return false };
        // SAFETY: both are ours, the new one is larger, and they do not overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(self.start.0 as *const u8, start.0 as *mut u8, self.len as usize);
        }
        let old = core::mem::replace(self, Self { start, capacity, len: self.len });
        drop(old);
        true
    }

    /// Adds bytes, for which there may have to be made room. False as [`Filling::reserve`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(len) = self.len.checked_add(bytes.len() as u64) else { return false };
        // Twice as much, so that little is copied; where that is not free, what is needed.
        let twice = len.max(self.capacity.saturating_mul(2));
        if len > self.capacity && !self.reserve(twice) && !self.reserve(len.saturating_add(MORE)) {
            return false;
        }
        // SAFETY: `capacity` bytes from `start` are ours, and `len` is not above it.
        unsafe {
            let to = (self.start.0 + self.len) as *mut u8;
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.len = len;
        true
    }

    /// What has come; room that was not needed is given back.
    pub(crate) fn finish(mut self) -> Held {
        let used = self.len.next_multiple_of(PAGE);
        if used < self.capacity {
            frame::free(Hpa(self.start.0 + used), self.capacity - used);
        }
        self.capacity = 0; // it goes on in what is returned
        Held::new(self.start, self.len)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if self.capacity != 0 {
            frame::free(self.start, self.capacity);
        }
    }
}
