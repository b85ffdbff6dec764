//! The audit of a VM: which code it executes that its policy hides (`crates/isa-audit`).
//!
//! A page may be executed or written, not both. The first fetch from a page exits: it is decoded and becomes executable
//! and read-only. The first write to it after that exits: it becomes writable and is not executable any more. An
//! instruction that needs both of the same page gets both, and `vm/audit.rs` has the page decoded again a little later.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use isa_audit::{Bounds, CodeSize, Findings, Heading, Page};
use translation::Backing;
use vm_types::{Gpa, PageSet};

use super::Guest;
use crate::policy::ledger;
use hw::arch::tsc;

/// A page and what follows it, as far as an instruction can cross over.
pub(crate) const WINDOW: usize = 4096 + isa_audit::MAX_LEN - 1;
/// Pages that one instruction can fetch from and be made to write: itself across two pages, and paging structures.
const FETCHED: usize = 8;
/// How long a page stays both executable and writable, in microseconds.
const OPEN_US: u64 = 100_000;

/// Pages of all VMs that are both executable and writable.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Host TSC at which they are closed.
static CLOSE_AT: AtomicU64 = AtomicU64::new(0);

/// The audit of one VM.
#[derive(Default)]
pub(crate) struct Audit {
    /// Set while it is on.
    running: Option<Box<Running>>,
    /// What was found here and on the hosts that the VM came from.
    findings: Findings,
}

struct Running {
    bounds: Bounds,
    window: [u8; WINDOW],
    /// Where the guest was at the last fetch that exited.
    rip: u64,
    /// Pages that exited for a fetch since it is there.
    fetched: [u64; FETCHED],
    count: usize,
    /// Pages that are both executable and writable.
    open: PageSet,
}

impl Running {
    fn fetches(&mut self, rip: u64, page: u64) {
        if self.rip != rip {
            (self.rip, self.count) = (rip, 0);
        }
        if let Some(slot) = self.fetched.get_mut(self.count) {
            *slot = page;
            self.count += 1;
        }
    }

    /// True where the instruction at `rip` had to fetch from `page` just now: it would never get ahead.
    fn stuck(&self, rip: u64, page: u64) -> bool {
        self.rip == rip && (self.count == FETCHED || self.fetched[..self.count].contains(&page))
    }
}

/// A page that is about to be executed.
pub(crate) struct Fetch {
    /// Guest-physical address of the page.
    pub(crate) gpa: Gpa,
    /// Its guest-linear address.
    pub(crate) linear: u64,
    /// Offset of the first instruction that begins in it.
    pub(crate) entry: usize,
    /// Guest-linear address of the instruction that fetches.
    pub(crate) rip: u64,
    /// Mode that it is executed in.
    pub(crate) mode: CodeSize,
}

impl Guest {
    /// Begins it; what was found before stays. From then on the tables are to keep code and writes apart.
    ///
    /// # Errors
    /// It is running.
    pub(crate) fn begin_audit(&self) -> Result<(), String> {
        let mut audit = self.audit.lock();
        if audit.running.is_some() {
            return Err(alloc::format!("the audit of vm {} is running", self.name));
        }
        let policy = self.policy();
        let stopped = ledger::stopped(&policy);
        audit.running = Some(Box::new(Running {
            bounds: Bounds { has: policy.features(), stopped },
            window: [0; WINDOW],
            rip: 0,
            fetched: [0; FETCHED],
            count: 0,
            open: PageSet::new(self.memory.pages()),
        }));
        Ok(())
    }

    /// Ends it but for the tables; the findings stay. False where none was on.
    pub(crate) fn end_audit(&self) -> bool {
        let Some(running) = self.audit.lock().running.take() else { return false };
        OPEN.fetch_sub(running.open.count() as usize, Ordering::Relaxed);
        true
    }

    /// Hands findings and heading to `f`.
    pub(crate) fn audited<T>(&self, f: impl FnOnce(&Findings, &Heading<'_>) -> T) -> T {
        let audit = self.audit.lock();
        let (name, policy) = (self.name.get(), self.policy());
        let heading = Heading { vm: &name, level: policy.level_name(), running: audit.running.is_some() };
        f(&audit.findings, &heading)
    }

    /// Takes over what was found on another host.
    pub(crate) fn set_findings(&self, findings: Findings) {
        self.audit.lock().findings = findings;
    }

    /// A page is executed that the audit has not decoded since its last write. `fill` reads the page and what follows
    /// into the buffer, and answers with the number of bytes. The caller flushes this CPU before the guest goes on:
    /// the one vCPU of the VM runs nowhere else.
    pub(crate) fn audit_fetch(&self, fetch: &Fetch, again: bool, fill: impl FnOnce(&mut [u8]) -> usize) {
        let audit = &mut *self.audit.lock();
        let Some(running) = &mut audit.running else { return };
        let len = fill(&mut running.window).min(WINDOW);
        let page =
            Page { code: &running.window[..len], linear: fetch.linear, gpa: fetch.gpa.0, mode: fetch.mode };
        audit.findings.again += u64::from(again);
        isa_audit::scan(&page, fetch.entry, &running.bounds, &mut audit.findings);
        running.fetches(fetch.rip, fetch.gpa.0);
    }

    /// A decoded page is written by the instruction at `rip`. True where it must stay executable.
    pub(crate) fn audit_write(&self, rip: u64, page: Gpa) -> bool {
        let audit = &mut *self.audit.lock();
        let Some(running) = &mut audit.running else { return false };
        let stuck = running.stuck(rip, page.0);
        if stuck && !running.open.contains(page.0 >> 12) {
            running.open.insert(page.0 >> 12);
            if OPEN.fetch_add(1, Ordering::Relaxed) == 0 {
                put_off();
            }
        }
        stuck
    }

    /// Has the pages that are both executable and writable decoded again at their next fetch. How many they are; the
    /// CPUs that ran the guest have to be flushed then.
    pub(crate) fn close_open_pages(&self) -> usize {
        let mut count = 0;
        if let Some(running) = &self.audit.lock().running {
            let mut mmu = self.mmu.lock();
            running.open.drain(|first, bits| {
                for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                    mmu.revoke_code(Gpa((first + bit) << 12));
                    count += 1;
                }
            });
        }
        OPEN.fetch_sub(count, Ordering::Relaxed);
        count
    }
}

/// Whether it is time to close the pages that are both executable and writable.
pub(crate) fn is_due() -> bool {
    OPEN.load(Ordering::Relaxed) != 0 && tsc::read() >= CLOSE_AT.load(Ordering::Relaxed)
}

/// They have been closed: those that are opened from now on have their time.
pub(crate) fn put_off() {
    CLOSE_AT.store(tsc::read().saturating_add(tsc::ticks(OPEN_US)), Ordering::Relaxed);
}
