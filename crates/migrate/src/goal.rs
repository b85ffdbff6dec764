//! What the operator asks of a migration, and why a guest cannot have it yet.

use core::fmt;

use vm_types::OnTimeout;

/// What the operator asks of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goal {
    /// The guest is stopped for the last round once that is expected to take no longer, in milliseconds.
    pub downtime_ms: u64,
    /// [`Goal::on_timeout`] follows after so long; without it, once the rounds do not get shorter.
    pub timeout_ms: Option<u64>,
    /// What follows.
    pub on_timeout: OnTimeout,
}

impl Default for Goal {
    fn default() -> Self {
        Self { downtime_ms: 100, timeout_ms: None, on_timeout: OnTimeout::default() }
    }
}

/// Why a guest cannot be stopped yet. Its `Display` is the explanation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// Bytes of memory that the guest writes to for the first time in a round, a second.
    pub dirties: u64,
    /// Bytes that the link takes, a second.
    pub link: u64,
    /// Downtime to be expected, in milliseconds.
    pub expected_ms: u64,
    /// Downtime asked for, in milliseconds.
    pub wanted_ms: u64,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dirties, link, expected_ms, wanted_ms } = *self;
        write!(
            f,
            "does not converge: dirties {}, link gives {}; downtime would be {expected_ms} ms, {wanted_ms} wanted",
            Rate(dirties),
            Rate(link)
        )
    }
}

/// Bytes a second, as `12.3 MB/s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate(pub u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 / 100_000;
        write!(f, "{}.{} MB/s", tenths / 10, tenths % 10)
    }
}
