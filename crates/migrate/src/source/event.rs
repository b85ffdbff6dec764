//! What a source tells its caller.

use core::fmt;

use crate::goal::Stall;
use crate::reason::Reason;
use crate::stats::{RoundStats, Summary};
use crate::writers::Shares;

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceOutcome {
    /// The target runs the VM; it is freed here.
    Done(Summary),
    /// The target holds a copy; the VM runs on here.
    Copied(Summary),
    /// The target would take the VM.
    Checked,
    /// The VM is here, and runs unless its guest is over ([`Reason::leaves`]).
    Failed(Reason),
    /// The VM is paused here, and given away; the target can be asked what became of it: [`crate::handover`].
    Asking(Reason),
    /// The VM is paused here; the target may run it.
    Unknown(Reason),
}

/// A guest that is slowed down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slowed {
    /// Why.
    pub stall: Stall,
    /// What its vCPUs are left of their CPUs.
    pub shares: Shares,
}

/// What a poll did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceEvent {
    /// It waits for the peer, the link or the VM.
    Waiting,
    /// It worked; more may be done at once.
    Working,
    /// A round is over.
    Round(RoundStats),
    /// The guest does not converge and gets less of its CPU from here on.
    Slowed(Slowed),
    /// COMMIT is queued: the VM is given away.
    Given,
    /// It is over; given once. The link can be closed.
    Finished(SourceOutcome),
}

/// What the console prints behind `migrate NAME: `.
impl fmt::Display for SourceOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(summary) => write!(f, "{summary}"),
            Self::Copied(summary) => write!(f, "{summary}; a copy, the VM runs on here"),
            Self::Checked => f.write_str("fits"),
            Self::Failed(reason) => write!(f, "failed: {reason} ({} here)", reason.leaves()),
            Self::Asking(reason) | Self::Unknown(reason) => write!(f, "unknown: paused here ({reason})"),
        }
    }
}
