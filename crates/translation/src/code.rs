//! Pages that are executed or written, not both, by vCPUs on several CPUs: what the audit of a VM wants.
//!
//! A page that is written becomes executable, or the other way round, by way of neither: its permissions are taken, each CPU
//! that ran the VM drops what it has cached of them, and only then, at the next fault on it, is it decoded and executed, or
//! written. Else a CPU with the old translation would write behind the decoder's back, or execute what was written since.
//! Nobody waits for a flush within an exit: the vCPU gives its CPU back and faults again.
//!
//! *Progress.* vCPUs that want a page in turn take it from each other, and each has it for an instant only. So a vCPU counts
//! how often the page it wants changed hands while it was at one [`Point`]; one that cannot get ahead gets both permissions.

use alloc::vec::Vec;
use vm_types::{Gpa, PageSet};

use crate::backing::Backing;
use crate::words::{Admitted, Kept, OutOfMemory, Permission};

/// Faults that are kept in mind of one instruction, which may lie across two pages, and so may what it writes: one more
/// opens a page.
const FAULTS: usize = 8;

/// A VM, as far as the audit of its pages needs it.
pub trait Audited {
    /// Its translation.
    type Tables: Backing;
    /// A flush that was asked for.
    type Flush;

    /// Does something with the tables, under their lock.
    fn with<R>(&self, f: impl FnOnce(&mut Self::Tables) -> R) -> R;
    /// Pages noticed as written.
    fn logged(&self) -> &PageSet;
    /// Asks every CPU that ran the VM to drop what it has cached of the tables.
    fn flush(&self) -> Self::Flush;
    /// Whether each of them has.
    fn is_over(&self, flush: &Self::Flush) -> bool;
}

/// Where a vCPU is. It has not got ahead where it faults twice at the same: a loop that changes no register is taken for that
/// as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Point {
    /// Linear address of the instruction.
    pub rip: u64,
    /// A sum of its general-purpose registers, in which each change of one shows.
    pub regs: u64,
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The vCPU can go on.
    GoesOn,
    /// It can, and a page is both executable and writable that was not before.
    Opened,
    /// It is to fault again, once CPUs have had time to flush.
    Waits,
}

/// That a vCPU wanted a page, which was on its way for that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Met {
    page: u64,
    wanted: Permission,
    turn: u32,
}

/// A page on its way: kept, and to be given to whoever faults on it first when the flush is over. It is of no use once
/// anybody has had a permission since.
#[derive(Debug)]
struct OnItsWay<F> {
    page: u64,
    /// Number of this time.
    turn: u32,
    flush: F,
}

/// What is known of one vCPU.
#[derive(Debug)]
struct Seat<F> {
    at: Point,
    /// What it has met there, at most [`FAULTS`].
    met: Vec<Met>,
    /// The page that it asked for last. Where it asks for another one meanwhile, this stays kept, and who faults on it asks
    /// again.
    asked: Option<OnItsWay<F>>,
}

impl<F> Seat<F> {
    /// Notes what the vCPU meets; true where it would not get ahead: it needs the page for both, or others take it away
    /// again and again.
    fn is_stuck(&mut self, at: Point, new: Met) -> bool {
        if self.at != at {
            self.at = at;
            self.met.clear();
        }
        let fetched = |met: &Met| met.page == new.page && met.wanted == Permission::Execute;
        if new.wanted == Permission::Write && self.met.iter().any(fetched) {
            return true;
        }
        // While it waits, it faults again and again.
        if self.met.contains(&new) {
            return false;
        }
        let full = self.met.len() == FAULTS;
        if !full {
            self.met.push(new);
        }
        full
    }
}

/// The pages of one VM, from the start of an audit to its end.
#[derive(Debug)]
pub struct CodePages<F> {
    seats: Vec<Seat<F>>,
    /// How often pages were on their way.
    turns: u32,
    /// Pages that are both executable and writable.
    open: PageSet,
}

impl<F> CodePages<F> {
    /// Those of a VM with so many vCPUs, and pages.
    #[must_use]
    pub fn new(vcpus: usize, pages: u64) -> Self {
        let seat = |_| Seat { at: Point::default(), met: Vec::new(), asked: None };
        Self { seats: (0..vcpus).map(seat).collect(), turns: 0, open: PageSet::new(pages) }
    }

    /// How many are both executable and writable.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.count()
    }

    /// A vCPU at `at` has met [`crate::Fault::FirstFetch`] or [`crate::Fault::CodeWrite`] on a page. `decode` looks at the
    /// page before anybody may execute it, and is told whether it was executed before in this audit: nobody writes to it
    /// then, but where it is opened.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed then.
    pub fn fault<V: Audited<Flush = F>>(
        &mut self,
        vm: &V,
        vcpu: usize,
        at: Point,
        gpa: Gpa,
        wanted: Permission,
        decode: impl FnOnce(bool),
    ) -> Result<Answer, OutOfMemory> {
        // Others may have been here meanwhile.
        let Some(kept) = vm.with(|tables| tables.keep(gpa, wanted))? else { return Ok(Answer::GoesOn) };
        let page = gpa.gfn();
        let asker = self.asker(vm, vcpu, page, kept);
        let Some(asked) = &self.seats[asker].asked else { return Ok(Answer::Waits) };
        let (turn, over) = (asked.turn, vm.is_over(&asked.flush));
        let stuck = self.seats[vcpu].is_stuck(at, Met { page, wanted, turn });
        if !stuck && !over {
            return Ok(Answer::Waits);
        }
        let admitted = match wanted {
            _ if stuck => Admitted::Both,
            Permission::Execute => Admitted::Code,
            Permission::Write => Admitted::Data,
        };
        if wanted == Permission::Execute {
            decode(kept.executed);
        }
        vm.with(|tables| tables.admit(gpa, admitted, vm.logged()));
        if !stuck || self.open.contains(page) {
            return Ok(Answer::GoesOn);
        }
        self.open.insert(page);
        Ok(Answer::Opened)
    }

    /// The vCPU that asked CPUs to flush after the page was kept: that one, where none has.
    fn asker<V: Audited<Flush = F>>(&mut self, vm: &V, vcpu: usize, page: u64, kept: Kept) -> usize {
        let of_page = |seat: &Seat<F>| seat.asked.as_ref().is_some_and(|asked| asked.page == page);
        match self.seats.iter().position(of_page) {
            Some(asker) if kept.already => return asker,
            // Somebody has had a permission since: it was for what had been taken then.
            Some(asker) => self.seats[asker].asked = None,
            None => {}
        }
        self.turns = self.turns.wrapping_add(1);
        self.seats[vcpu].asked = Some(OnItsWay { page, turn: self.turns, flush: vm.flush() });
        vcpu
    }

    /// Has the pages that are both executable and writable decoded again at their next fetch. How many they are; every CPU
    /// that ran the VM has to be flushed then, and nobody need wait for it.
    pub fn close<V: Audited<Flush = F>>(&mut self, vm: &V) -> usize {
        let mut count = 0;
        vm.with(|tables| {
            self.open.drain(|first, bits| {
                for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                    tables.revoke_code(Gpa((first + bit) << 12));
                    count += 1;
                }
            });
        });
        count
    }
}
