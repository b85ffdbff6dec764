//! Extended page tables (SDM 28.3).

mod apart;
mod audit;
mod change;
mod entry;
mod fault;
mod map;
mod table;
mod track;
mod work;

use vm_types::{Backlog, Gpa, GuestMemory, Hpa, PageSet};

use crate::backing::Backing;
use crate::frames::Frames;
use crate::view::{Cause, GuestPaging, HwPaging, Invalid, View};
use crate::words::{Admitted, Change, Eptp, Fault, Kept, OutOfMemory, Permission, Step};

pub use table::{Ept, Features};

/// The side of any vCPU: they share the tables, and the CPU does the rest.
pub struct EptView<'a, 'm, F: Frames<'m>>(&'a mut Ept<'m, F>);

impl<'m, F: Frames<'m>> View for EptView<'_, 'm, F> {
    #[inline(always)]
    fn activate(&mut self, _: &GuestPaging) -> HwPaging {
        HwPaging::Nested(self.0.eptp)
    }

    #[inline(always)]
    fn fault(&mut self, cause: Cause, _: &impl GuestMemory, logged: &PageSet) -> Result<Fault, OutOfMemory> {
        debug_assert!(cause.as_page_fault().is_none(), "no page fault exits");
        self.0.resolve(cause.as_violation(), logged)
    }

    #[inline(always)]
    fn invalidate(&mut self, _: Invalid) {}
}

impl<'m, F: Frames<'m>> Backing for Ept<'m, F> {
    type View<'a>
        = EptView<'a, 'm, F>
    where
        Self: 'a;
    const FOLLOWS_PAGING: bool = false;

    #[inline(always)]
    fn view(&mut self, _: u32) -> EptView<'_, 'm, F> {
        EptView(self)
    }

    fn cached(&self) -> Option<Eptp> {
        Some(self.eptp)
    }

    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory> {
        self.map_pages(gpa, hpa, len)
    }

    fn map_device(&mut self, gpa: Gpa, hpa: Hpa) -> Result<(), OutOfMemory> {
        self.map_device_page(gpa, hpa)
    }

    fn unmap_device(&mut self, gpa: Gpa) -> bool {
        self.unmap_device_page(gpa)
    }

    fn translate(&self, gpa: Gpa) -> Option<Hpa> {
        self.host_address(gpa)
    }

    #[inline(always)]
    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool {
        self.give_back_write(gpa, logged)
    }

    fn under_way(&self) -> Option<Change> {
        self.work.as_ref().map(|work| work.change)
    }

    fn begin(&mut self, change: Change) {
        self.begin_change(change);
    }

    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        self.step_change(logged, backlog)
    }

    fn answered(&mut self) {
        self.was_answered();
    }

    fn keep(&mut self, gpa: Gpa, wanted: Permission) -> Result<Option<Kept>, OutOfMemory> {
        self.keep_page(gpa.0, wanted)
    }

    fn admit(&mut self, gpa: Gpa, admitted: Admitted, logged: &PageSet) {
        self.admit_to_page(gpa.0, admitted, logged);
    }

    fn revoke_code(&mut self, gpa: Gpa) {
        self.take_execution(gpa.0);
    }

    fn take_apart(&mut self) -> bool {
        self.take_apart()
    }
}
