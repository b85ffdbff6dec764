//! Memory-mapped registers.

use super::Platform;
use crate::effect::Effect;
use vm_types::{Gpa, Now, PAGE_SIZE};

impl Platform {
    /// A load of `size` bytes (1, 2, 4 or 8). Where nothing answers it reads all ones.
    pub fn mmio_read(&mut self, gpa: Gpa, size: u8, now: Now) -> u64 {
        self.advance(now);
        let (page, offset) = (gpa.0 & !(PAGE_SIZE - 1), gpa.0 & (PAGE_SIZE - 1));
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        let value = match self.board.load(page, offset) {
            Some(value) => value,
            None => self.load_from_bus(gpa, size, now).unwrap_or(u64::MAX),
        };
        value & ones
    }

    /// A store of the low `size` bytes of `value`.
    pub fn mmio_write(&mut self, gpa: Gpa, size: u8, value: u64, now: Now) -> Option<Effect> {
        self.advance(now);
        let (page, offset) = (gpa.0 & !(PAGE_SIZE - 1), gpa.0 & (PAGE_SIZE - 1));
        let (effect, touched) = match self.board.store(page, offset, value) {
            Some(touched) => (None, touched),
            None => self.pci.as_mut()?.store(gpa.0, size, value, now)?,
        };
        self.settle(touched);
        effect
    }

    fn load_from_bus(&mut self, gpa: Gpa, size: u8, now: Now) -> Option<u64> {
        let (value, touched) = self.pci.as_mut()?.load(gpa.0, size, now)?;
        self.settle(touched);
        Some(value)
    }
}
