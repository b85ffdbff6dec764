//! What waits for a serial port, which is slow: 11,520 bytes a second at 115200 baud. Nobody ever waits for it.
//!
//! Two kinds of text go there. Lines of the log come from anywhere and at any rate: those that do not fit are left out
//! and counted, for the ring has them. Answers to commands are whole: what does not fit waits beside the queue, and
//! whoever makes them looks at [`Outlet::is_behind`] before he makes more.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes that go from the answer to the queue in one step.
const REFILL: usize = 4096;

/// The way to one port. The bytes lie in a queue that the caller owns and hands in each time; always the same one.
#[derive(Debug, Default)]
pub struct Outlet {
    /// Bytes put into the queue, and taken from it, since the start.
    written: usize,
    sent: usize,
    /// The rest of an answer.
    answer: VecDeque<u8>,
    /// Where the line that is being written began.
    mark: usize,
    /// That line does not fit.
    cut: bool,
    /// Lines left out, of which the port has not been told.
    left_out: u64,
}

impl Outlet {
    /// Nothing waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { written: 0, sent: 0, answer: VecDeque::new(), mark: 0, cut: false, left_out: 0 }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.written - self.sent + self.answer.len()
    }

    /// An answer does not fit: no other one should be made now.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.answer.is_empty()
    }

    /// How many lines were left out since the last time, once a quarter of the queue is free: until somebody says so there,
    /// the others are left out too.
    pub fn take_left_out(&mut self, queue: &[AtomicU8]) -> Option<u64> {
        let told = self.left_out > 0 && !self.is_behind() && self.room(queue) >= queue.len() / 4;
        told.then(|| core::mem::take(&mut self.left_out))
    }

    fn room(&self, queue: &[AtomicU8]) -> usize {
        queue.len() - (self.written - self.sent)
    }

    fn push(&mut self, queue: &[AtomicU8], bytes: &[u8]) {
        for byte in bytes {
            queue[self.written % queue.len()].store(*byte, Ordering::Relaxed);
            self.written += 1;
        }
    }

    /// A line of the log follows, in pieces.
    pub fn begin_line(&mut self) {
        self.mark = self.written;
        self.cut = self.is_behind() || self.left_out > 0;
    }

    /// A piece of it.
    pub fn line(&mut self, queue: &[AtomicU8], bytes: &[u8]) {
        if self.cut {
            return;
        }
        if bytes.len() <= self.room(queue) {
            self.push(queue, bytes);
        } else {
            self.written = self.mark;
            self.cut = true;
        }
    }

    /// It is over. False where it is left out.
    pub fn end_line(&mut self) -> bool {
        let cut = core::mem::take(&mut self.cut);
        self.left_out += u64::from(cut);
        !cut
    }

    /// Text of a command, or of a guest that is shown. False where there is no memory for it: the rest is lost.
    pub fn say(&mut self, queue: &[AtomicU8], bytes: &[u8]) -> bool {
        let now = if self.is_behind() { 0 } else { bytes.len().min(self.room(queue)) };
        let (now, later) = bytes.split_at(now);
        self.push(queue, now);
        let fits = self.answer.try_reserve(later.len()).is_ok();
        if fits {
            self.answer.extend(later);
        }
        fits
    }

    /// The next byte for the port.
    pub fn next(&mut self, queue: &[AtomicU8]) -> Option<u8> {
        if self.sent == self.written {
            self.refill(queue);
        }
        (self.sent != self.written).then(|| queue[self.sent % queue.len()].load(Ordering::Relaxed))
    }

    /// The port has taken it.
    pub fn advance(&mut self) {
        self.sent += 1;
    }

    /// Moves what waited beside the queue into it, as far as there is room: a bounded step.
    fn refill(&mut self, queue: &[AtomicU8]) {
        for _ in 0..self.room(queue).min(REFILL) {
            let Some(byte) = self.answer.pop_front() else { break };
            self.push(queue, &[byte]);
        }
        if self.answer.is_empty() {
            self.answer.shrink_to_fit();
        }
    }

    /// The port takes nothing: all that waits is lost.
    pub fn give_up(&mut self) {
        self.sent = self.written;
        self.answer.clear();
    }
}
