//! The registers of a local APIC as a page of memory (SDM 29.1): each has 16 bytes, of which the first four count.
//!
//! A CPU that virtualises the APIC reads and writes them while the guest runs, so they are atomics: what is in them may
//! differ after each entry.

use core::sync::atomic::{AtomicU32, Ordering};

/// Words of 32 bits from one register to the next.
const STRIDE: usize = 4;
/// Registers in the page that have a number: what is beyond them is nobody's.
const REGISTERS: u8 = 0x40;

/// That page. A register is named by its number: its offset / 16, or its MSR less 800H.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct ApicPage([AtomicU32; 1024]);

impl Default for ApicPage {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; 1024])
    }
}

impl ApicPage {
    #[inline(always)]
    fn register(&self, number: u8) -> &AtomicU32 {
        &self.0[usize::from(number & (REGISTERS - 1)) * STRIDE]
    }

    /// Register `number`, 0 to 3FH.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, number: u8) -> u32 {
        self.register(number).load(Ordering::Relaxed)
    }

    /// Sets register `number`, 0 to 3FH.
    #[inline(always)]
    pub fn set(&self, number: u8, value: u32) {
        self.register(number).store(value, Ordering::Relaxed);
    }

    /// The next 32 bits of register `number`: those of the ICR in x2APIC mode (SDM 29.5).
    #[must_use]
    pub fn upper(&self, number: u8) -> u32 {
        self.0[usize::from(number & (REGISTERS - 1)) * STRIDE + 1].load(Ordering::Relaxed)
    }

    /// Sets them.
    pub fn set_upper(&self, number: u8, value: u32) {
        self.0[usize::from(number & (REGISTERS - 1)) * STRIDE + 1].store(value, Ordering::Relaxed);
    }

    /// Makes all of it what `other` is.
    pub fn copy_from(&self, other: &Self) {
        for (to, from) in self.0.iter().zip(&other.0) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Sets all of it to 0.
    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The highest vector of a 256-bit register whose bit is set. `first`: its first register.
    ///
    /// Every interrupt and every end of one asks for it: two words at a time, and no loop.
    #[inline(always)]
    #[must_use]
    pub fn highest(&self, first: u8) -> Option<u8> {
        let pair = |n: u8| u64::from(self.get(first + n + 1)) << 32 | u64::from(self.get(first + n));
        let found = |n: u8| pair(n).checked_ilog2().map(|bit| n * 32 + bit as u8);
        found(6).or_else(|| found(4)).or_else(|| found(2)).or_else(|| found(0))
    }

    /// Whether a bit of a 256-bit register is set.
    #[inline(always)]
    #[must_use]
    pub fn any(&self, first: u8) -> bool {
        let word = |n: u8| self.get(first + n);
        word(0) | word(1) | word(2) | word(3) | word(4) | word(5) | word(6) | word(7) != 0
    }

    /// The bit of `vector` in a 256-bit register.
    #[inline]
    #[must_use]
    pub fn bit(&self, first: u8, vector: u8) -> bool {
        self.get(first + (vector >> 5)) >> (vector & 31) & 1 != 0
    }

    /// Sets the bit of `vector` in a 256-bit register. What it was.
    #[inline]
    pub fn set_bit(&self, first: u8, vector: u8, value: bool) -> bool {
        let (number, bit) = (first + (vector >> 5), 1 << (vector & 31));
        let word = self.get(number);
        self.set(number, if value { word | bit } else { word & !bit });
        word & bit != 0
    }

    /// A 256-bit register, the lowest vectors first.
    #[must_use]
    pub fn bits(&self, first: u8) -> [u32; 8] {
        core::array::from_fn(|word| self.get(first + word as u8))
    }

    /// Sets a 256-bit register.
    pub fn set_bits(&self, first: u8, bits: &[u32; 8]) {
        for (number, word) in (first..).zip(bits) {
            self.set(number, *word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apic_register::{IRR, TIMER_INITIAL};

    #[test]
    fn it_is_a_page_with_the_registers_where_the_sdm_has_them() {
        let page = ApicPage::default();
        assert_eq!((size_of_val(&page), core::ptr::from_ref(&page).addr() % 4096), (4096, 0));
        page.set(TIMER_INITIAL, 7);
        assert_eq!(page.0[0x380 / 4].load(Ordering::Relaxed), 7, "the timer's initial count is at 380H");
    }

    #[test]
    fn vectors_are_found_from_the_top() {
        let page = ApicPage::default();
        assert_eq!(page.highest(IRR), None);
        for vector in [16, 31, 32, 200, 255] {
            assert!(!page.set_bit(IRR, vector, true) && page.bit(IRR, vector));
            assert_eq!(page.highest(IRR), Some(vector));
        }
        assert!(page.set_bit(IRR, 255, false));
        assert_eq!(page.highest(IRR), Some(200));
        let copy = ApicPage::default();
        copy.set_bits(IRR, &page.bits(IRR));
        assert_eq!(copy.bits(IRR), page.bits(IRR));
        copy.clear();
        assert_eq!(copy.highest(IRR), None);
        copy.copy_from(&page);
        assert_eq!(copy.highest(IRR), Some(200));
    }
}
