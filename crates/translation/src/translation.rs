//! Which translation a VM has. An enum, not a `dyn`: it is asked at every violation, and with one variant it costs nothing.

use vm_types::{Backlog, Gpa, GuestMemory, Hpa, PageSet};

use crate::backing::Backing;
use crate::ept::{Ept, EptView};
use crate::frames::Frames;
use crate::view::{Cause, GuestPaging, HwPaging, Invalid, View};
use crate::words::{Admitted, Change, Eptp, Fault, Kept, OutOfMemory, Permission, Step};

/// The translation of one VM, of whichever kind. Who makes one chooses the kind, and nobody asks for it later.
pub enum Translation<'m, F: Frames<'m>> {
    /// By extended page tables.
    Ept(Ept<'m, F>),
}

/// Its side of one vCPU.
pub enum AnyView<'a, 'm, F: Frames<'m>> {
    /// By extended page tables.
    Ept(EptView<'a, 'm, F>),
}

/// Has whichever it is do it.
macro_rules! each {
    ($of:ident, $any:expr, $it:ident => $does:expr) => {
        match $any {
            $of::Ept($it) => $does,
        }
    };
}

impl<'m, F: Frames<'m>> View for AnyView<'_, 'm, F> {
    #[inline(always)]
    fn activate(&mut self, guest: &GuestPaging) -> HwPaging {
        each!(Self, self, view => view.activate(guest))
    }

    #[inline(always)]
    fn fault(
        &mut self,
        cause: Cause,
        memory: &impl GuestMemory,
        logged: &PageSet,
    ) -> Result<Fault, OutOfMemory> {
        each!(Self, self, view => view.fault(cause, memory, logged))
    }

    #[inline(always)]
    fn invalidate(&mut self, what: Invalid) {
        each!(Self, self, view => view.invalidate(what));
    }
}

impl<'m, F: Frames<'m>> Backing for Translation<'m, F> {
    type View<'a>
        = AnyView<'a, 'm, F>
    where
        Self: 'a;
    const FOLLOWS_PAGING: bool = Ept::<'m, F>::FOLLOWS_PAGING;

    #[inline(always)]
    fn view(&mut self, vcpu: u32) -> AnyView<'_, 'm, F> {
        match self {
            Self::Ept(tables) => AnyView::Ept(tables.view(vcpu)),
        }
    }

    #[inline]
    fn cached(&self) -> Option<Eptp> {
        each!(Self, self, tables => tables.cached())
    }

    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
        each!(Self, self, tables => tables.map(gpa, hpa, len))
    }

    fn map_device(&mut self, gpa: Gpa, hpa: Hpa) -> Result<(), OutOfMemory> {
        each!(Self, self, tables => tables.map_device(gpa, hpa))
    }

    fn unmap_device(&mut self, gpa: Gpa) -> bool {
        each!(Self, self, tables => tables.unmap_device(gpa))
    }

    fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        each!(Self, self, tables => tables.translate(gpa))
    }

    #[inline]
    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool {
        each!(Self, self, tables => tables.first_write(gpa, logged))
    }

    fn under_way(&self) -> Option<Change> {
        each!(Self, self, tables => tables.under_way())
    }

    fn begin(&mut self, change: Change) {
        each!(Self, self, tables => tables.begin(change));
    }

    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        each!(Self, self, tables => tables.step(logged, backlog))
    }

    fn answered(&mut self) {
        each!(Self, self, tables => tables.answered());
    }

    fn keep(&mut self, gpa: Gpa, wanted: Permission) -> Result<Option<Kept>, OutOfMemory> {
        each!(Self, self, tables => tables.keep(gpa, wanted))
    }

    fn admit(&mut self, gpa: Gpa, admitted: Admitted, logged: &PageSet) {
        each!(Self, self, tables => tables.admit(gpa, admitted, logged));
    }

    fn revoke_code(&mut self, gpa: Gpa) {
        each!(Self, self, tables => tables.revoke_code(gpa));
    }

    fn take_apart(&mut self) -> bool {
        each!(Self, self, tables => tables.take_apart())
    }
}
