//! The host's CPU as `cpu-policy` sees it.

pub(crate) mod flex;
pub(crate) mod ledger;
pub(crate) mod mitigations;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cmdline::VmOptions;
use cpu_policy::{Baseline, GuestPolicy, HostPolicy, Level, Shape};
use spin::Once;

use crate::lock::{self, Mutex};
use hw::arch::{cpu, msr, tsc};

/// What this host can give, read once.
pub(crate) fn host() -> &'static HostPolicy {
    static HOST: Once<HostPolicy> = Once::new();
    HOST.call_once(|| HostPolicy::from_reader(cpu::cpuid, msr::read_safe).with_tsc_hz(tsc::hz()))
}

/// The pool's level, while this host is in a pool.
static POOL: Mutex<Option<Baseline>> = Mutex::new(lock::LEVEL, None);

/// What a new guest gets that names no level: the pool's, or this host's own while it is alone.
pub(crate) fn default_baseline() -> Baseline {
    POOL.lock().clone().unwrap_or_else(|| Baseline::of(host()))
}

/// Makes this the level of guests made from now on; None when the host is alone. Running ones keep theirs.
pub(crate) fn set_pool_baseline(baseline: Option<Baseline>) {
    *POOL.lock() = baseline;
}

/// The policy of a new guest at the level asked for, or at [`default_baseline`]. It has the physical address width asked
/// for, or the least of level, pool and host.
///
/// # Errors
/// An unknown level, with those there are; each feature that the host lacks; or memory beyond the width.
pub(crate) fn render(options: &VmOptions, tsc_hz: u64) -> Result<GuestPolicy, String> {
    let apic_hz = devices::APIC_BUS_HZ as u32;
    let mut shape = Shape { topology: options.topology(), tsc_hz, apic_hz, phys_bits: options.phys_bits };
    let rendered = match options.level.as_deref() {
        Some(name) => {
            let level = Level::by_name(name).ok_or_else(|| {
                format!("level={name} is not known; this host can give {}", levels_of_this_host())
            })?;
            shape.phys_bits.get_or_insert_with(|| default_baseline().phys_bits_of(level));
            GuestPolicy::render(level, shape, host())
        }
        None => GuestPolicy::render_baseline(&default_baseline(), shape, host()),
    };
    rendered.map_err(|error| error.to_string())
}

/// Whether a guest that arrives can be served here.
///
/// # Errors
/// Each leaf, bit or MSR in the way, by name.
pub(crate) fn fits(guest: &GuestPolicy) -> Result<(), String> {
    guest.fits(host()).map_err(|misfit| misfit.to_string())
}

/// The names, oldest first.
pub(crate) fn levels_of_this_host() -> String {
    let names: Vec<&str> = host().levels().map(|level| level.name).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

#[cfg(test)]
mod tests;
