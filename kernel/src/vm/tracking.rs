//! Which pages the guest has written: starting, harvesting, stopping, each in steps between which the guest's exits have
//! the tables and CPU 0 does its other work. The order is [`translation::poll`]'s.

#[cfg(test)]
mod tests;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::task::Poll;

use translation::{Asked, Backing, Change, DirtyMethod, OutOfMemory, Tracked};
use vm_types::{Backlog, PageSet};

use super::Vm;
use crate::guest::mailbox::Request;
use crate::lock::{self, Mutex};
use crate::meter::{self, Part};
use hw::arch::{cpu, tsc};
use hw::vmx::flush::{self, Flushing};
use hw::vmx::host;
use hw::vmx::translation::Translation;

/// Changes that go on by themselves, one after the other.
static CHANGES: Mutex<Vec<(Weak<Vm>, Change)>> = Mutex::new(lock::CHANGES, Vec::new());

/// The tracking of one VM.
#[derive(Default)]
pub(super) struct Tracking {
    /// In use, or about to be.
    method: Option<DirtyMethod>,
    /// What the change under way has taken so far, in ticks.
    ticks: u64,
    /// The flush that was asked for last.
    flushing: Option<Flushing>,
}

/// What of a VM's watching is to be ended.
pub(super) struct Watched {
    tracked: bool,
    audited: bool,
}

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

    /// Starts noticing writes; to be called until it is `Ready`. [`Vm::stop_tracking`] ends it in the middle too.
    ///
    /// # Errors
    /// The host lacks memory for the tables; nothing is tracked then.
    pub(crate) fn start_tracking(self: &Arc<Self>, method: DirtyMethod) -> Poll<Result<(), OutOfMemory>> {
        meter::doing(Part::Tracking);
        // Its end is this change's beginning.
        self.forget_changes(|change| change == Change::Untrack);
        self.tracking.lock().method = Some(method);
        self.advance(Change::Track(method)).map(|(started, ticks)| {
            let large = started.inspect_err(|_| self.tracking.lock().method = None)?;
            let method = method.name();
            log::info!(target: "vm", "{}: writes noticed by {method}, {large} large pages split, {ticks} ticks", self.name);
            Ok(())
        })
    }

    /// Stops noticing writes; what tracking took is given back by and by.
    pub(crate) fn stop_tracking(self: &Arc<Self>) {
        self.tracking.lock().method = None;
        self.changes(Change::Untrack);
    }

    /// Begins a change that goes on by itself.
    pub(super) fn changes(self: &Arc<Self>, change: Change) {
        CHANGES.lock().push((Arc::downgrade(self), change));
    }

    /// Whether such a change is under way, or is to come.
    pub(crate) fn is_changing(&self) -> bool {
        CHANGES.lock().iter().any(|(vm, _)| core::ptr::eq(vm.as_ptr(), self))
    }

    /// Nobody goes on with these any more. True where there was one.
    fn forget_changes(&self, which: impl Fn(Change) -> bool) -> bool {
        let mut changes = CHANGES.lock();
        let before = changes.len();
        changes.retain(|(vm, change)| !core::ptr::eq(vm.as_ptr(), self) || !which(*change));
        changes.len() != before
    }

    /// Stops noticing writes, for one who waits for it; to be called until it is `Ready`.
    pub(crate) fn end_tracking(&self) -> Poll<()> {
        meter::doing(Part::Tracking);
        self.tracking.lock().method = None;
        self.advance(Change::Untrack).map(|(ended, ticks)| {
            // It gives memory back, and takes none.
            let large = ended.unwrap_or(0);
            log::info!(target: "vm", "{}: writes noticed no more, {large} large pages put back, {ticks} ticks", self.name);
        })
    }

    /// What is to be ended of tracking and audit. Nobody else ends it from now on.
    pub(super) fn watched(&self) -> Watched {
        let pending = self.forget_changes(|_| true);
        let under_way = self.mmu.lock().under_way().is_some();
        let tracked = self.tracking().is_some() || pending || under_way;
        Watched { tracked, audited: self.end_audit() || pending || under_way }
    }

    /// Ends it; to be called until it is `Ready`.
    pub(super) fn unwatch(&self, watched: &mut Watched) -> Poll<()> {
        if watched.tracked {
            if self.end_tracking().is_pending() {
                return Poll::Pending;
            }
            watched.tracked = false;
        }
        if watched.audited { self.advance(Change::EndAudit).map(|_| ()) } else { Poll::Ready(()) }
    }

    /// The method in use.
    pub(crate) fn tracking(&self) -> Option<DirtyMethod> {
        self.tracking.lock().method
    }

    /// Adds the pages written since the last harvest to `to_send`; to be called until it is `Ready`, with their number.
    pub(crate) fn harvest(&self) -> Poll<u64> {
        // It takes no memory.
        self.advance(Change::Harvest).map(|(pages, _)| pages.unwrap_or(0))
    }

    /// Pages that each vCPU was the first to write to since they were armed, counted since the VM was made here. None where
    /// nobody knows: the dirty flags of the tables say that a page was written, and not by whom.
    pub(crate) fn dirtied(&self) -> Option<Vec<u64>> {
        let known = matches!(self.tracking(), Some(DirtyMethod::Pml | DirtyMethod::WriteProtect));
        known.then(|| self.vcpus.iter().map(|slot| slot.dirtied.load(Ordering::Relaxed)).collect())
    }

    /// Goes on with a change for a bounded time. At its end its figure, and the ticks that it took.
    fn advance(&self, change: Change) -> Poll<(Result<u64, OutOfMemory>, u64)> {
        lock::assert_none_held("other CPUs are waited for");
        let (began, until) = (tsc::read(), super::steps_until());
        loop {
            let polled = translation::poll(self, change);
            let now = tsc::read();
            if polled.is_ready() || now >= until {
                let mut tracking = self.tracking.lock();
                tracking.ticks += now - began;
                return polled.map(|result| (result, core::mem::take(&mut tracking.ticks)));
            }
            flush::serve();
        }
    }
}

/// Goes on with changes that nobody waits for. False where there is none.
pub(crate) fn poll() -> bool {
    let Some((first, change)) = CHANGES.lock().first().cloned() else { return false };
    let over = first.upgrade().is_none_or(|vm| match change {
        Change::Untrack => vm.end_tracking().is_ready(),
        change => vm.advance(change).is_ready(),
    });
    if over {
        let mut changes = CHANGES.lock();
        if let Some(at) = changes.iter().position(|(vm, other)| vm.ptr_eq(&first) && *other == change) {
            changes.remove(at);
        }
    }
    true
}

impl Tracked for Vm {
    type Tables = Translation;

    fn with<R>(&self, f: impl FnOnce(&mut Translation) -> R) -> R {
        f(&mut self.mmu.lock())
    }

    fn logged(&self) -> &PageSet {
        &self.memory.logged
    }

    fn backlog(&self) -> &Backlog {
        &self.to_send
    }

    fn ask(&self, asked: Asked) {
        match asked {
            Asked::Logs if self.tracking() == Some(DirtyMethod::Pml) => {
                for slot in &self.vcpus {
                    if slot.cpu() == cpu::this().index {
                        slot.vcpu.lock().drain_log_of_stopped(self);
                    } else {
                        slot.post(Request::DrainPml);
                    }
                }
            }
            Asked::Logs => {}
            Asked::Flush => {
                let flushing = self.flush();
                self.tracking.lock().flushing = Some(flushing);
            }
        }
    }

    fn has_answered(&self, asked: Asked) -> bool {
        match asked {
            // One that is paused has served everything.
            Asked::Logs => self.vcpus.iter().all(|slot| {
                slot.requests.load(Ordering::Acquire) & Request::DrainPml as u32 == 0 || slot.gate.is_off()
            }),
            Asked::Flush => {
                let tracking = self.tracking.lock();
                tracking.flushing.as_ref().is_none_or(|flushing| flushing.waits_for().is_none())
            }
        }
    }
}
