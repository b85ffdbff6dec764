//! VM exits of a vCPU, counted by reason.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmx_types::reason::ExitReason;

/// Basic exit reasons that are told apart (SDM appendix C ends at 79); a power of two.
const REASONS: usize = 128;

/// Counters of one vCPU. Only the CPU that runs it writes them.
pub(crate) struct Exits {
    counts: [AtomicU64; REASONS],
    /// Ticks of the host's TSC from exit to the next entry's preparation, while `timed`.
    ticks: [AtomicU64; REASONS],
    /// The exits that these ticks are of.
    timed_counts: [AtomicU64; REASONS],
    timed: AtomicBool,
}

/// One reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counted {
    /// Its number.
    pub(crate) number: u16,
    /// Exits since the VM was made here.
    pub(crate) count: u64,
    /// Exits that were timed, and the ticks that these took.
    pub(crate) timed: u64,
    pub(crate) ticks: u64,
}

impl Counted {
    /// The SDM's words for it.
    pub(crate) fn text(&self) -> &'static str {
        ExitReason::from_number(self.number).map_or("unknown", ExitReason::text)
    }
}

/// A plain add: an atomic one would lock the bus for a counter that has one writer.
#[inline(always)]
pub(super) fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed) + value, Ordering::Relaxed);
}

impl Exits {
    pub(super) const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; REASONS],
            ticks: [const { AtomicU64::new(0) }; REASONS],
            timed_counts: [const { AtomicU64::new(0) }; REASONS],
            timed: AtomicBool::new(false),
        }
    }

    /// An exit with this exit-reason field.
    #[inline(always)]
    pub(crate) fn count(&self, reason: u32) {
        add(&self.counts[reason as usize % REASONS], 1);
    }

    /// It took that long on the host.
    pub(crate) fn took(&self, reason: u32, ticks: u64) {
        add(&self.timed_counts[reason as usize % REASONS], 1);
        add(&self.ticks[reason as usize % REASONS], ticks);
    }

    /// Whether exits are timed.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed.load(Ordering::Relaxed)
    }

    /// Turns the timing on or off; it takes effect when the vCPU is next scheduled.
    pub(crate) fn set_timed(&self, on: bool) {
        self.timed.store(on, Ordering::Relaxed);
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The reasons that there were, by number.
    pub(crate) fn all(&self) -> impl Iterator<Item = Counted> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows = self.counts.iter().zip(&self.timed_counts).zip(&self.ticks).enumerate();
        rows.map(move |(number, ((count, timed), ticks))| Counted {
            number: number as u16,
            count: load(count),
            timed: load(timed),
            ticks: load(ticks),
        })
        .filter(|counted| counted.count != 0)
    }
}
