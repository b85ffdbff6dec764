//! Port accesses: one `match` on the port.

use super::{Effect, Platform};
use crate::pm::{PM_TMR, PM1A_CNT, PM1A_EVT};
use vm_types::Now;

const PM_FIRST: u16 = PM1A_EVT;
const PM_LAST: u16 = PM_TMR + 3;
const COM1: u16 = 0x3F8;
const COM1_LAST: u16 = COM1 + 7;

impl Platform {
    /// IN of `size` bytes (1, 2 or 4). Ports that nothing claims read all ones.
    pub fn io_read(&mut self, port: u16, size: u8, now: Now) -> u32 {
        self.advance(now);
        match (port, size) {
            (_, 1) => u32::from(self.read_byte(port, now)),
            (PM_FIRST..=PM_LAST, _) => self.pm.read(port, size, now),
            (0xCF8, 4) => self.chipset.pci_address(),
            _ => {
                let mut value = 0;
                for i in 0..u16::from(size.min(4)) {
                    let byte = port.checked_add(i).map_or(0xFF, |port| self.read_byte(port, now));
                    value |= u32::from(byte) << (8 * i);
                }
                value
            }
        }
    }

    /// OUT of the low `size` bytes (1, 2 or 4) of `value`. Ports that nothing claims ignore it.
    pub fn io_write(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Effect> {
        self.advance(now);
        match (port, size) {
            (_, 1) => self.write_byte(port, value as u8, now),
            (PM1A_EVT..=PM_LAST, _) => self.write_pm(port, size, value, now),
            (0xCF8, 4) => {
                self.chipset.set_pci_address(value);
                None
            }
            _ => {
                let mut effect = None;
                for i in 0..u16::from(size.min(4)) {
                    let Some(port) = port.checked_add(i) else { break };
                    let this = self.write_byte(port, (value >> (8 * i)) as u8, now);
                    effect = effect.or(this);
                }
                effect
            }
        }
    }

    fn read_byte(&mut self, port: u16, now: Now) -> u8 {
        match port {
            COM1..=COM1_LAST => {
                let value = self.uart.read(port - COM1, now);
                let unchanged = match port - COM1 {
                    1 | 3 | 4 | 7 => true,
                    // The line status, which drivers poll: reading it clears an overrun.
                    5 => value & 2 == 0,
                    _ => false,
                };
                if !unchanged {
                    self.settle();
                }
                value
            }
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => {
                let value = self.pic.read(port);
                self.update_intr();
                value
            }
            0x40..=0x43 | 0x61 => self.pit.read(port, now),
            0x60 | 0x64 => {
                let value = self.chipset.read_keyboard(port);
                self.update_lines();
                value
            }
            0x70 | 0x71 => {
                let value = self.rtc.read(port, now);
                self.settle();
                value
            }
            0x92 => self.chipset.read_port92(),
            PM_FIRST..=PM_LAST => self.pm.read(port, 1, now) as u8,
            0xCF9 => self.chipset.read_reset(),
            // PCI configuration data and all the rest: nobody drives the bus.
            _ => 0xFF,
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Now) -> Option<Effect> {
        let reset = match port {
            COM1..=COM1_LAST => {
                let full = self.uart.write(port - COM1, value, now);
                self.settle();
                return full.then_some(Effect::UartFull);
            }
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => {
                self.pic.write(port, value);
                self.update_intr();
                false
            }
            0x40..=0x43 | 0x61 => {
                self.pit.write(port, value, now);
                self.update_next();
                false
            }
            0x60 | 0x64 => {
                let reset = self.chipset.write_keyboard(port, value);
                self.update_lines();
                reset
            }
            0x70 | 0x71 => {
                self.rtc.write(port, value, now);
                self.settle();
                false
            }
            0x92 => self.chipset.write_port92(value),
            0xF4 if self.config.debug_exit => return Some(Effect::DebugExit(value)),
            PM_FIRST..=PM_LAST => return self.write_pm(port, 1, value.into(), now),
            0xCF9 => self.chipset.write_reset(value),
            _ => false,
        };
        reset.then_some(Effect::Reset)
    }

    fn write_pm(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Effect> {
        let off = self.pm.write(port, size, value, now);
        self.settle();
        off.then_some(Effect::PowerOff)
    }
}

const _: () = assert!(PM1A_CNT > PM_FIRST && PM1A_CNT < PM_LAST);
