//! What is left of VMs that are no more: their tables are given back bit by bit.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use translation::Backing;

use super::Vm;
use crate::lock::{self, Mutex};
use hw::arch::tsc;
use hw::vmx::translation::Translation;

enum Remains {
    /// Of a VM that is not in the registry any more, and whose vCPUs are off for good. Others may still know it.
    Vm(Arc<Vm>),
    /// Of one that was not made in the end.
    Tables(Box<Translation>),
}

static REMAINS: Mutex<Vec<Remains>> = Mutex::new(lock::REMAINS, Vec::new());

/// Takes the tables of a VM apart that is not in the registry any more.
pub(super) fn of_vm(vm: Arc<Vm>) {
    REMAINS.lock().push(Remains::Vm(vm));
}

/// The same of tables that no VM has.
pub(super) fn of_tables(tables: Translation) {
    REMAINS.lock().push(Remains::Tables(Box::new(tables)));
}

/// Goes on with it for a bounded time. False where there is nothing to do.
pub(crate) fn poll() -> bool {
    if REMAINS.lock().is_empty() {
        return false;
    }
    let until = super::steps_until();
    loop {
        let Some(mut remains) = REMAINS.lock().pop() else { return false };
        if remains.step() {
            REMAINS.lock().push(remains);
        }
        if tsc::read() >= until {
            return true;
        }
    }
}

impl Remains {
    /// True while there is more of it.
    fn step(&mut self) -> bool {
        match self {
            Self::Vm(vm) => vm.mmu.lock().take_apart(),
            Self::Tables(tables) => tables.take_apart(),
        }
    }
}
