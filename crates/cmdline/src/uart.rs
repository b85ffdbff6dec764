//! `console=`: the serial ports of the host's console.

use alloc::vec::Vec;
use core::fmt;

use crate::value;

/// I/O ports of COM1 to COM4.
pub const COM_PORTS: [u16; 4] = [0x3F8, 0x2F8, 0x3E8, 0x2E8];
/// I/O port of COM1.
pub const COM1_PORT: u16 = COM_PORTS[0];
/// I/O port of COM2.
pub const COM2_PORT: u16 = COM_PORTS[1];
/// Most serial ports that the console has.
pub const MAX_CONSOLES: usize = 4;
/// The rate that a UART's divisors divide, and that of a console whose rate is not given, in bits a second.
pub const MAX_BAUD: u32 = 115_200;
/// Below this a number behind an address is a stride or the number of a port on a card.
const MIN_BAUD: u32 = 50;

/// Where a 16550 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uart {
    /// At eight I/O ports, of which this is the first.
    Io(u16),
    /// In memory.
    Memory {
        /// Physical address of its first register.
        address: u64,
        /// Bytes from one register to the next: 1, 2 or 4. With 4 they are accessed by 32 bits.
        stride: u8,
    },
    /// On a PCI card of class 07, serial.
    Pci {
        /// 0 to 255.
        bus: u8,
        /// 0 to 31.
        device: u8,
        /// 0 to 7.
        function: u8,
        /// Which of the card's ports, from 0 on.
        port: u8,
    },
}

impl fmt::Display for Uart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Io(port) => match COM_PORTS.iter().position(|com| *com == port) {
                Some(index) => write!(f, "COM{}", index + 1),
                None => write!(f, "port {port:#x}"),
            },
            Self::Memory { address, stride: 1 } => write!(f, "mmio:{address:#x}"),
            Self::Memory { address, stride } => write!(f, "mmio:{address:#x},{stride}"),
            Self::Pci { bus, device, function, port: 0 } => {
                write!(f, "pci:{bus:02x}:{device:02x}.{function}")
            }
            Self::Pci { bus, device, function, port } => {
                write!(f, "pci:{bus:02x}:{device:02x}.{function},{port}")
            }
        }
    }
}

/// A serial port of the host's console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Console {
    /// Where it is.
    pub uart: Uart,
    /// Bits a second; divides [`MAX_BAUD`]. Always 8 data bits, no parity, 1 stop bit. `None`: as firmware has set it.
    pub baud: Option<u32>,
}

/// Adds `more` to `list`; `None` where they are too many or one is there already.
pub(crate) fn add(list: &mut Vec<Console>, more: &[Console]) -> Option<()> {
    let mut longer = list.clone();
    for console in more {
        if longer.iter().any(|other| other.uart == console.uart) || longer.len() == MAX_CONSOLES {
            return None;
        }
        longer.push(*console);
    }
    *list = longer;
    Some(())
}

/// Ports separated by commas, each with the numbers that belong to it behind it.
pub(crate) fn consoles(list: &str) -> Option<Vec<Console>> {
    let mut consoles: Vec<Console> = Vec::new();
    let mut words = list.split(',').peekable();
    while let Some(word) = words.next() {
        let mut uart = uart(word)?;
        if let Some(number) = words.peek().and_then(|word| value::decimal(word, 0, MIN_BAUD - 1)) {
            words.next();
            uart = numbered(uart, number)?;
        }
        let starts_with_digit =
            |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && !word.starts_with("0x");
        let baud = match words.next_if(starts_with_digit) {
            Some(word) => baud(word)?,
            None => MAX_BAUD,
        };
        add(&mut consoles, &[Console { uart, baud: Some(baud) }])?;
    }
    Some(consoles)
}

fn uart(word: &str) -> Option<Uart> {
    if let Some(number) = word.strip_prefix("com") {
        let index = value::decimal(number, 1, 4)? as usize;
        return COM_PORTS.get(index - 1).copied().map(Uart::Io);
    }
    if let Some(address) = word.strip_prefix("mmio:") {
        // Not page 0; and eight registers with the widest stride do not reach the end.
        let address = hex(address, 16).filter(|address| (0x1000..=u64::MAX - 0x1000).contains(address))?;
        return Some(Uart::Memory { address, stride: 1 });
    }
    if let Some(address) = word.strip_prefix("pci:") {
        return pci(address);
    }
    let port = hex(word, 4)?;
    // A 16550 has eight consecutive ports.
    u16::try_from(port).ok().filter(|port| (1..=0xFFF8).contains(port)).map(Uart::Io)
}

/// `0x` and up to `digits` digits.
fn hex(word: &str, digits: usize) -> Option<u64> {
    let word = word.strip_prefix("0x")?;
    value::hex(word, digits)
}

fn pci(word: &str) -> Option<Uart> {
    let (bus, device, function) = value::pci(word)?;
    Some(Uart::Pci { bus, device, function, port: 0 })
}

/// The same with the number that stands behind the address.
fn numbered(uart: Uart, number: u32) -> Option<Uart> {
    match (uart, number) {
        (Uart::Memory { address, .. }, 1 | 2 | 4) => Some(Uart::Memory { address, stride: number as u8 }),
        (Uart::Pci { bus, device, function, .. }, 0..=7) => {
            Some(Uart::Pci { bus, device, function, port: number as u8 })
        }
        _ => None,
    }
}

fn baud(word: &str) -> Option<u32> {
    let rate = value::decimal(word.strip_suffix("n8").unwrap_or(word), MIN_BAUD, MAX_BAUD)?;
    MAX_BAUD.is_multiple_of(rate).then_some(rate)
}
