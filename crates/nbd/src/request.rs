//! Requests: what the caller asks for, and how far each is.

use alloc::vec::Vec;

use crate::export::Export;
use crate::wire::{self, ErrorCode};

/// The caller's own number of a request; the client does not look at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub u64);

/// What is asked of a disk. Offsets and lengths are in bytes, multiples of [`Export::block`], within its size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The bytes are handed over piece by piece while they come.
    Read {
        /// Where.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// Writes.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// Answered only when it is durable.
        fua: bool,
    },
    /// Answered when all writes are durable that were answered before it was submitted.
    Flush,
    /// The bytes are no longer needed; what is read there is undefined until they are written.
    Trim {
        /// Where.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// Writes zeros without sending them.
    WriteZeroes {
        /// Where.
        offset: u64,
        /// How many.
        len: u32,
        /// Answered only when it is durable.
        fua: bool,
        /// The server may give the space back.
        unmap: bool,
    },
}

impl Command {
    /// Where, and how many bytes: too many to be true where there are more than fit.
    pub(crate) fn range(&self) -> (u64, u64) {
        match self {
            Self::Read { offset, len }
            | Self::Trim { offset, len }
            | Self::WriteZeroes { offset, len, .. } => (*offset, u64::from(*len)),
            Self::Write { offset, data, .. } => (*offset, data.len() as u64),
            Self::Flush => (0, 0),
        }
    }

    /// What it holds.
    pub(crate) fn data(&self) -> &[u8] {
        if let Self::Write { data, .. } = self { data } else { &[] }
    }

    pub(crate) fn fua(&self) -> bool {
        matches!(self, Self::Write { fua: true, .. } | Self::WriteZeroes { fua: true, .. })
    }

    /// Lasts only once it has been flushed.
    pub(crate) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::WriteZeroes { .. })
    }

    fn changes(&self) -> bool {
        self.is_write() || matches!(self, Self::Trim { .. })
    }

    /// Whether the order of the two makes a difference.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let ((at, len), (other_at, other_len)) = (self.range(), other.range());
        (self.changes() || other.changes()) && at < other_at + other_len && other_at < at + len
    }

    /// Number and flags on the wire.
    pub(crate) fn on_wire(&self, export: &Export) -> (u16, u16) {
        let fua = if self.fua() && export.fua() { wire::CMD_FUA } else { 0 };
        match self {
            Self::Read { .. } => (wire::CMD_READ, 0),
            Self::Write { .. } => (wire::CMD_WRITE, fua),
            Self::Flush => (wire::CMD_FLUSH, 0),
            Self::Trim { .. } => (wire::CMD_TRIM, 0),
            Self::WriteZeroes { unmap, .. } => {
                (wire::CMD_WRITE_ZEROES, fua | if *unmap { 0 } else { wire::CMD_NO_HOLE })
            }
        }
    }
}

/// A request that is not answered, or, a write, not durable.
#[derive(Debug)]
pub(crate) struct Request {
    /// The order in which they were submitted.
    pub(crate) number: u64,
    /// Whom the answer is for; none: it was given, or nobody asked.
    pub(crate) tag: Option<Tag>,
    pub(crate) command: Command,
    /// The server has answered it before: it is sent again because it may be lost.
    pub(crate) again: bool,
    /// Its refusal, where it is `again`.
    pub(crate) refused: Option<ErrorCode>,
    /// Not sent before this time, in microseconds.
    pub(crate) not_before_us: u64,
    /// On this connection: a piece of it was sent.
    pub(crate) begun: bool,
    /// On this connection: bytes of which pieces were sent.
    pub(crate) sent: u64,
    /// On this connection: pieces without an answer.
    pub(crate) pieces: usize,
    pub(crate) error: Option<ErrorCode>,
}

impl Request {
    pub(crate) fn new(number: u64, tag: Option<Tag>, command: Command) -> Self {
        Self {
            number,
            tag,
            command,
            again: false,
            refused: None,
            not_before_us: 0,
            begun: false,
            sent: 0,
            pieces: 0,
            error: None,
        }
    }

    /// Nothing of it was sent, as far as the next connection goes.
    pub(crate) fn reset(&mut self) {
        (self.begun, self.sent, self.pieces, self.error) = (false, 0, 0, None);
    }

    /// Bytes of the next piece; none: all is sent that is to be sent.
    pub(crate) fn next_piece(&self, export: &Export) -> Option<(u64, u32)> {
        let (offset, len) = self.command.range();
        if self.error.is_some() || (self.begun && self.sent == len) {
            return None;
        }
        let most = u64::from(export.most());
        let at = offset + self.sent;
        // Pieces end where preferred blocks do.
        let unit = u64::from(export.blocks.preferred);
        let short = at % unit;
        let room = if short < most { most - short } else { most };
        Some((at, (len - self.sent).min(room) as u32))
    }

    /// All that was sent is answered, and nothing more will be sent.
    pub(crate) fn is_over(&self) -> bool {
        let whole = self.begun && self.sent == self.command.range().1;
        self.pieces == 0 && (whole || self.error.is_some())
    }
}
