//! Noise by `snow`, with our own generator for what is random in it.

use alloc::boxed::Box;

use entropy::Generator;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

use crate::cipher::ChaChaPoly;
use crate::error::LinkError;
use crate::key::{HostKey, PoolKey};

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
/// Where the pool key goes in: at the end of the third message.
const PSK: u8 = 3;

/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;
/// Bytes of the three messages, whose payloads are empty: keys of 32 bytes and tags.
pub(crate) const MESSAGES: [usize; 3] = [32 + TAG, 32 + 32 + TAG + TAG, 32 + TAG + TAG];

/// A handshake that has not begun.
pub(crate) fn start(
    initiator: bool,
    pool: &PoolKey,
    host: &HostKey,
    prologue: &[u8],
    mut generator: Generator,
) -> Result<HandshakeState, LinkError> {
    let params: NoiseParams = PATTERN.parse()?;
    let resolver = Box::new(Resolver { secret: generator.key() });
    let builder = Builder::with_resolver(params, resolver)
        .local_private_key(host.private())?
        .psk(PSK, pool.bytes())?
        .prologue(prologue)?;
    Ok(if initiator { builder.build_initiator()? } else { builder.build_responder()? })
}

/// `snow`'s primitives with our randomness.
struct Resolver {
    secret: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Numbers(Generator::from_secret(self.secret))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::<ChaChaPoly>::default()),
            CipherChoice::AESGCM => None,
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

struct Numbers(Generator);

impl Random for Numbers {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.0.fill(dest);
        Ok(())
    }
}
