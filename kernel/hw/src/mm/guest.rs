//! The RAM of a guest: chunks of host memory, and the only way in and out of them.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError, PAGE_SIZE, PageSet, nospec};

use super::{Hpa, frame};

/// Guest RAM ends below this address and goes on at 4 GiB: the hole holds the APICs and later PCI.
const HOLE_START: u64 = 0xc000_0000;
const FOUR_GIB: u64 = 1 << 32;
/// Alignment that lets the second-level tables use large pages.
const LARGE_PAGE: u64 = 2 << 20;

/// A run of guest RAM in one piece of host memory.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Where the guest sees it.
    pub gpa: Gpa,
    /// Where it lies.
    pub hpa: Hpa,
    /// Bytes, a multiple of 4 KiB.
    pub len: u64,
}

/// Chunks of host memory. Dropping them gives the memory back.
#[derive(Debug, Default)]
struct Chunks(Vec<Chunk>);

impl Drop for Chunks {
    fn drop(&mut self) {
        for chunk in &self.0 {
            frame::free(chunk.hpa, chunk.len);
        }
    }
}

/// All RAM of one guest. Dropping it gives the memory back.
#[derive(Debug)]
pub struct GuestRam {
    ranges: Vec<MemRange>,
    chunks: Chunks,
    /// Pages written since the last harvest, by the hypervisor or as far as an exit or a log told.
    pub logged: PageSet,
}

/// The RAM of a guest that nobody has seen yet: it is cleared bit by bit.
#[derive(Debug)]
pub struct Clearing {
    ranges: Vec<MemRange>,
    chunks: Chunks,
    /// What may hold something.
    dirty: Vec<(u64, u64)>,
}

/// How much of a guest's RAM is cleared again.
#[derive(Debug, Default)]
pub struct Cleared {
    chunk: usize,
    bytes: u64,
}

/// The RAM ranges of a guest with `bytes` of memory.
pub fn layout(bytes: u64) -> Vec<MemRange> {
    let low = bytes.min(HOLE_START);
    let mut ranges = Vec::from([MemRange { start: Gpa(0), len: low }]);
    if bytes > low {
        ranges.push(MemRange { start: Gpa(FOUR_GIB), len: bytes - low });
    }
    ranges
}

/// Number of guest page frames up to the end of RAM.
fn pages(ranges: &[MemRange]) -> u64 {
    ranges.last().map_or(0, MemRange::end) / PAGE_SIZE
}

impl Clearing {
    /// Takes memory for `ranges`; `None` when the host has not enough.
    pub fn new(ranges: Vec<MemRange>) -> Option<Self> {
        let mut ram = Self { ranges, chunks: Chunks::default(), dirty: Vec::new() };
        for range in ram.ranges.clone() {
            let mut done = 0;
            // The largest pieces the host has: halve until one fits.
            let mut piece = range.len;
            while done < range.len {
                piece = piece.min(range.len - done);
                if let Some(hpa) = frame::take_to_clear(piece, LARGE_PAGE, &mut ram.dirty) {
                    ram.chunks.0.push(Chunk { gpa: Gpa(range.start.0 + done), hpa, len: piece });
                    done += piece;
                } else if piece <= LARGE_PAGE {
                    return None; // what was taken goes back by drop
                } else {
                    piece = (piece / 2).next_multiple_of(LARGE_PAGE);
                }
            }
        }
        Some(ram)
    }

    /// Clears up to `most` bytes. True while some are left.
    pub fn step(&mut self, most: u64) -> bool {
        if let Some((start, end)) = self.dirty.pop() {
            let from = start.max(end.saturating_sub(most));
            frame::clear(from, end);
            if start < from {
                self.dirty.push((start, from));
            }
        }
        !self.dirty.is_empty()
    }

    /// Bytes that are to be cleared yet.
    pub fn left(&self) -> u64 {
        self.dirty.iter().map(|(start, end)| end - start).sum()
    }

    /// The pieces, in ascending order of guest addresses.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks.0
    }

    /// Number of guest page frames up to its end.
    pub fn pages(&self) -> u64 {
        pages(&self.ranges)
    }

    /// The RAM, once all is cleared. `logged`: an empty set for its pages.
    pub fn finish(self, logged: PageSet) -> Option<GuestRam> {
        let Self { ranges, chunks, dirty } = self;
        dirty.is_empty().then_some(GuestRam { ranges, chunks, logged })
    }
}

impl GuestRam {
    /// Number of guest page frames up to its end.
    pub fn pages(&self) -> u64 {
        pages(&self.ranges)
    }

    /// The pieces, in ascending order of guest addresses.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks.0
    }

    /// Where an address lies, and how many bytes of its chunk are left from there on; `None` where that is no RAM.
    #[inline(always)]
    fn find(&self, gpa: Gpa) -> Option<(u64, u64)> {
        for chunk in &self.chunks.0 {
            let at = gpa.0.wrapping_sub(chunk.gpa.0);
            if at < chunk.len {
                return Some((chunk.hpa.0 + nospec::offset(at, chunk.len), chunk.len - at));
            }
        }
        None
    }

    /// Calls `f(host address, bytes, offset)` for each contiguous piece of an access, after checking all of it.
    fn access(&self, gpa: Gpa, len: usize, mut f: impl FnMut(u64, usize, usize)) -> Result<(), MemoryError> {
        // Nearly always one chunk holds all of it.
        if let Some((hpa, left)) = self.find(gpa)
            && len as u64 <= left
        {
            f(hpa, len, 0);
            return Ok(());
        }
        let error = MemoryError { gpa, len };
        let end = gpa.0.checked_add(len as u64).ok_or(error)?;
        let mut covered = gpa.0;
        for chunk in &self.chunks.0 {
            let chunk_end = chunk.gpa.0 + chunk.len;
            if covered >= chunk.gpa.0 && covered < chunk_end {
                covered = chunk_end.min(end);
            }
        }
        if covered < end {
            return Err(error);
        }
        let mut at = gpa.0;
        for chunk in &self.chunks.0 {
            let chunk_end = chunk.gpa.0 + chunk.len;
            if at < end && at >= chunk.gpa.0 && at < chunk_end {
                let piece = chunk_end.min(end) - at;
                f(
                    chunk.hpa.0 + nospec::offset(at - chunk.gpa.0, chunk.len),
                    piece as usize,
                    (at - gpa.0) as usize,
                );
                at += piece;
            }
        }
        Ok(())
    }

    /// Clears up to `most` bytes of it, a multiple of 4 KiB, from where it has come to on. True while some are left. The
    /// guest does not run.
    pub fn clear_some(&self, cleared: &mut Cleared, most: u64) -> bool {
        let Some(chunk) = self.chunks.0.get(cleared.chunk) else { return false };
        let bytes = most.min(chunk.len - cleared.bytes);
        let from = chunk.hpa.0 + cleared.bytes;
        frame::clear(from, from + bytes);
        self.logged.insert_range(chunk.gpa.gfn() + cleared.bytes / PAGE_SIZE, bytes / PAGE_SIZE);
        cleared.bytes += bytes;
        if cleared.bytes == chunk.len {
            *cleared = Cleared { chunk: cleared.chunk + 1, bytes: 0 };
        }
        cleared.chunk < self.chunks.0.len()
    }

    /// A page where it lies, which the guest may write to at any time; `None` where that is no RAM.
    pub fn page(&self, gfn: u64) -> Option<&[AtomicU64; 512]> {
        let (hpa, _) = self.find(Gpa(gfn.checked_mul(PAGE_SIZE)?))?;
        // SAFETY: a whole page of our chunk, aligned, which lives as long as `self`. Whoever else touches it, a guest or this
        // host, does so by plain stores of bytes: words are read once, and none of their values is wrong.
        Some(unsafe { &*(hpa as *const [AtomicU64; 512]) })
    }

    /// Overwrites a whole page; the migration target's way in.
    pub fn fill_page(&self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        self.access(Gpa(gfn * PAGE_SIZE), PAGE_SIZE as usize, |hpa, len, _| {
            // SAFETY: `access` yields only memory of our chunks; a page never straddles two.
            unsafe { core::slice::from_raw_parts_mut(hpa as *mut u64, len / 8) }.fill(word);
        })?;
        self.logged.insert(gfn);
        Ok(())
    }
}

impl GuestMemory for GuestRam {
    fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.access(gpa, buf.len(), |hpa, len, offset| {
            // SAFETY: source is our chunk, destination the caller's buffer. A running guest may write at
            // the same time; plain bytes without invariants are copied, and dirty tracking sends them again.
            unsafe { ptr::copy_nonoverlapping(hpa as *const u8, buf[offset..].as_mut_ptr(), len) };
        })
    }

    fn read_u64(&self, gpa: Gpa) -> Option<u64> {
        if gpa.0.is_multiple_of(8)
            && let Some((hpa, _)) = self.find(gpa)
        {
            // SAFETY: an aligned word of our chunk, which is pages. A running guest may write at the same time.
            return Some(unsafe { &*(hpa as *const AtomicU64) }.load(Ordering::Relaxed));
        }
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        self.access(gpa, data.len(), |hpa, len, offset| {
            // SAFETY: destination is our chunk, which no Rust reference points into.
            unsafe { ptr::copy_nonoverlapping(data[offset..].as_ptr(), hpa as *mut u8, len) };
        })?;
        if !data.is_empty() {
            let last = (gpa.0 + data.len() as u64 - 1) / PAGE_SIZE;
            self.logged.insert_range(gpa.gfn(), last - gpa.gfn() + 1);
        }
        Ok(())
    }

    fn write_u16(&self, gpa: Gpa, value: u16) -> Result<(), MemoryError> {
        if gpa.0.is_multiple_of(2)
            && let Some((hpa, _)) = self.find(gpa)
        {
            // SAFETY: an aligned word of our chunk, which is pages. A running guest may access it at the same time.
            unsafe { &*(hpa as *const AtomicU16) }.store(value, Ordering::Release);
            self.logged.insert(gpa.gfn());
            return Ok(());
        }
        self.write(gpa, &value.to_le_bytes())
    }
}
