//! Guests that reset their machine: CPU 0's loop orders that they boot anew.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{State, Vm, registry, reset};
use crate::arch::tsc;

/// A guest waits to be booted anew.
static WAITING: AtomicBool = AtomicBool::new(false);

impl Vm {
    /// The guest has reset itself, and is off every CPU.
    pub(super) fn note_reset(&self) {
        let name = &self.name;
        let mut restarts = self.restarts.lock();
        if !restarts.reset(tsc::micros()) {
            return;
        }
        if self.source.is_none() {
            restarts.give_up();
            log::warn!(target: "vm", "vm {name}: not booted anew: {}", self.has_no_kernel());
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

/// Orders it for those whose time has come, where `admits` a reset: a VM may be on its way to another host.
pub(crate) fn poll(admits: impl Fn(&Arc<Vm>) -> bool) {
    if !WAITING.swap(false, Ordering::AcqRel) {
        return;
    }
    let now = tsc::micros();
    let mut waits = false;
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
        if vm.state() != State::Stopped {
            continue;
        }
        let ordered = match vm.source.clone() {
            Some(source) => reset::order(&vm, source, ", as its guest asked").map(|_| ()),
            None => Err(vm.has_no_kernel()),
        };
        if let Err(why) = ordered {
            log::error!(target: "vm", "vm {}: not booted anew: {why}", vm.name);
        }
    }
    if waits {
        WAITING.store(true, Ordering::Release);
    }
}
