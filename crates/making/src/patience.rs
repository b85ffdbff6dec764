//! A CPU that does not answer: nobody waits for it in silence, and CPU 0 not at all.

use alloc::string::String;
use core::fmt;

/// How long a CPU may take to leave a guest, in microseconds, before the operator is told. It takes one VM exit.
pub const PATIENCE_US: u64 = 5_000_000;

/// A wait for something that others must do.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    since: u64,
    over: bool,
}

impl Patience {
    /// Begins now, in microseconds.
    #[must_use]
    pub const fn new(now: u64) -> Self {
        Self { since: now, over: false }
    }

    /// True once, when it has taken too long.
    pub fn ends(&mut self, now: u64) -> bool {
        let ends = !self.over && now.saturating_sub(self.since) >= PATIENCE_US;
        self.over |= ends;
        ends
    }
}

/// What the operator is told of a CPU that has not let go of a VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Silent {
    /// The VM.
    pub vm: String,
    /// The CPU.
    pub cpu: usize,
    /// What happens once the CPU answers.
    pub then: &'static str,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vm, cpu, then } = self;
        let seconds = PATIENCE_US / 1_000_000;
        write!(
            f,
            "vm {vm}: CPU {cpu} has not left its guest within {seconds} s: {then} as soon as it does; if it never does, \
             move the other VMs away by `migrate all`, and restart the host"
        )
    }
}
