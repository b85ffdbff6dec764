//! The CPU and the platform below the hypervisor.

pub(crate) mod entry;
pub(crate) mod io;
pub(crate) mod serial;

/// Stops this CPU until the next interrupt.
pub(crate) fn hlt() {
    x86_64::instructions::hlt();
}
