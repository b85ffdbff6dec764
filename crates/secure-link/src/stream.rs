//! The byte stream below the link.

use alloc::vec::Vec;

/// A connection, as TCP gives it: bytes in order or an end. Nothing blocks.
pub trait ByteStream {
    /// Takes bytes that have arrived into `buf`; 0 where none are there now.
    fn recv(&mut self, buf: &mut [u8]) -> usize;

    /// Queues as many bytes of `data` as there is room for and says how many; 0 where there is none.
    fn send(&mut self, data: &[u8]) -> usize;

    /// Whether the connection stands. `false`: apart from what `recv` still gives nothing more will arrive.
    fn is_open(&self) -> bool;
}

/// The buffer grows by this much when bytes have really come, never on a mere announcement.
const STEP: usize = 8 * 1024;

/// Reads to an exact length, so that nothing of what follows is taken.
#[derive(Default)]
pub(crate) struct Reader {
    buf: Vec<u8>,
    len: usize,
}

impl Reader {
    /// Reads until `want` bytes are there. False where more are to come.
    pub(crate) fn fill(&mut self, want: usize, stream: &mut impl ByteStream) -> bool {
        while self.len < want {
            if self.buf.len() <= self.len {
                self.buf.resize(self.len.saturating_add(STEP), 0);
            }
            let end = want.min(self.buf.len());
            let room = self.buf.get_mut(self.len..end).unwrap_or_default();
            let n = stream.recv(room).min(room.len());
            if n == 0 {
                return false;
            }
            self.len += n;
        }
        true
    }

    /// What has been read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Makes room for what comes next.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// Bytes on their way out.
#[derive(Default)]
pub(crate) struct Writer {
    buf: Vec<u8>,
    len: usize,
    sent: usize,
}

impl Writer {
    /// Queues bytes behind those that wait. For few: what has left keeps its room until all has.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let room = self.room(bytes.len());
        room.copy_from_slice(bytes);
        let len = bytes.len();
        self.grow(len);
    }

    /// `len` bytes behind those that wait, to be written; [`Writer::grow`] then queues them.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.is_empty() {
            self.len = 0;
            self.sent = 0;
        }
        let end = self.len.saturating_add(len);
        if self.buf.len() < end {
            self.buf.resize(end, 0);
        }
        self.buf.get_mut(self.len..end).unwrap_or_default()
    }

    /// Queues the first `len` bytes of the room.
    pub(crate) fn grow(&mut self, len: usize) {
        self.len = self.len.saturating_add(len).min(self.buf.len());
    }

    /// Hands on what the stream takes. True where nothing waits any more.
    pub(crate) fn flush(&mut self, stream: &mut impl ByteStream) -> bool {
        while let Some(rest) = self.buf.get(self.sent..self.len) {
            if rest.is_empty() {
                return true;
            }
            let n = stream.send(rest).min(rest.len());
            if n == 0 {
                break;
            }
            self.sent += n;
        }
        self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent >= self.len
    }
}
