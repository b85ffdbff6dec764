//! Guests that reset their machine: which of them are to boot again, and when.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::source::Source;
use super::{State, Vm, registry};
use hw::arch::tsc;

/// A guest waits to be booted again.
static WAITING: AtomicBool = AtomicBool::new(false);

impl Vm {
    /// The guest has reset itself, and is off every CPU.
    pub(super) fn note_reset(&self) {
        let name = &self.name;
        let mut restarts = self.restarts.lock();
        if !restarts.reset(tsc::micros()) {
            return;
        }
        let source = self.source.lock();
        let lacks = source.as_ref().map_or_else(|| Some(self.has_no_kernel()), Source::lacks_for_good);
        drop(source);
        if let Some(lacks) = lacks {
            restarts.give_up();
            log::warn!(target: "vm", "vm {name}: not booted anew: {lacks}");
            return;
        }
        if restarts.wait_us() > 0 {
            let (seconds, count) = (restarts.wait_us() / 1_000_000, restarts.count());
            log::warn!(target: "vm", "vm {name}: reset itself {count} times, boots anew in {seconds} s");
        }
        drop(restarts);
        WAITING.store(true, Ordering::Release);
    }
}

/// Those whose time has come, where `admits` a reset: a VM may be on its way to another host.
pub(crate) fn due(admits: impl Fn(&Arc<Vm>) -> bool) -> Vec<Arc<Vm>> {
    if !WAITING.swap(false, Ordering::AcqRel) {
        return Vec::new();
    }
    let now = tsc::micros();
    let (mut due, mut waits) = (Vec::new(), false);
    for vm in registry::all() {
        let restarts = *vm.restarts.lock();
        if !restarts.waits() {
            continue;
        }
        // Where it was on its way, its migration ends before.
        if !restarts.is_due(now) || !admits(&vm) {
            waits = true;
            continue;
        }
        // Once, however it goes; an operator may have started or destroyed it meanwhile.
        vm.restarts.lock().give_up();
        if vm.state() == State::Stopped {
            due.push(vm);
        }
    }
    if waits {
        WAITING.store(true, Ordering::Release);
    }
    due
}
