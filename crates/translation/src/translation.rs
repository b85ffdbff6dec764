//! Which translation a VM has. An enum, not a `dyn`: it is asked at every violation, and with one variant it costs nothing.

use vm_types::{Backlog, Gpa, Hpa, PageSet};
use vmx_types::qualification::EptViolation;

use crate::backing::Backing;
use crate::ept::Ept;
use crate::frames::Frames;
use crate::words::{Change, Fault, OutOfMemory, Step};

/// The translation of one VM, of whichever kind. Who makes one chooses the kind, and nobody asks for it later.
pub enum Translation<'m, F: Frames<'m>> {
    /// By extended page tables.
    Ept(Ept<'m, F>),
}

/// Has whichever it is do it.
macro_rules! each {
    ($any:expr, $tables:ident => $does:expr) => {
        match $any {
            Translation::Ept($tables) => $does,
        }
    };
}

impl<'m, F: Frames<'m>> Backing for Translation<'m, F> {
    #[inline]
    fn root(&self) -> u64 {
        each!(self, tables => tables.root())
    }

    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
        each!(self, tables => tables.map(gpa, hpa, len))
    }

    fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        each!(self, tables => tables.translate(gpa))
    }

    #[inline]
    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool {
        each!(self, tables => tables.first_write(gpa, logged))
    }

    #[inline]
    fn fault(&mut self, violation: EptViolation, logged: &PageSet) -> Result<Fault, OutOfMemory> {
        each!(self, tables => tables.fault(violation, logged))
    }

    fn under_way(&self) -> Option<Change> {
        each!(self, tables => tables.under_way())
    }

    fn begin(&mut self, change: Change) {
        each!(self, tables => tables.begin(change));
    }

    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        each!(self, tables => tables.step(logged, backlog))
    }

    fn answered(&mut self) {
        each!(self, tables => tables.answered());
    }

    fn admit_code(&mut self, gpa: Gpa) -> Result<bool, OutOfMemory> {
        each!(self, tables => tables.admit_code(gpa))
    }

    fn admit_write(&mut self, gpa: Gpa, executable: bool, logged: &PageSet) {
        each!(self, tables => tables.admit_write(gpa, executable, logged));
    }

    fn revoke_code(&mut self, gpa: Gpa) {
        each!(self, tables => tables.revoke_code(gpa));
    }

    fn take_apart(&mut self) -> bool {
        each!(self, tables => tables.take_apart())
    }
}
