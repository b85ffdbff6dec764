//! Why a migration ended before the guest ran on the other host.

use alloc::string::String;

use vm_types::{MemoryError, StateError};

use crate::body::{self, Abort, printable};
use crate::goal::Stall;
use crate::limits;
use crate::wire::{RecordType, WireError};

/// Why a migration ended before the guest ran on the other host.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// The connection ended.
    #[error("connection lost")]
    LinkLost,
    /// Not a byte came for too long.
    #[error("peer silent for {0} ms")]
    Silent(u64),
    /// The peer lives, but does not answer; or this host's VM does not.
    #[error("no {what} within {ms} ms")]
    NoReply {
        /// What was due.
        what: &'static str,
        /// How long it was waited for.
        ms: u64,
    },
    /// The target does not take the VM.
    #[error("peer refuses: {0}")]
    Refused(String),
    /// The peer gave up.
    #[error("peer: {0}")]
    Peer(String),
    /// The peer broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The VM on this host cannot go on.
    #[error("{0}")]
    Vm(String),
    /// The guest ended by itself while it was on its way.
    #[error("the guest ended: {0}")]
    Over(String),
    /// A page frame outside the guest's RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A state record that does not fit.
    #[error(transparent)]
    State(#[from] StateError),
    /// What one end holds is not what the other sent.
    #[error("{what} differ: sent {sent}, held {held}")]
    Differs {
        /// What was counted.
        what: &'static str,
        /// By the source.
        sent: u64,
        /// By the target.
        held: u64,
    },
    /// The two ends talk about different migrations.
    #[error("{0} names another migration")]
    OtherMigration(RecordType),
    /// The guest dirties its memory faster than it can be sent, and the operator said to leave it then.
    #[error("{0}")]
    NoConvergence(Stall),
    /// What the operator asked for is not in the protocol's version that the peer speaks.
    #[error("{what} needs version {needs} of the protocol, the peer speaks version {version}")]
    OldPeer {
        /// The option.
        what: &'static str,
        /// The first version that has it.
        needs: u16,
        /// The version agreed on.
        version: u16,
    },
    /// It would keep the VM for its own.
    #[error("peer takes no copies: it would run the VM")]
    TakesNoCopy,
    /// The operator, or the host, ended it.
    #[error("cancelled: {0}")]
    Cancelled(String),
}

impl Reason {
    /// What the VM that did not leave is on its host then.
    #[must_use]
    pub const fn leaves(&self) -> &'static str {
        match self {
            Self::Over(_) => "stopped",
            _ => "running",
        }
    }

    /// What the body of an ABORT says.
    pub(crate) fn told(body: &[u8]) -> Self {
        match body::decode::<Abort>(RecordType::Abort, body) {
            Ok(Abort { reason }) => Self::Peer(printable(&reason, limits::MAX_TEXT)),
            Err(error) => error.into(),
        }
    }
}
