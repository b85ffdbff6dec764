//! What a guest printed while nobody looked.

use alloc::vec::Vec;

/// The most recent output of a guest's console.
#[derive(Clone, Debug)]
pub struct ConsoleRing {
    /// Grows up to `capacity`, then is overwritten from `next` on.
    bytes: Vec<u8>,
    capacity: usize,
    next: usize,
    total: u64,
}

impl ConsoleRing {
    /// What is kept of a VM's console, in bytes.
    pub const CAPACITY: usize = 64 << 10;

    /// How far a replay looks for the start of a line.
    const LONGEST_LINE: usize = 512;

    /// An empty ring of [`Self::CAPACITY`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty ring that keeps `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), capacity, next: 0, total: 0 }
    }

    /// Bytes printed since the VM was made, kept or not.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Adds what the guest printed.
    pub fn push(&mut self, mut data: &[u8]) {
        self.total = self.total.saturating_add(data.len() as u64);
        if data.len() > self.capacity {
            data = data.get(data.len() - self.capacity..).unwrap_or_default();
        }
        let room = (self.capacity - self.bytes.len()).min(data.len());
        let (head, tail) = data.split_at(room);
        self.bytes.extend_from_slice(head);
        for byte in tail {
            if let Some(slot) = self.bytes.get_mut(self.next) {
                *slot = *byte;
            }
            self.next = if self.next + 1 >= self.capacity { 0 } else { self.next + 1 };
        }
    }

    /// All that is kept, the oldest first, in two pieces.
    #[must_use]
    pub fn contents(&self) -> (&[u8], &[u8]) {
        let (newer, older) = self.bytes.split_at(self.next.min(self.bytes.len()));
        (older, newer)
    }

    /// What was printed behind the first `seen` bytes, as [`Self::contents`]; and how many bytes of it are lost.
    #[must_use]
    pub fn since(&self, seen: u64) -> (u64, (&[u8], &[u8])) {
        let (older, newer) = self.contents();
        let oldest = self.total.saturating_sub(self.bytes.len() as u64);
        let skip = usize::try_from(seen.saturating_sub(oldest)).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = match older.get(skip..) {
            Some(older) => (older, newer),
            None => (newer.get(skip - older.len()..).unwrap_or_default(), &[][..]),
        };
        (oldest.saturating_sub(seen), rest)
    }

    /// What to show on attach: as [`Self::contents`], but where output was lost it starts with a whole line.
    #[must_use]
    pub fn replay(&self) -> (&[u8], &[u8]) {
        let (older, newer) = self.contents();
        if self.total <= self.bytes.len() as u64 {
            return (older, newer);
        }
        let end = older.iter().chain(newer).take(Self::LONGEST_LINE).position(|b| *b == b'\n');
        let skip = end.map_or(0, |at| at + 1);
        match older.get(skip..) {
            Some(older) => (older, newer),
            None => (newer.get(skip - older.len()..).unwrap_or_default(), &[]),
        }
    }

    /// Adds what a VM printed on the host it came from: `piece` are the bytes that end at the one with number `total`.
    /// Where there is a gap before them, what came before it is forgotten.
    pub fn append(&mut self, piece: &[u8], total: u64) {
        let total = total.max(piece.len() as u64);
        if total - piece.len() as u64 != self.total {
            *self = Self::with_capacity(self.capacity);
        }
        self.push(piece);
        self.total = total;
    }
}

impl Default for ConsoleRing {
    fn default() -> Self {
        Self::new()
    }
}
