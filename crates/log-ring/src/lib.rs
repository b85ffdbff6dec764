//! The host's log in a piece of memory that outlives a warm reboot where the machine lets it: a ring of bytes behind a
//! header with magic and checksum.
//!
//! The memory is words that nobody else writes. What is found in it at the start is whatever the boot before, the
//! firmware or chance left there: [`recover`] gives it out only where header and checksum agree.
//!
//! What goes to a serial port waits in an [`Outlet`], for which nobody waits; a line that others can cause as often as they
//! like goes through [`Seldom`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod outlet;
mod seldom;

pub use outlet::Outlet;
pub use seldom::Seldom;

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Marks a ring, and its layout: a change of it takes another number.
const MAGIC: u64 = 0x3130_676f_4c76_6c46;
/// Magic, bytes written, sum of the data, check of these.
const HEADER: usize = 4;
/// Fewest words of a ring: the header and a little.
pub const MIN_WORDS: usize = HEADER + 8;

/// A ring in `words`, all of which are its own.
#[derive(Clone, Copy, Debug)]
pub struct LogRing<'a> {
    words: &'a [AtomicU64],
    /// Bytes written since the start.
    written: u64,
    /// Sum of the data words, each by its own factor.
    sum: u64,
}

/// The factor of a data word: odd, so that a change of any bit changes the sum.
const fn factor(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) << 1 | 1
}

/// The sum of the data words.
fn sum_of(words: &[AtomicU64]) -> u64 {
    let data = words.iter().skip(HEADER).enumerate();
    data.fold(0, |sum, (index, word)| {
        sum.wrapping_add(word.load(Ordering::Relaxed).wrapping_mul(factor(index)))
    })
}

const fn check(written: u64, sum: u64, len: usize) -> u64 {
    let mixed = (written ^ sum.rotate_left(32) ^ len as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 29 ^ MAGIC
}

impl<'a> LogRing<'a> {
    /// An empty ring; what the words held is gone. `None` where there are fewer than [`MIN_WORDS`].
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        let ring = Self { words, written: 0, sum: 0 };
        if words.len() < MIN_WORDS {
            return None;
        }
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        ring.seal();
        Some(ring)
    }

    /// Bytes that it keeps.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        (self.words.len() - HEADER) * 8
    }

    /// Bytes written since the start, kept or not.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes; the oldest go. The header agrees with the data again when this returns.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = (self.written % self.capacity() as u64) as usize;
            let (index, shift) = (at / 8, at % 8 * 8);
            if let Some(word) = self.words.get(HEADER + index) {
                let old = word.load(Ordering::Relaxed);
                let new = old & !(0xff << shift) | u64::from(*byte) << shift;
                word.store(new, Ordering::Relaxed);
                self.sum = self.sum.wrapping_add(new.wrapping_sub(old).wrapping_mul(factor(index)));
            }
            self.written = self.written.wrapping_add(1);
        }
        self.seal();
    }

    fn seal(&self) {
        let header = [MAGIC, self.written, self.sum, check(self.written, self.sum, self.words.len())];
        for (word, value) in self.words.iter().zip(header) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What it holds, oldest first, from the first whole line.
    #[must_use]
    pub fn text(&self) -> String {
        text(self.words, self.written)
    }

    /// Copies what it holds from byte `from` on, counted since the start; where that is gone, from the oldest that is there.
    /// Returns the number of the first byte copied, and how many they are.
    pub fn read(&self, from: u64, to: &mut [u8]) -> (u64, usize) {
        let from = from.max(self.written.saturating_sub(self.capacity() as u64));
        let count = to.len().min(usize::try_from(self.written.saturating_sub(from)).unwrap_or(usize::MAX));
        (from..).zip(to.iter_mut().take(count)).for_each(|(number, to)| *to = byte(self.words, number));
        (from, count)
    }

    /// Goes on in other words, with all that is kept as far as it fits. Nothing changes where they are too few.
    pub fn move_to(&mut self, words: &'a [AtomicU64]) {
        let text = self.text();
        if let Some(mut ring) = Self::new(words) {
            ring.push(text.as_bytes());
            *self = ring;
        }
    }
}

/// What a ring in these words held when the machine was reset, if it is all there.
#[must_use]
pub fn recover(words: &[AtomicU64]) -> Option<String> {
    let load = |at: usize| words.get(at).map(|word| word.load(Ordering::Relaxed));
    let (written, sum) = (load(1)?, load(2)?);
    if words.len() < MIN_WORDS || load(0)? != MAGIC || load(3)? != check(written, sum, words.len()) {
        return None;
    }
    (sum_of(words) == sum).then(|| text(words, written))
}

/// Makes header and sum right for whatever the words hold: for tests that go behind them.
pub fn reseal(words: &[AtomicU64]) {
    let sum = sum_of(words);
    let written = words.get(1).map_or(0, |word| word.load(Ordering::Relaxed));
    for (word, value) in words.iter().zip([MAGIC, written, sum, check(written, sum, words.len())]) {
        word.store(value, Ordering::Relaxed);
    }
}

/// The byte of that number since the start.
fn byte(words: &[AtomicU64], number: u64) -> u8 {
    let at = (number % (words.len().saturating_sub(HEADER) as u64 * 8).max(1)) as usize;
    words.get(HEADER + at / 8).map_or(0, |word| (word.load(Ordering::Relaxed) >> (at % 8 * 8)) as u8)
}

fn text(words: &[AtomicU64], written: u64) -> String {
    let kept = written.min(words.len().saturating_sub(HEADER) as u64 * 8);
    let bytes: Vec<u8> = (written - kept..written).map(|number| byte(words, number)).collect();
    let whole = String::from_utf8_lossy(&bytes);
    let cut = if kept == written { 0 } else { whole.find('\n').map_or(0, |at| at + 1) };
    whole.get(cut..).unwrap_or_default().into()
}
