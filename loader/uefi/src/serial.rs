//! The host's own serial consoles, for what the kernel will never get to say: a rack's administrator watches these, and not
//! the firmware's screen.

use core::arch::asm;
use core::fmt::{self, Write};

use cmdline::{COM1_PORT, Console, MAX_BAUD, Uart};

/// Registers of a 16550 (PC16550D data sheet, 8.0), the divisor's two in place of the first while the latch bit is set.
const DATA: u8 = 0;
const DIVISOR_HIGH: u8 = 1;
const FIFO_CONTROL: u8 = 2;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;
const SCRATCH: u8 = 7;

const DIVISOR_LATCH: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
const FIFO_ON: u8 = 1;
/// DTR and RTS.
const READY: u8 = 3;
const ROOM: u8 = 0x20;
const SENT: u8 = 0x40;
/// Looks at the line status that a byte at 50 bits a second waits at most; one takes about a microsecond.
const PATIENCE: u32 = 400_000;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
/// PCI class 07: simple communication; 00 is a serial port.
const SERIAL_CARD: u32 = 0x0700;

/// Writes `text` and the end of a line to each of `consoles`; to COM1 where none of them can take it.
pub(crate) fn print(consoles: &[Console], text: fmt::Arguments<'_>) {
    let mut taken = false;
    for console in consoles {
        taken |= line(*console, text).is_some();
    }
    if !taken {
        line(Console { uart: Uart::Io(COM1_PORT), baud: Some(MAX_BAUD) }, text);
    }
}

fn line(console: Console, text: fmt::Arguments<'_>) -> Option<()> {
    let mut port = Port::open(console)?;
    write!(port, "\n{text}\n").ok()
}

#[derive(Clone, Copy)]
enum Port {
    Io(u16),
    Memory(u64, u8),
}

impl Port {
    /// Sets the rate, 8n1; `None` where no 16550 answers.
    fn open(console: Console) -> Option<Self> {
        let port = match console.uart {
            Uart::Io(base) => Self::Io(base),
            // Firmware maps what lies below 4 GiB, and the kernel takes no console above that either.
            Uart::Memory { address, stride } if address < 1 << 32 => Self::Memory(address, stride),
            Uart::Memory { .. } => return None,
            Uart::Pci { bus, device, function, port } => on_card(bus, device, function, port)?,
        };
        for pattern in [0x5a, 0xa5] {
            port.set(SCRATCH, pattern);
            if port.get(SCRATCH) != pattern {
                return None;
            }
        }
        // What firmware has put there goes out at firmware's rate.
        port.wait(SENT)?;
        let divisor = MAX_BAUD.checked_div(console.baud.unwrap_or(MAX_BAUD))?;
        port.set(LINE_CONTROL, DIVISOR_LATCH | EIGHT_BITS);
        port.set(DATA, divisor as u8);
        port.set(DIVISOR_HIGH, (divisor >> 8) as u8);
        port.set(LINE_CONTROL, EIGHT_BITS);
        port.set(FIFO_CONTROL, FIFO_ON);
        port.set(MODEM_CONTROL, port.get(MODEM_CONTROL) | READY);
        Some(port)
    }

    fn wait(self, bits: u8) -> Option<()> {
        (0..PATIENCE).any(|_| self.get(LINE_STATUS) & bits == bits).then_some(())
    }

    fn get(self, register: u8) -> u8 {
        match self {
            Self::Io(base) => {
                let value;
                // SAFETY: a port access touches no memory; the port is one that the administrator named.
                unsafe { asm!("in al, dx", in("dx") base.wrapping_add(register.into()), out("al") value) };
                value
            }
            // SAFETY: registers below 4 GiB, which firmware maps, where the administrator says that they are.
            Self::Memory(base, 4) => unsafe { place(base, register, 4).cast::<u32>().read_volatile() as u8 },
            // SAFETY: the same.
            Self::Memory(base, stride) => unsafe { place(base, register, stride).read_volatile() },
        }
    }

    fn set(self, register: u8, value: u8) {
        match self {
            Self::Io(base) => {
                // SAFETY: as in `get`.
                unsafe { asm!("out dx, al", in("dx") base.wrapping_add(register.into()), in("al") value) };
            }
            Self::Memory(base, 4) => {
                // SAFETY: as in `get`.
                unsafe { place(base, register, 4).cast::<u32>().write_volatile(value.into()) };
            }
            // SAFETY: as in `get`.
            Self::Memory(base, stride) => unsafe { place(base, register, stride).write_volatile(value) },
        }
    }
}

fn place(base: u64, register: u8, stride: u8) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((base + u64::from(register) * u64::from(stride)) as usize)
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_char('\r')?;
            }
            self.wait(ROOM).ok_or(fmt::Error)?;
            self.set(DATA, byte);
        }
        Ok(())
    }
}

/// The first port of a card; which of the others is where takes sizes that nobody asks for here.
fn on_card(bus: u8, device: u8, function: u8, port: u8) -> Option<Port> {
    let config = |offset: u32| {
        let at = 1 << 31 | u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8 | offset;
        let value: u32;
        // SAFETY: port accesses touch no memory. These read a register of configuration space (PCI 3.0, 3.2.2.3.2).
        unsafe {
            asm!("out dx, eax", in("dx") CONFIG_ADDRESS, in("eax") at);
            asm!("in eax, dx", in("dx") CONFIG_DATA, out("eax") value);
        }
        value
    };
    if port != 0 || config(8) >> 16 != SERIAL_CARD {
        return None;
    }
    match (config(4), config(0x10)) {
        (command, bar) if command & 1 != 0 && bar & 1 != 0 => Some(Port::Io((bar & 0xfffc) as u16)),
        (command, bar) if command & 2 != 0 && bar & 7 == 0 => Some(Port::Memory((bar & !0xf).into(), 1)),
        _ => None,
    }
}
