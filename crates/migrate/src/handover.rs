//! Who owns the VM: the two small machines that decide it, and nothing else does.
//!
//! [`crate::Source`] and [`crate::Target`] carry out what `step` tells them and touch the VM's fate in no
//! other place, so that exploring these machines explores the code that runs.

/// The VM as its source sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceOwner {
    /// Here: it runs, or runs again after a failure.
    Owns,
    /// COMMIT is queued: it never runs here by itself again.
    Given,
    /// The target runs it.
    Freed,
    /// The target may run it; an operator decides.
    Unknown,
    /// The migration ended before COMMIT: it runs here.
    Kept,
}

/// What happens to a source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceInput {
    /// READY was read and fits what was sent.
    Ready,
    /// RUNNING was read.
    Running,
    /// ABORT was read.
    Aborted,
    /// The connection ended, or the peer broke the protocol.
    Lost,
    /// A timer ran out, or the operator cancelled.
    Stop,
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
            (Self::Owns, I::Running | I::Aborted | I::Lost | I::Stop) => (Self::Kept, A::Resume),
            (Self::Given, I::Running) => (Self::Freed, A::Free),
            (Self::Given, I::Aborted | I::Lost) => (Self::Unknown, A::MarkUnknown),
            // No timer and no cancel acts once COMMIT is queued.
            (Self::Given, I::Ready | I::Stop) => (self, A::Nothing),
            (Self::Freed | Self::Unknown | Self::Kept, _) => (self, A::Nothing),
        }
    }

    /// Whether the guest may execute an instruction here without an operator's word.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Owns | Self::Kept)
    }
}

/// The VM as its target sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetOwner {
    /// Not all of it is here.
    Filling,
    /// All of it is here and verified; READY is queued.
    Ready,
    /// COMMIT was read: it runs here.
    Runs,
    /// The copy is destroyed, or was never made.
    Gone,
}

/// What happens to a target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetInput {
    /// Memory and state are complete and loaded.
    Verified,
    /// COMMIT of this migration was read, after READY was sent.
    Commit,
    /// ABORT was read.
    Aborted,
    /// The connection ended, or the peer broke the protocol.
    Lost,
    /// A timer ran out, or the host ended it.
    Stop,
}

/// What a target does then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TargetAction {
    /// Nothing.
    Nothing,
    /// Queues READY.
    SendReady,
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
            (Self::Ready, I::Commit) => (Self::Runs, A::Run),
            (Self::Ready, I::Verified) | (Self::Filling, I::Commit) => (Self::Gone, A::Destroy),
            (Self::Filling | Self::Ready, I::Aborted | I::Lost | I::Stop) => (Self::Gone, A::Destroy),
            (Self::Runs | Self::Gone, _) => (self, A::Nothing),
        }
    }

    /// Whether the guest may execute an instruction here.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Runs)
    }
}
