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

/// Bit 7 of the index port is no part of the index: it keeps external NMIs out, and stays as it was written last. So it is
/// never set here: nothing that an NMI does touches the clock.
fn register(ports: &mut impl Ports, number: u8) -> u8 {
    ports.outb(INDEX, number & 0x7f);
    ports.inb(DATA)
}

/// Seconds since 1970, UTC. NMIs are let in afterwards, whatever firmware had chosen.
pub fn unix_seconds(ports: &mut impl Ports) -> u64 {
    let seconds = read(ports);
    register(ports, REST);
    seconds
}

/// Reads twice until both agree: an update in between shows.
fn read(ports: &mut impl Ports) -> u64 {
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
    let binary = register(ports, 0x0b) & 4 != 0;
    let value = |n: u8| u64::from(if binary { n } else { (n >> 4).wrapping_mul(10).wrapping_add(n & 15) });
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
