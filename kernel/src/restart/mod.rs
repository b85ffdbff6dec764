//! Booting a VM anew, whoever wants it: its guest that resets its machine, or an operator. Files that did not come along with it
//! are fetched before anything of it is touched. CPU 0's loop does all of that.

mod refetch;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Poll;

use crate::lock::{self, Mutex};
use crate::vm::outcome::Outcome;
use crate::vm::reset::{self, Anew};
use crate::vm::{Vm, registry, restart};
use refetch::Refetch;

/// VMs whose files come.
static FETCHING: Mutex<Vec<Fetching>> = Mutex::new(lock::FETCHING, Vec::new());

struct Fetching {
    vm: Arc<Vm>,
    /// Its source lacks what the download brings.
    anew: Anew,
    refetch: Refetch,
    outcome: Outcome,
}

/// Boots a VM anew, once all that it is made from is here. The answer tells how it ends.
///
/// # Errors
/// The state of the VM, in words; nothing has begun.
pub(crate) fn order(vm: &Arc<Vm>, anew: Anew) -> Result<Outcome, String> {
    let outcome = Outcome::default();
    if FETCHING.lock().iter().any(|one| Arc::ptr_eq(&one.vm, vm)) {
        return Err(alloc::format!("vm {} is to boot anew already: its files come", vm.name));
    }
    vm.restarts.lock().give_up();
    if anew.source.lacks().is_none() {
        reset::order(vm, anew, &outcome)?;
    } else {
        let vm = Arc::clone(vm);
        FETCHING.lock().push(Fetching { vm, anew, refetch: Refetch::default(), outcome: outcome.clone() });
    }
    Ok(outcome)
}

/// Goes on for a bounded time: boots those anew whose time has come, where `admits` a reset: a VM may be on its way to another
/// host. True while files come.
pub(crate) fn poll(admits: impl Fn(&Arc<Vm>) -> Result<(), String>) -> bool {
    for vm in restart::due(|vm| admits(vm).is_ok()) {
        let source = vm.source.lock().clone().ok_or_else(|| vm.has_no_kernel());
        let anew = source.map(|source| Anew { source, policy: None, why: ", as its guest asked" });
        if let Err(why) = anew.and_then(|anew| order(&vm, anew)) {
            log::error!(target: "vm", "vm {}: not booted anew: {why}", vm.name);
        }
    }
    let mut fetching = core::mem::take(&mut *FETCHING.lock());
    fetching = fetching.into_iter().filter_map(|one| one.poll(&admits)).collect();
    let busy = !fetching.is_empty();
    FETCHING.lock().append(&mut fetching);
    busy
}

impl Fetching {
    /// None once it is over.
    fn poll(mut self, admits: impl Fn(&Arc<Vm>) -> Result<(), String>) -> Option<Self> {
        let result = match self.refetch.poll(&self.vm, &mut self.anew.source) {
            Poll::Pending if registry::holds(&self.vm) => return Some(self),
            Poll::Pending => Err(alloc::format!("vm {} is gone", self.vm.name)),
            Poll::Ready(Err(why)) => Err(why),
            // It may have been handed over meanwhile.
            Poll::Ready(Ok(())) => {
                admits(&self.vm).and_then(|()| reset::order(&self.vm, self.anew, &self.outcome))
            }
        };
        if let Err(why) = result {
            log::error!(target: "vm", "vm {}: not booted anew: {why}", self.vm.name);
            self.outcome.set(Err(why));
        }
        None
    }
}
