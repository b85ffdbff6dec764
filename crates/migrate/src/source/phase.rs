//! How far a source is.

/// How far a source is; the order is that of docs/migration-protocol.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    AwaitAck,
    AwaitVerdict,
    Files,
    Track,
    Copy,
    Harvest,
    Pausing,
    LastHarvest,
    Digest,
    Export,
    SendState,
    AwaitReady,
    Commit,
    AwaitRunning,
}

impl Phase {
    /// What is waited for without work of our own.
    pub(super) fn awaits(self) -> Option<&'static str> {
        match self {
            Self::AwaitAck => Some("HELLO_ACK from the peer"),
            Self::AwaitVerdict => Some("VERDICT from the peer"),
            Self::AwaitReady => Some("READY from the peer"),
            Self::Harvest | Self::LastHarvest => Some("harvest of dirty pages"),
            Self::Pausing => Some("pause of the guest"),
            _ => None,
        }
    }

    /// What a record that does not belong there is called out with.
    pub(super) fn unexpected(self) -> &'static str {
        match self {
            Self::Open | Self::AwaitAck => "where HELLO_ACK was due",
            Self::AwaitVerdict => "where VERDICT was due",
            Self::AwaitReady => "where READY was due",
            Self::AwaitRunning => "where RUNNING was due",
            _ => "while this host sends",
        }
    }
}
