//! What is typed or pasted while nobody reads.

use alloc::collections::VecDeque;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// What was lost since the last call, for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Typed {
    /// Lines that did not fit, each as a whole.
    pub lines: usize,
    /// The bytes of them.
    pub bytes: usize,
    /// The beginning of the first one has been read already, and must not be taken for a line.
    pub begun: bool,
}

impl Typed {
    const NONE: Self = Self { lines: 0, bytes: 0, begun: false };
}

/// A bounded queue between a serial line and whoever reads it. A line that does not fit is dropped as a whole: a part
/// of it could mean something else.
#[derive(Clone, Debug)]
pub struct TypeAhead {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Bytes at the end of `bytes` that belong to a line that has not ended.
    open: usize,
    /// Other bytes of that line have been read.
    begun: bool,
    /// The rest of a line is passed over.
    skipping: bool,
    lost: Typed,
}

impl TypeAhead {
    /// What is kept at most, in bytes.
    pub const CAPACITY: usize = 16 << 10;

    /// An empty queue that takes nothing yet.
    #[must_use]
    pub const fn closed() -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity: 0,
            open: 0,
            begun: false,
            skipping: false,
            lost: Typed::NONE,
        }
    }

    /// An empty queue of `capacity` bytes. It never takes more memory than that.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: VecDeque::with_capacity(capacity), capacity, ..Self::closed() }
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The oldest byte, which stays.
    #[must_use]
    pub fn first(&self) -> Option<u8> {
        self.bytes.front().copied()
    }

    /// Adds a byte.
    pub fn push(&mut self, byte: u8) {
        let ends = byte == b'\r' || byte == b'\n';
        if self.skipping {
            self.lost.bytes = self.lost.bytes.saturating_add(1);
            self.skipping = !ends;
            return;
        }
        if self.bytes.len() < self.capacity {
            self.bytes.push_back(byte);
            self.open = if ends { 0 } else { self.open + 1 };
            self.begun &= !ends;
            return;
        }
        self.drop_open();
        self.lost.bytes = self.lost.bytes.saturating_add(1);
        self.skipping = !ends;
    }

    /// Bytes have been lost before they came here: the line that has not ended is dropped, with what is still to come
    /// of it.
    pub fn broken(&mut self) {
        if !self.skipping {
            self.drop_open();
            self.skipping = true;
        }
    }

    fn drop_open(&mut self) {
        // Its beginning goes too, unless that has been read already.
        let dropped = self.open.min(self.bytes.len());
        self.bytes.truncate(self.bytes.len() - dropped);
        self.open = 0;
        self.lost.begun |= core::mem::take(&mut self.begun);
        self.lost.lines = self.lost.lines.saturating_add(1);
        self.lost.bytes = self.lost.bytes.saturating_add(dropped);
    }

    /// The oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.bytes.pop_front()?;
        if self.open > self.bytes.len() {
            self.open = self.bytes.len();
            self.begun = true;
        }
        Some(byte)
    }

    /// Whether Ctrl-C was typed; all before it is dropped then, as nobody wants it any more.
    pub fn interrupt(&mut self) -> bool {
        let Some(at) = self.bytes.iter().rposition(|byte| *byte == INTERRUPT) else { return false };
        self.bytes.drain(..=at);
        if self.open > self.bytes.len() {
            self.open = self.bytes.len();
            self.begun = false;
        }
        true
    }

    /// What was lost since the last call.
    pub fn take_lost(&mut self) -> Option<Typed> {
        let lost = core::mem::take(&mut self.lost);
        (lost != Typed::NONE).then_some(lost)
    }
}
