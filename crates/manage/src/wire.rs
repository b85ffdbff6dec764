//! Messages: a type, the length of the body in two bytes (little-endian), the body.

use alloc::string::String;
use alloc::vec::Vec;

/// Longest body in bytes.
pub const MAX_BODY: usize = 4096;
const HEAD: usize = 3;

/// Types, the same in both directions where they mean the same.
pub(crate) const HELLO: u8 = 1;
pub(crate) const RUN: u8 = 2;
pub(crate) const INTERRUPT: u8 = 3;
pub(crate) const ALIVE: u8 = 4;
pub(crate) const OUTPUT: u8 = 5;
pub(crate) const END: u8 = 6;

/// Why the conversation cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A type that this version does not know here.
    #[error("message of type {0}, which has no place here")]
    Type(u8),
    /// More than [`MAX_BODY`].
    #[error("message of {0} bytes, at most {MAX_BODY} are taken")]
    Length(usize),
    /// A body that its type cannot have.
    #[error("message of type {0} with a body that it cannot have")]
    Body(u8),
    /// Text that is no UTF-8.
    #[error("text that is no UTF-8")]
    Text,
    /// Another version.
    #[error("the other end speaks version {0} of the protocol, this one {version}", version = crate::VERSION)]
    Version(u8),
    /// A command while one runs.
    #[error("a command while another one runs")]
    Busy,
    /// Nothing came for that many microseconds.
    #[error("nothing came for {} s", .0 / 1_000_000)]
    Silent(u64),
    /// The other end does not read what it asked for.
    #[error("the other end left {0} bytes unread")]
    Unread(usize),
}

/// A message as it came.
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn text(self) -> Result<String, WireError> {
        String::from_utf8(self.body).map_err(|_| WireError::Text)
    }

    pub(crate) fn empty(&self) -> Result<(), WireError> {
        if self.body.is_empty() { Ok(()) } else { Err(WireError::Body(self.kind)) }
    }
}

/// Bytes in, messages out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a message is whole, or can never be one.
    pub(crate) fn is_whole(&self) -> bool {
        let Some(&[_, low, high]) = self.bytes.first_chunk::<HEAD>() else { return false };
        let len = usize::from(u16::from_le_bytes([low, high]));
        len > MAX_BODY || self.bytes.len() >= HEAD + len
    }

    /// The next message that is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, WireError> {
        let Some(&[kind, low, high]) = self.bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes([low, high]));
        if len > MAX_BODY {
            return Err(WireError::Length(len));
        }
        if self.bytes.len() < HEAD + len {
            return Ok(None);
        }
        let body = self.bytes.drain(..HEAD + len).skip(HEAD).collect();
        Ok(Some(Message { kind, body }))
    }
}

/// Messages in, bytes out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
}

impl Outbox {
    /// `body` has at most [`MAX_BODY`] bytes.
    pub(crate) fn push(&mut self, kind: u8, body: &[u8]) {
        let body = body.get(..MAX_BODY).unwrap_or(body);
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(body);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn sent(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

/// The beginning of a text that fits a body, and the rest.
pub(crate) fn split(text: &str) -> (&str, &str) {
    text.split_at(text.floor_char_boundary(MAX_BODY))
}

/// When the other end was heard, and when this one must say something.
#[derive(Debug)]
pub(crate) struct Pulse {
    heard_us: u64,
    said_us: u64,
}

impl Pulse {
    pub(crate) const fn new(now_us: u64) -> Self {
        Self { heard_us: now_us, said_us: now_us }
    }

    pub(crate) fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// Says that this end is there, where it is time to.
    pub(crate) fn beat(&mut self, now_us: u64, out: &mut Outbox) -> Result<(), WireError> {
        let silent = now_us.saturating_sub(self.heard_us);
        if silent > crate::PATIENCE_US {
            return Err(WireError::Silent(silent));
        }
        if now_us.saturating_sub(self.said_us) >= crate::ALIVE_US {
            self.said_us = now_us;
            out.push(ALIVE, &[]);
        }
        Ok(())
    }
}
