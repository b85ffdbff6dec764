//! The audit of a VM: which code it executes that its policy hides (`crates/isa-audit`).
//!
//! A page may be executed or written, not both: `translation::CodePages` sees to that, on all CPUs that ran the VM. The first
//! fetch from a page exits: it is decoded and becomes executable and read-only. The first write to it after that exits: it
//! becomes writable and is not executable any more. Where a vCPU would not get ahead, a page becomes both, and `vm/audit.rs`
//! has it decoded again a little later.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use isa_audit::{Bounds, CodeSize, Findings, Heading, Page};
use translation::{Admitted, Answer, Audited, Backing, CodePages, OutOfMemory, Permission, Point};
use vm_types::{Gpa, PageSet};

use super::Guest;
use crate::policy::ledger;
use hw::arch::tsc;
use hw::vmx::flush::Flushing;
use hw::vmx::translation::Translation;

/// A page and what follows it, as far as an instruction can cross over.
pub(crate) const WINDOW: usize = 4096 + isa_audit::MAX_LEN - 1;
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
    pages: CodePages<Flushing>,
}

/// How the code on a page is executed.
pub(crate) struct Code {
    /// How many bytes of it, and of what follows it, have been read.
    pub(crate) len: usize,
    /// Its guest-linear address.
    pub(crate) linear: u64,
    /// Offset of the first instruction that begins in it.
    pub(crate) entry: usize,
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
            pages: CodePages::new(self.mailboxes.len(), self.memory.pages()),
        }));
        Ok(())
    }

    /// Ends it but for the tables; the findings stay. False where none was on.
    pub(crate) fn end_audit(&self) -> bool {
        let Some(running) = self.audit.lock().running.take() else { return false };
        OPEN.fetch_sub(running.pages.open() as usize, Ordering::Relaxed);
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

    /// A vCPU is at `at` and wants a page that the audit keeps from that. `read` reads a page that is to be executed and what
    /// follows it. False where the vCPU has to fault again: CPUs are to flush first.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed then.
    pub(crate) fn audit_fault(
        &self,
        vcpu: u32,
        at: Point,
        gpa: Gpa,
        wanted: Permission,
        read: impl FnOnce(&mut [u8]) -> Code,
    ) -> Result<bool, OutOfMemory> {
        let audit = &mut *self.audit.lock();
        let Some(running) = &mut audit.running else {
            // It is over, but for the tables.
            let mut mmu = self.mmu.lock();
            if mmu.keep(gpa, wanted)?.is_some() {
                mmu.admit(gpa, Admitted::Both, &self.memory.logged);
            }
            return Ok(true);
        };
        let Running { bounds, window, pages } = &mut **running;
        let findings = &mut audit.findings;
        let answer = pages.fault(self, vcpu as usize, at, gpa, wanted, |again| {
            let Code { len, linear, entry, mode } = read(window);
            let page = Page { code: &window[..len.min(WINDOW)], linear, gpa: gpa.0, mode };
            findings.again += u64::from(again);
            isa_audit::scan(&page, entry, bounds, findings);
        })?;
        if answer == Answer::Opened && OPEN.fetch_add(1, Ordering::Relaxed) == 0 {
            put_off();
        }
        Ok(answer != Answer::Waits)
    }

    /// Has the pages that are both executable and writable decoded again at their next fetch. How many they are; the
    /// CPUs that ran the guest have to be flushed then.
    pub(crate) fn close_open_pages(&self) -> usize {
        let closed = self.audit.lock().running.as_mut().map_or(0, |running| running.pages.close(self));
        OPEN.fetch_sub(closed, Ordering::Relaxed);
        closed
    }
}

impl Audited for Guest {
    type Tables = Translation;
    type Flush = Flushing;

    fn with<R>(&self, f: impl FnOnce(&mut Translation) -> R) -> R {
        f(&mut self.mmu.lock())
    }

    fn logged(&self) -> &PageSet {
        &self.memory.logged
    }

    fn flush(&self) -> Flushing {
        Self::flush(self)
    }

    fn is_over(&self, flush: &Flushing) -> bool {
        flush.waits_for().is_none()
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
