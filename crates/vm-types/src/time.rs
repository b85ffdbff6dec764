//! The one time line of a guest.

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

    /// Ticks since TSC 0 of a clock that runs at `hz` ticks a second.
    #[must_use]
    pub fn ticks_at(self, hz: u64) -> u64 {
        (u128::from(self.tsc) * u128::from(hz) / u128::from(self.hz)) as u64
    }

    /// The first TSC at which a clock of `hz` ticks a second shows at least `ticks`.
    #[must_use]
    pub fn tsc_at(self, ticks: u64, hz: u64) -> u64 {
        let tsc = (u128::from(ticks) * u128::from(self.hz)).div_ceil(u128::from(hz));
        u64::try_from(tsc).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tsc_at_is_the_first_tick() {
        for hz in [20_000_000, 50_000_000, 3_000_000_007] {
            for ticks in [0, 1, 2, 1_193_182, 3_579_545 * 1000] {
                let now = Now { tsc: 0, hz };
                let tsc = now.tsc_at(ticks, 1_193_182);
                assert!(Now { tsc, hz }.ticks_at(1_193_182) >= ticks);
                assert!(tsc == 0 || Now { tsc: tsc - 1, hz }.ticks_at(1_193_182) < ticks);
            }
        }
    }
}
