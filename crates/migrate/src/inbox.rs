//! Records out of a byte stream.

use alloc::vec::Vec;

use crate::limits::SHOWN_BYTES;
use crate::link::Link;
use crate::wire::{MAGIC, RECORD_HEADER, RecordHeader, RecordType, STREAM_HEADER, StreamHeader, WireError};

/// The buffer grows by this much when bytes have really come, never on a mere announcement.
const STEP: usize = 16 * 1024;

#[derive(Clone)]
enum Stage {
    Stream,
    Header,
    Body(RecordHeader, Option<RecordType>),
}

/// What the inbox found.
pub(crate) enum Item {
    /// The stream header.
    Stream(StreamHeader),
    /// A record, sealed and in sequence; its body is in [`Inbox::body`] until [`Inbox::release`].
    Record(RecordType, u64),
    /// An optional record that this version does not know; already skipped.
    Skipped,
}

/// Bytes of one record at a time.
#[derive(Clone)]
pub(crate) struct Inbox {
    stage: Stage,
    buf: Vec<u8>,
    len: usize,
    seq: u32,
    /// When a byte was last read.
    heard: u64,
    /// When it came, which is not later.
    came: u64,
}

impl Inbox {
    pub(crate) fn new(now: u64) -> Self {
        Self { stage: Stage::Stream, buf: Vec::new(), len: 0, seq: 0, heard: now, came: now }
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// When the last byte read has come.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// Counts the peer as heard: this end was busy and did not listen.
    pub(crate) fn touch(&mut self, now: u64) {
        self.heard = now;
    }

    /// The body of the record last found.
    pub(crate) fn body(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Makes room for the next record.
    pub(crate) fn release(&mut self) {
        self.stage = Stage::Header;
        self.len = 0;
    }

    /// Takes bytes from the link until an item is whole; `None` where too few are there now.
    pub(crate) fn next(&mut self, link: &mut impl Link, now: u64) -> Result<Option<Item>, WireError> {
        loop {
            let want = match self.stage {
                Stage::Stream => STREAM_HEADER,
                Stage::Header => RECORD_HEADER,
                Stage::Body(header, _) => header.len as usize,
            };
            if !self.fill(want, link, now)? {
                return self.starved(link);
            }
            match self.stage {
                Stage::Stream => {
                    let header = self.buf.first_chunk().map(StreamHeader::from_bytes);
                    self.release();
                    return header.transpose().map(|h| h.map(Item::Stream));
                }
                Stage::Header => {
                    let Some(bytes) = self.buf.first_chunk() else { return Ok(None) };
                    let (header, kind) = RecordHeader::from_bytes(bytes)?;
                    if header.seq != self.seq {
                        return Err(WireError::Sequence { want: self.seq, got: header.seq });
                    }
                    self.seq = self.seq.wrapping_add(1);
                    self.stage = Stage::Body(header, kind);
                    self.len = 0;
                }
                Stage::Body(header, kind) => {
                    let seal = header.seal(self.body());
                    let (want, got) = (header.check_of(seal), header.check);
                    if want != got {
                        return Err(WireError::Seal { seq: header.seq, kind: header.kind, want, got });
                    }
                    let Some(kind) = kind else {
                        self.release();
                        return Ok(Some(Item::Skipped));
                    };
                    return Ok(Some(Item::Record(kind, seal)));
                }
            }
        }
    }

    /// Reads until `want` bytes are there.
    fn fill(&mut self, want: usize, link: &mut impl Link, now: u64) -> Result<bool, WireError> {
        while self.len < want {
            if self.buf.len() <= self.len {
                self.buf.try_reserve_exact(STEP).map_err(|_| WireError::NoMemory(STEP))?;
                self.buf.resize(self.len.saturating_add(STEP), 0);
            }
            let end = want.min(self.buf.len());
            let room = self.buf.get_mut(self.len..end).unwrap_or_default();
            let n = link.recv(room).min(room.len());
            if n == 0 {
                return Ok(false);
            }
            self.heard = now;
            self.came = link.came(now).min(now);
            self.len += n;
        }
        Ok(true)
    }

    /// Another protocol is told by its first bytes, without waiting for a whole header.
    fn starved(&self, link: &impl Link) -> Result<Option<Item>, WireError> {
        let body = self.body();
        let enough = body.len() >= SHOWN_BYTES || (!link.is_open() && !body.is_empty());
        if matches!(self.stage, Stage::Stream)
            && enough
            && !MAGIC.starts_with(body)
            && !body.starts_with(&MAGIC)
        {
            return Err(WireError::not_ours(body));
        }
        Ok(None)
    }
}
