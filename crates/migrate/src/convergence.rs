//! When the guest is stopped for the last round, slowed down, or left where it is.

use vm_types::OnTimeout;

use crate::goal::{Goal, Stall};
use crate::page::PAGE_BYTES;
use crate::stats::{RoundStats, StopCause};
use crate::tuning::{Clock, Tuning};

/// What follows a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Another round with the guest running.
    Go,
    /// The last round: stop the guest.
    Stop(StopCause),
    /// Another round, with this share of the CPU left to those of the guest's vCPUs that write, in percent.
    Throttle(u8),
    /// The guest stays here.
    GiveUp,
}

/// Shares of the CPU that a guest is left, in percent, one after the other.
const SHARES: [u8; 8] = [70, 50, 35, 20, 10, 5, 2, 1];
/// A round of fewer bytes says nothing about the link.
pub(crate) const SOUND_ROUND: u64 = 64 * 1024;

/// Watches the rounds of one migration.
#[derive(Clone, Debug)]
pub(crate) struct Convergence {
    /// Bytes and ticks of the last round that says something about the link.
    sample: (u64, u64),
    last: RoundStats,
    stalled: u32,
    shares: core::slice::Iter<'static, u8>,
    share: u8,
}

impl Default for Convergence {
    fn default() -> Self {
        Self { sample: (0, 0), last: RoundStats::default(), stalled: 0, shares: SHARES.iter(), share: 100 }
    }
}

impl Convergence {
    /// Share of the CPU that the vCPUs that write are left, in percent.
    #[must_use]
    pub(crate) const fn share(&self) -> u8 {
        self.share
    }

    /// Takes a finished round in and says what follows. `elapsed`: ticks since the migration began.
    pub(crate) fn decide(
        &mut self,
        round: &RoundStats,
        elapsed: u64,
        clock: Clock,
        tuning: &Tuning,
    ) -> Decision {
        if round.bytes >= SOUND_ROUND || self.sample.1 == 0 {
            self.sample = (round.bytes, round.ticks);
        }
        self.last = *round;
        let Goal { downtime_ms, timeout_ms, on_timeout } = tuning.goal;
        if round.dirty_next <= tuning.dirty_threshold || self.expected_ms(clock) <= downtime_ms {
            return Decision::Stop(StopCause::Converged);
        }
        self.stalled = if round.round > 1 && round.dirty_next >= round.pages { self.stalled + 1 } else { 0 };
        let late = timeout_ms.is_some_and(|ms| clock.passed(0, elapsed, ms));
        let stuck = if self.stalled >= tuning.stalled_rounds {
            Some(StopCause::NoProgress)
        } else if round.round >= tuning.max_rounds {
            Some(StopCause::MaxRounds)
        } else {
            None
        };
        let cause = match (timeout_ms, late, stuck) {
            (Some(_), true, _) => StopCause::TimedOut,
            (None, _, Some(cause)) => cause,
            _ => return Decision::Go,
        };
        match on_timeout {
            OnTimeout::Force => Decision::Stop(cause),
            OnTimeout::Cancel => Decision::GiveUp,
            OnTimeout::Throttle => self.throttle(),
        }
    }

    /// Leaves the guest less of its CPU, where the last step has had a round to show.
    fn throttle(&mut self) -> Decision {
        match self.shares.next() {
            Some(&share) => {
                self.share = share;
                Decision::Throttle(share)
            }
            None => Decision::GiveUp,
        }
    }

    /// Whether a round is over, so that the others can tell something.
    pub(crate) const fn has_rounds(&self) -> bool {
        self.last.round > 0
    }

    /// Milliseconds that a last round would take by now.
    pub(crate) fn expected_ms(&self, clock: Clock) -> u64 {
        let (bytes, ticks) = self.sample;
        let left = u128::from(self.last.dirty_next) * PAGE_BYTES as u128;
        let ticks = left * u128::from(ticks) / u128::from(bytes.max(1));
        clock.ns(u64::try_from(ticks).unwrap_or(u64::MAX)) / 1_000_000
    }

    /// Pages that a round may leave by vCPUs whose share is not cut: half of those with which the guest can be stopped.
    pub(crate) fn spare(&self, clock: Clock, tuning: &Tuning) -> u64 {
        let bytes = u128::from(self.link_rate(clock)) * u128::from(tuning.goal.downtime_ms) / 1000;
        let pages = u64::try_from(bytes / PAGE_BYTES as u128).unwrap_or(u64::MAX);
        pages.max(tuning.dirty_threshold) / 2
    }

    /// Bytes a second that the guest dirtied in the last round.
    pub(crate) fn dirty_rate(&self, clock: Clock) -> u64 {
        clock.per_second(self.last.dirty_next.saturating_mul(PAGE_BYTES as u64), self.last.ticks)
    }

    /// Bytes a second that the link took.
    pub(crate) fn link_rate(&self, clock: Clock) -> u64 {
        clock.per_second(self.sample.0, self.sample.1)
    }

    /// Why the guest cannot be stopped yet.
    pub(crate) fn stall(&self, clock: Clock, tuning: &Tuning) -> Stall {
        Stall {
            dirties: self.dirty_rate(clock),
            link: self.link_rate(clock),
            expected_ms: self.expected_ms(clock),
            wanted_ms: tuning.goal.downtime_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    /// One tick is a microsecond: 1 MiB/s link, pages of data.
    fn round(number: u32, pages: u64, dirty_next: u64) -> RoundStats {
        let bytes = pages * 4096;
        RoundStats { round: number, pages, bytes, ticks: bytes, dirty_next, ..RoundStats::default() }
    }

    fn tuning(goal: Goal) -> Tuning {
        Tuning { goal, dirty_threshold: 4, max_rounds: 6, stalled_rounds: 2, ..Tuning::default() }
    }

    fn decisions(goal: Goal, dirty: &[u64]) -> std::vec::Vec<Decision> {
        let (clock, tuning) = (Clock::new(1_000_000), tuning(goal));
        let mut watch = Convergence::default();
        let (mut elapsed, mut pages) = (0, 1000);
        let numbered = (1..).zip(dirty);
        numbered
            .map(|(number, &next)| {
                let stats = round(number, pages, next);
                elapsed += stats.ticks;
                pages = next;
                watch.decide(&stats, elapsed, clock, &tuning)
            })
            .collect()
    }

    #[test]
    fn stops_when_the_last_round_is_short_enough() {
        // 24 pages of 4096 us are 98 ms.
        let stop = Decision::Stop(StopCause::Converged);
        assert_eq!(decisions(Goal::default(), &[200, 25, 24]), [Decision::Go, Decision::Go, stop]);
        let patient = Goal { downtime_ms: 1000, ..Goal::default() };
        assert_eq!(decisions(patient, &[300, 200]), [Decision::Go, stop]);
    }

    #[test]
    fn a_stall_is_noticed_and_forced_by_default() {
        let forced = Decision::Stop(StopCause::NoProgress);
        assert_eq!(decisions(Goal::default(), &[300, 300, 300])[2], forced);
        let slow = Decision::Stop(StopCause::MaxRounds);
        assert_eq!(decisions(Goal::default(), &[300, 299, 298, 297, 296, 295])[5], slow);
    }

    #[test]
    fn a_timeout_is_waited_for() {
        let goal = Goal { timeout_ms: Some(9_000), on_timeout: OnTimeout::Cancel, ..Goal::default() };
        // 4.096 s, then 1.2288 s a round.
        let found = decisions(goal, &[300; 5]);
        assert_eq!(found, [Decision::Go, Decision::Go, Decision::Go, Decision::Go, Decision::GiveUp]);
        let forced = Goal { on_timeout: OnTimeout::Force, ..goal };
        assert_eq!(decisions(forced, &[300; 5])[4], Decision::Stop(StopCause::TimedOut));
    }

    #[test]
    fn throttling_goes_down_step_by_step_and_then_gives_up() {
        let goal = Goal { on_timeout: OnTimeout::Throttle, ..Goal::default() };
        let found = decisions(goal, &[300; 12]);
        assert_eq!(found[..2], [Decision::Go; 2]);
        let steps: std::vec::Vec<_> = SHARES.iter().map(|&share| Decision::Throttle(share)).collect();
        assert_eq!(found[2..10], steps[..]);
        assert_eq!(found[10], Decision::GiveUp);
    }

    #[test]
    fn a_stall_is_explained() {
        let (clock, tuning) = (Clock::new(1_000_000), tuning(Goal::default()));
        let mut watch = Convergence::default();
        let _ = watch.decide(&round(2, 300, 360), 0, clock, &tuning);
        assert_eq!(
            watch.stall(clock, &tuning).to_string(),
            "does not converge: dirties 1.2 MB/s, link gives 1.0 MB/s; downtime would be 1474 ms, 100 wanted"
        );
        // The link takes 24 pages in 100 ms.
        assert_eq!(watch.spare(clock, &tuning), 12);
        let hurried = Tuning { goal: Goal { downtime_ms: 1, ..Goal::default() }, ..tuning };
        assert_eq!(watch.spare(clock, &hurried), 2, "of the four that are always few enough");
    }
}
