//! Randomness from sources of unequal worth: a seed from the boot line, the CPU's generator, clocks, addresses.
//!
//! A [`Pool`] mixes in whatever it is given and counts what it may trust. Numbers that only have to differ
//! ([`Pool::number`]) come at any time; a generator for keys ([`Pool::generator`]) only once [`ENOUGH`] bits are
//! credited. All hashing is BLAKE2s (RFC 7693) with a separate first byte for each purpose.
#![no_std]
#![forbid(unsafe_code)]

mod generator;
mod hardware;
mod pool;

pub use generator::Generator;
pub use hardware::{Instruction, MIN_TICKS, MIN_WORDS, Unhealthy};
pub use pool::{ENOUGH, NotEnough, Pool, Source};

use blake2::{Blake2s256, Digest};

/// BLAKE2s over a purpose, a state and further data.
fn hash(purpose: u8, state: &[u8; 32], data: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    hasher.update([purpose]);
    hasher.update(state);
    for part in data {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
