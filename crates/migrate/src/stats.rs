//! What a migration cost.

use core::fmt;

use vm_types::Compression;

use crate::body::{Holding, Id};
use crate::memory::Method;
use crate::tuning::Clock;

/// Pages and records, counted alike at both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Pages, each as often as it was sent; zero and fill pages included.
    pub pages: u64,
    /// Of them zero pages.
    pub zero: u64,
    /// Of them pages of another repeated word.
    pub fill: u64,
    /// Pages that were not sent because the target held them already; known at the source only.
    pub duplicate: u64,
    /// MEMORY records.
    pub memory_records: u64,
    /// STATE records.
    pub state_records: u64,
    /// Chain over the seals of all MEMORY and STATE records.
    pub digest: u64,
    /// Digest of the whole RAM, where it was asked for.
    pub ram: Option<u64>,
}

impl Totals {
    /// Takes a record's seal into the digest.
    pub fn mix(&mut self, seal: u64) {
        self.digest = (self.digest ^ seal).wrapping_mul(0x9e37_79b1_85eb_ca87).rotate_left(31);
    }

    /// As a body of STATE_END or READY.
    #[must_use]
    pub fn holding(&self, migration: Id) -> Holding {
        Holding {
            migration,
            pages: self.pages,
            zero: self.zero,
            fill: self.fill,
            memory_records: self.memory_records,
            state_records: self.state_records,
            digest: self.digest,
            ram: self.ram,
        }
    }
}

/// One round. Its `Display` is the log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoundStats {
    /// From 1.
    pub round: u32,
    /// Pages sent, zero and fill pages included.
    pub pages: u64,
    /// Of them zero pages.
    pub zero: u64,
    /// Of them pages of another repeated word.
    pub fill: u64,
    /// Pages besides that were not sent, because the target held them already.
    pub duplicate: u64,
    /// Bytes queued, headers included.
    pub bytes: u64,
    /// Pages dirtied meanwhile.
    pub dirty_next: u64,
    /// Ticks of the source's clock.
    pub ticks: u64,
    /// The same in nanoseconds.
    pub ns: u64,
}

impl fmt::Display for RoundStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, pages, zero, bytes, dirty_next, ticks, .. } = self;
        write!(
            f,
            "round {round}: {pages} pages, {zero} zero, {bytes} bytes, {dirty_next} dirty next, {ticks} ticks ({})",
            Milliseconds(self.ns)
        )
    }
}

/// Why the guest was stopped for the last round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum StopCause {
    /// Few enough dirty pages were left.
    #[default]
    Converged,
    /// The rounds were used up.
    MaxRounds,
    /// The guest dirtied pages as fast as they were sent.
    NoProgress,
    /// The time that the operator gave was over.
    TimedOut,
}

/// A whole migration. Its `Display` is the last log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Rounds, the one with the guest stopped included.
    pub rounds: u32,
    /// Pages sent, zero and fill pages included.
    pub pages: u64,
    /// Of them zero pages.
    pub zero: u64,
    /// Of them pages of another repeated word.
    pub fill: u64,
    /// Bytes queued by the source, headers included.
    pub bytes: u64,
    /// Ticks from the first poll to RUNNING, on the source's clock.
    pub ticks: u64,
    /// Ticks until the last of its vCPUs stood still, from when they were asked.
    pub stop_ticks: u64,
    /// Ticks from the guest's stop until the last page was queued.
    pub pages_ticks: u64,
    /// Ticks from there to READY: state exported, sent, loaded.
    pub state_ticks: u64,
    /// Ticks from there to RUNNING.
    pub resume_ticks: u64,
    /// Why the guest was stopped.
    pub stop: StopCause,
    /// Bytes of the guest's RAM.
    pub ram: u64,
    /// Ticks a second.
    pub hz: u64,
    /// What `compress=auto` chose last; absent where it was not asked for or too few pages of data were sent to measure.
    pub chosen: Option<Compression>,
}

impl Summary {
    /// Ticks from the guest's stop to RUNNING, as the source saw them.
    #[must_use]
    pub const fn downtime_ticks(&self) -> u64 {
        self.pages_ticks.saturating_add(self.state_ticks).saturating_add(self.resume_ticks)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = Clock::new(self.hz);
        let ms = |ticks| clock.ns(ticks) / 1_000_000;
        let total = ms(self.ticks);
        write!(
            f,
            "done: {} in {}.{} s, {} rounds, {} on the wire, downtime {} ms (pages {}, state {}, resume {}), stopped in {}",
            Mebibytes(self.ram),
            total / 1000,
            total % 1000 / 100,
            self.rounds,
            Mebibytes(self.bytes),
            ms(self.downtime_ticks()),
            ms(self.pages_ticks),
            ms(self.state_ticks),
            ms(self.resume_ticks),
            Milliseconds(clock.ns(self.stop_ticks))
        )?;
        self.chosen.map_or(Ok(()), |way| write!(f, ", compress=auto chose {}", Method(way)))
    }
}

/// A [`Summary`] in ticks and bytes, for whoever measures. Its `Display` is a log line.
#[derive(Clone, Copy, Debug)]
pub struct Cost<'a>(pub &'a Summary);

impl fmt::Display for Cost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            rounds,
            pages,
            zero,
            bytes,
            ticks,
            pages_ticks,
            state_ticks,
            resume_ticks,
            stop_ticks,
            ..
        } = self.0;
        let clock = Clock::new(self.0.hz);
        write!(
            f,
            "cost: {rounds} rounds, {pages} pages, {zero} zero, {bytes} bytes, {ticks} ticks, downtime {} ticks \
             (pages {pages_ticks}, state {state_ticks}, resume {resume_ticks}), stop {stop_ticks}, in all {}, downtime {}",
            self.0.downtime_ticks(),
            Milliseconds(clock.ns(*ticks)),
            Milliseconds(clock.ns(self.0.downtime_ticks()))
        )
    }
}

/// Nanoseconds, as `12.345 ms`.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} ms", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// Bytes, as `12.3 MiB`; whole ones without the fraction.
#[derive(Clone, Copy, Debug)]
pub struct Mebibytes(pub u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        let whole = self.0 / MIB;
        match self.0 % MIB {
            0 => write!(f, "{whole} MiB"),
            rest => write!(f, "{whole}.{} MiB", rest * 10 / MIB),
        }
    }
}
