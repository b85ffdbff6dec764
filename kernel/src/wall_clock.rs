//! The host's CMOS clock, read once at boot; a guest's RTC starts from it.

use spin::Once;

use crate::arch::{io, tsc};

static BOOT: Once<(u64, u64)> = Once::new();

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const UPDATE_IN_PROGRESS: u8 = 1 << 7;

fn register(number: u8) -> u8 {
    io::outb(INDEX, number | 0x80); // NMI stays off while the index is set
    io::inb(DATA)
}

/// Seconds since 1970, UTC.
pub(crate) fn unix_seconds() -> u64 {
    let &(seconds, micros) = BOOT.call_once(|| (read(), tsc::micros()));
    seconds + (tsc::micros() - micros) / 1_000_000
}

/// Reads twice until both agree: an update in between shows.
fn read() -> u64 {
    let fields = || {
        for _ in 0..100_000 {
            if register(0x0a) & UPDATE_IN_PROGRESS == 0 {
                break;
            }
        }
        [0, 2, 4, 7, 8, 9].map(register)
    };
    let mut now = fields();
    for _ in 0..8 {
        let again = fields();
        if again == now {
            break;
        }
        now = again;
    }
    let binary = register(0x0b) & 4 != 0;
    let value = |n: u8| u64::from(if binary { n } else { (n >> 4) * 10 + (n & 15) });
    let [second, minute, hour, day, month, year] = now;
    // 12-hour clocks are a setting that no server firmware makes; bit 7 would be its PM mark
    let hour = value(hour & 0x7f);
    days_since_1970(2000 + value(year), value(month), value(day)) * 86_400
        + hour * 3600
        + value(minute) * 60
        + value(second)
}

/// Days of the proleptic Gregorian calendar.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // the year starts in March, so that the leap day is its last
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.saturating_sub(719_469)
}
