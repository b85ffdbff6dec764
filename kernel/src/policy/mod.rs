//! The host's CPU as `cpu-policy` sees it.

pub(crate) mod flex;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cpu_policy::{GuestPolicy, HostPolicy, Level, Shape};
use spin::Once;

use crate::arch::msr;

/// What this host can give, read once.
pub(crate) fn host() -> &'static HostPolicy {
    static HOST: Once<HostPolicy> = Once::new();
    HOST.call_once(|| {
        let cpuid = |leaf, subleaf| {
            let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
            [r.eax, r.ebx, r.ecx, r.edx]
        };
        HostPolicy::from_reader(cpuid, msr::read_safe)
    })
}

/// The policy of a new guest at a level, or at the highest that this host can give.
///
/// # Errors
/// An unknown level, with those there are; or each feature that the host lacks.
pub(crate) fn render(level: Option<&str>, vcpus: u32, tsc_hz: u64) -> Result<GuestPolicy, String> {
    let level = match level {
        Some(name) => Level::by_name(name).ok_or_else(|| {
            format!("level={name} is not known; this host can give {}", levels_of_this_host())
        })?,
        None => host().best_level().ok_or("this host can give no level")?,
    };
    let shape = Shape { vcpus, tsc_hz, apic_hz: devices::APIC_BUS_HZ as u32, phys_bits: None };
    GuestPolicy::render(level, shape, host()).map_err(|error| error.to_string())
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
