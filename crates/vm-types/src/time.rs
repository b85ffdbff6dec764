//! The one time line of a guest.

use core::fmt;

/// An instant on the guest's time line: its TSC, and the rate of that TSC. Every clock of the guest
/// (PIT, PM timer, APIC timer, RTC) is computed from it, so one number migrates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Guest TSC in ticks.
    pub tsc: u64,
    /// Ticks a second; never 0.
    pub hz: u64,
}

impl Now {
    /// Nanoseconds since the guest's TSC was 0.
    #[must_use]
    pub fn ns(self) -> u64 {
        self.ticks_at(1_000_000_000)
    }

    /// Ticks since TSC 0 of a clock that runs at `hz` ticks a second, the last one whole. They stop at `u64::MAX`, which a
    /// clock faster than the TSC reaches before the TSC ends: none goes back to 0, where each deadline would be far again.
    #[must_use]
    pub fn ticks_at(self, hz: u64) -> u64 {
        let ticks = u128::from(self.tsc) * u128::from(hz) / u128::from(self.hz);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The first TSC at which a clock of `hz` ticks a second shows at least `ticks`.
    #[must_use]
    pub fn tsc_at(self, ticks: u64, hz: u64) -> u64 {
        let tsc = (u128::from(ticks) * u128::from(self.hz)).div_ceil(u128::from(hz));
        u64::try_from(tsc).unwrap_or(u64::MAX)
    }
}

/// The rate of a clock in Hz, shown to the last of them in the one unit in which rates are shown: `2600.000123 MHz`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Megahertz(pub u64);

impl fmt::Display for Megahertz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} MHz", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    const RATES: [u64; 5] = [1_000_000, 20_000_000, 1_000_000_000, 3_000_000_007, 5_200_000_000];
    const CLOCKS: [u64; 4] = [32_768, 1_193_182, 3_579_545, 1_000_000_000];

    /// A deadline computed from a tick is neither early, so that the tick is not there yet, nor later than its first instant.
    #[test]
    fn rates() {
        for (hz, text) in [
            (20_000_000, "20.000000 MHz"),
            (2_600_000_123, "2600.000123 MHz"),
            (999, "0.000999 MHz"),
            (u64::MAX, "18446744073709.551615 MHz"),
        ] {
            assert_eq!(Megahertz(hz).to_string(), text);
        }
    }

    #[test]
    fn tsc_at_is_the_first_tick() {
        for hz in RATES {
            for clock in CLOCKS {
                for ticks in [0, 1, 2, 1_193_182, 3_579_545 * 1000, 1 << 40, (1 << 44) - 1] {
                    let tsc = Now { tsc: 0, hz }.tsc_at(ticks, clock);
                    assert!(Now { tsc, hz }.ticks_at(clock) >= ticks, "{hz} {clock} {ticks}");
                    assert!(
                        tsc == 0 || Now { tsc: tsc - 1, hz }.ticks_at(clock) < ticks,
                        "{hz} {clock} {ticks}"
                    );
                }
            }
        }
    }

    /// A TSC that a peer sent, or a guest that runs for centuries: no clock goes back, so that no deadline is lost.
    #[test]
    fn no_clock_goes_back() {
        for hz in RATES {
            for clock in CLOCKS {
                let mut last = 0;
                for bit in 0..64 {
                    for tsc in [(1 << bit) - 1, 1 << bit, u64::MAX >> (63 - bit)] {
                        let ticks = Now { tsc, hz }.ticks_at(clock);
                        assert!(ticks >= last, "{hz} {clock} {tsc}: {ticks} after {last}");
                        last = ticks;
                    }
                }
            }
        }
    }
}
