//! The audit as an operator turns it on and off (`guest/audit.rs` is what it does).

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use translation::Change;

use super::{State, Vm, registry};
use crate::guest::audit;

impl Vm {
    /// Starts the audit, which looks at all code once [`Vm::is_changing`] says no; what was found before stays.
    ///
    /// # Errors
    /// The state that VM or audit is in.
    pub(crate) fn start_audit(self: &Arc<Self>) -> Result<(), String> {
        let state = self.state();
        if !matches!(state, State::Running | State::Paused) {
            return Err(alloc::format!("vm {} is {}: there is no code to look at", self.name, state.name()));
        }
        self.begin_audit()?;
        self.changes(Change::Audit);
        Ok(())
    }

    /// Ends it and gives the VM its speed back, by and by; the findings stay. False where none was on.
    pub(crate) fn stop_audit(self: &Arc<Self>) -> bool {
        let was_on = self.end_audit();
        if was_on {
            self.changes(Change::EndAudit);
        }
        was_on
    }
}

/// Has pages that are both executable and writable decoded again at their next fetch, where it is time.
pub(crate) fn poll() {
    if !audit::is_due() {
        return;
    }
    for vm in registry::all() {
        if vm.close_open_pages() != 0 {
            // Nothing is read for it: nobody waits.
            let _ = vm.flush().waits_for();
        }
    }
    audit::put_off();
}
