//! Memory shared with a device that masters the bus.

use core::arch::asm;

use super::{Hpa, frame};

/// Pages in one piece that a device may read and write at any time. No reference into them ever exists: bytes are
/// copied in and out, in program order as the device sees it.
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
