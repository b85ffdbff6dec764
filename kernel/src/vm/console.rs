//! What a guest prints on COM1: the history, from which the host's console reads, and what waits for a serial port.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
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

/// Bytes of the number before a piece of history.
const NUMBER: usize = 8;
/// Most bytes of history in one piece.
const PIECE: usize = migrate::limits::MAX_HISTORY_BODY - NUMBER;

impl GuestConsole {
    /// What the guest has printed behind the first `told` bytes, for the host it goes to: the number of the last byte
    /// in 8 bytes, the lowest first, then the bytes. What is in the UART goes with the UART.
    pub(crate) fn history(&self, told: &mut u64) -> Vec<u8> {
        let total = self.ring.total();
        if total == *told {
            return Vec::new();
        }
        let (_, (older, newer)) = self.ring.since(*told);
        let skip = (older.len() + newer.len()).saturating_sub(PIECE);
        *told = total;
        let bytes = older.iter().chain(newer).skip(skip).copied();
        total.to_le_bytes().into_iter().chain(bytes).collect()
    }

    /// Takes a piece of it that has come.
    pub(crate) fn take_history(&mut self, piece: &[u8]) {
        if let Some((total, bytes)) = piece.split_first_chunk::<NUMBER>() {
            self.ring.append(bytes, u64::from_le_bytes(*total));
            self.came_with = self.ring.total();
        }
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
