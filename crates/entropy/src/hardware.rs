//! RDRAND and RDSEED, and whether what they give can be the hardware's (SDM vol. 1, 7.3.17).

/// Words that a draw needs at least to be judged.
pub const MIN_WORDS: usize = 8;

/// TSC ticks that a word takes at least. Silicon needs a hundred core cycles and more for one (its generator is shared by all
/// cores, off the core); an emulator that answers with the C library's `rand` needs a few, and whoever started it
/// in the same second gets the same numbers.
pub const MIN_TICKS: u64 = 32;

/// Which instruction gave the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// RDSEED: each word is seed-grade.
    RdSeed,
    /// RDRAND: one seed may stretch over 511 pairs of words, so a word counts little.
    RdRand,
}

impl Instruction {
    /// Bits that a healthy word counts for. 32 of RDRAND's words make a key: never less than a 256-bit state.
    pub(crate) const fn bits_per_word(self) -> u32 {
        match self {
            Instruction::RdSeed => 32,
            Instruction::RdRand => 8,
        }
    }

    /// The mnemonic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Instruction::RdSeed => "RDSEED",
            Instruction::RdRand => "RDRAND",
        }
    }
}

/// Why words of the CPU's generator do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unhealthy {
    /// Too few to judge them.
    #[error("{0} words, {MIN_WORDS} are needed")]
    Few(usize),
    /// A word came twice (AMD's stuck generators gave all ones).
    #[error("the word {0:#x} came twice")]
    Stuck(u64),
    /// Faster than silicon.
    #[error("{0} ticks a word, silicon takes {MIN_TICKS} or more: an emulator's")]
    Fast(u64),
}

/// Judges a draw that took `ticks` in all.
pub(crate) fn check(words: &[u64], ticks: u64) -> Result<(), Unhealthy> {
    if words.len() < MIN_WORDS {
        return Err(Unhealthy::Few(words.len()));
    }
    for (index, word) in words.iter().enumerate() {
        if words.iter().take(index).any(|earlier| earlier == word) {
            return Err(Unhealthy::Stuck(*word));
        }
    }
    let each = ticks / words.len() as u64;
    if each < MIN_TICKS { Err(Unhealthy::Fast(each)) } else { Ok(()) }
}
