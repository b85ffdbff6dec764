//! Port accesses.

use super::Platform;
use crate::device::Touched;
use crate::effect::Effect;
use vm_types::Now;

impl Platform {
    /// IN of `size` bytes (1, 2 or 4). Ports that nothing claims read all ones.
    pub fn io_read(&mut self, port: u16, size: u8, now: Now) -> u32 {
        self.advance(now);
        if let Some(value) = self.input(port, size, now) {
            return value;
        }
        if size == 1 {
            return 0xFF;
        }
        let mut value = 0;
        for i in 0..u16::from(size.min(4)) {
            let byte = port.checked_add(i).and_then(|port| self.input(port, 1, now)).unwrap_or(0xFF);
            value |= (byte & 0xFF) << (8 * i);
        }
        value
    }

    /// OUT of the low `size` bytes (1, 2 or 4) of `value`. Ports that nothing claims ignore it.
    pub fn io_write(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Effect> {
        self.advance(now);
        if let Some(effect) = self.output(port, size, value, now) {
            return effect;
        }
        if size == 1 {
            return None;
        }
        let mut effect = None;
        for i in 0..u16::from(size.min(4)) {
            let Some(port) = port.checked_add(i) else { break };
            let this = self.output(port, 1, value >> (8 * i) & 0xFF, now).flatten();
            effect = effect.or(this);
        }
        effect
    }

    #[inline(always)]
    fn input(&mut self, port: u16, size: u8, now: Now) -> Option<u32> {
        let (value, touched) = match self.board.input(port, size, now) {
            Some(answer) => answer,
            None => self.pci.as_mut()?.input(self.board.chipset.pci_address(), port, size, now)?,
        };
        self.settle(touched);
        Some(value)
    }

    #[inline(always)]
    fn output(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Option<Effect>> {
        let (effect, touched) = match self.board.output(port, size, value, now) {
            Some(answer) => answer,
            None => self.pci.as_mut()?.output(self.board.chipset.pci_address(), port, size, value, now)?,
        };
        self.settle(touched);
        Some(effect)
    }

    /// After an access to a device: carries on what it changed.
    #[inline(always)]
    pub(super) fn settle(&mut self, touched: Touched) {
        if touched != Touched::NOTHING {
            self.carry(touched);
        }
    }

    fn carry(&mut self, touched: Touched) {
        if touched.has(Touched::MESSAGES) {
            self.deliver_sent();
        }
        if touched.has(Touched::INTR) {
            self.update_intr();
        }
        if touched.has(Touched::LINE) {
            self.update_lines();
        }
        if touched.has(Touched::TIMER) {
            self.update_next();
        }
    }
}
