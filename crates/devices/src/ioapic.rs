//! The IO-APIC (Intel 82093AA data sheet, with the EOI register of version 0x20).

#[cfg(test)]
mod tests;

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::lapic::{Delivery, Message};
use crate::state::{decode, encode, ensure};
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use vm_types::{StateError, StateRecord, nospec};

/// Interrupt inputs.
pub const PINS: usize = 24;
/// Where the registers lie.
pub const IOAPIC_BASE: u64 = 0xFEC0_0000;

const KIND: &str = IoApic::KIND;
const VERSION: u16 = 1;
/// Version 0x20, last redirection entry 23.
const VERSION_REGISTER: u32 = 0x0017_0020;

const DELIVERY_STATUS: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const WRITABLE: u64 = 0xFF00_0000_0001_FFFF & !(DELIVERY_STATUS | REMOTE_IRR);

#[derive(Clone, Encode, Decode)]
pub(crate) struct IoApic {
    #[n(0)]
    id: u8,
    #[n(1)]
    select: u8,
    #[n(2)]
    entries: [u64; PINS],
    /// The inputs that are asserted, one bit a pin.
    #[n(3)]
    lines: u32,
    /// Messages that a write brought about, for the board to deliver.
    #[cbor(skip)]
    sent: Vec<Message>,
}

/// Its ID on a machine of so many vCPUs: the first that no local APIC has, as far as its four bits go.
pub(crate) fn id(vcpus: u16) -> u8 {
    vcpus.min(15) as u8
}

impl IoApic {
    pub(crate) fn new(id: u8) -> Self {
        Self { id: id & 0x0F, select: 0, entries: [MASKED; PINS], lines: 0, sent: Vec::new() }
    }

    /// Sets an input; the message that goes out for it, if any.
    pub(crate) fn set_line(&mut self, pin: u8, level: bool) -> Option<Message> {
        let bit = 1u32.checked_shl(u32::from(pin))?;
        let rose = level && self.lines & bit == 0;
        self.lines = if level { self.lines | bit } else { self.lines & !bit };
        let entry = *self.entries.get(usize::from(pin))?;
        if entry & LEVEL != 0 {
            self.service_level(pin)
        } else {
            (rose && entry & MASKED == 0).then(|| message(entry))
        }
    }

    /// A level pin sends while it is asserted, not masked, and not waiting for an EOI.
    fn service_level(&mut self, pin: u8) -> Option<Message> {
        let entry = self.entries.get_mut(usize::from(pin))?;
        if self.lines >> pin & 1 == 0 || *entry & (LEVEL | MASKED | REMOTE_IRR) != LEVEL {
            return None;
        }
        let message = message(*entry);
        if matches!(message.delivery, Delivery::Fixed | Delivery::LowestPriority) {
            *entry |= REMOTE_IRR;
        }
        Some(message)
    }

    /// An EOI message for `vector`: at most 24 pins may want to send again.
    pub(crate) fn eoi(&mut self, vector: u8) {
        for pin in 0..PINS as u8 {
            let entry = &mut self.entries[usize::from(pin)];
            if *entry as u8 == vector && *entry & (LEVEL | REMOTE_IRR) == LEVEL | REMOTE_IRR {
                *entry &= !REMOTE_IRR;
                let message = self.service_level(pin);
                self.sent.extend(message);
            }
        }
    }

    /// The destination of pin 0 when it passes the PIC's interrupt on (ExtINT).
    pub(crate) fn ext_int(&self) -> Option<Message> {
        let entry = self.entries[0];
        let message = message(entry);
        (entry & MASKED == 0 && message.delivery == Delivery::ExtInt).then_some(message)
    }

    pub(crate) fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => u32::from(self.select),
            0x10 => match self.select {
                0 | 2 => u32::from(self.id) << 24,
                1 => VERSION_REGISTER,
                select => {
                    self.entry_half(select).map_or(0, |(pin, shift)| (self.entries[pin] >> shift) as u32)
                }
            },
            _ => 0,
        }
    }

    /// A message goes out when a write unmasks an asserted level pin, or ends an interrupt of one.
    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        match offset {
            0x00 => self.select = value as u8,
            0x10 if self.select == 0 => self.id = (value >> 24) as u8 & 0x0F,
            0x10 => {
                if let Some((pin, shift)) = self.entry_half(self.select) {
                    let entry = &mut self.entries[pin];
                    let mask = (0xFFFF_FFFF << shift) & WRITABLE;
                    *entry = *entry & !mask | (u64::from(value) << shift) & mask;
                    if *entry & LEVEL == 0 {
                        *entry &= !REMOTE_IRR;
                    }
                    let message = self.service_level(pin as u8);
                    self.sent.extend(message);
                }
            }
            0x40 => self.eoi(value as u8),
            _ => {}
        }
    }

    /// The next of the messages that go out.
    pub(crate) fn take_sent(&mut self) -> Option<Message> {
        self.sent.pop()
    }

    fn entry_half(&self, select: u8) -> Option<(usize, u32)> {
        let half = usize::from(select.checked_sub(0x10)?);
        (half / 2 < PINS).then_some((nospec::index(half / 2, PINS), half as u32 % 2 * 32))
    }
}

impl Device for IoApic {
    const KIND: &'static str = "ioapic";
    const PAGE: Option<u64> = Some(IOAPIC_BASE);

    fn build(config: &PlatformConfig) -> Self {
        Self::new(id(config.vcpus))
    }

    fn load(&mut self, offset: u64) -> u64 {
        self.read(offset).into()
    }

    /// Pin 0 may have begun or ceased to pass ExtINT on.
    fn store(&mut self, offset: u64, value: u64) -> Touched {
        self.write(offset, value as u32);
        Touched::MESSAGES | Touched::INTR
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let ioapic: Self = decode(record, VERSION)?;
        ensure(ioapic.id <= 0x0F, KIND, "id", ioapic.id)?;
        ensure(ioapic.lines >> PINS == 0, KIND, "lines", ioapic.lines)?;
        for &entry in &ioapic.entries {
            let stray_irr = entry & (LEVEL | REMOTE_IRR) == REMOTE_IRR;
            ensure(entry & !(WRITABLE | REMOTE_IRR) == 0 && !stray_irr, KIND, "entry", entry)?;
        }
        Ok(ioapic)
    }
}

fn message(entry: u64) -> Message {
    Message {
        vector: entry as u8,
        delivery: Delivery::from_bits((entry >> 8) as u8),
        logical: entry & 1 << 11 != 0,
        level: entry & LEVEL != 0,
        dest: (entry >> 56) as u32,
        from_io: true,
    }
}
