//! Who owns the VM: the two small machines that decide it, and nothing else does.
//!
//! [`crate::Source`] and [`crate::Target`] carry out what `step` tells them while the first connection lives, and whoever
//! asks again after it is lost ([`Doubt`], [`Question`]) does the same. Nobody touches the VM's fate in another place, so
//! that exploring these machines explores the code that runs: `tests/handover.rs`.

mod book;
mod deal;
mod doubt;
mod question;

pub use book::{Book, REMEMBERED};
pub use deal::{Deal, FateError, Receipt, Role, Word, stranger};
pub use doubt::{Claim, Doubt, NotYet, Settle};
pub use question::{Answer, Question};

/// The VM as its source sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceOwner {
    /// Here: it runs, or runs again after a failure.
    Owns,
    /// COMMIT is queued: it never runs here again unless the target says that it has destroyed its copy.
    Given,
    /// The target runs it.
    Freed,
    /// The target may run it and cannot be asked; an operator decides.
    Unknown,
    /// The migration ended before the target ran it: it runs here.
    Kept,
}

/// What happens to a source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceInput {
    /// READY was read and fits what was sent.
    Ready,
    /// READY was read and fits what was sent, and a copy is all that was asked for.
    Copied,
    /// Asked, the target says that it holds the VM and waits for COMMIT.
    Holds,
    /// RUNNING was read, or the target said so when asked.
    Running,
    /// ABORT was read, or the target said so when asked: its copy is destroyed, and it refuses this migration ever after.
    Aborted,
    /// The connection ended, or the peer broke the protocol.
    Lost,
    /// The same, with a peer of version 1, which cannot be asked.
    Cut,
    /// The peer has started again, or has forgotten, and knows nothing of this migration.
    Stranger,
    /// A timer ran out, or the operator cancelled.
    Stop,
    /// The operator: it runs here.
    RunHere,
    /// The operator: it is given up here for good.
    Discard,
}

impl SourceInput {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Ready,
        Self::Copied,
        Self::Holds,
        Self::Running,
        Self::Aborted,
        Self::Lost,
        Self::Cut,
        Self::Stranger,
        Self::Stop,
        Self::RunHere,
        Self::Discard,
    ];

    /// What an answer of the target means.
    #[must_use]
    pub const fn from_peer(word: Word) -> Option<Self> {
        match word {
            Word::Holds => Some(Self::Holds),
            Word::Runs => Some(Self::Running),
            Word::Destroyed => Some(Self::Aborted),
            Word::Unknown => Some(Self::Stranger),
            Word::Wait | Word::Commit | Word::Kept => None,
        }
    }
}

/// What a source does then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceAction {
    /// Nothing.
    Nothing,
    /// Gives the VM up, then queues COMMIT.
    Commit,
    /// Frees the VM.
    Free,
    /// Lets the VM run here; tells the target where that can hear it.
    Resume,
    /// Lets the VM run on here: its copy is complete, and nobody's but the operator's.
    Keep,
    /// Keeps the VM paused and asks the target over another connection, until it knows.
    Ask,
    /// Keeps the VM paused and says so.
    MarkUnknown,
}

impl SourceOwner {
    /// The next state, and what is done on the way.
    #[must_use]
    pub const fn step(self, input: SourceInput) -> (Self, SourceAction) {
        use SourceAction as A;
        use SourceInput as I;
        match (self, input) {
            (Self::Owns, I::Ready) => (Self::Given, A::Commit),
            (Self::Owns, I::Copied) => (Self::Kept, A::Keep),
            (Self::Owns, I::Running | I::Aborted | I::Lost | I::Cut | I::Stranger | I::Stop) => {
                (Self::Kept, A::Resume)
            }
            (Self::Given, I::Holds) => (Self::Given, A::Commit),
            (Self::Given, I::Lost) => (Self::Given, A::Ask),
            (Self::Given, I::Cut | I::Stranger) => (Self::Unknown, A::MarkUnknown),
            (Self::Given | Self::Unknown, I::Running | I::Discard) => (Self::Freed, A::Free),
            (Self::Given | Self::Unknown, I::Aborted | I::RunHere) => (Self::Kept, A::Resume),
            // No timer and no cancel acts once COMMIT is queued.
            (Self::Given, I::Ready | I::Copied | I::Stop) => (self, A::Nothing),
            (Self::Owns, I::Holds | I::RunHere | I::Discard) => (self, A::Nothing),
            (Self::Unknown | Self::Freed | Self::Kept, _) => (self, A::Nothing),
        }
    }

    /// Whether the guest may execute an instruction here without an operator's word.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Owns | Self::Kept)
    }

    /// What it says when asked.
    #[must_use]
    pub const fn word(self) -> Word {
        match self {
            Self::Owns | Self::Unknown => Word::Wait,
            Self::Given | Self::Freed => Word::Commit,
            Self::Kept => Word::Kept,
        }
    }
}

/// The VM as its target sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetOwner {
    /// Not all of it is here.
    Filling,
    /// All of it is here and verified; READY is queued.
    Ready,
    /// The same, and the connection is lost: the copy stays, paused, until the source or an operator decides.
    Held,
    /// COMMIT was read: it runs here.
    Runs,
    /// The copy is destroyed, or was never made.
    Gone,
    /// A copy is complete here, and the VM is another's: it never runs from this one.
    Copied,
}

/// What happens to a target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetInput {
    /// Memory and state are complete and loaded.
    Verified,
    /// The same, of a copy.
    Copied,
    /// COMMIT of this migration was read, after READY was sent; or the source said so when asked.
    Commit,
    /// ABORT was read, or the source said when asked that it kept the VM.
    Aborted,
    /// The connection ended, was silent for too long, or the peer broke the protocol.
    Lost,
    /// The same, with a peer of version 1, which never asks.
    Cut,
    /// The peer has started anew and knows nothing of this migration.
    Stranger,
    /// A timer ran out before all was here, or the host ended it.
    Stop,
    /// The operator: it runs here.
    RunHere,
    /// The operator: the copy goes.
    Discard,
}

impl TargetInput {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Verified,
        Self::Copied,
        Self::Commit,
        Self::Aborted,
        Self::Lost,
        Self::Cut,
        Self::Stranger,
        Self::Stop,
        Self::RunHere,
        Self::Discard,
    ];

    /// What an answer of the source means.
    #[must_use]
    pub const fn from_peer(word: Word) -> Option<Self> {
        match word {
            Word::Commit => Some(Self::Commit),
            Word::Kept => Some(Self::Aborted),
            Word::Unknown => Some(Self::Stranger),
            Word::Wait | Word::Holds | Word::Runs | Word::Destroyed => None,
        }
    }
}

/// What a target does then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetAction {
    /// Nothing.
    Nothing,
    /// Queues READY.
    SendReady,
    /// Keeps its copy paused and asks the source over another connection, until it knows.
    Hold,
    /// Lets the VM run, then queues RUNNING.
    Run,
    /// Destroys its copy, then queues ABORT where the source can hear it.
    Destroy,
}

impl TargetOwner {
    /// The next state, and what is done on the way.
    #[must_use]
    pub const fn step(self, input: TargetInput) -> (Self, TargetAction) {
        use TargetAction as A;
        use TargetInput as I;
        match (self, input) {
            (Self::Filling, I::Verified) => (Self::Ready, A::SendReady),
            (Self::Filling, I::Copied) => (Self::Copied, A::SendReady),
            (Self::Ready | Self::Held, I::Commit) => (Self::Runs, A::Run),
            // It may be the only whole copy by now: nothing but the source's word or an operator's destroys it.
            (Self::Ready, I::Lost | I::Stop | I::Stranger | I::Verified | I::Copied) => (Self::Held, A::Hold),
            (Self::Ready | Self::Held, I::Aborted) | (Self::Ready, I::Cut) => (Self::Gone, A::Destroy),
            (Self::Held, I::RunHere) => (Self::Runs, A::Run),
            (Self::Held, I::Discard) => (Self::Gone, A::Destroy),
            (Self::Filling, I::Commit | I::Aborted | I::Lost | I::Cut | I::Stranger | I::Stop) => {
                (Self::Gone, A::Destroy)
            }
            (Self::Filling | Self::Ready, I::RunHere | I::Discard) => (self, A::Nothing),
            (Self::Held | Self::Runs | Self::Gone | Self::Copied, _) => (self, A::Nothing),
        }
    }

    /// Whether the guest may execute an instruction here.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Runs)
    }

    /// What it says when asked.
    #[must_use]
    pub const fn word(self) -> Word {
        match self {
            Self::Filling => Word::Wait,
            Self::Ready | Self::Held => Word::Holds,
            Self::Runs => Word::Runs,
            // Of this migration nothing runs there, ever.
            Self::Gone | Self::Copied => Word::Destroyed,
        }
    }
}
