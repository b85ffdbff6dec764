//! Leaving the machine as a reboot wants it.

use crate::net;
use crate::vm::registry;
use hw::vmx::flush;

/// Stops every guest, the network card, and VMX operation on every CPU: before a reboot.
pub(crate) fn leave_vmx() {
    for vm in registry::all() {
        vm.take_off();
    }
    net::shut_down();
    if !flush::leave_vmx() {
        log::warn!(target: "vmx", "a CPU did not leave VMX operation: the reset will stop it");
    }
}
