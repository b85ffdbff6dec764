//! What is said of tables: how writes are noticed, what an access meets, how all of them change.

use core::fmt;
use vm_types::Gpa;

/// Most table entries, or words of a set of pages, that one step of a change touches.
pub const STEP: u32 = 4096;

/// How writes of the guest are noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirtyMethod {
    /// The CPU logs each page once.
    Pml,
    /// The CPU sets dirty flags, which a harvest scans.
    AccessDirty,
    /// The first write to each page exits.
    WriteProtect,
}

impl DirtyMethod {
    /// As printed on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pml => "PML",
            Self::AccessDirty => "A/D scan",
            Self::WriteProtect => "write protection",
        }
    }
}

/// An EPT pointer (SDM 24.6.11): what names, to the instruction that flushes, all that CPUs cache of a VM's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eptp(pub u64);

/// What became of a fault. Each payload fills one register, so that an answer is returned in two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The guest can go on.
    Resolved,
    /// No memory at this address: MMIO or nothing.
    Unmapped(Gpa),
    /// The audit is to look at this page before it is executed: [`crate::CodePages::fault`].
    FirstFetch(Gpa),
    /// The audit keeps this page from being written: the same.
    CodeWrite(Gpa),
    /// The guest's own tables do not allow it: it gets #PF with this error code, which has 32 bits.
    Guests(u64),
}

/// What an access to a page wants that the audit keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// An instruction fetch.
    Execute,
    /// A write.
    Write,
}

/// A page that may be neither executed nor written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// It has been executed before in this audit.
    pub executed: bool,
    /// It was kept before, and nobody has had a permission since.
    pub already: bool,
}

/// What a page may be that the audit kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// Executed: it has been decoded.
    Code,
    /// Written.
    Data,
    /// Both, for a while.
    Both,
}

/// The host has no page left for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host is out of memory for page tables")
    }
}

/// A change of all tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes are noticed from its end on: all pages become small, and what was noticed before is forgotten.
    Track(DirtyMethod),
    /// Writes are noticed no more; what was split for it is put back.
    Untrack,
    /// What was noticed since the last harvest becomes backlog, and is noticed again from its end on.
    Harvest,
    /// The first fetch from each page is noticed from its end on.
    Audit,
    /// Fetches are noticed no more.
    EndAudit,
}

/// What CPUs have to do in the middle of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Those that run it: to move their own logs of written pages into the set of them.
    Logs,
    /// Those that ran it: to drop what they have cached of its tables.
    Flush,
}

/// What a step was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to do.
    Working,
    /// The VM's CPUs are to be asked for this; once all have answered, [`crate::Backing::answered`].
    Ask(Asked),
    /// They have been asked, and not all have answered.
    Wait(Asked),
    /// The change is over. Its figure: large pages split or put back, or pages harvested.
    Done(Change, Result<u64, OutOfMemory>),
    /// Nothing is under way.
    Idle,
}
