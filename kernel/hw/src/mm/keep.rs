//! A piece of RAM that a warm reboot usually leaves alone: for the log's ring.
//!
//! It must be found at the same place by each boot, and neither firmware nor boot loader may use it in between. Loaders
//! put images and modules at the bottom of memory and their own heap at the top, firmware works below 1 MiB and at the
//! top: so it lies in the middle of the largest piece of RAM below 4 GiB.

use core::sync::atomic::AtomicU64;

use bootinfo::{BootInfo, RegionKind};
use spin::Once;

use super::{Hpa, PAGE, image};

/// Bytes of it: a page for the header, and the log.
pub const BYTES: u64 = (64 << 10) + PAGE;
/// So that a memory map that differs by little gives the same place.
const GRAIN: u64 = 4 << 20;

static PLACE: Once<Option<Hpa>> = Once::new();

/// Chooses the place; `frame` leaves it out from then on. None where something lies there.
pub(super) fn choose(info: &BootInfo) -> Option<Hpa> {
    *PLACE.call_once(|| place(info))
}

fn place(info: &BootInfo) -> Option<Hpa> {
    let usable = info.memory.iter().filter(|r| r.kind == RegionKind::Usable && r.end <= 1 << 32);
    let largest = usable.max_by_key(|r| r.end.saturating_sub(r.start))?;
    let start = (largest.start / 2 + largest.end / 2) / GRAIN * GRAIN;
    let end = start + BYTES;
    let free = |from: u64, to: u64| end <= from || start >= to;
    let whole = start > largest.start && end <= largest.end && info.usable(PAGE).contains(start, end);
    let image = image();
    let alone =
        free(image.start, image.end) && info.modules.iter().all(|module| free(module.start, module.end));
    (whole && alone).then_some(Hpa(start))
}

/// Where what lies behind it begins.
pub(super) fn behind() -> Option<Hpa> {
    let Hpa(start) = (*PLACE.get()?)?;
    Some(Hpa(start + BYTES))
}

/// The words of it, with whatever they hold.
pub fn words() -> Option<&'static [AtomicU64]> {
    let Hpa(start) = (*PLACE.get()?)?;
    // SAFETY: RAM in whole pages, mapped for good (by the loader's tables below 4 GiB, then by `map`), which `frame`
    // never hands out and nothing else refers to. Any bytes are valid words.
    Some(unsafe { core::slice::from_raw_parts(start as *const AtomicU64, (BYTES / 8) as usize) })
}
