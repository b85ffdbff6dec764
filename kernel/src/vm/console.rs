//! What a guest prints on COM1: the history, from which the host's console reads, and what waits for a serial port.

use alloc::collections::VecDeque;
use shell::ConsoleRing;

use super::Vm;

/// Bytes that may wait for a slow serial port; beyond, the oldest go.
const WAITING: usize = 256 << 10;

/// History and what waits to be shown.
pub(crate) struct GuestConsole {
    /// The last 64 KiB, for replay.
    pub(crate) ring: ConsoleRing,
    /// Bytes of it that were printed on other hosts.
    pub(crate) came_with: u64,
    /// Not yet sent by the serial port of the host that is this guest's COM1; none where there is no such port.
    pub(crate) waiting: Option<VecDeque<u8>>,
}

impl GuestConsole {
    pub(super) fn new() -> Self {
        Self { ring: ConsoleRing::new(), came_with: 0, waiting: None }
    }
}

impl Vm {
    /// Takes the UART's output, so that it never fills up.
    pub(crate) fn drain_uart(&self) {
        let mut buf = [0; 256];
        // Locked first: two CPUs may drain at once, and what each took must be kept in that order.
        let mut console = self.console.lock();
        loop {
            let count = self.platform.lock().uart_output(&mut buf);
            if count == 0 {
                return;
            }
            console.ring.push(&buf[..count]);
            if let Some(waiting) = &mut console.waiting {
                waiting.extend(&buf[..count]);
                let excess = waiting.len().saturating_sub(WAITING);
                waiting.drain(..excess);
            }
        }
    }
}

impl Vm {
    /// Types a byte at COM1; false where the guest has not taken the last ones yet.
    pub(crate) fn offer(&self, byte: u8) -> bool {
        let taken = self.platform.lock().uart_input(&[byte], self.clock.now()) == 1;
        if taken {
            self.interrupt();
        }
        taken
    }
}
