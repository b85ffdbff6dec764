//! What the source prints about a migration, as data.

use std::time::Duration;

/// One pre-copy round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Number of the round, from 1 on.
    pub number: u64,
    /// Pages sent.
    pub pages: u64,
    /// Zero pages among them.
    pub zero: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Pages dirtied meanwhile.
    pub dirty: u64,
    /// Time that it took, in ticks of the source's TSC.
    pub ticks: u64,
}

/// Totals of a migration that went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pre-copy rounds.
    pub rounds: u64,
    /// Pages sent.
    pub pages: u64,
    /// Zero pages among them.
    pub zero: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Time in all, in ticks.
    pub ticks: u64,
    /// Time for which nobody ran the guest, in ticks.
    pub downtime: u64,
    /// Part of it for the last pages.
    pub last_pages: u64,
    /// Part of it for the state of vCPUs and devices.
    pub state: u64,
    /// Part of it until the target ran.
    pub resume: u64,
    /// Ticks until the last vCPU stood still.
    pub stop: u64,
}

/// A line `migrate NAME: ...` of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A round is over.
    Round(Round),
    /// The guest runs at the target.
    Done(Summary),
    /// It goes on here, and why.
    Failed(String),
    /// Neither is known.
    Unknown(String),
    /// Anything else that the source says about it.
    Other(String),
}

impl Line {
    /// Reads a line of the source's console about the migration of `vm`.
    pub fn parse(line: &str, vm: &str) -> Option<Self> {
        let (_, text) = line.split_once(&format!("migrate {vm}: "))?;
        let word = text.split([':', ' ']).next()?;
        let numbers = numbers(text);
        Some(match (word, numbers.as_slice()) {
            // Behind these come figures for people.
            ("round", &[number, pages, zero, bytes, dirty, ticks, ..]) => {
                Self::Round(Round { number, pages, zero, bytes, dirty, ticks })
            }
            ("cost", &[rounds, pages, zero, bytes, ticks, downtime, last_pages, state, resume, stop, ..]) => {
                Self::Done(Summary {
                    rounds,
                    pages,
                    zero,
                    bytes,
                    ticks,
                    downtime,
                    last_pages,
                    state,
                    resume,
                    stop,
                })
            }
            ("failed", _) => Self::Failed(text.trim_start_matches("failed: ").to_string()),
            ("unknown", _) => Self::Unknown(text.to_string()),
            _ => Self::Other(text.to_string()),
        })
    }
}

/// The numbers in a text, in order.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Ticks as emulated time.
pub fn emulated(ticks: u64, ips: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / ips as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_source() {
        let round = "[   12.000001] migrate: migrate demo: round 2: 300 pages, 10 zero, 1200000 bytes, 64 dirty next, 5000000 ticks; 0.2 MiB left, 10.1 MB/s";
        let want = Round { number: 2, pages: 300, zero: 10, bytes: 1_200_000, dirty: 64, ticks: 5_000_000 };
        assert_eq!(Line::parse(round, "demo"), Some(Line::Round(want)));
        let done = "migrate demo: cost: 3 rounds, 9 pages, 8 zero, 7 bytes, 66 ticks, downtime 6 ticks (pages 3, state 2, resume 1), stop 4, in all 3.300 ms, downtime 0.300 ms";
        let Some(Line::Done(summary)) = Line::parse(done, "demo") else { panic!("{done}") };
        assert_eq!((summary.rounds, summary.downtime, summary.resume, summary.stop), (3, 6, 1, 4));
        let failed = "migrate demo: failed: peer: connection reset (running here)";
        let reason = "peer: connection reset (running here)".to_string();
        assert_eq!(Line::parse(failed, "demo"), Some(Line::Failed(reason)));
        assert_eq!(Line::parse("vm demo: running", "demo"), None);
        assert_eq!(Line::parse(done, "other"), None);
        let said = "migrate demo: done: 128 MiB in 5.2 s, 4 rounds, 61.3 MiB on the wire, downtime 38 ms (pages 21, state 9, resume 8), stopped in 0.412 ms";
        assert!(matches!(Line::parse(said, "demo"), Some(Line::Other(_))));
    }
}
