//! VMs on their way off this host: the stop is ordered, and waited for by CPU 0's loop. What is left of them then is given
//! back bit by bit ([`super::remains`]).

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ::making::{Patience, Silent};
use shell::EventKind;

use super::outcome::Outcome;
use super::{Change, Vm, registry};
use crate::events;
use crate::lock::{self, Mutex};
use hw::arch::tsc;

/// A VM that is being destroyed.
struct Ending {
    vm: Arc<Vm>,
    patience: Patience,
    outcome: Outcome,
}

static ENDINGS: Mutex<Vec<Ending>> = Mutex::new(lock::ENDINGS, Vec::new());

/// Destroys a VM. The answer tells how that ends.
///
/// # Errors
/// The state of the VM, in words; nothing has begun.
pub(crate) fn order(vm: &Arc<Vm>) -> Result<Outcome, String> {
    vm.apply(Change::Destroy)?;
    let outcome = Outcome::default();
    let patience = Patience::new(tsc::micros());
    ENDINGS.lock().push(Ending { vm: Arc::clone(vm), patience, outcome: outcome.clone() });
    Ok(outcome)
}

/// Looks at those that wait for a CPU.
pub(crate) fn poll() {
    let mut ordered = ENDINGS.lock();
    if ordered.is_empty() {
        return;
    }
    let mut endings = core::mem::take(&mut *ordered);
    drop(ordered);
    endings.retain_mut(Ending::waits);
    let mut ordered = ENDINGS.lock();
    endings.append(&mut ordered);
    *ordered = endings;
}

impl Ending {
    /// True while a CPU has not let go of it.
    fn waits(&mut self) -> bool {
        let Some(cpu) = self.vm.holder() else {
            self.vm.empty_uart();
            registry::remove(&self.vm);
            log::info!(target: "vm", "vm {}: destroyed", self.vm.name);
            events::tell(EventKind::VmDestroyed, self.vm.name.owned(), "");
            self.outcome.set(Ok(()));
            return false;
        };
        if self.patience.ends(tsc::micros()) {
            let silent = Silent { vm: self.vm.name.owned(), cpu, then: "it is destroyed" };
            log::error!(target: "vm", "{silent}");
            self.outcome.set(Err(alloc::format!("{silent}")));
        }
        true
    }
}
