//! A chain of descriptors (2.7.5), walked once and kept: what the driver changes of it afterwards changes nothing.

use crate::broken::{Broken, Part};
use crate::bytes::le;
use alloc::vec::Vec;
use virtio_spec::virtq::DescF;
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

const NEXT: u16 = DescF::NEXT.bits().to_ne();
const WRITE: u16 = DescF::WRITE.bits().to_ne();
const INDIRECT: u16 = DescF::INDIRECT.bits().to_ne();

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR: u64 = 16;

/// A run of guest RAM that a chain names, not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Where.
    pub at: Gpa,
    /// Bytes.
    pub len: u32,
}

/// The buffers of one request: some for the device to read, behind them some for it to write. All were RAM when the chain
/// was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    head: u16,
    buffers: Vec<Buffer>,
    /// How many of them are to be read.
    readable: usize,
}

/// Where descriptors stand.
struct Table {
    at: Gpa,
    count: u16,
    indirect: bool,
}

impl Chain {
    /// The descriptor that it begins with, by which the driver knows it.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// The buffers that the device may read.
    #[must_use]
    pub fn readable(&self) -> &[Buffer] {
        &self.buffers[..self.readable]
    }

    /// The buffers that the device may write.
    #[must_use]
    pub fn writable(&self) -> &[Buffer] {
        &self.buffers[self.readable..]
    }

    /// Bytes to be read.
    #[must_use]
    pub fn readable_len(&self) -> u32 {
        self.readable().iter().map(|buffer| buffer.len).sum()
    }

    /// Bytes that can be written.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        self.writable().iter().map(|buffer| buffer.len).sum()
    }

    /// Copies what is to be read, from its byte `from` on, to `out`: how many bytes there were.
    ///
    /// # Errors
    /// Memory that is RAM no more.
    pub fn read(&self, memory: &dyn GuestMemory, from: u32, out: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in pieces(self.readable(), from, out.len()) {
            let part = &mut out[done..done + piece.len as usize];
            memory.read(piece.at, part).map_err(Broken::Buffer)?;
            done += part.len();
        }
        Ok(done)
    }

    /// Copies `data` to what can be written, from its byte `from` on: how many bytes found a place.
    ///
    /// # Errors
    /// Memory that is RAM no more.
    pub fn write(&self, memory: &dyn GuestMemory, from: u32, data: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in pieces(self.writable(), from, data.len()) {
            let part = &data[done..done + piece.len as usize];
            memory.write(piece.at, part).map_err(Broken::Buffer)?;
            done += part.len();
        }
        Ok(done)
    }

    /// Walks the chain that begins at descriptor `head` of a ring of `size` descriptors at `table`.
    pub(crate) fn walk(
        memory: &dyn GuestMemory,
        table: Gpa,
        size: u16,
        indirect: bool,
        head: u16,
    ) -> Result<Self, Broken> {
        let mut chain = Self { head, buffers: Vec::new(), readable: 0 };
        let mut table = Table { at: table, count: size, indirect: false };
        let (mut index, mut total) = (head, 0_u32);
        // A chain has no more descriptors than the ring has places (2.7.5.3.1), and one more names the table.
        for _ in 0..=size {
            let (at, len, flags, next) = table.descriptor(memory, index)?;
            if flags & INDIRECT != 0 {
                table = table.inner(at, len, flags, size, indirect)?;
                index = 0;
                continue;
            }
            if chain.buffers.len() == usize::from(size) {
                break;
            }
            total = total.checked_add(len).ok_or(Broken::Long)?;
            chain.push(memory.ranges(), Buffer { at, len }, flags & WRITE != 0)?;
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
        Err(Broken::Loop { size })
    }

    fn push(&mut self, ram: &[MemRange], buffer: Buffer, writable: bool) -> Result<(), Broken> {
        let Buffer { at, len } = buffer;
        if len == 0 {
            return Err(Broken::Empty { at });
        }
        if !is_ram(ram, at, len) {
            return Err(Broken::Buffer(MemoryError { gpa: at, len: len as usize }));
        }
        if !writable {
            if self.readable < self.buffers.len() {
                return Err(Broken::Order { at });
            }
            self.readable += 1;
        }
        self.buffers.push(buffer);
        Ok(())
    }
}

impl Table {
    /// Address, length, flags and next of a descriptor.
    fn descriptor(&self, memory: &dyn GuestMemory, index: u16) -> Result<(Gpa, u32, u16, u16), Broken> {
        if index >= self.count {
            return Err(Broken::Descriptor { index, count: self.count });
        }
        let mut bytes = [0; DESCRIPTOR as usize];
        let at = Gpa(self.at.0.wrapping_add(DESCRIPTOR * u64::from(index)));
        memory.read(at, &mut bytes).map_err(|error| Broken::Area { part: Part::Descriptors, error })?;
        let (len, flags, next) = (le::<4>(&bytes, 8), le::<2>(&bytes, 12), le::<2>(&bytes, 14));
        Ok((Gpa(le::<8>(&bytes, 0)), len as u32, flags as u16, next as u16))
    }

    /// The table that an indirect descriptor of this one names (2.7.5.3).
    fn inner(&self, at: Gpa, len: u32, flags: u16, size: u16, negotiated: bool) -> Result<Self, Broken> {
        if !negotiated {
            return Err(Broken::NotNegotiated);
        }
        if self.indirect {
            return Err(Broken::Nested);
        }
        if flags & NEXT != 0 {
            return Err(Broken::IndirectNext);
        }
        let count = len / DESCRIPTOR as u32;
        if count == 0 || count > size.into() || !len.is_multiple_of(DESCRIPTOR as u32) {
            return Err(Broken::Table { len, size });
        }
        Ok(Self { at, count: count as u16, indirect: true })
    }
}

/// Whether all of these bytes lie in ranges of RAM, which ascend.
fn is_ram(ram: &[MemRange], at: Gpa, len: u32) -> bool {
    let Some(end) = at.0.checked_add(len.into()) else { return false };
    let reached = ram.iter().fold(at.0, |reached, range| {
        if range.start.0 <= reached && reached < range.end() { range.end() } else { reached }
    });
    reached >= end
}

/// The parts of `buffers` that hold up to `len` bytes from byte `from` on.
fn pieces(buffers: &[Buffer], from: u32, len: usize) -> impl Iterator<Item = Buffer> {
    let (mut skip, mut left) = (from, u32::try_from(len).unwrap_or(u32::MAX));
    buffers.iter().filter_map(move |buffer| {
        let skipped = skip.min(buffer.len);
        skip -= skipped;
        let len = left.min(buffer.len - skipped);
        left -= len;
        (len != 0).then(|| Buffer { at: Gpa(buffer.at.0 + u64::from(skipped)), len })
    })
}
