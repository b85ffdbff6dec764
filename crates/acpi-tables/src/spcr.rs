//! SPCR: the serial port the firmware uses as its console (Microsoft, Serial Port Console Redirection Table 1.10).

use crate::GenericAddress;
use crate::bytes::{gas_at, u8_at};

/// The firmware's serial console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spcr {
    /// Kind of UART: 0 and 1 are 16550 compatible.
    pub interface: u8,
    /// Where its registers are.
    pub address: GenericAddress,
    /// Bits a second, `None` where the firmware's setting is to be kept.
    pub baud: Option<u32>,
}

pub(crate) fn parse(table: &[u8]) -> Option<Spcr> {
    let baud = match u8_at(table, 58)? {
        3 => Some(9_600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        _ => None,
    };
    Some(Spcr { interface: u8_at(table, 36)?, address: gas_at(table, 40)?, baud })
}
