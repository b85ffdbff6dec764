//! The first bytes of either side, in clear. The initiator's are the Noise prologue: who changes one of them on the
//! way breaks the handshake. The answerer's only say why it refuses; no step of the handshake rests on them.

use crate::VERSION;
use crate::error::{Alert, LinkError};

/// The first eight bytes of a preface.
pub const MAGIC: [u8; 8] = *b"FLEXLNK\x1a";
/// Bytes of a preface.
pub const PREFACE_BYTES: usize = 16;

/// So many bytes that are not ours end the wait for a whole preface.
const SHOWN: usize = 4;

/// What a link is for. One port serves them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Service {
    /// The live migration of one VM.
    Migrate = 1,
    /// Membership of a pool.
    Pool = 2,
    /// Management from a workstation.
    Manage = 3,
}

impl Service {
    fn from_number(number: u16) -> Option<Self> {
        [Self::Migrate, Self::Pool, Self::Manage].into_iter().find(|service| *service as u16 == number)
    }

    /// The name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Service::Migrate => "migration",
            Service::Pool => "pool",
            Service::Manage => "management",
        }
    }
}

/// A preface, of either side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Preface {
    pub(crate) service: Service,
    pub(crate) keyed: bool,
    /// What the answerer refuses; an initiator always says `None`.
    pub(crate) alert: Option<Alert>,
}

impl Preface {
    pub(crate) fn to_bytes(self) -> [u8; PREFACE_BYTES] {
        let mut bytes = [0; PREFACE_BYTES];
        let fields = [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &(self.service as u16).to_le_bytes(),
            &[u8::from(self.keyed), self.alert.map_or(0, |alert| alert as u8)],
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; PREFACE_BYTES]) -> Result<Self, LinkError> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, v0, v1, s0, s1, mode, status, r0, r1] = *bytes;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err(LinkError::NotOurs([m0, m1, m2, m3]));
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(LinkError::Version(version));
        }
        let number = u16::from_le_bytes([s0, s1]);
        let service = Service::from_number(number).ok_or(LinkError::Service(number))?;
        if mode > 1 || [r0, r1] != [0, 0] {
            return Err(LinkError::Reserved);
        }
        let alert = match status {
            0 => None,
            code => Some(Alert::from_code(code).ok_or(LinkError::Reserved)?),
        };
        Ok(Self { service, keyed: mode == 1, alert })
    }

    /// Tells another protocol by its first bytes, without waiting for a whole preface.
    pub(crate) fn not_ours(bytes: &[u8], open: bool) -> Option<LinkError> {
        let enough = bytes.len() >= SHOWN || (!open && !bytes.is_empty());
        let ours = bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes);
        if !enough || ours {
            return None;
        }
        let mut shown = [0; SHOWN];
        shown.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(LinkError::NotOurs(shown))
    }
}
