//! Bytes in frames of their own, such as a boot module: given back, zeroed, when the last user lets go.

use alloc::vec::Vec;
use core::task::Poll;
use spin::Once;

use super::{Hpa, PAGE, frame};

/// The bytes.
#[derive(Debug)]
pub struct Held {
    start: Hpa,
    len: u64,
    /// SHA-256 of them, once somebody has computed it.
    sha256: Once<[u8; 32]>,
}

impl Held {
    /// Takes over `len` bytes from `start` on, which nobody else writes or gives back: a boot module, or what
    /// [`frame`] handed out.
    pub const fn new(start: Hpa, len: u64) -> Self {
        Self { start, len, sha256: Once::new() }
    }

    /// A zeroed page; `None` when the host is out of memory.
    pub fn page() -> Option<Self> {
        Some(Self::new(frame::alloc_page()?, PAGE))
    }

    /// Where they lie.
    pub const fn hpa(&self) -> Hpa {
        self.start
    }

    /// Their SHA-256, where it is known by now.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256.get().copied()
    }

    /// Notes their SHA-256.
    pub fn set_sha256(&self, sha256: [u8; 32]) {
        self.sha256.call_once(|| sha256);
    }

    /// How many.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Them.
    pub fn bytes(&self) -> &[u8] {
        if self.is_empty() {
            return &[]; // an empty file has no frame
        }
        // SAFETY: RAM that is mapped and ours until drop; nothing writes there meanwhile.
        unsafe { core::slice::from_raw_parts(self.start.0 as *const u8, self.len as usize) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.len != 0 {
            frame::free(self.start, self.len);
        }
    }
}

/// Room for the first bytes of a file whose length nobody says; each further piece is as large as all before.
const FIRST: u64 = 1 << 20;
/// Bytes that are copied in one step.
const STEP: u64 = 1 << 20;

/// Memory that is not cleared, and how much of it is filled: nobody sees the rest.
#[derive(Debug)]
struct Piece {
    start: Hpa,
    capacity: u64,
    len: u64,
}

impl Piece {
    /// None where so much is not free in one piece.
    fn new(bytes: u64) -> Option<Self> {
        let capacity = bytes.max(1).checked_next_multiple_of(PAGE)?;
        Some(Self { start: frame::take(capacity, PAGE)?, capacity, len: 0 })
    }

    /// Adds as many bytes as there is room for, and answers how many.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let count = (bytes.len() as u64).min(self.capacity - self.len);
        // SAFETY: `capacity` bytes from `start` are ours, and `len + count` is not above it; the source is another's.
        unsafe {
            let to = (self.start.0 + self.len) as *mut u8;
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, count as usize);
        }
        self.len += count;
        count as usize
    }

    /// Bytes `from..to` of what is there.
    fn bytes(&self, from: u64, to: u64) -> &[u8] {
        let (from, to) = (from.min(self.len), to.min(self.len));
        // SAFETY: `len` bytes from `start` are ours and were written by `push`; nothing writes there meanwhile.
        unsafe {
            core::slice::from_raw_parts((self.start.0 + from) as *const u8, to.saturating_sub(from) as usize)
        }
    }

    /// What has come; room that was not needed is given back.
    fn into_held(mut self) -> Held {
        let used = self.len.next_multiple_of(PAGE);
        if used < self.capacity {
            frame::free(Hpa(self.start.0 + used), self.capacity - used);
        }
        self.capacity = 0; // it goes on in what is returned
        Held::new(self.start, self.len)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.capacity != 0 {
            frame::free(self.start, self.capacity);
        }
    }
}

/// Bytes that come bit by bit, to become [`Held`]. No step clears or copies more than a little, whatever length a server
/// names.
#[derive(Debug, Default)]
pub struct Filling {
    pieces: Vec<Piece>,
}

impl Filling {
    /// How many are there.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `bytes` to come. False where the memory is not free in one piece.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let piece = Piece::new(bytes);
        let free = piece.is_some();
        self.pieces.extend(piece);
        free
    }

    /// Adds bytes, for which there may have to be made room. False where no memory is free.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let pushed = self.pieces.last_mut().map_or(0, |piece| piece.push(bytes));
            bytes = bytes.get(pushed..).unwrap_or_default();
            let more = self.len().max(FIRST);
            if !bytes.is_empty() && !self.reserve(more) && !self.reserve(FIRST) {
                return false;
            }
        }
        true
    }

    /// Puts what has come into one piece.
    pub fn join(self) -> Joining {
        Joining { pieces: self.pieces, whole: None, at: (0, 0) }
    }
}

/// The bytes of a [`Filling`] on their way into one piece.
#[derive(Debug)]
pub struct Joining {
    pieces: Vec<Piece>,
    whole: Option<Piece>,
    /// The piece that is copied, and how far.
    at: (usize, u64),
}

impl Joining {
    /// Goes on for a bounded time. The bytes, once they are in one piece; none where so much is not free in one.
    pub fn poll(&mut self) -> Poll<Option<Held>> {
        if self.pieces.len() < 2 {
            return Poll::Ready(Some(self.pieces.pop().map_or(Held::new(Hpa(0), 0), Piece::into_held)));
        }
        let (number, from) = self.at;
        if self.whole.is_none() {
            self.whole = Piece::new(self.pieces.iter().map(|piece| piece.len).sum());
        }
        let Some(whole) = &mut self.whole else { return Poll::Ready(None) };
        let Some(piece) = self.pieces.get(number) else {
            return Poll::Ready(self.whole.take().map(Piece::into_held));
        };
        let bytes = piece.bytes(from, from.saturating_add(STEP));
        self.at = if bytes.is_empty() { (number + 1, 0) } else { (number, from + bytes.len() as u64) };
        whole.push(bytes);
        Poll::Pending
    }
}
