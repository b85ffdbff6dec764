//! Times and sizes that the host chooses.

use vm_types::Compression;

use crate::goal::Goal;

/// Times in milliseconds of the host's clock, sizes in pages of 4 KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// What the operator asks for.
    pub goal: Goal,
    /// How pages are made smaller.
    pub compression: Compression,
    /// Compare a digest of the whole RAM while the guest stands still.
    pub verify: bool,
    /// Pages looked at in one poll.
    pub pages_per_poll: u32,
    /// A guest with at most so many dirty pages is stopped for the last round, however slow the link.
    pub dirty_threshold: u64,
    /// Rounds with the guest running, at most, where the goal has no time-out.
    pub max_rounds: u32,
    /// Rounds in a row that left as many dirty pages as they sent, at most.
    pub stalled_rounds: u32,
    /// A sign of life is sent after so long without a byte to send.
    pub keepalive_ms: u64,
    /// The peer counts as dead after so long without a byte from it.
    pub dead_man_ms: u64,
    /// An answer is due within this, signs of life or not; the pause of the guest too.
    pub reply_ms: u64,
    /// The target gives up after so long without a record other than signs of life.
    pub stall_ms: u64,
    /// How long the last words may take to leave.
    pub linger_ms: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            goal: Goal::default(),
            compression: Compression::None,
            verify: false,
            pages_per_poll: 64,
            dirty_threshold: 32,
            max_rounds: 12,
            stalled_rounds: 3,
            keepalive_ms: 1_000,
            dead_man_ms: 10_000,
            reply_ms: 30_000,
            stall_ms: 60_000,
            linger_ms: 2_000,
        }
    }
}

/// Turns the caller's ticks into time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Clock {
    hz: u64,
}

impl Clock {
    pub(crate) fn new(hz: u64) -> Self {
        Self { hz: hz.max(1) }
    }

    pub(crate) fn ns(self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * 1_000_000_000 / u128::from(self.hz);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// `count` in `ticks`, a second.
    pub(crate) fn per_second(self, count: u64, ticks: u64) -> u64 {
        let rate = u128::from(count) * u128::from(self.hz) / u128::from(ticks.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Whether at least `ms` have passed from `since` to `now`.
    pub(crate) fn passed(self, since: u64, now: u64, ms: u64) -> bool {
        u128::from(now.saturating_sub(since)) * 1000 >= u128::from(ms) * u128::from(self.hz)
    }
}
