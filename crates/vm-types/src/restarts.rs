use crate::OnReset;

/// A guest that ran for so long was no part of a loop.
const CALM_US: u64 = 10_000_000;
/// What one waits that came back sooner, the first time.
const FIRST_US: u64 = 1_000_000;
/// What it waits at most: each time twice as long.
const MOST_US: u64 = 64_000_000;

/// The resets of one guest, by itself, and when each is followed by a new boot. The first is at once; one that resets itself
/// over and over waits ever longer, so that it fills neither the log nor a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Restarts {
    /// What follows a reset.
    pub on_reset: OnReset,
    count: u64,
    began_us: u64,
    wait_us: u64,
    due_us: Option<u64>,
}

impl Restarts {
    /// None yet.
    #[must_use]
    pub const fn new(on_reset: OnReset) -> Self {
        Self { on_reset, count: 0, began_us: 0, wait_us: 0, due_us: None }
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What the last one waits or waited, in microseconds.
    #[must_use]
    pub const fn wait_us(&self) -> u64 {
        self.wait_us
    }

    /// The guest has reset itself. True where it is to boot anew.
    pub fn reset(&mut self, now_us: u64) -> bool {
        self.count = self.count.saturating_add(1);
        let loops = self.count > 1 && now_us.saturating_sub(self.began_us) < CALM_US;
        self.wait_us = if loops { self.wait_us.saturating_mul(2).clamp(FIRST_US, MOST_US) } else { 0 };
        let restarts = self.on_reset == OnReset::Restart;
        self.due_us = restarts.then(|| now_us.saturating_add(self.wait_us));
        restarts
    }

    /// Whether a boot is due by now.
    #[must_use]
    pub fn is_due(&self, now_us: u64) -> bool {
        self.due_us.is_some_and(|due| due <= now_us)
    }

    /// Whether a boot is to come.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.due_us.is_some()
    }

    /// It boots now, whoever let it.
    pub const fn began(&mut self, now_us: u64) {
        self.began_us = now_us;
        self.due_us = None;
    }

    /// It does not boot by itself any more.
    pub const fn give_up(&mut self) {
        self.due_us = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Lets a guest that runs for `runs_us` and resets itself go on for `for_us`; how often it boots.
    fn boots(runs_us: u64, for_us: u64) -> u64 {
        let mut restarts = Restarts::new(OnReset::Restart);
        let mut now = 0;
        while now < for_us {
            now += runs_us;
            assert!(restarts.reset(now));
            while !restarts.is_due(now) {
                now += 100_000;
            }
            restarts.began(now);
        }
        restarts.count()
    }

    #[test]
    fn a_loop_is_slowed_down() {
        let hour = 3600 * SECOND;
        assert!(boots(1, hour) <= 64, "{}", boots(1, hour));
        assert!(boots(9 * SECOND, hour) <= 64);
        assert!(boots(11 * SECOND, hour) >= 300, "a calm guest does not wait");
    }

    #[test]
    fn the_first_is_at_once_and_a_calm_run_ends_the_waiting() {
        let mut restarts = Restarts::new(OnReset::Restart);
        assert!(restarts.reset(5) && restarts.is_due(5));
        restarts.began(5);
        assert!(!restarts.waits());
        assert!(restarts.reset(6) && !restarts.is_due(6 + SECOND - 1) && restarts.is_due(6 + SECOND));
        restarts.began(7 + SECOND);
        assert!(restarts.reset(8 + SECOND));
        assert_eq!(restarts.wait_us(), 2 * SECOND);
        restarts.began(4 * SECOND);
        assert!(restarts.reset(14 * SECOND) && restarts.is_due(14 * SECOND));
        assert_eq!(restarts.count(), 4);
    }

    #[test]
    fn a_guest_that_is_to_stop_boots_no_more() {
        let mut restarts = Restarts::new(OnReset::Stop);
        assert!(!restarts.reset(1) && !restarts.waits() && !restarts.is_due(u64::MAX));
        let mut restarts = Restarts::new(OnReset::Restart);
        restarts.reset(1);
        restarts.give_up();
        assert!(!restarts.is_due(u64::MAX));
    }
}
