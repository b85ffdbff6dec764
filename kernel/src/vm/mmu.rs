//! The one interface to a VM's second-level translation. Only its implementations know the table format:
//! EPT today, shadow paging beside it later.

use vm_types::{Gpa, PageSet};
use vmx_types::qualification::EptViolation;

use crate::mm::Hpa;

/// How writes of the guest are noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DirtyMethod {
    /// The CPU logs each page once.
    Pml,
    /// The CPU sets dirty flags, which a harvest scans.
    AccessDirty,
    /// The first write to each page exits.
    WriteProtect,
}

impl DirtyMethod {
    /// As printed on the console.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pml => "PML",
            Self::AccessDirty => "A/D scan",
            Self::WriteProtect => "write protection",
        }
    }
}

/// What became of a violation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The guest can go on.
    Resolved,
    /// No memory there: MMIO or nothing.
    Unmapped,
    /// The audit is to look at this page first, and to let it be executed: [`Mmu::admit_code`].
    FirstFetch,
    /// The page was decoded, and is about to be written: [`Mmu::admit_write`].
    CodeWrite,
}

/// The host has no page left for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfMemory;

impl core::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the host is out of memory for page tables")
    }
}

/// Second-level translation of one VM.
///
/// After [`Mmu::harvest`], and after start and stop of tracking and audit, the caller flushes every CPU that ran
/// the VM, and only then reads pages: a CPU with a cached translation would write, or execute, without being noticed.
/// The same holds for what takes a permission from one page: [`Mmu::admit_code`], [`Mmu::admit_write`],
/// [`Mmu::revoke_code`].
pub(crate) trait Mmu: Send {
    /// The value for the VMCS: an EPT pointer.
    fn root(&self) -> u64;
    /// Maps `len` bytes, all three multiples of 4 KiB, readable, writable and executable.
    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory>;
    /// Where a guest address lies.
    fn translate(&self, gpa: Gpa) -> Option<Hpa>;
    /// Resolves the first write to a page that write protection keeps, and that the audit has not decoded; false for
    /// whatever else it is, which is [`Mmu::fault`]'s.
    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool;
    /// Resolves a violation if it is ours to resolve; a write noticed goes into `logged`.
    fn fault(&mut self, violation: EptViolation, logged: &PageSet) -> Result<Fault, OutOfMemory>;
    /// From the next flush on, each first write to a page is noticed. Returns the number of large pages that were split
    /// for it. All tables are reserved before the first is; without enough of them, [`Mmu::stop_tracking`] undoes what
    /// has been done.
    fn start_tracking(&mut self, method: DirtyMethod) -> Result<u64, OutOfMemory>;
    /// Writes are noticed no more. Returns the number of large pages that were put back: all that were split and not
    /// executed, unless the audit needs them small.
    fn stop_tracking(&mut self) -> u64;
    /// Gives back the tables of large pages that were put back; all CPUs have been flushed since.
    fn free_retired(&mut self);
    /// Moves what was noticed since the last harvest from `logged` and the tables into `harvested`, and
    /// re-arms those pages. Returns their number.
    fn harvest(&mut self, logged: &PageSet, harvested: &PageSet) -> u64;
    /// From the next flush on, the first fetch from each page is noticed. Tracking goes on as it is.
    fn start_audit(&mut self);
    /// Fetches are noticed no more.
    fn stop_audit(&mut self);
    /// Lets a page be executed that the audit looks at now, and takes its permission to be written. True where it has
    /// been executed before in this audit.
    fn admit_code(&mut self, gpa: Gpa) -> Result<bool, OutOfMemory>;
    /// Lets a page be written again, and executed only where `executable`; a write noticed goes into `logged`.
    fn admit_write(&mut self, gpa: Gpa, executable: bool, logged: &PageSet);
    /// Has the next fetch from a page noticed again that may be both written and executed.
    fn revoke_code(&mut self, gpa: Gpa);
}
