//! Rates that more than one device keeps to.

/// Periodic timers interrupt at most this often a second, so that a guest that programs a shorter
/// period still gets to run; shorter periods are merged.
pub(crate) const MIN_PERIOD_HZ: u64 = 20_000;

/// The APIC bus clock in ticks a second: what the local APIC's timer counts in front of its divider.
/// A constant of the virtual machine, whatever the rate of its TSC; CPUID leaf 0x15, where a level
/// has it, must give the same number in ECX.
pub const APIC_BUS_HZ: u64 = 100_000_000;
