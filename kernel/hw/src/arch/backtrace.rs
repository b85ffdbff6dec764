//! Return addresses by the chain of frame pointers; every function of the image keeps one.

use core::arch::asm;

use super::insn::probe;
use super::link;

/// Most frames that are followed.
const DEPTH: usize = 24;

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The return addresses above the frame at `rbp`, innermost first. Whatever memory holds: it ends, and faults nowhere.
pub fn from(rbp: u64) -> impl Iterator<Item = u64> {
    let image = link::image();
    let text = image.start..image.text_end;
    let mut at = rbp;
    core::iter::from_fn(move || {
        if at == 0 || !at.is_multiple_of(8) {
            return None;
        }
        let address = probe(at.checked_add(8)?)?;
        let next = probe(at)?;
        // Stacks grow down, so callers lie higher.
        at = if next > at { next } else { 0 };
        text.contains(&address).then_some(address)
    })
    .take(DEPTH)
}
