//! The owner of all free physical memory.
//!
//! Memory is handed out zeroed; what is known to be zero is not cleared again. What comes back is cleared bit by bit while
//! there is nothing else to do ([`scrub`]). A guest's gigabytes are cleared bit by bit by whoever makes it
//! ([`take_to_clear`], `guest::Clearing`): they hold nobody up. Memory that was never used is not touched before it is needed. Pages come from the bottom,
//! larger pieces from the top, so that the pages of small users do not cut up what guests need in one piece. Memory below
//! 1 MiB is never handed out.

use alloc::vec::Vec;

use bootinfo::{BootInfo, RangeSet};
use spin::{Mutex, MutexGuard};

use super::{Hpa, PAGE, image, keep};
use crate::arch::tsc;

/// What is cleared with the lock held.
const PIECE: u64 = 64 << 10;
/// How long [`scrub`] and [`prepare`] work at a time, in microseconds.
const SCRUB_US: u64 = 200;
const PREPARE_US: u64 = 1000;

struct Frames {
    /// Everything that may ever be free.
    ram: RangeSet,
    free: RangeSet,
    /// The part of `free` that is known to hold zeros.
    clean: RangeSet,
    /// The part of `free` that came back and is not cleared yet.
    used: RangeSet,
}

impl Frames {
    const fn new(ram: RangeSet, free: RangeSet) -> Self {
        Self { ram, free, clean: RangeSet::new(), used: RangeSet::new() }
    }

    /// Somebody has it now.
    fn leave(&mut self, start: u64, end: u64) {
        for set in [&mut self.free, &mut self.clean, &mut self.used] {
            set.remove(start, end);
        }
    }

    /// What is not known to hold zeros.
    fn unclean(&self, start: u64, end: u64) -> RangeSet {
        let mut unclean = RangeSet::new();
        unclean.insert(start, end);
        for &(from, to) in self.clean.ranges() {
            unclean.remove(from, to);
        }
        unclean
    }

    /// Clears the end of a free range.
    fn clear(&mut self, start: u64, end: u64) {
        let start = start.max(end.saturating_sub(PIECE));
        zero(start, end - start);
        self.clean.insert(start, end);
        self.used.remove(start, end);
    }

    /// The highest free range that may hold something.
    fn last_dirty(&self) -> Option<(u64, u64)> {
        let mut dirty = self.free.clone();
        for &(start, end) in self.clean.ranges() {
            dirty.remove(start, end);
        }
        dirty.ranges().last().copied()
    }
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames::new(RangeSet::new(), RangeSet::new()));

/// How much memory there is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// RAM above 1 MiB less the image and the log.
    pub total: u64,
    /// Free now.
    pub free: u64,
}

/// Takes over the machine's RAM, less the image, the log and the boot modules.
pub fn init(info: &BootInfo) {
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
    *FRAMES.lock() = Frames::new(ram, free);
}

/// `bytes` (rounded up to pages) in one piece, zeroed, the address a multiple of `align` (a power of two).
pub fn alloc_contiguous(bytes: u64, align: u64) -> Option<Hpa> {
    let bytes = bytes.checked_next_multiple_of(PAGE).filter(|&b| b != 0)?;
    let mut frames = FRAMES.lock();
    let start = frames.free.take_high(bytes, align.max(PAGE))?;
    Some(hand_out(frames, start, bytes))
}

/// A zeroed page.
pub fn alloc_page() -> Option<Hpa> {
    let mut frames = FRAMES.lock();
    let start = frames.free.take_low(PAGE, PAGE)?;
    Some(hand_out(frames, start, PAGE))
}

/// As [`alloc_contiguous`], but with whatever the memory holds.
pub(super) fn take(bytes: u64, align: u64) -> Option<Hpa> {
    let mut frames = FRAMES.lock();
    let start = frames.free.take_high(bytes, align)?;
    frames.leave(start, start + bytes);
    Some(Hpa(start))
}

/// As [`take`], for one who clears it: what of it may hold something goes to `dirty`.
pub(super) fn take_to_clear(bytes: u64, align: u64, dirty: &mut Vec<(u64, u64)>) -> Option<Hpa> {
    let mut frames = FRAMES.lock();
    let start = frames.free.take_high(bytes, align)?;
    let unclean = frames.unclean(start, start + bytes);
    frames.leave(start, start + bytes);
    drop(frames);
    dirty.extend_from_slice(unclean.ranges());
    Some(Hpa(start))
}

/// Clears a part of what the caller has from [`take_to_clear`] and shows nobody yet.
pub(super) fn clear(start: u64, end: u64) {
    zero(start, end.saturating_sub(start));
}

/// The same at that place, if it is free.
pub(super) fn take_at(at: Hpa, bytes: u64) -> bool {
    let (start, end) = (at.0, at.0 + bytes);
    let mut frames = FRAMES.lock();
    let free = frames.free.contains(start, end);
    if free {
        frames.leave(start, end);
    }
    free
}

/// Clears what is not clean yet; that can take long, so the lock goes first.
fn hand_out(mut frames: MutexGuard<'_, Frames>, start: u64, bytes: u64) -> Hpa {
    let dirty = frames.unclean(start, start + bytes);
    frames.leave(start, start + bytes);
    drop(frames);
    for &(from, to) in dirty.ranges() {
        zero(from, to - from);
    }
    Hpa(start)
}

/// Gives memory back: what an `alloc` function returned or a part of it, in whole pages, or a boot module. It is cleared
/// before anybody gets it. Memory that is not RAM or is free already stays as it is, and the log says so.
pub fn free(at: Hpa, bytes: u64) {
    let Hpa(start) = at;
    let Some(end) = start.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE)) else {
        return;
    };
    let ours = {
        let mut frames = FRAMES.lock();
        let ours = start % PAGE == 0 && frames.ram.contains(start, end) && !frames.free.overlaps(start, end);
        if ours {
            frames.free.insert(start, end);
            frames.used.insert(start, end);
        }
        ours
    };
    if !ours {
        log::error!(target: "mm", "free of {start:#x}-{end:#x} refused: not allocated");
    }
}

/// Clears some of the memory that came back. False where there is none.
pub fn scrub() -> bool {
    let until = tsc::read() + tsc::ticks(SCRUB_US);
    let mut some = false;
    while tsc::read() < until {
        let mut frames = FRAMES.lock();
        let Some(&(start, end)) = frames.used.ranges().last() else { break };
        frames.clear(start, end);
        some = true;
    }
    some
}

/// Clears some of the free memory, so that `bytes` of it can be handed out at once. Returns how many are still to be
/// cleared: 0 says that there is nothing to wait for.
pub fn prepare(bytes: u64) -> u64 {
    let until = tsc::read() + tsc::ticks(PREPARE_US);
    loop {
        let mut frames = FRAMES.lock();
        let left = bytes.min(frames.free.total()).saturating_sub(frames.clean.total());
        let Some((start, end)) = frames.last_dirty().filter(|_| left > 0) else { return 0 };
        if tsc::read() >= until {
            return left;
        }
        frames.clear(start, end);
    }
}

/// What it takes to clear `bytes` of free memory between two addresses, in ticks of the TSC; none where so much is not free
/// there in one piece.
pub fn time_to_clear(from: u64, to: u64, bytes: u64) -> Option<u64> {
    let start = {
        let mut frames = FRAMES.lock();
        let within = |&(start, end): &(u64, u64)| {
            let start = start.max(from).checked_next_multiple_of(PAGE)?;
            (end.min(to).checked_sub(start)? >= bytes).then_some(start)
        };
        let start = frames.free.ranges().iter().find_map(within)?;
        frames.leave(start, start + bytes);
        start
    };
    let began = tsc::read();
    zero(start, bytes);
    let ticks = tsc::read() - began;
    free(Hpa(start), bytes);
    Some(ticks)
}

/// How much memory there is.
pub fn stats() -> Stats {
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
