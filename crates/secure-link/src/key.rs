//! Keys, none of which is ever printed but the public one.

use core::fmt;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::Zeroize;

/// A key that cannot be a random one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the same byte 32 times is no random key")]
pub struct WeakKey;

fn random(bytes: &[u8; 32]) -> Result<(), WeakKey> {
    if bytes.iter().all(|byte| *byte == bytes[0]) { Err(WeakKey) } else { Ok(()) }
}

/// What all hosts of a pool share: 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolKey([u8; 32]);

impl PoolKey {
    /// Takes 32 random bytes.
    ///
    /// # Errors
    /// An evident mistake, such as all zeros.
    pub fn new(bytes: [u8; 32]) -> Result<Self, WeakKey> {
        random(&bytes).map(|()| Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for PoolKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolKey(..)")
    }
}

/// A host's own X25519 key (RFC 7748).
#[derive(Clone)]
pub struct HostKey {
    private: [u8; 32],
    public: PublicKey,
}

impl HostKey {
    /// Takes 32 random bytes.
    ///
    /// # Errors
    /// An evident mistake, such as all zeros.
    pub fn new(private: [u8; 32]) -> Result<Self, WeakKey> {
        random(&private)?;
        Ok(Self { private, public: PublicKey(public_of(&private)) })
    }

    /// What others know this host by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn private(&self) -> &[u8; 32] {
        &self.private
    }
}

impl Drop for HostKey {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.public)
    }
}

/// The public half of a private key.
fn public_of(private: &[u8; 32]) -> [u8; 32] {
    let mut public = [0; 32];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
        dh.set(private);
        public.iter_mut().zip(dh.pubkey()).for_each(|(to, from)| *to = *from);
    }
    public
}

/// The public half of a host key; shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How this host's links are secured. There is no third way and no choice at run time: each end has exactly one.
#[derive(Clone, Debug)]
pub enum Security {
    /// Mutual authentication by the pool key, encryption.
    Keyed {
        /// The pool's key.
        pool: PoolKey,
        /// This host's own.
        host: HostKey,
    },
    /// Neither, because the operator asked for that on both hosts.
    Insecure,
}

impl Security {
    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self, Security::Keyed { .. })
    }
}
