//! SPCR: the serial port the firmware uses as its console (Microsoft, Serial Port Console Redirection Table 1.10).

use crate::bytes::{gas_at, u8_at, u32_at};
use crate::{AddressSpace, GenericAddress};

/// The firmware's serial console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spcr {
    /// Kind of UART: 0, 1 and 18 are 16550 compatible.
    pub interface: u8,
    /// Where its registers are.
    pub address: GenericAddress,
    /// Bits a second, `None` where the firmware's setting is to be kept.
    pub baud: Option<u32>,
}

/// Where the registers of a 16550 are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registers {
    /// At eight I/O ports, of which this is the first.
    Io(u16),
    /// In memory: physical address of the first, and bytes from one to the next (1, 2 or 4).
    Memory(u64, u8),
}

impl Spcr {
    /// The port, where it is one that a driver for a 16550 can use.
    #[must_use]
    pub fn uart(&self) -> Option<Registers> {
        if !matches!(self.interface, 0 | 1 | 0x12) {
            return None;
        }
        match self.address.space {
            AddressSpace::Io => {
                let port = u16::try_from(self.address.address).ok()?;
                (1..=0xfff8).contains(&port).then_some(Registers::Io(port))
            }
            AddressSpace::Memory => {
                let stride = match self.address.bits {
                    0..=8 => 1,
                    16 => 2,
                    32 => 4,
                    _ => return None,
                };
                Some(Registers::Memory(self.address.address, stride))
            }
            AddressSpace::PciConfig | AddressSpace::Other(_) => None,
        }
    }
}

/// `None` where the table is cut short, or names no port (address 0: redirection is switched off).
pub(crate) fn parse(table: &[u8]) -> Option<Spcr> {
    let revision = u8_at(table, 8)?;
    let precise = u32_at(table, 80).filter(|&rate| revision >= 4 && rate != 0);
    let baud = match u8_at(table, 58)? {
        3 => Some(9_600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        _ => None,
    };
    Some(Spcr { interface: u8_at(table, 36)?, address: gas_at(table, 40)?, baud: precise.or(baud) })
}
