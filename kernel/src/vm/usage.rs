//! How much of a CPU a VM takes: measured once a second, by CPU 0.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Vm, registry};
use hw::arch::tsc;

/// Between two measurements, in microseconds.
const INTERVAL_US: u64 = 1_000_000;

/// The last measurement of a VM. Only CPU 0 writes it.
#[derive(Default)]
pub(crate) struct Usage {
    /// When it was, in host TSC ticks.
    at: AtomicU64,
    /// Ticks for which a CPU had been the VM's by then.
    ran: AtomicU64,
    /// What it took since the measurement before, in thousandths of one CPU.
    permille: AtomicU64,
}

impl Usage {
    /// What the VM took of its host CPUs over the last whole interval, in thousandths of one CPU.
    pub(crate) fn permille(&self) -> u64 {
        self.permille.load(Ordering::Relaxed)
    }

    fn take(&self, now: u64, ran: u64) {
        let since = now.saturating_sub(self.at.swap(now, Ordering::Relaxed)).max(1);
        let took = ran.saturating_sub(self.ran.swap(ran, Ordering::Relaxed));
        let permille = u128::from(took) * 1000 / u128::from(since);
        self.permille.store(u64::try_from(permille).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Vm {
    /// Ticks of the host's TSC for which a CPU was one of its vCPUs'.
    pub(crate) fn ran(&self) -> u64 {
        self.vcpus.iter().map(|slot| slot.ran.load(Ordering::Relaxed)).sum()
    }
}

/// When every VM was measured last, in microseconds.
#[derive(Default)]
pub(crate) struct Meter(u64);

impl Meter {
    /// Measures every VM where the time has come.
    pub(crate) fn poll(&mut self) {
        let now_us = tsc::micros();
        if now_us.saturating_sub(self.0) < INTERVAL_US {
            return;
        }
        self.0 = now_us;
        for vm in registry::all() {
            vm.usage.take(tsc::read(), vm.ran());
        }
    }
}
