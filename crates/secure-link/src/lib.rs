//! The keyed link between hosts: mutual authentication, encryption and an end that cannot be forged, over any byte
//! stream.
//!
//! The wire format is specified in `docs/link.md`. The crate owns no clock and no socket: the caller polls an
//! [`Initiator`] or a [`Responder`] with the time in ticks and a [`ByteStream`] until there is a [`Session`], and
//! moves bytes through that. Cryptography is Noise (`Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s`) by the `snow` crate.
//!
//! | module | holds |
//! |---|---|
//! | `stream` | the byte stream below, and how it is read to an exact length |
//! | `preface` | the first 16 bytes of either side, in clear |
//! | `key` | pool key, host key, public key |
//! | `cipher` | ChaCha20-Poly1305, lean without SIMD, and what a host may lend it |
//! | `noise` | the Noise handshake of `snow`, with our generator and cipher |
//! | `handshake`, `responder` | the two ends until there is a session |
//! | `session` | the established link |
//! | `error` | everything that can go wrong, by name |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cipher;
mod error;
mod handshake;
mod key;
mod noise;
mod preface;
mod responder;
mod session;
mod stream;

pub use cipher::{Blocks, Vectors, use_vectors};
pub use error::{Alert, LinkError};
pub use handshake::{Initiator, Limit};
pub use key::{HostKey, PoolKey, PublicKey, Security, WeakKey};
pub use preface::{MAGIC, PREFACE_BYTES, Service};
pub use responder::{Gate, Responder};
pub use session::{MAX_PLAIN, Session};
pub use stream::ByteStream;

/// Version of the link that this crate speaks.
pub const VERSION: u16 = 1;
