//! A serial port of the console, and what waits for it.

use core::fmt::{self, Write};
use core::sync::atomic::AtomicU8;

use log_ring::Outlet;
use shell::TypeAhead;

use crate::meter;
use hw::arch::tsc;
use hw::platform::serial::Serial;

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
    /// What it has not taken yet.
    pub(super) outlet: Outlet,
    /// A line feed whose carriage return has been sent.
    line_feed_due: bool,
    /// What has been typed. Its memory is there once writing does not wait.
    pub(super) typed: TypeAhead,
    /// The cursor stands behind a prompt: a line of the log begins a new row.
    pub(super) prompt: Prompt,
}

/// Pieces of a line to one port.
struct Piece<'a>(&'a mut Port, &'a Queue);

impl Write for Piece<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.outlet.line(self.1, text.as_bytes());
        Ok(())
    }
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
            outlet: Outlet::new(),
            line_feed_due: false,
            typed: TypeAhead::closed(),
            prompt: Prompt::None,
        }
    }

    /// A line of the log begins; on a row of its own.
    pub(super) fn begin_line(&mut self, queue: &Queue) {
        self.outlet.begin_line();
        if self.prompt == Prompt::Shown {
            self.outlet.line(queue, b"\n");
        }
    }

    /// It is over.
    pub(super) fn end_line(&mut self) {
        if self.outlet.end_line() && self.prompt == Prompt::Shown {
            self.prompt = Prompt::Gone;
        }
    }

    /// Says how many lines did not fit, once there is room for that.
    pub(super) fn tell(&mut self, queue: &Queue) {
        let Some(lines) = self.outlet.take_left_out(queue) else { return };
        self.begin_line(queue);
        let plural = if lines == 1 { "line" } else { "lines" };
        let _ = writeln!(Piece(self, queue), "log: {lines} {plural} left out here: `dmesg` has the last");
        self.end_line();
    }

    /// Waits until the port has taken everything; one that takes nothing for long loses it. Only before the management
    /// loop begins, and at the host's end.
    pub(super) fn flush(&mut self, queue: &Queue) {
        let (mut waiting, mut since) = (usize::MAX, tsc::micros());
        while self.step(queue) {
            let now = self.outlet.waiting();
            if now != waiting {
                (waiting, since) = (now, tsc::micros());
            } else if tsc::micros().saturating_sub(since) > STUCK_US {
                self.outlet.give_up();
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
            self.outlet.give_up();
            return false;
        };
        let mut next = self.outlet.next(queue);
        if next.is_none() {
            return false;
        }
        let mut room = serial.room();
        if room > 0 {
            meter::found();
        }
        while room > 0
            && let Some(byte) = next
        {
            if byte == b'\n' && !self.line_feed_due {
                self.line_feed_due = true;
                serial.put(b'\r');
            } else {
                self.line_feed_due = false;
                serial.put(byte);
                self.outlet.advance();
                next = self.outlet.next(queue);
            }
            room -= 1;
        }
        true
    }
}
