//! Memory shared with a device that masters the bus.

use core::arch::asm;

use super::{Hpa, frame};

/// Pages in one piece that a device may read and write at any time: bytes are copied in and out, in program order as the
/// device sees it. References into them exist only in [`DmaBuffer::with`] and [`DmaBuffer::with_mut`], for the part that the
/// device has given back.
#[derive(Debug)]
pub struct DmaBuffer {
    base: Hpa,
    len: usize,
}

impl DmaBuffer {
    /// `len` zeroed bytes, page aligned; `None` where memory is short.
    pub fn new(len: usize) -> Option<Self> {
        Some(Self { base: frame::alloc_contiguous(len as u64, super::PAGE)?, len })
    }

    /// Bytes in the buffer.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Address of byte `offset` as a device uses it: host-physical, as an IOMMU in between maps one to one.
    pub fn bus_addr(&self, offset: usize) -> u64 {
        self.base.0 + offset as u64
    }

    /// Copies from the buffer.
    ///
    /// # Panics
    /// If the range is not in the buffer: an error of the driver, never of the device.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.range(offset, to.len());
        // SAFETY: `from` covers `to.len()` bytes of ours, `to` is exclusive, and they do not overlap: no reference to
        // the buffer is ever made.
        unsafe { copy(from, to.as_mut_ptr().addr() as u64, to.len()) };
    }

    /// Copies into the buffer.
    ///
    /// # Panics
    /// If the range is not in the buffer: an error of the driver, never of the device.
    pub fn write(&mut self, offset: usize, from: &[u8]) {
        let to = self.range(offset, from.len());
        // SAFETY: `to` covers `from.len()` bytes of ours, and `from` is not in the buffer.
        unsafe { copy(from.as_ptr().addr() as u64, to, from.len()) };
    }

    /// Shows `len` bytes of the buffer where they lie. They must be none that the device may write to now: the driver has seen
    /// it say that it is done with them, and gives them back to it afterwards.
    ///
    /// # Panics
    /// As [`DmaBuffer::read`].
    pub fn with<R>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        let from = self.range(offset, len);
        // SAFETY: `len` bytes of ours, cleared when they were allocated, which nobody writes to while `self` is borrowed. Of the
        // device that rests on its keeping to its descriptors: one that does not could change what is looked at meanwhile. What
        // the driver read before, by `read`, was read before this, which the compiler cannot move across it.
        look(unsafe { core::slice::from_raw_parts(from as *const u8, len) })
    }

    /// Lets `fill` change `len` bytes of the buffer where they lie. They must be none that the device has to do with now; the
    /// driver tells it of them later, by [`DmaBuffer::write`], behind which nothing of this remains to be stored.
    ///
    /// # Panics
    /// As [`DmaBuffer::write`].
    pub fn with_mut<R>(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let to = self.range(offset, len);
        // SAFETY: as in `with`; `self` is borrowed alone, and no other reference into the buffer outlives its borrow.
        fill(unsafe { core::slice::from_raw_parts_mut(to as *mut u8, len) })
    }

    /// Writes the cache line of `offset` back to memory, for a device that does not snoop caches.
    ///
    /// # Panics
    /// As [`DmaBuffer::write`].
    pub fn flush(&self, offset: usize) {
        let at = self.range(offset, 1);
        // SAFETY: writes back a line of ours; the fences order it with the stores around it.
        unsafe { asm!("mfence", "clflush [{}]", "mfence", in(reg) at, options(nostack, preserves_flags)) };
    }

    fn range(&self, offset: usize, len: usize) -> u64 {
        let end = offset.checked_add(len).filter(|&end| end <= self.len);
        assert!(end.is_some(), "dma: {len} bytes at {offset:#x} of {:#x}", self.len);
        self.base.0 + offset as u64
    }
}

/// Copies by string instructions: the compiler cannot leave out, repeat or reorder the accesses, and the stores of one
/// come before those of the next (SDM volume 3, "Fast-String Operation and Out-of-Order Stores").
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
unsafe fn copy(from: u64, to: u64, len: usize) {
    // SAFETY: the caller's; the direction flag is clear as the ABI demands.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {tail}",
            "rep movsb",
            tail = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}
