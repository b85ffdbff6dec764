//! The host's CMOS clock, read once at boot; a guest's RTC starts from it.

use bring_up::cmos::{self, Ports};
use spin::Once;

use hw::arch::{io, tsc};

static BOOT: Once<(u64, u64)> = Once::new();

struct Machine;

impl Ports for Machine {
    fn inb(&mut self, port: u16) -> u8 {
        io::inb(port)
    }

    fn outb(&mut self, port: u16, value: u8) {
        io::outb(port, value);
    }
}

/// What it said, and when that was. One that says nothing begins in 1970, as all can see.
fn boot() -> (u64, u64) {
    *BOOT.call_once(|| {
        let seconds = cmos::unix_seconds(&mut Machine).unwrap_or_else(|| {
            log::warn!(target: "clock", "the CMOS clock holds no date: times of day, guests' too, begin at 1970-01-01");
            0
        });
        (seconds, tsc::micros())
    })
}

/// Seconds since 1970, UTC.
pub(crate) fn unix_seconds() -> u64 {
    let (seconds, micros) = boot();
    seconds + (tsc::micros() - micros) / 1_000_000
}

/// When the host started, from which the log counts, in microseconds since 1970, UTC. The clock counts whole seconds: it was
/// up to one later.
pub(crate) fn start_us() -> u64 {
    let (seconds, micros) = boot();
    seconds.saturating_mul(1_000_000).saturating_sub(micros)
}
