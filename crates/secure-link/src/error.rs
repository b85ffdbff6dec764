//! Everything that can go wrong, by name.

use alloc::string::{String, ToString};

/// Why a host refuses, told to the other in clear: it may be forged, and ends the connection at worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u8)]
pub enum Alert {
    /// It speaks another version of the link.
    #[error("another version of the link")]
    Version = 1,
    /// It is keyed and we asked for an insecure link.
    #[error("it has a pool key and this host is insecure: give this host the pool key")]
    NeedsKey = 2,
    /// It is insecure and we asked for a keyed link.
    #[error("it is insecure and this host has a pool key: give it the pool key")]
    NoKey = 3,
    /// It does not offer the service.
    #[error("it does not offer this service")]
    Service = 4,
    /// It has no free slot.
    #[error("it is busy with other connections: try again")]
    Busy = 5,
    /// The pool keys differ.
    #[error("it holds another pool key")]
    WrongKey = 6,
    /// This host's own key is not the one that it knows.
    #[error("it knows this host by another host key: say `pool keys forget` there if that is right")]
    Identity = 7,
    /// A handshake message did not authenticate.
    #[error("the handshake was changed or replayed on the way")]
    Forged = 8,
    /// It has too little randomness for keys.
    #[error("it has too little randomness for keys: give it seed=")]
    NoEntropy = 9,
}

impl Alert {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        use Alert::{Busy, Forged, Identity, NeedsKey, NoEntropy, NoKey, Service, Version, WrongKey};
        [Version, NeedsKey, NoKey, Service, Busy, WrongKey, Identity, Forged, NoEntropy]
            .into_iter()
            .find(|alert| *alert as u8 == code)
    }
}

/// Why there is no link, or no more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// Another protocol.
    #[error("not a link: it starts with {:02x?}", .0)]
    NotOurs([u8; 4]),
    /// A version that this host does not speak.
    #[error("the peer speaks version {0} of the link, this host version {ours}", ours = crate::VERSION)]
    Version(u16),
    /// A service that nobody knows.
    #[error("the peer asks for service {0}, which this version does not know")]
    Service(u16),
    /// The answer is for another service than was asked for.
    #[error("the peer answers for another service")]
    OtherService,
    /// A field of the preface that must be zero, or has no such value.
    #[error("the peer's preface has a value that this version does not know")]
    Reserved,
    /// This host is keyed, the peer is not: never negotiated down.
    #[error("the peer is insecure and this host has a pool key: give the peer the pool key")]
    PeerInsecure,
    /// The peer is keyed, this host is not.
    #[error("the peer has a pool key and this host is insecure: give this host the pool key")]
    PeerKeyed,
    /// The peer said no.
    #[error("the peer refuses: {0}")]
    Refused(Alert),
    /// This host said no.
    #[error("refused: {0}")]
    Denied(Alert),
    /// The peer took part in the handshake, but with another pool key.
    #[error("the peer holds another pool key")]
    WrongKey,
    /// The peer's answer to the last message is no proof of the pool key.
    #[error("the peer does not prove the pool key")]
    Unproven,
    /// A handshake message that does not authenticate.
    #[error("handshake message {0} does not authenticate: changed or replayed on the way")]
    Forged(u8),
    /// A frame that does not authenticate.
    #[error("frame {0} does not authenticate: changed, lost or replayed on the way")]
    Frame(u64),
    /// A frame whose length cannot be.
    #[error("a frame of {0} bytes")]
    Length(u16),
    /// Bytes behind the authenticated end.
    #[error("bytes behind the end of the link")]
    AfterEnd,
    /// The connection ended without the peer's word that it is over: what came may not be all.
    #[error("the connection was cut")]
    Cut,
    /// The handshake took too long.
    #[error("no link within {0} ms")]
    Late(u64),
    /// A fault of this host's own: the cryptography does not do as asked.
    #[error("noise: {0}")]
    Noise(String),
}

impl From<snow::Error> for LinkError {
    fn from(error: snow::Error) -> Self {
        LinkError::Noise(error.to_string())
    }
}
