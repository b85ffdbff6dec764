//! Every field of the current VMCS by its SDM name, for a VM entry that failed.

use vmx_types::field;

use super::insn;

/// Logs the fields that this CPU has and that are not 0, four a line.
pub fn dump(vm: &str) {
    log::error!(target: "vmx", "vm {vm}: VMCS, fields that are 0 left out");
    for group in field::ALL {
        match insn::try_read(group.encoding) {
            Some(value) if value != 0 => {
                log::error!(target: "vmx", "  {:32} {value:#0width$x}", group.name, width = usize::from(group.bytes) * 2 + 2);
            }
            _ => {}
        }
    }
}
