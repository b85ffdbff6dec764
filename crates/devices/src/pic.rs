//! The pair of 8259A interrupt controllers (Intel 8259A data sheet) with the edge/level control registers.

#[cfg(test)]
mod tests;

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::pci;
use crate::state::{decode, encode, ensure};
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

const KIND: &str = Pic::KIND;
const VERSION: u16 = 1;
const CASCADE: u8 = 1 << 2;
/// Lines that are edge-triggered whatever ELCR says: timer, keyboard, cascade; RTC and FPU.
const ALWAYS_EDGE: [u8; 2] = [0x07, 0x21];

/// One 8259A. `init` is the initialisation word expected next, 0 in operation.
#[derive(Clone, Copy, Encode, Decode)]
struct Chip {
    #[n(0)]
    irr: u8,
    #[n(1)]
    lines: u8,
    #[n(2)]
    imr: u8,
    #[n(3)]
    isr: u8,
    #[n(4)]
    elcr: u8,
    #[n(5)]
    base: u8,
    #[n(6)]
    lowest: u8,
    #[n(7)]
    init: u8,
    #[n(8)]
    icw4_follows: bool,
    #[n(9)]
    auto_eoi: bool,
    #[n(10)]
    rotate_auto_eoi: bool,
    #[n(11)]
    special_nested: bool,
    #[n(12)]
    special_mask: bool,
    #[n(13)]
    read_isr: bool,
    #[n(14)]
    poll: bool,
    #[n(15)]
    single: bool,
}

impl Chip {
    const fn new(base: u8, elcr: u8) -> Self {
        Self {
            irr: 0,
            lines: 0,
            imr: 0xFF,
            isr: 0,
            elcr,
            base,
            lowest: 7,
            init: 0,
            icw4_follows: false,
            auto_eoi: false,
            rotate_auto_eoi: false,
            special_nested: false,
            special_mask: false,
            read_isr: false,
            poll: false,
            single: false,
        }
    }

    /// The input of highest priority in `set`, and its rank (0 is highest).
    fn highest(&self, set: u8) -> Option<(u8, u8)> {
        if set == 0 {
            return None;
        }
        let first = (self.lowest + 1) & 7;
        let rank = set.rotate_right(u32::from(first)).trailing_zeros() as u8;
        Some(((first + rank) & 7, rank))
    }

    /// The input that the chip would present now.
    fn pending(&self, master: bool) -> Option<u8> {
        let (irq, rank) = self.highest(self.irr & !self.imr)?;
        let mut serving = self.isr;
        if self.special_mask {
            serving &= !self.imr;
        }
        if self.special_nested && master {
            serving &= !CASCADE;
        }
        match self.highest(serving) {
            Some((_, served)) if served <= rank => None,
            _ => Some(irq),
        }
    }

    fn set_line(&mut self, mask: u8, level: bool) {
        if self.elcr & mask != 0 {
            self.irr = if level { self.irr | mask } else { self.irr & !mask };
        } else if level && self.lines & mask == 0 {
            self.irr |= mask;
        }
        self.lines = if level { self.lines | mask } else { self.lines & !mask };
    }

    fn acknowledge(&mut self, irq: u8) {
        let mask = 1 << irq;
        if !self.auto_eoi {
            self.isr |= mask;
        } else if self.rotate_auto_eoi {
            self.lowest = irq;
        }
        if self.elcr & mask == 0 {
            self.irr &= !mask;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            // ICW1 clears the edge latches, the mask and the modes; levels stay.
            let fresh = Self::new(self.base, self.elcr);
            *self = Self { lines: self.lines, irr: self.lines & self.elcr, imr: 0, init: 2, ..fresh };
            self.icw4_follows = value & 1 != 0;
            self.single = value & 2 != 0;
        } else if value & 0x08 != 0 {
            if value & 0x04 != 0 {
                self.poll = true;
            }
            if value & 0x02 != 0 {
                self.read_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0 => self.rotate_auto_eoi = false,
            4 => self.rotate_auto_eoi = true,
            6 => self.lowest = level,
            command @ (1 | 5) => {
                if let Some((irq, _)) = self.highest(self.isr) {
                    self.isr &= !(1 << irq);
                    if command == 5 {
                        self.lowest = irq;
                    }
                }
            }
            3 => self.isr &= !(1 << level),
            7 => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.init {
            2 => {
                self.base = value & 0xF8;
                self.init = match (self.single, self.icw4_follows) {
                    (false, _) => 3,
                    (true, true) => 4,
                    (true, false) => 0,
                };
            }
            3 => self.init = if self.icw4_follows { 4 } else { 0 },
            4 => {
                self.auto_eoi = value & 2 != 0;
                self.special_nested = value & 0x10 != 0;
                self.init = 0;
            }
            _ => self.imr = value,
        }
    }

    fn check(&self, always_edge: u8) -> Result<(), StateError> {
        ensure(self.lowest <= 7, KIND, "lowest priority", self.lowest)?;
        ensure(matches!(self.init, 0 | 2..=4), KIND, "init", self.init)?;
        ensure(self.base & 7 == 0, KIND, "vector base", self.base)?;
        ensure(self.elcr & always_edge == 0, KIND, "elcr", self.elcr)
    }
}

/// Master and slave.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Pic {
    #[n(0)]
    chips: [Chip; 2],
}

impl Pic {
    /// As firmware leaves it: vectors 0x08 and 0x70, all masked, the SCI (IRQ 9) level-triggered.
    pub(crate) fn new() -> Self {
        Self { chips: [Chip::new(0x08, 0), Chip::new(0x70, 0x02)] }
    }

    pub(crate) fn set_irq(&mut self, irq: u8, level: bool) {
        self.chips[usize::from(irq >> 3 & 1)].set_line(1 << (irq & 7), level);
        self.update_cascade();
    }

    /// The level of the master's INTR output.
    pub(crate) fn output(&self) -> bool {
        self.chips[0].pending(true).is_some()
    }

    /// The vector an INTA cycle would fetch, if INTR is raised.
    pub(crate) fn peek(&self) -> Option<u8> {
        match self.chips[0].pending(true)? {
            2 => Some(self.chips[1].base | self.chips[1].pending(false).unwrap_or(7)),
            irq => Some(self.chips[0].base | irq),
        }
    }

    /// The INTA cycle. Without a request the chip answers with its input 7 (spurious).
    pub(crate) fn acknowledge(&mut self) -> u8 {
        let Some(irq) = self.chips[0].pending(true) else { return self.chips[0].base | 7 };
        self.chips[0].acknowledge(irq);
        if irq != 2 {
            return self.chips[0].base | irq;
        }
        let slave = self.chips[1].pending(false);
        if let Some(irq) = slave {
            self.chips[1].acknowledge(irq);
        }
        self.update_cascade();
        self.chips[1].base | slave.unwrap_or(7)
    }

    pub(crate) fn read(&mut self, port: u16) -> u8 {
        if port >= 0x4D0 {
            return self.chips[usize::from(port & 1)].elcr;
        }
        let which = usize::from(port >= 0xA0);
        let chip = &mut self.chips[which];
        if chip.poll {
            chip.poll = false;
            let Some(irq) = chip.pending(which == 0) else { return 0 };
            chip.acknowledge(irq);
            self.update_cascade();
            return 0x80 | irq;
        }
        match (port & 1, chip.read_isr) {
            (1, _) => chip.imr,
            (_, true) => chip.isr,
            (_, false) => chip.irr,
        }
    }

    pub(crate) fn write(&mut self, port: u16, value: u8) {
        if port >= 0x4D0 {
            let which = usize::from(port & 1);
            self.chips[which].elcr = value & !ALWAYS_EDGE[which];
        } else {
            let chip = &mut self.chips[usize::from(port >= 0xA0)];
            if port & 1 == 0 { chip.write_command(value) } else { chip.write_data(value) }
        }
        self.update_cascade();
    }

    /// The slave's output is a level on the master's input 2.
    fn update_cascade(&mut self) {
        let level = self.chips[1].pending(false).is_some();
        let master = &mut self.chips[0];
        master.irr = if level { master.irr | CASCADE } else { master.irr & !CASCADE };
    }
}

impl Device for Pic {
    const KIND: &'static str = "pic";
    const PORTS: &'static [(u16, u16)] = &[(0x20, 0x21), (0xA0, 0xA1), (0x4D0, 0x4D1)];

    /// The interrupts of PCI are levels, as firmware sets them.
    fn build(config: &PlatformConfig) -> Self {
        let mut pic = Self::new();
        if config.pci {
            pic.chips[1].elcr |= (pci::IRQS >> 8) as u8;
        }
        pic
    }

    fn input(&mut self, port: u16, _: u8, _: Now) -> (u32, Touched) {
        (self.read(port).into(), Touched::INTR)
    }

    fn output(&mut self, port: u16, _: u8, value: u32, _: Now) -> (Option<Effect>, Touched) {
        self.write(port, value as u8);
        (None, Touched::INTR)
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let pic: Self = decode(record, VERSION)?;
        pic.chips[0].check(ALWAYS_EDGE[0])?;
        pic.chips[1].check(ALWAYS_EDGE[1])?;
        let mut checked = pic.clone();
        checked.update_cascade();
        ensure(checked.chips[0].irr == pic.chips[0].irr, KIND, "cascade", pic.chips[0].irr)?;
        Ok(pic)
    }
}
