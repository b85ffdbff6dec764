//! A VM's time line: its TSC as a function of the host's.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};
use pool::{Tsc, TscMeans};
use vm_types::{Megahertz, Now};

use hw::arch::tsc;

/// Fraction bits of the TSC multiplier (SDM 25.6.5, IA32_VMX_MISC): 48 on every Intel CPU.
const FRACTION: u32 = 48;
/// Differences of two TSC values above this are negative.
const FAR_FUTURE: u64 = 1 << 63;

/// Why a host cannot give a TSC rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WrongRate {
    wanted: u64,
    host: u64,
}

impl core::fmt::Display for WrongRate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "TSC of {} cannot be given: this host counts {} and lacks TSC scaling (Skylake-SP and later have it)",
            Megahertz(self.wanted),
            Megahertz(self.host)
        )
    }
}

/// The clock of one VM.
#[derive(Debug)]
pub(crate) struct Clock {
    hz: u64,
    offset: AtomicU64,
    multiplier: Option<u64>,
}

impl Clock {
    /// A clock of `hz` that shows `tsc` now.
    ///
    /// # Errors
    /// [`WrongRate`] where the host's rate is more than 250 ppm off and it cannot scale.
    pub(crate) fn new(hz: u64, can_scale: bool) -> Result<Self, WrongRate> {
        let host = tsc::hz();
        let multiplier = match (Tsc { hz: host, scaling: can_scale }).means(hz) {
            TscMeans::Offset => None,
            TscMeans::Scaling => Some(((u128::from(hz) << FRACTION) / u128::from(host)) as u64),
            TscMeans::Refused => return Err(WrongRate { wanted: hz, host }),
        };
        Ok(Self { hz, offset: AtomicU64::new(0), multiplier })
    }

    /// Declared rate in ticks a second.
    pub(crate) fn hz(&self) -> u64 {
        self.hz
    }

    /// TSC_MULTIPLIER, where this host must scale.
    pub(crate) fn scaling(&self) -> Option<u64> {
        self.multiplier
    }

    /// TSC_OFFSET.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    fn scaled(&self, host: u64) -> u64 {
        match self.multiplier {
            None => host,
            Some(multiplier) => ((u128::from(host) * u128::from(multiplier)) >> FRACTION) as u64,
        }
    }

    /// Makes the clock show `tsc` now. Every vCPU must take up the new offset before it runs again.
    pub(crate) fn set(&self, tsc: u64) {
        self.offset.store(tsc.wrapping_sub(self.scaled(tsc::read())), Ordering::Relaxed);
    }

    /// Makes the clock show what it shows `ns` nanoseconds after `tsc`; as [`Clock::set`].
    pub(crate) fn set_after(&self, tsc: u64, ns: u64) {
        let ticks = u128::from(ns) * u128::from(self.hz) / 1_000_000_000;
        self.set(tsc.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)));
    }

    /// The guest's instant.
    #[inline]
    pub(crate) fn now(&self) -> Now {
        Now { tsc: self.scaled(tsc::read()).wrapping_add(self.offset()), hz: self.hz }
    }

    /// Microseconds that the time line has gone on: since the VM was made, on whatever host.
    pub(crate) fn up_us(&self) -> u64 {
        let micros = u128::from(self.now().tsc) * 1_000_000 / u128::from(self.hz.max(1));
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// The host TSC at which the guest's shows `tsc`, rounded up.
    pub(crate) fn host_tsc(&self, tsc: u64) -> u64 {
        let since_zero = tsc.wrapping_sub(self.offset());
        if since_zero > FAR_FUTURE {
            // before the host's TSC was 0, or so far ahead that it never comes
            return if tsc < self.offset() && self.offset() < FAR_FUTURE { 0 } else { u64::MAX };
        }
        match self.multiplier {
            None => since_zero,
            Some(multiplier) => {
                let host = (u128::from(since_zero) << FRACTION).div_ceil(u128::from(multiplier));
                u64::try_from(host).unwrap_or(u64::MAX)
            }
        }
    }
}
