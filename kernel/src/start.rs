//! What each CPU does once the stages of [`crate::init`] are over.

use crate::arch;

/// The bootstrap CPU.
pub(crate) fn bsp() -> ! {
    log::info!("ready: 0 vms, console on COM1, migration off");
    loop {
        arch::hlt();
    }
}
