//! What a VM's translation is to the VM as a whole: where its memory lies, which of its pages are noticed, and changes of
//! all tables. Only the implementations know a table format.

use vm_types::{Backlog, Gpa, Hpa, PageSet};

use crate::view::View;
use crate::words::{Admitted, Change, Eptp, Kept, OutOfMemory, Permission, Step};

/// The translation of one VM.
///
/// What takes a permission from one page, [`Backing::keep`] and [`Backing::revoke_code`], is followed by a flush of every
/// CPU that ran the VM: one with a cached translation writes, or executes, without being noticed. [`crate::CodePages`]
/// sees to that, and [`crate::poll`] where all pages change.
pub trait Backing: Send {
    /// Its side of one vCPU.
    type View<'a>: View
    where
        Self: 'a;
    /// Whether it has to know of the guest's control registers and INVLPG. Where not, nobody need ask it.
    const FOLLOWS_PAGING: bool;

    /// The side of the vCPU with that number within the VM.
    fn view(&mut self, vcpu: u32) -> Self::View<'_>;
    /// What CPUs keep of it across VM entries and exits; `None` where that is nothing.
    fn cached(&self) -> Option<Eptp>;
    /// Maps `len` bytes, all three multiples of 4 KiB, readable, writable and executable, where nothing is mapped.
    ///
    /// # Errors
    /// [`OutOfMemory`]; a part may be mapped then.
    fn map(&mut self, gpa: Gpa, hpa: Hpa, len: u64) -> Result<(), OutOfMemory>;
    /// Maps a page that is a device's, readable and writable, where nothing is mapped and no memory is near: 2 MiB round it
    /// have none. No change of all tables looks at it, and no write to it is noticed.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is mapped then.
    fn map_device(&mut self, gpa: Gpa, hpa: Hpa) -> Result<(), OutOfMemory>;
    /// Takes it away again, and says whether it was there. A CPU that has it cached may use it until it is flushed.
    fn unmap_device(&mut self, gpa: Gpa) -> bool;
    /// Where a guest address lies.
    fn translate(&self, gpa: Gpa) -> Option<Hpa>;
    /// Resolves the first write to a page that write protection keeps, and that the audit has not decoded; false for
    /// whatever else it is, which is [`View::fault`]'s.
    fn first_write(&self, gpa: u64, logged: &PageSet) -> bool;
    /// The change that is under way.
    fn under_way(&self) -> Option<Change>;
    /// Begins a change, unless one is under way that must end first.
    fn begin(&mut self, change: Change);
    /// Does a bounded part of the change that is under way. `logged`: pages noticed as written, by whatever means;
    /// `backlog`: where a harvest puts them.
    fn step(&mut self, logged: &PageSet, backlog: &Backlog) -> Step;
    /// Every CPU has done what it was asked for since the step that answered [`Step::Ask`].
    fn answered(&mut self);
    /// Takes from a page the permissions to be executed and to be written, unless it may be accessed as `wanted` says, or
    /// is no memory: `None` then.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed then.
    fn keep(&mut self, gpa: Gpa, wanted: Permission) -> Result<Option<Kept>, OutOfMemory>;
    /// Gives a page that is kept permissions back; a write noticed goes into `logged`.
    fn admit(&mut self, gpa: Gpa, admitted: Admitted, logged: &PageSet);
    /// Has the next fetch from a page noticed again that may be both written and executed.
    fn revoke_code(&mut self, gpa: Gpa);
    /// Gives back a bounded part of the tables. Nothing is mapped any more then, and no CPU uses the pointer. True while
    /// some are left; what is not taken apart by then goes at once when this is dropped.
    fn take_apart(&mut self) -> bool;
}
