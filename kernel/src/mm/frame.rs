//! The owner of all free physical memory.
//!
//! Memory is handed out zeroed and comes back zeroed; what is known to be zero is not cleared again. Pages come from
//! the bottom, larger pieces from the top, so that the pages of small users do not cut up what guests need in one
//! piece. Memory below 1 MiB is never handed out.

use bootinfo::{BootInfo, RangeSet};
use spin::Mutex;

use super::{Hpa, PAGE, image, keep};

struct Frames {
    /// Everything that may ever be free.
    ram: RangeSet,
    free: RangeSet,
    /// The part of `free` that is known to hold zeros.
    clean: RangeSet,
}

static FRAMES: Mutex<Frames> =
    Mutex::new(Frames { ram: RangeSet::new(), free: RangeSet::new(), clean: RangeSet::new() });

/// How much memory there is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stats {
    /// RAM above 1 MiB less the image and the log.
    pub(crate) total: u64,
    /// Free now.
    pub(crate) free: u64,
}

/// Takes over the machine's RAM, less the image, the log and the boot modules.
pub(crate) fn init(info: &BootInfo) {
    let image = image();
    let mut ram = info.usable(PAGE);
    ram.remove(0, 1 << 20);
    ram.remove(image.start, image.end);
    if let Some(Hpa(kept)) = keep::choose(info) {
        ram.remove(kept, kept + keep::BYTES);
    }
    let mut free = ram.clone();
    for module in &info.modules {
        free.remove(module.start & !(PAGE - 1), module.end.next_multiple_of(PAGE));
    }
    *FRAMES.lock() = Frames { ram, free, clean: RangeSet::new() };
}

/// `bytes` (rounded up to pages) in one piece, zeroed, the address a multiple of `align` (a power of two).
pub(crate) fn alloc_contiguous(bytes: u64, align: u64) -> Option<Hpa> {
    let bytes = bytes.checked_next_multiple_of(PAGE).filter(|&b| b != 0)?;
    let mut frames = FRAMES.lock();
    let start = frames.free.take_high(bytes, align.max(PAGE))?;
    Some(hand_out(frames, start, bytes))
}

/// A zeroed page.
pub(crate) fn alloc_page() -> Option<Hpa> {
    let mut frames = FRAMES.lock();
    let start = frames.free.take_low(PAGE, PAGE)?;
    Some(hand_out(frames, start, PAGE))
}

/// As [`alloc_contiguous`], but with whatever the memory holds.
pub(super) fn take(bytes: u64, align: u64) -> Option<Hpa> {
    let mut frames = FRAMES.lock();
    let start = frames.free.take_high(bytes, align)?;
    frames.clean.remove(start, start + bytes);
    Some(Hpa(start))
}

/// The same at that place, if it is free.
pub(super) fn take_at(at: Hpa, bytes: u64) -> bool {
    let (start, end) = (at.0, at.0 + bytes);
    let mut frames = FRAMES.lock();
    let free = frames.free.contains(start, end);
    if free {
        frames.free.remove(start, end);
        frames.clean.remove(start, end);
    }
    free
}

/// Clears what is not clean yet; that can take long, so the lock goes first.
fn hand_out(mut frames: spin::MutexGuard<'_, Frames>, start: u64, bytes: u64) -> Hpa {
    let mut dirty = RangeSet::new();
    dirty.insert(start, start + bytes);
    for &(from, to) in frames.clean.ranges() {
        dirty.remove(from, to);
    }
    frames.clean.remove(start, start + bytes);
    drop(frames);
    for &(from, to) in dirty.ranges() {
        zero(from, to - from);
    }
    Hpa(start)
}

/// Gives memory back: what an `alloc` function returned or a part of it, in whole pages, or a boot module. Zeroes it.
/// Memory that is not RAM or is free already stays as it is, and the log says so.
pub(crate) fn free(at: Hpa, bytes: u64) {
    let Hpa(start) = at;
    let Some(end) = start.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE)) else {
        return;
    };
    let ours = {
        let frames = FRAMES.lock();
        frames.ram.contains(start, end) && !frames.free.overlaps(start, end)
    };
    if !ours || start % PAGE != 0 {
        log::error!(target: "mm", "free of {start:#x}-{end:#x} refused: not allocated");
        return;
    }
    zero(start, end - start);
    let mut frames = FRAMES.lock();
    frames.free.insert(start, end);
    frames.clean.insert(start, end);
}

/// How much memory there is.
pub(crate) fn stats() -> Stats {
    let frames = FRAMES.lock();
    Stats { total: frames.ram.total(), free: frames.free.total() }
}

fn zero(start: u64, bytes: u64) {
    // SAFETY: whole pages of RAM that nobody has at this moment: the caller took them off the free list or is giving
    // them back. All RAM is mapped writable (below 4 GiB by the loader's tables too).
    unsafe {
        core::arch::asm!("rep stosq", inout("rcx") bytes / 8 => _, inout("rdi") start => _, in("rax") 0_u64,
            options(nostack, preserves_flags));
    }
}
