//! Everything that can be wrong with a peer, by name and value.

use alloc::string::String;
use core::fmt;

use cpu_policy::{DecodeError, HostError};

use crate::host_id::HostId;
use crate::limits::{MAX_MEMBERS, MAX_VERSION, OLDEST_VERSION, VERSION};

/// Why a stream is not, or is no longer, one of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// Another protocol, or noise.
    #[error("not a Flexvisor pool stream: first bytes{}", Hex(.0))]
    NotOurs([u8; 4]),
    /// A flag that this version does not know.
    #[error("unknown flags {0:#x}")]
    Flags(u32),
    /// No common version.
    #[error(
        "peer speaks versions {oldest} to {newest} of the pool protocol, this host {OLDEST_VERSION} to {VERSION}"
    )]
    Version {
        /// Oldest of the peer.
        oldest: u16,
        /// Newest of the peer.
        newest: u16,
    },
    /// A message that may not be skipped.
    #[error("unknown mandatory message kind {0:#06x}")]
    UnknownKind(u16),
    /// A body longer than its kind allows.
    #[error("message kind {kind:#06x} has {len} bytes, at most {cap} are allowed")]
    TooLong {
        /// Kind of the message.
        kind: u16,
        /// Length claimed.
        len: u32,
        /// Length allowed.
        cap: usize,
    },
    /// A body that is not what its kind says.
    #[error("{kind} is malformed at byte {at}")]
    Body {
        /// Name of the kind.
        kind: &'static str,
        /// Where.
        at: usize,
    },
    /// A message that the protocol does not allow at this point.
    #[error("{kind} {state}")]
    Unexpected {
        /// Name of the kind.
        kind: &'static str,
        /// Where the link was, as an adverbial.
        state: &'static str,
    },
}

/// Why a host's record cannot be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// A name that is not 1 to 31 letters a-z, digits and `-`.
    #[error("{what} name `{}`: expected 1 to 31 letters a-z, digits and -", .name.escape_debug())]
    Name {
        /// Of what.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// A number or text out of range.
    #[error("{what} {value} is out of range")]
    Range {
        /// What.
        what: &'static str,
        /// As given.
        value: u64,
    },
    /// Two statements that exclude each other.
    #[error("{0}")]
    Contradiction(String),
    /// The policy of the host's CPU.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The policy of one of its VMs.
    #[error("CPU policy of its VMs: {0}")]
    Guest(DecodeError),
}

/// Its text is part of this one's: as a source too it would be said twice.
impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> Self {
        Self::Guest(error)
    }
}

/// Why there is no link to a peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The stream.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It names another pool.
    #[error("pool {theirs}: this host is in pool {ours}")]
    OtherPool {
        /// The peer's.
        theirs: String,
        /// This host's.
        ours: String,
    },
    /// It wants to join a host that is in no pool.
    #[error("host {0} is in no pool")]
    NoPool(String),
    /// A second host of a name.
    #[error("host name {name} is taken in this pool by the host with id {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: HostId,
    },
    /// A second host of an id.
    #[error("host id {id} is taken in this pool by {holder}")]
    IdTaken {
        /// The id.
        id: HostId,
        /// Who has it.
        holder: String,
    },
    /// One more than [`MAX_MEMBERS`].
    #[error("the pool has {MAX_MEMBERS} members already, lost ones included: no more are possible")]
    Full,
    /// A record, the peer's or one that it passed on.
    #[error("host {name}: {why}")]
    Record {
        /// Whose.
        name: String,
        /// What is wrong with it.
        why: RecordError,
    },
    /// A record's version is out of range.
    #[error("host {name}: record version {version} is above {MAX_VERSION}")]
    RecordVersion {
        /// Whose.
        name: String,
        /// As given.
        version: u64,
    },
    /// A record of which nothing can be read.
    #[error("record is malformed at byte {0}")]
    RecordMalformed(usize),
    /// The peer's own reason.
    #[error("it says: {0}")]
    Theirs(String),
    /// The address is this host's own.
    #[error("this is the host itself")]
    Itself,
    /// The connection ended, or never began.
    #[error("no connection")]
    Closed,
    /// Nothing came for too long.
    #[error("no answer")]
    Silent,
    /// The connection could not be made, in the words of those who tried.
    #[error("{0}")]
    Connect(String),
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}
