//! What each CPU does once the stages of [`crate::init`] are over.

use crate::arch;
use crate::boot::Boot;

/// The bootstrap CPU.
pub(crate) fn bsp(_boot: &'static Boot) -> ! {
    log::info!(target: "start", "ready: 0 vms, migration off");
    arch::halt()
}

/// Every other CPU.
pub(crate) fn ap(_index: usize) -> ! {
    arch::halt()
}
