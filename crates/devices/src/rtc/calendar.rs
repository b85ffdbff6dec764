//! Civil time and seconds since 1970, in the proleptic Gregorian calendar, UTC.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    /// 1 is Sunday, as in the MC146818.
    pub(crate) weekday: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

const DAYS_TO_1970: u64 = 719_162;

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 0001-01-01 to the first of January of `year`.
fn days_before(year: u64) -> u64 {
    let y = year - 1;
    y * 365 + y / 4 - y / 100 + y / 400
}

/// `secs` must lie below the year 10000.
pub(crate) fn from_unix(secs: u64) -> Civil {
    let days = secs / 86_400 + DAYS_TO_1970;
    let mut year = days / 366 + 1;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let of_day = secs % 86_400;
    Civil {
        year,
        month,
        day: day + 1,
        weekday: (days + 1) % 7 + 1,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}

/// Fields out of range are brought to the nearest valid value; years before 1970 give 0.
pub(crate) fn to_unix(civil: &Civil) -> u64 {
    let year = civil.year.clamp(1, 9999);
    let month = civil.month.clamp(1, 12);
    let day = civil.day.clamp(1, days_in_month(year, month));
    let months: u64 = (1..month).map(|m| days_in_month(year, m)).sum();
    let days = (days_before(year) + months + day - 1).saturating_sub(DAYS_TO_1970);
    days * 86_400 + civil.hour.min(23) * 3600 + civil.minute.min(59) * 60 + civil.second.min(59)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let epoch = from_unix(0);
        assert_eq!((epoch.year, epoch.month, epoch.day, epoch.weekday), (1970, 1, 1, 5));
        let leap = from_unix(951_827_696);
        assert_eq!((leap.year, leap.month, leap.day, leap.weekday), (2000, 2, 29, 3));
        assert_eq!((leap.hour, leap.minute, leap.second), (12, 34, 56));
        let later = from_unix(4_102_444_799);
        assert_eq!((later.year, later.month, later.day, later.hour), (2099, 12, 31, 23));
    }

    #[test]
    fn every_day_comes_back() {
        for day in 0..100_000 {
            let secs = day * 86_400 + day % 86_400;
            assert_eq!(to_unix(&from_unix(secs)), secs);
        }
    }

    #[test]
    fn nonsense_is_clamped() {
        let civil = Civil { year: 2023, month: 2, day: 31, weekday: 0, hour: 99, minute: 99, second: 99 };
        let back = from_unix(to_unix(&civil));
        assert_eq!((back.month, back.day, back.hour, back.minute, back.second), (2, 28, 23, 59, 59));
    }
}
