//! What an operator sees of a migration that is under way.

use core::fmt;

use super::{Phase, Source, SourceOutcome};
use crate::goal::Rate;
use crate::handover::SourceOwner;
use crate::memory::Chosen;
use crate::page::PAGE_BYTES;
use crate::reason::Reason;
use crate::stats::Mebibytes;

/// How far it is, in the words of QEMU's `query-migrate`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Status {
    /// The link is made, the target asked.
    #[default]
    Setup,
    /// Memory is sent.
    Active,
    /// The guest stands still: last pages and state are sent, the VM is handed over.
    Device,
    /// The target runs the VM.
    Completed,
    /// The VM runs here.
    Failed,
    /// The operator ended it; the VM runs here.
    Cancelled,
    /// The VM is paused here and may run at the target. QEMU has no word for it.
    Unknown,
}

impl Status {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Active => "active",
            Self::Device => "device",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// How an outcome is called.
    #[must_use]
    pub const fn of(outcome: &SourceOutcome) -> Self {
        match outcome {
            SourceOutcome::Done(_) | SourceOutcome::Copied(_) | SourceOutcome::Checked => Self::Completed,
            SourceOutcome::Failed(Reason::Cancelled(_)) => Self::Cancelled,
            SourceOutcome::Failed(_) => Self::Failed,
            SourceOutcome::Asking(_) | SourceOutcome::Unknown(_) => Self::Unknown,
        }
    }
}

/// Where a migration stands. Its `Display` is one short line, of the part that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// How far it is.
    pub status: Status,
    /// Number of the round under way, from 1; 0 before.
    pub round: u32,
    /// Share of its CPU that a vCPU of the guest is left at least, in percent.
    pub share: u8,
    /// Bytes of the guest's RAM.
    pub total: u64,
    /// Bytes queued so far, headers included.
    pub transferred: u64,
    /// Bytes of RAM left in this round.
    pub remaining: u64,
    /// Pages sent as one word each, or not again.
    pub duplicate: u64,
    /// Pages sent as data.
    pub normal: u64,
    /// Pages that the guest dirtied in the last round, a second.
    pub dirty_pages_rate: u64,
    /// Bytes that the link takes, a second.
    pub link_rate: u64,
    /// Milliseconds from the start until the target agreed.
    pub setup_ms: u64,
    /// Milliseconds from the start.
    pub total_ms: u64,
    /// Milliseconds that the guest would stand still, if it were stopped now; absent until a round has shown it.
    pub expected_downtime_ms: Option<u64>,
    /// Milliseconds that the guest has stood still; absent while it runs.
    pub downtime_ms: Option<u64>,
    /// What `compress=auto` has measured; absent before.
    pub chosen: Option<Chosen>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dirties = self.dirty_pages_rate.saturating_mul(PAGE_BYTES as u64);
        write!(f, "{} left, {}", Mebibytes(self.remaining), Rate(self.link_rate))?;
        if let Some(ms) = self.downtime_ms.or(self.expected_downtime_ms) {
            write!(f, ", dirties {}, downtime {ms} ms", Rate(dirties))?;
        }
        write!(f, ", {}.{} s", self.total_ms / 1000, self.total_ms % 1000 / 100)
    }
}

impl Progress {
    /// The members of a JSON object, named as QEMU's `query-migrate` names them.
    ///
    /// # Errors
    /// Only those of the writer.
    pub fn json(&self, o: &mut json::Object<'_>) -> fmt::Result {
        o.field("status", self.status.name())?;
        o.field("total-time", self.total_ms)?;
        o.field("setup-time", self.setup_ms)?;
        match (self.downtime_ms, self.expected_downtime_ms) {
            (Some(ms), _) => o.field("downtime", ms)?,
            (None, Some(ms)) => o.field("expected-downtime", ms)?,
            (None, None) => {}
        }
        o.field("cpu-throttle-percentage", u64::from(100 - self.share.min(100)))?;
        o.object("ram", |o| {
            let page = PAGE_BYTES as u64;
            o.field("total", self.total)?;
            o.field("transferred", self.transferred)?;
            o.field("remaining", self.remaining)?;
            o.field("duplicate", self.duplicate)?;
            o.field("normal", self.normal)?;
            o.field("normal-bytes", self.normal.saturating_mul(page))?;
            o.field("dirty-pages-rate", self.dirty_pages_rate)?;
            o.field("dirty-sync-count", self.round.saturating_sub(1))?;
            o.field("bytes-per-second", self.link_rate)?;
            o.field("page-size", page)
        })?;
        self.chosen.map_or(Ok(()), |chosen| o.object("compress-auto", |o| chosen.json(o)))
    }
}

impl Source {
    /// Where it stands. `now` in ticks.
    #[must_use]
    pub fn progress(&self, now: u64) -> Progress {
        let clock = self.clock;
        let ms = |from: u64, to: u64| clock.ns(to.saturating_sub(from)) / 1_000_000;
        let status = match (self.owner, self.phase, self.paused_at, self.ending.outcome()) {
            (_, _, _, Some(outcome)) => Status::of(outcome),
            // The outcome has been told.
            (SourceOwner::Freed, ..) => Status::Completed,
            (SourceOwner::Kept, ..) => Status::Failed,
            (SourceOwner::Unknown, ..) => Status::Unknown,
            (SourceOwner::Owns, Phase::Open | Phase::AwaitAck | Phase::AwaitVerdict, ..) => Status::Setup,
            (SourceOwner::Owns, _, None, _) => Status::Active,
            _ => Status::Device,
        };
        let accepted = self.accepted_at.unwrap_or(now);
        // What this round has brought so far says more than the last one, once it is enough.
        let bytes = self.outbox.queued().saturating_sub(self.round_queued);
        let live = clock.per_second(bytes, now.saturating_sub(self.round_began));
        let copies = self.phase == Phase::Copy && bytes >= crate::convergence::SOUND_ROUND;
        let totals = &self.totals;
        let words = totals.zero.saturating_add(totals.fill);
        Progress {
            status,
            round: self.round.round,
            share: self.convergence.share(),
            total: self.ram(),
            transferred: self.outbox.queued(),
            remaining: self
                .round_goal
                .saturating_sub(self.round.pages + self.round.duplicate)
                .saturating_mul(PAGE_BYTES as u64),
            duplicate: words.saturating_add(totals.duplicate),
            normal: totals.pages.saturating_sub(words),
            dirty_pages_rate: self.convergence.dirty_rate(clock) / PAGE_BYTES as u64,
            link_rate: if copies { live } else { self.convergence.link_rate(clock) },
            setup_ms: ms(self.began, accepted),
            total_ms: ms(self.began, now),
            expected_downtime_ms: self.convergence.has_rounds().then(|| self.convergence.expected_ms(clock)),
            downtime_ms: self.paused_at.map(|paused| ms(paused, now)),
            chosen: self.chosen(),
        }
    }

    /// Bytes of the guest's RAM.
    pub(super) fn ram(&self) -> u64 {
        self.params.shape.pages().saturating_mul(PAGE_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn words_and_members() {
        let progress = Progress {
            status: Status::Active,
            round: 2,
            share: 70,
            total: 24 << 20,
            transferred: 3_000_000,
            remaining: 5 << 19,
            duplicate: 5000,
            normal: 600,
            dirty_pages_rate: 120,
            link_rate: 1_250_000,
            setup_ms: 12,
            total_ms: 5250,
            expected_downtime_ms: Some(777),
            downtime_ms: None,
            chosen: None,
        };
        assert_eq!(progress.to_string(), "2.5 MiB left, 1.2 MB/s, dirties 0.4 MB/s, downtime 777 ms, 5.2 s");
        let mut text = String::new();
        json::object(&mut text, |o| progress.json(o)).unwrap();
        assert_eq!(
            text,
            r#"{"status":"active","total-time":5250,"setup-time":12,"expected-downtime":777,"cpu-throttle-percentage":30,"#
                .to_string()
                + r#""ram":{"total":25165824,"transferred":3000000,"remaining":2621440,"duplicate":5000,"normal":600,"#
                + r#""normal-bytes":2457600,"dirty-pages-rate":120,"dirty-sync-count":1,"bytes-per-second":1250000,"page-size":4096}}"#
        );
        let early = Progress { expected_downtime_ms: None, ..progress };
        assert_eq!(early.to_string(), "2.5 MiB left, 1.2 MB/s, 5.2 s");
    }
}
