//! Stream header, message header, message kinds.

use alloc::vec::Vec;

use crate::error::WireError;
use crate::limits::{MAX_BODY, MAX_SMALL_BODY};
pub use crate::limits::{OLDEST_VERSION, VERSION};

/// First bytes of a stream, in both directions.
pub const MAGIC: [u8; 8] = *b"FLEXPOOL";
/// Bytes in the stream header.
pub const STREAM_HEADER: usize = 16;
/// Bytes in a message header.
pub const MESSAGE_HEADER: usize = 8;
/// Bit of the kind that says: a reader that does not know this message skips it.
pub const OPTIONAL: u16 = 0x8000;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Kind {
    /// First of either side: which pool, who.
    Hello = 1,
    /// What one host says of itself, from that host or passed on.
    Record = 2,
    /// A sign of life, and what the sender makes of all records it has.
    Beat = 3,
    /// Last: why the sender wants no more.
    Refuse = 4,
    /// Last: all is well.
    Bye = 5,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Hello, Self::Record, Self::Beat, Self::Refuse, Self::Bye];

    const fn cap(self) -> usize {
        match self {
            Self::Record => MAX_BODY,
            _ => MAX_SMALL_BODY,
        }
    }

    /// The name in errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Record => "RECORD",
            Self::Beat => "BEAT",
            Self::Refuse => "REFUSE",
            Self::Bye => "BYE",
        }
    }
}

/// The 16 bytes before the first message: magic, newest and oldest version, flags (0).
#[must_use]
pub fn stream_header() -> [u8; STREAM_HEADER] {
    let mut out = [0; STREAM_HEADER];
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[10..12].copy_from_slice(&OLDEST_VERSION.to_le_bytes());
    out
}

/// Checks a peer's stream header.
///
/// # Errors
/// Another protocol, no common version, or a flag that this one does not know.
pub fn check_stream_header(bytes: &[u8; STREAM_HEADER]) -> Result<(), WireError> {
    let [magic @ .., n0, n1, o0, o1, f0, f1, f2, f3] = *bytes;
    if magic != MAGIC {
        let [a, b, c, d, ..] = magic;
        return Err(WireError::NotOurs([a, b, c, d]));
    }
    let (newest, oldest) = (u16::from_le_bytes([n0, n1]), u16::from_le_bytes([o0, o1]));
    if oldest > newest || oldest > VERSION || newest < OLDEST_VERSION {
        return Err(WireError::Version { oldest, newest });
    }
    match u32::from_le_bytes([f0, f1, f2, f3]) {
        0 => Ok(()),
        flags => Err(WireError::Flags(flags)),
    }
}

/// The header before a body: its length, its kind, and 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// `None`: to be skipped.
    pub(crate) kind: Option<Kind>,
    pub(crate) len: usize,
}

impl Header {
    pub(crate) fn read(bytes: &[u8; MESSAGE_HEADER]) -> Result<Self, WireError> {
        let [l0, l1, l2, l3, k0, k1, z0, z1] = *bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let raw = u16::from_le_bytes([k0, k1]);
        let zero = u16::from_le_bytes([z0, z1]);
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u16 == raw);
        if kind.is_none() && raw & OPTIONAL == 0 {
            return Err(WireError::UnknownKind(raw));
        }
        if zero != 0 {
            return Err(WireError::Flags(zero.into()));
        }
        let cap = kind.map_or(MAX_SMALL_BODY, Kind::cap);
        match usize::try_from(len) {
            Ok(len) if len <= cap => Ok(Self { kind, len }),
            _ => Err(WireError::TooLong { kind: raw, len, cap }),
        }
    }
}

/// A message as it goes over the wire.
///
/// # Panics
/// Not for a body within the limits of [`crate::limits`].
#[must_use]
pub fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len() <= kind.cap(), "{} of {} bytes", kind.name(), body.len());
    let mut out = Vec::with_capacity(MESSAGE_HEADER + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(body);
    out
}
