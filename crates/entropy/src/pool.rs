//! The pool.

use zeroize::Zeroize;

use crate::hardware::{self, Instruction, Unhealthy};
use crate::{Generator, hash};

/// Credited bits from which keys are made.
pub const ENOUGH: u32 = 256;

const ABSORB: u8 = 1;
const NEXT: u8 = 2;
const NUMBER: u8 = 3;
const FORK: u8 = 4;

/// What a contribution is. The names separate the sources: the same bytes from two of them mix in differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Source {
    /// A network card's address: tells hosts apart that are alike otherwise.
    Mac = 1,
    /// The wall clock.
    WallClock = 2,
    /// Time stamps of events.
    Tsc = 3,
    /// Anything else that differs between hosts or boots.
    Other = 4,
    /// Words of the CPU's generator; [`Pool::add_hardware`].
    Hardware = 5,
    /// 32 secret random bytes from the operator; [`Pool::add_seed`].
    Seed = 6,
}

/// There is too little randomness for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{credited} of {ENOUGH} bits of randomness: give the host seed= with 32 fresh bytes")]
pub struct NotEnough {
    /// Bits credited so far.
    pub credited: u32,
}

/// Collects randomness.
pub struct Pool {
    state: [u8; 32],
    credited: u32,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: [0; 32], credited: 0 }
    }

    /// Mixes something in that is not secret, or of unknown worth: no bit is credited.
    pub fn add(&mut self, source: Source, data: &[u8]) {
        self.state = hash(ABSORB, &self.state, &[&[source as u8], data]);
    }

    /// Mixes in 32 bytes that the operator vouches for, all of which count. An evident mistake (the same byte 32
    /// times) does not.
    pub fn add_seed(&mut self, seed: &[u8; 32]) {
        self.add(Source::Seed, seed);
        if seed.iter().any(|byte| *byte != seed[0]) {
            self.credit(256);
        }
    }

    /// Mixes in words of the CPU's generator, drawn within `ticks` of the TSC. They count if they look like hardware's.
    ///
    /// # Errors
    /// Why they do not count; they are mixed in all the same.
    pub fn add_hardware(
        &mut self,
        instruction: Instruction,
        words: &[u64],
        ticks: u64,
    ) -> Result<(), Unhealthy> {
        for word in words {
            self.add(Source::Hardware, &word.to_le_bytes());
        }
        hardware::check(words, ticks)?;
        self.credit(instruction.bits_per_word().saturating_mul(words.len() as u32));
        Ok(())
    }

    fn credit(&mut self, bits: u32) {
        self.credited = self.credited.saturating_add(bits).min(ENOUGH);
    }

    /// Bits credited so far, at most [`ENOUGH`].
    #[must_use]
    pub const fn credited(&self) -> u32 {
        self.credited
    }

    /// Sixty-four bits for what has to differ but need not be secret: identities, sequence numbers.
    pub fn number(&mut self) -> u64 {
        let bytes = hash(NUMBER, &self.state, &[]);
        self.step();
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        u64::from_le_bytes(first)
    }

    /// A generator of its own, fit for keys.
    ///
    /// # Errors
    /// There is not enough randomness yet.
    pub fn generator(&mut self) -> Result<Generator, NotEnough> {
        if self.credited < ENOUGH {
            return Err(NotEnough { credited: self.credited });
        }
        let generator = Generator::from_secret(hash(FORK, &self.state, &[]));
        self.step();
        Ok(generator)
    }

    /// What was given out cannot be computed from the state that follows.
    fn step(&mut self) {
        self.state = hash(NEXT, &self.state, &[]);
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("credited", &self.credited).finish_non_exhaustive()
    }
}
