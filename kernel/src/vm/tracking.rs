//! Which pages the guest has written: starting, harvesting, stopping. The order is [`ept::poll`]'s.

use ept::{Change, DirtyMethod, Mmu, OutOfMemory, Tracked};
use vm_types::{Backlog, PageSet};

use super::{Request, Vm};
use crate::arch::{cpu, tsc};
use crate::meter::{self, Part};
use crate::vmx::{flush, host};

impl Vm {
    /// The best method of this host.
    pub(crate) fn best_method() -> DirtyMethod {
        let able = |method: &DirtyMethod| Self::lacks(*method).is_none();
        [DirtyMethod::Pml, DirtyMethod::AccessDirty]
            .into_iter()
            .find(able)
            .unwrap_or(DirtyMethod::WriteProtect)
    }

    /// What this host lacks for a method, if anything.
    pub(crate) fn lacks(method: DirtyMethod) -> Option<&'static str> {
        let caps = host::boot_cpu().map(|cpu| &cpu.caps);
        match method {
            DirtyMethod::Pml if !caps.is_some_and(|caps| caps.pml()) => {
                Some("page-modification logging (PML)")
            }
            DirtyMethod::AccessDirty if !caps.is_some_and(|caps| caps.ept_access_dirty()) => {
                Some("accessed and dirty flags in EPT (A/D)")
            }
            _ => None,
        }
    }

    /// Starts noticing writes.
    ///
    /// # Errors
    /// The host lacks memory for the tables; nothing is tracked then.
    pub(crate) fn start_tracking(&self, method: DirtyMethod) -> Result<(), OutOfMemory> {
        let before = tsc::read();
        meter::doing(Part::Tracking);
        let large = ept::finish(self, Change::Track(method))?;
        *self.tracking.lock() = Some(method);
        let ticks = tsc::read() - before;
        let method = method.name();
        log::info!(target: "vm", "{}: writes noticed by {method}, {large} large pages split, {ticks} ticks", self.name);
        Ok(())
    }

    /// Stops noticing writes.
    pub(crate) fn stop_tracking(&self) {
        let before = tsc::read();
        meter::doing(Part::Tracking);
        *self.tracking.lock() = None;
        // It gives memory back, and takes none.
        let large = ept::finish(self, Change::Untrack).unwrap_or(0);
        let ticks = tsc::read() - before;
        log::info!(target: "vm", "{}: writes noticed no more, {large} large pages put back, {ticks} ticks", self.name);
    }

    /// The method in use.
    pub(crate) fn tracking(&self) -> Option<DirtyMethod> {
        *self.tracking.lock()
    }

    /// Adds the pages written since the last harvest to `to_send`; returns their number.
    pub(crate) fn harvest(&self) -> u64 {
        // It takes no memory.
        ept::finish(self, Change::Harvest).unwrap_or(0)
    }
}

impl Tracked for Vm {
    fn with<R>(&self, f: impl FnOnce(&mut dyn Mmu) -> R) -> R {
        f(&mut **self.mmu.lock())
    }

    fn logged(&self) -> &PageSet {
        &self.memory.logged
    }

    fn backlog(&self) -> &Backlog {
        &self.to_send
    }

    /// Whichever CPU each vCPU runs on.
    fn drain_logs(&self) {
        if *self.tracking.lock() != Some(DirtyMethod::Pml) {
            return;
        }
        for slot in &self.vcpus {
            if slot.cpu == cpu::this().index {
                slot.vcpu.lock().drain_log_of_stopped(self);
            } else {
                self.request_and_wait(slot, Request::DrainPml);
            }
        }
    }

    fn flush(&self) {
        let root = self.mmu.lock().root();
        flush::vm(&self.ran_on, root);
    }
}
