//! The order in which tables change, CPUs drop what they cached of them, and pages are read. The hypervisor goes through
//! [`poll`], so the order that is tested is the order that runs.

use core::task::Poll;
use vm_types::{Backlog, PageSet};

use crate::backing::Backing;
use crate::words::{Asked, Change, OutOfMemory, Step};

/// A VM, as far as the order needs it.
pub trait Tracked {
    /// Its translation.
    type Tables: Backing;

    /// Does something with the tables, under their lock: the guest's exits take it as well.
    fn with<R>(&self, f: impl FnOnce(&mut Self::Tables) -> R) -> R;
    /// Pages noticed as written.
    fn logged(&self) -> &PageSet;
    /// Pages harvested and not yet sent.
    fn backlog(&self) -> &Backlog;
    /// Asks CPUs to do something, which each of them acknowledges. Not under the tables' lock: a CPU that waits for that
    /// would never answer.
    fn ask(&self, asked: Asked);
    /// Whether each of them has acknowledged it since it was asked last.
    fn has_answered(&self, asked: Asked) -> bool;
}

/// Does a bounded part of a change; of another one first, where that is under way and must end before. `Ready` with the
/// figure of [`Step::Done`]: after a harvest, pages may be read then. A CPU that does not answer keeps it `Pending`, and
/// nobody waits.
///
/// Change the tables, then flush, and only then read pages or give tables back. A CPU that still has the translation of
/// a re-armed page cached writes to it unnoticed; such a write happens before the flush is acknowledged, so a page that
/// is read afterwards has it. And a CPU that has a retired table cached may walk it until then.
pub fn poll<T: Tracked>(vm: &T, change: Change) -> Poll<Result<u64, OutOfMemory>> {
    loop {
        let step = vm.with(|tables| {
            tables.begin(change);
            tables.step(vm.logged(), vm.backlog())
        });
        match step {
            Step::Working | Step::Idle => return Poll::Pending,
            Step::Ask(asked) | Step::Wait(asked) => {
                if matches!(step, Step::Ask(_)) {
                    vm.ask(asked);
                }
                if !vm.has_answered(asked) {
                    return Poll::Pending;
                }
                vm.with(|tables| tables.answered());
            }
            Step::Done(done, result) if done == change => return Poll::Ready(result),
            Step::Done(..) => return Poll::Pending,
        }
    }
}

/// The whole of a change, where the caller may wait. The lock is free between two steps.
///
/// # Errors
/// [`OutOfMemory`]; the tables are as before then.
pub fn finish<T: Tracked>(vm: &T, change: Change) -> Result<u64, OutOfMemory> {
    loop {
        if let Poll::Ready(result) = poll(vm, change) {
            return result;
        }
    }
}
