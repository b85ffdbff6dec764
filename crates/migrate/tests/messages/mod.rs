//! What the two ends of a hand-over say to each other, and what each message is to the machine that hears it.
#![allow(dead_code, reason = "each test that explores the machines uses a part")]

use migrate::handover::{SourceInput, TargetInput, Word};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Msg {
    StateEnd,
    Ready,
    Commit,
    Running,
    AbortToSource,
    AbortToTarget,
    /// FATE.
    ToSource(Word),
    ToTarget(Word),
    /// What the operator of one host reads there and types at the other one: no machine hears it.
    ReceiptOfSource,
    ReceiptOfTarget,
}

/// What a machine hears.
pub(crate) enum Heard {
    Source(SourceInput),
    Target(TargetInput),
}

impl Msg {
    /// Those of the wire without an answer to a question.
    pub(crate) const PLAIN: [Self; 6] =
        [Self::StateEnd, Self::Ready, Self::Commit, Self::Running, Self::AbortToSource, Self::AbortToTarget];

    /// What it is to the end that it goes to; none where it says nothing to a machine.
    pub(crate) fn heard(self) -> Option<Heard> {
        Some(match self {
            Self::Ready => Heard::Source(SourceInput::Ready),
            Self::Running => Heard::Source(SourceInput::Running),
            Self::AbortToSource => Heard::Source(SourceInput::Aborted),
            Self::ToSource(word) => Heard::Source(SourceInput::from_peer(word)?),
            Self::StateEnd => Heard::Target(TargetInput::Verified),
            Self::Commit => Heard::Target(TargetInput::Commit),
            Self::AbortToTarget => Heard::Target(TargetInput::Aborted),
            Self::ToTarget(word) => Heard::Target(TargetInput::from_peer(word)?),
            Self::ReceiptOfSource | Self::ReceiptOfTarget => return None,
        })
    }
}
