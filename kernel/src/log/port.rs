//! A serial port of the console, and what waits for it.

use core::sync::atomic::{AtomicU8, Ordering};

use shell::TypeAhead;

use crate::arch::serial::Serial;
use crate::arch::tsc;
use crate::meter;

/// Bytes that may wait for the serial port.
pub(super) const SIZE: usize = 64 << 10;
/// Bytes taken from a port before the others have their turn.
const BURST: usize = 64;
/// How long a port may take nothing, in microseconds: a FIFO at 50 baud needs 3.2 s.
const STUCK_US: u64 = 5_000_000;

/// Bytes that wait for one port.
pub(super) type Queue = [AtomicU8; SIZE];

/// A serial port of the console.
pub(super) struct Port {
    pub(super) serial: Option<Serial>,
    /// Bytes written since the start.
    pub(super) written: usize,
    /// Bytes of them that the serial port has taken.
    pub(super) sent: usize,
    /// A line feed whose carriage return has been sent.
    line_feed_due: bool,
    /// What has been typed. Its memory is there once writing does not wait.
    pub(super) typed: TypeAhead,
    /// The cursor stands behind a prompt: a line of the log begins a new row.
    pub(super) prompt: Prompt,
}

/// What stands on the cursor's row of the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prompt {
    /// Output of a command.
    None,
    /// A prompt, and what is being typed.
    Shown,
    /// The log has put it away: it must be shown again.
    Gone,
}

impl Port {
    pub(super) const fn closed() -> Self {
        Self {
            serial: None,
            written: 0,
            sent: 0,
            line_feed_due: false,
            typed: TypeAhead::closed(),
            prompt: Prompt::None,
        }
    }

    pub(super) fn put(&mut self, queue: &Queue, byte: u8) {
        // What the port has not sent must not be overwritten.
        if self.written - self.sent == SIZE {
            self.flush(queue);
        }
        queue[self.written % SIZE].store(byte, Ordering::Relaxed);
        self.written += 1;
    }

    /// Waits until the port has taken everything; one that takes nothing for long loses it.
    pub(super) fn flush(&mut self, queue: &Queue) {
        let (mut sent, mut since) = (self.sent, tsc::micros());
        while self.step(queue) {
            if sent != self.sent {
                (sent, since) = (self.sent, tsc::micros());
            } else if tsc::micros().saturating_sub(since) > STUCK_US {
                self.sent = self.written;
            }
            core::hint::spin_loop();
        }
    }

    /// Takes what has arrived: the port holds 16 bytes, 1.4 ms of a paste at 115200 baud. True where something had.
    pub(super) fn listen(&mut self) -> bool {
        let Some(serial) = &mut self.serial else { return false };
        let (mut heard, mut lost) = (false, false);
        // A port that always has something must not hold the host up.
        for _ in 0..BURST {
            let (byte, overrun) = serial.receive();
            lost |= overrun;
            let Some(byte) = byte else { break };
            self.typed.push(byte);
            heard = true;
        }
        if lost {
            self.typed.broken();
        }
        heard
    }

    /// Gives the port as much as it takes at once. False when nothing is left.
    pub(super) fn step(&mut self, queue: &Queue) -> bool {
        let Some(serial) = &mut self.serial else {
            self.sent = self.written;
            return false;
        };
        if self.sent == self.written {
            return false;
        }
        let mut room = serial.room();
        if room > 0 {
            meter::found();
        }
        while room > 0 && self.sent < self.written {
            let byte = queue[self.sent % SIZE].load(Ordering::Relaxed);
            if byte == b'\n' && !self.line_feed_due {
                self.line_feed_due = true;
                serial.put(b'\r');
            } else {
                self.line_feed_due = false;
                serial.put(byte);
                self.sent += 1;
            }
            room -= 1;
        }
        true
    }
}
