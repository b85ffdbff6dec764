//! What a target tells its caller.

use alloc::string::String;

use crate::body::Fate;
use crate::reason::Reason;

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetOutcome {
    /// The VM runs here.
    Runs,
    /// A copy of the VM is here, whole; the VM runs on at its source.
    Copied,
    /// The source only asked; the answer was yes.
    Checked,
    /// The VM does not fit, and why.
    Refused(String),
    /// The VM is here, whole and paused, and its source is lost: it can be asked ([`crate::handover`]).
    Held(Reason),
    /// There was no migration, but a question about one.
    Answered,
    /// Nothing is left here.
    Failed(Reason),
}

/// What a poll did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetEvent {
    /// It waits for the peer, the link or the VM.
    Waiting,
    /// It worked; more may be done at once.
    Working,
    /// HELLO was read: [`crate::Target::hello`].
    Greeted,
    /// The VM is made; memory may come.
    Accepted,
    /// A round is over.
    Round {
        /// From 1.
        round: u32,
        /// Pages in it.
        pages: u64,
        /// Pages dirty at its end, as the source counts them.
        dirty: u64,
    },
    /// All is here and loaded; READY is queued.
    Ready,
    /// The VM runs here; RUNNING is queued.
    Running {
        /// From the guest's stop to COMMIT and half a round trip.
        downtime_ns: u64,
    },
    /// The peer does not migrate, but asks about a migration: [`crate::Target::answer`] is due.
    Asked(Fate),
    /// It is over; given once. The link can be closed.
    Finished(TargetOutcome),
}
