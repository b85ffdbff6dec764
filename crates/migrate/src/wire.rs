//! Stream header, record header, record types, seal.

use alloc::string::String;
use core::fmt;

use xxhash_rust::xxh64::xxh64;

use crate::limits;

/// First bytes of a stream, in both directions.
pub const MAGIC: [u8; 8] = *b"FLEXMIG\x1a";
/// The version this crate writes and the newest it reads.
pub const VERSION: u16 = 2;
/// The oldest version it reads: N-1.
pub const OLDEST_VERSION: u16 = 1;
/// The first version whose ends can ask each other what became of a migration.
pub const FATE_VERSION: u16 = 2;
/// The first version that knows packed pages.
pub const PACKED_VERSION: u16 = 2;
/// Bytes in the stream header.
pub const STREAM_HEADER: usize = 16;
/// Bytes in a record header.
pub const RECORD_HEADER: usize = 16;
/// Bit of the type that says: a reader that does not know this record skips it.
pub const OPTIONAL: u16 = 0x8000;

/// What stands before the first record of each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamHeader {
    /// Newest version the sender speaks; from the target: the one chosen.
    pub version: u16,
    /// Oldest version the sender speaks.
    pub oldest: u16,
}

impl StreamHeader {
    /// The header of this crate.
    pub const OURS: Self = Self { version: VERSION, oldest: OLDEST_VERSION };

    /// The 16 bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; STREAM_HEADER] {
        let mut out = [0; STREAM_HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&self.version.to_le_bytes());
        out[10..12].copy_from_slice(&self.oldest.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`WireError::NotOurs`] on another magic, [`WireError::StreamFlags`] on a flag that version 1 does not know.
    pub fn from_bytes(bytes: &[u8; STREAM_HEADER]) -> Result<Self, WireError> {
        if bytes[..8] != MAGIC {
            return Err(WireError::not_ours(bytes));
        }
        let flags = le_u32(&bytes[12..]);
        if flags != 0 {
            return Err(WireError::StreamFlags(flags));
        }
        Ok(Self { version: le_u16(&bytes[8..]), oldest: le_u16(&bytes[10..]) })
    }

    /// The newest version that both ends speak.
    ///
    /// # Errors
    /// [`WireError::Version`] where there is none.
    pub fn agree(self) -> Result<u16, WireError> {
        let version = self.version.min(VERSION);
        if self.oldest > self.version || version < self.oldest || version < OLDEST_VERSION {
            return Err(WireError::Version { oldest: self.oldest, newest: self.version });
        }
        Ok(version)
    }
}

macro_rules! record_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $cap:expr;)*) => {
        /// The record types of this version.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum RecordType { $($(#[$doc])* $name = $value,)* }

        impl RecordType {
            /// Every type, in order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type with this number.
            #[must_use]
            pub const fn from_u16(raw: u16) -> Option<Self> {
                match raw { $($value => Some(Self::$name),)* _ => None }
            }

            /// The longest body it may have, in bytes.
            #[must_use]
            pub const fn cap(self) -> usize {
                match self { $(Self::$name => $cap,)* }
            }
        }

        impl fmt::Display for RecordType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

record_types! {
    /// Source: who, which VM, for what.
    Hello = 0x0001, "HELLO", limits::MAX_CONTROL_BODY;
    /// Target: who answers.
    HelloAck = 0x0002, "HELLO_ACK", limits::MAX_CONTROL_BODY;
    /// Source: the CPU policy, bytes of the `cpu-policy` crate.
    Policy = 0x0003, "POLICY", limits::MAX_POLICY_BODY;
    /// Source: memory, vCPUs, time and devices of the VM.
    Shape = 0x0004, "SHAPE", limits::MAX_CONTROL_BODY;
    /// Target: accept, or refuse with the reason.
    Verdict = 0x0005, "VERDICT", limits::MAX_CONTROL_BODY;
    /// Source: runs of pages.
    Memory = 0x0006, "MEMORY", limits::MAX_MEMORY_BODY;
    /// Source: end of a round.
    RoundEnd = 0x0007, "ROUND_END", limits::MAX_CONTROL_BODY;
    /// Source: state of one vCPU or device.
    State = 0x0008, "STATE", limits::MAX_STATE_BODY;
    /// Source: all is sent; totals.
    StateEnd = 0x0009, "STATE_END", limits::MAX_CONTROL_BODY;
    /// Target: all is held and verified; totals.
    Ready = 0x000a, "READY", limits::MAX_CONTROL_BODY;
    /// Source: the VM is yours.
    Commit = 0x000b, "COMMIT", limits::MAX_CONTROL_BODY;
    /// Target: it runs.
    Running = 0x000c, "RUNNING", limits::MAX_CONTROL_BODY;
    /// Either: it is over, and why; a target sends it after its copy is destroyed.
    Abort = 0x000d, "ABORT", limits::MAX_CONTROL_BODY;
    /// Either, on a connection of its own: what became of a migration; from version 2 on.
    Fate = 0x000e, "FATE", limits::MAX_CONTROL_BODY;
    /// Either: a sign of life.
    Ping = 0x8001, "PING", 0;
    /// Source: what the VM takes along for the operator's eyes, bytes of the `cpu-policy` crate. It decides nothing.
    Companion = 0x8002, "COMPANION", limits::MAX_COMPANION_BODY;
    /// Source: a piece of what the guest has printed, for whoever looks at its console there. It decides nothing.
    History = 0x8003, "HISTORY", limits::MAX_HISTORY_BODY;
    /// Source: what the VM was made from, so that the target can boot it anew.
    Origin = 0x8004, "ORIGIN", limits::MAX_ORIGIN_BODY;
    /// Source: a piece of a file of it, which the target has asked for.
    File = 0x8005, "FILE", limits::MAX_FILE_BODY;
}

/// The header before each body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// [`RecordType`] or a number of a later version.
    pub kind: u16,
    /// Bytes in the body.
    pub len: u32,
    /// Number of the record in its direction, from 0.
    pub seq: u32,
    /// [`RecordHeader::check_of`] the seal.
    pub check: u32,
}

impl RecordHeader {
    /// The 16 bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[..2].copy_from_slice(&self.kind.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..12].copy_from_slice(&self.seq.to_le_bytes());
        out[12..].copy_from_slice(&self.check.to_le_bytes());
        out
    }

    /// Reads and checks a header; `None` for a type that is unknown and optional.
    ///
    /// # Errors
    /// Unknown flags, an unknown mandatory type, a length above the type's cap.
    pub fn from_bytes(bytes: &[u8; RECORD_HEADER]) -> Result<(Self, Option<RecordType>), WireError> {
        let flags = le_u16(&bytes[2..]);
        let header = Self {
            kind: le_u16(bytes),
            len: le_u32(&bytes[4..]),
            seq: le_u32(&bytes[8..]),
            check: le_u32(&bytes[12..]),
        };
        let kind = RecordType::from_u16(header.kind);
        if kind.is_none() && header.kind & OPTIONAL == 0 {
            return Err(WireError::UnknownType(header.kind));
        }
        if flags != 0 {
            return Err(WireError::Flags { kind: header.kind, flags });
        }
        let cap = kind.map_or(limits::MAX_UNKNOWN_BODY, RecordType::cap);
        if header.len as usize > cap {
            return Err(WireError::TooLong { kind: header.kind, len: header.len, cap });
        }
        Ok((header, kind))
    }

    /// The seal over type, length and `body`: XXH64, whatever the number of the record.
    #[must_use]
    pub fn seal(&self, body: &[u8]) -> u64 {
        xxh64(body, u64::from(self.kind) | u64::from(self.len) << 32)
    }

    /// What `check` must be under this seal.
    #[must_use]
    pub const fn check_of(&self, seal: u64) -> u32 {
        seal as u32 ^ self.seq.wrapping_mul(0x9e37_79b1)
    }
}

/// Why a stream is not, or is no longer, one of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// Another protocol, or noise.
    #[error("not a Flexvisor migration stream: first bytes{}", Hex(.0))]
    NotOurs([u8; limits::SHOWN_BYTES]),
    /// A flag in the stream header that this version does not know.
    #[error("stream header has unknown flags {0:#x}")]
    StreamFlags(u32),
    /// No common version.
    #[error("peer speaks versions {oldest} to {newest}, this host {OLDEST_VERSION} to {VERSION}")]
    Version {
        /// Oldest of the peer.
        oldest: u16,
        /// Newest of the peer.
        newest: u16,
    },
    /// A record that may not be skipped.
    #[error("unknown mandatory record type {0:#06x}")]
    UnknownType(u16),
    /// A flag in a record header that this version does not know.
    #[error("record type {kind:#06x} has unknown flags {flags:#06x}")]
    Flags {
        /// Type of the record.
        kind: u16,
        /// Its flags.
        flags: u16,
    },
    /// A body longer than the type allows.
    #[error("record type {kind:#06x} has {len} bytes, at most {cap} are allowed")]
    TooLong {
        /// Type of the record.
        kind: u16,
        /// Length claimed.
        len: u32,
        /// Length allowed.
        cap: usize,
    },
    /// A record lost, doubled or out of place.
    #[error("record number {got} where {want} was due")]
    Sequence {
        /// Number expected.
        want: u32,
        /// Number read.
        got: u32,
    },
    /// Header or body was altered on the way.
    #[error("record {seq}, type {kind:#06x}: seal {got:#010x} does not fit, {want:#010x} computed")]
    Seal {
        /// Number of the record.
        seq: u32,
        /// Type of the record.
        kind: u16,
        /// Seal computed here.
        want: u32,
        /// Seal in the header.
        got: u32,
    },
    /// This host has no memory for what the peer sends.
    #[error("no memory for {0} bytes of the peer's")]
    NoMemory(usize),
    /// A body that is not what its type says.
    #[error("{kind} body: {why}")]
    Body {
        /// Type of the record.
        kind: RecordType,
        /// What is wrong with it.
        why: String,
    },
    /// A record that the protocol does not allow at this point.
    #[error("{kind} {state}")]
    Unexpected {
        /// Type of the record.
        kind: RecordType,
        /// Where the machine was, as an adverbial: "before HELLO".
        state: &'static str,
    },
}

impl WireError {
    /// [`WireError::NotOurs`] with the first bytes of what was read.
    #[must_use]
    pub fn not_ours(bytes: &[u8]) -> Self {
        let mut first = [0; limits::SHOWN_BYTES];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self::NotOurs(first)
    }

    pub(crate) fn body(kind: RecordType, why: impl Into<String>) -> Self {
        Self::Body { kind, why: why.into() }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

fn le_u16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |b| u16::from_le_bytes(*b))
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn seal_is_xxh64() {
        // Test vectors of the XXH64 specification: empty input, seeds 0 and 0x9e3779b1.
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"", 0x9e37_79b1), 0xac75_fda2_929b_17ef);
        let header = RecordHeader { kind: 0, len: 0, seq: 0, check: 0 };
        assert_eq!(header.seal(b""), 0xef46_db37_51d8_e999);
        assert_eq!(RecordHeader { seq: 1, ..header }.seal(b""), header.seal(b""));
        assert_ne!(RecordHeader { seq: 1, ..header }.check_of(7), header.check_of(7));
        assert_ne!(RecordHeader { kind: 1, ..header }.seal(b""), header.seal(b""));
    }

    #[test]
    fn headers_round_trip() {
        for &kind in RecordType::ALL {
            let header =
                RecordHeader { kind: kind as u16, len: kind.cap() as u32, seq: 7, check: 0x1234_5678 };
            assert_eq!(RecordHeader::from_bytes(&header.to_bytes()), Ok((header, Some(kind))));
            let long = RecordHeader { len: header.len + 1, ..header };
            assert!(matches!(RecordHeader::from_bytes(&long.to_bytes()), Err(WireError::TooLong { .. })));
        }
        assert_eq!(StreamHeader::from_bytes(&StreamHeader::OURS.to_bytes()), Ok(StreamHeader::OURS));
    }

    #[test]
    fn unknown_records_are_refused_or_skipped() {
        let header = RecordHeader { kind: 0x0123, len: 0, seq: 0, check: 0 };
        assert_eq!(RecordHeader::from_bytes(&header.to_bytes()), Err(WireError::UnknownType(0x0123)));
        let header = RecordHeader { kind: 0x8123, ..header };
        assert_eq!(RecordHeader::from_bytes(&header.to_bytes()), Ok((header, None)));
        let mut flagged = header.to_bytes();
        flagged[2] = 1;
        assert_eq!(RecordHeader::from_bytes(&flagged), Err(WireError::Flags { kind: 0x8123, flags: 1 }));
    }

    #[test]
    fn versions_agree_on_the_newest_common_one() {
        assert_eq!(StreamHeader { version: 9, oldest: 1 }.agree(), Ok(VERSION));
        assert_eq!(
            StreamHeader { version: 9, oldest: 8 }.agree().map_err(|e| e.to_string()),
            Err("peer speaks versions 8 to 9, this host 1 to 2".into())
        );
        assert!(StreamHeader { version: 0, oldest: 0 }.agree().is_err());
        assert!(StreamHeader { version: 1, oldest: 2 }.agree().is_err());
    }

    #[test]
    fn garbage_is_shown() {
        assert_eq!(
            WireError::not_ours(b"GET / HTTP/1.1").to_string(),
            "not a Flexvisor migration stream: first bytes 47 45 54 20"
        );
    }
}
