//! A polled 16550 serial port.

use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use super::io;
use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};

/// Bytes in the transmitter's FIFO.
const FIFO: usize = 16;
/// The port that was tried last, for [`Serial::attach`].
static PORT: AtomicU16 = AtomicU16::new(0);

/// A 16550 at a port base.
pub(crate) struct Serial(Uart16550<PioBackend>);

impl Serial {
    /// Sets the UART at `port` to `baud` 8n1. `None` where no UART answers or the rate has no divisor.
    pub(crate) fn open(port: u16, baud: u32) -> Option<Self> {
        let mut serial = Self::at(port)?;
        PORT.store(port, Ordering::Relaxed);
        let config = Config { baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT };
        serial.0.init(config).ok()?;
        Some(serial)
    }

    /// Sets the UART at `port` to 115200 8n1 for a guest's use. `None` where no UART answers.
    pub(crate) fn open_guest(port: u16) -> Option<Self> {
        let mut serial = Self::at(port)?;
        serial.0.init(Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT }).ok()?;
        Some(serial)
    }

    /// A second handle of the console, as it is set: for a panic that finds the first one locked.
    pub(crate) fn attach() -> Option<Self> {
        Some(PORT.load(Ordering::Relaxed)).filter(|&port| port != 0).and_then(Self::at)
    }

    fn at(port: u16) -> Option<Self> {
        // SAFETY: the eight ports from `port` belong to the console that the administrator named (default COM1); a
        // port access touches no memory.
        unsafe { Uart16550::new_port(port) }.ok().map(Self)
    }

    /// COM1, unless a console has been tried before: then there is none.
    pub(crate) fn open_default() -> Option<Self> {
        if PORT.load(Ordering::Relaxed) == 0 { Self::open(0x3f8, 115_200) } else { None }
    }

    /// How many bytes it takes at once.
    pub(crate) fn room(&mut self) -> usize {
        match self.0.ready_to_send() {
            Ok(()) if self.0.fifo_enabled() => FIFO,
            Ok(()) => 1,
            Err(_) => 0,
        }
    }

    /// Sends a byte that it has [`room`](Self::room) for.
    pub(crate) fn put(&mut self, byte: u8) {
        io::outb(self.0.backend().base(), byte);
    }

    /// A byte that has arrived.
    pub(crate) fn read_byte(&mut self) -> Option<u8> {
        self.receive().0
    }

    /// A byte that has arrived, and whether others have been lost behind those that the FIFO holds.
    pub(crate) fn receive(&mut self) -> (Option<u8>, bool) {
        // Line status: data ready, overrun error; reading it clears the latter.
        const READY: u8 = 1;
        const OVERRUN: u8 = 2;
        let base = self.0.backend().base();
        let status = io::inb(base + 5);
        ((status & READY != 0).then(|| io::inb(base)), status & OVERRUN != 0)
    }
}

impl fmt::Write for Serial {
    /// LF goes out as CR LF; waits for the FIFO to take everything.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(head) => {
                    self.0.send_bytes_exact(head.as_bytes());
                    self.0.send_bytes_exact(b"\r\n");
                }
                None => self.0.send_bytes_exact(line.as_bytes()),
            }
        }
        Ok(())
    }
}
