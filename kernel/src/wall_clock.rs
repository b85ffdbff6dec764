//! The host's CMOS clock, read once at boot; a guest's RTC starts from it.

use bring_up::cmos::{self, Ports};
use spin::Once;

use crate::arch::{io, tsc};

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

fn boot() -> (u64, u64) {
    *BOOT.call_once(|| (cmos::unix_seconds(&mut Machine), tsc::micros()))
}

/// Seconds since 1970, UTC.
pub(crate) fn unix_seconds() -> u64 {
    let (seconds, micros) = boot();
    seconds + (tsc::micros() - micros) / 1_000_000
}

/// When the host started, from which the log counts, in microseconds since 1970, UTC. The clock counts whole seconds.
pub(crate) fn start_us() -> u64 {
    let (seconds, micros) = boot();
    seconds.saturating_mul(1_000_000).saturating_sub(micros)
}
