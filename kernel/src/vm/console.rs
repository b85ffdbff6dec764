//! What a guest prints on COM1, until the host's console or a serial port takes it.

use alloc::collections::VecDeque;
use shell::ConsoleRing;

use super::Vm;

/// Bytes that may wait for a slow serial port; beyond, the oldest go.
const WAITING: usize = 256 << 10;

/// History and what waits to be shown.
pub(crate) struct GuestConsole {
    /// The last 64 KiB, for replay.
    pub(crate) ring: ConsoleRing,
    /// Not shown yet.
    pub(crate) waiting: VecDeque<u8>,
}

impl GuestConsole {
    pub(super) fn new() -> Self {
        Self { ring: ConsoleRing::new(), waiting: VecDeque::new() }
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
            console.waiting.extend(&buf[..count]);
            let excess = console.waiting.len().saturating_sub(WAITING);
            console.waiting.drain(..excess);
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

    /// Types bytes; what the guest does not take is lost, as on a line without flow control.
    pub(crate) fn type_in(&self, bytes: &[u8]) {
        for byte in bytes {
            self.offer(*byte);
        }
    }
}
