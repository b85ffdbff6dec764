//! How far a target is.

/// How far a target is; the order is that of docs/migration-protocol.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Stream,
    Hello,
    Policy,
    Shape,
    Create,
    Fill,
    Ready,
    Inquiry,
}

impl Phase {
    /// What a record that does not belong there is called out with.
    pub(super) fn unexpected(self) -> &'static str {
        match self {
            Self::Stream | Self::Hello => "where HELLO was due",
            Self::Policy => "where POLICY was due",
            Self::Shape => "where SHAPE was due",
            Self::Create => "before the verdict",
            Self::Fill => "out of order in memory and state",
            Self::Ready => "where COMMIT was due",
            Self::Inquiry => "where FATE was due",
        }
    }
}
