//! A polled 16550 serial port.

use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};

/// A 16550 at a port base.
pub(crate) struct Serial(Uart16550<PioBackend>);

impl Serial {
    /// Sets the UART at `port` to `baud` 8n1. `None` where no UART answers or the rate has no divisor.
    pub(crate) fn open(port: u16, baud: u32) -> Option<Self> {
        // SAFETY: the eight ports from `port` belong to the console that the administrator named (default COM1); a
        // port access touches no memory.
        let mut uart = unsafe { Uart16550::new_port(port) }.ok()?;
        uart.init(Config { baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT }).ok()?;
        Some(Self(uart))
    }

    /// Sends `text`, LF as CR LF, and waits for the FIFO to take it.
    pub(crate) fn write(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(head) => {
                    self.0.send_bytes_exact(head.as_bytes());
                    self.0.send_bytes_exact(b"\r\n");
                }
                None => self.0.send_bytes_exact(line.as_bytes()),
            }
        }
    }
}
