//! Instants and spans as people read them.

use core::fmt;

const DAY: u64 = 86_400;

/// Seconds since 1970, shown as `2026-11-30 01:27:51 UTC`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Utc(pub u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} UTC", Clock(self.0))
    }
}

/// Microseconds since 1970, shown as `2026-11-30 01:27:51.123456 UTC`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UtcMicros(pub u64);

impl fmt::Display for UtcMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "{}.{rest:06} UTC", Clock(seconds))
    }
}

/// Seconds since 1970 without the zone.
struct Clock(u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / DAY, self.0 % DAY);
        let (year, month, day) = civil(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
    }
}

/// Microseconds since the host's start, as a line of the log has them: `[   12.345678]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp(pub u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:5}.{:06}]", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap day is their last one;
/// 400 of them have the same number of days each time.
fn civil(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days.saturating_add(EPOCH);
    let (era, of_era) = (days / ERA, days % ERA);
    let of_years = of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1);
    let year = of_years / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31 days, twice over and a bit.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + carry, month, day)
}

/// A span in microseconds, shown in its two largest units: `3 d 4 h`, `4 min 12 s`, `7 s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..DAY => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / DAY, seconds / 3600 % 24),
        }
    }
}

/// What something took, in microseconds, shown as milliseconds with three digits behind the point: `0.412 ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis(pub u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} ms", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn instants() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_796_002_071, "2026-11-30 01:27:51 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
        assert!(Utc(u64::MAX).to_string().ends_with(" UTC"));
        assert_eq!(UtcMicros(1_796_002_071_000_042).to_string(), "2026-11-30 01:27:51.000042 UTC");
        assert!(UtcMicros(u64::MAX).to_string().ends_with(" UTC"));
        assert_eq!(Stamp(12_345_678).to_string(), "[   12.345678]");
        assert_eq!(Stamp(u64::MAX).to_string(), "[18446744073709.551615]");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = (1970, 1, 1);
        for days in 1..100_000 {
            let (year, month, day) = civil(days);
            let next_day = (year, month) == (last.0, last.1) && day == last.2 + 1;
            let next_month =
                day == 1 && last.2 >= 28 && (month == last.1 + 1 || (month == 1 && last.1 == 12));
            assert!(next_day || next_month, "{days}: {year}-{month}-{day} after {last:?}");
            assert!(month <= 12 && day <= 31);
            last = (year, month, day);
        }
    }

    #[test]
    fn milliseconds() {
        for (us, text) in
            [(0, "0.000 ms"), (412, "0.412 ms"), (1_000_000, "1000.000 ms"), (12_034, "12.034 ms")]
        {
            assert_eq!(Millis(us).to_string(), text);
        }
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(Span(seconds * 1_000_000 + 999_999).to_string(), text);
        }
    }
}
