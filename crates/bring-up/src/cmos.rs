//! The CMOS clock (MC146818, ports 0x70 and 0x71).

/// Ports of the machine.
pub trait Ports {
    /// Reads a byte.
    fn inb(&mut self, port: u16) -> u8;
    /// Writes a byte.
    fn outb(&mut self, port: u16, value: u8);
}

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Register D is read-only: nothing that writes to the data port by mistake changes it.
const REST: u8 = 0x0d;
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Register B: numbers are binary, not BCD; hours are 0 to 23, not 1 to 12 with [`AFTERNOON`].
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

/// Bit 7 of the index port is no part of the index: it keeps external NMIs out, and stays as it was written last. So it is
/// never set here: nothing that an NMI does touches the clock.
fn register(ports: &mut impl Ports, number: u8) -> u8 {
    ports.outb(INDEX, number & 0x7f);
    ports.inb(DATA)
}

/// Seconds since 1970, UTC; none where there is no clock, or one that holds no date. NMIs are let in afterwards, whatever
/// firmware had chosen.
pub fn unix_seconds(ports: &mut impl Ports) -> Option<u64> {
    let seconds = read(ports);
    register(ports, REST);
    seconds
}

/// Reads twice until both agree: an update in between shows.
fn read(ports: &mut impl Ports) -> Option<u64> {
    let mut fields = || {
        for _ in 0..100_000 {
            if register(ports, 0x0a) & UPDATE_IN_PROGRESS == 0 {
                break;
            }
        }
        [0, 2, 4, 7, 8, 9].map(|number| register(ports, number))
    };
    let mut now = fields();
    for _ in 0..8 {
        let again = fields();
        if again == now {
            break;
        }
        now = again;
    }
    let form = register(ports, 0x0b);
    let value = |n: u8| -> Option<u64> {
        let digits = n >> 4 <= 9 && n & 15 <= 9;
        if form & BINARY != 0 { Some(n.into()) } else { digits.then(|| u64::from((n >> 4) * 10 + (n & 15))) }
    };
    let [second, minute, hour, day, month, year] = now;
    let hour = if form & HOURS_24 != 0 {
        value(hour)?
    } else {
        let hour_12 = value(hour & !AFTERNOON)?;
        (1..=12).contains(&hour_12).then_some(())?;
        hour_12 % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 }
    };
    let (second, minute, day, month, year) =
        (value(second)?, value(minute)?, value(day)?, value(month)?, value(year)?);
    let is_date = second < 60
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && year < 100;
    is_date.then(|| days_since_1970(2000 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days of the proleptic Gregorian calendar.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // the year starts in March, so that the leap day is its last
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.saturating_sub(719_469)
}
