//! Changes of all of a VM's tables, in bounded steps: between two of them the guest's exits have the tables.

use core::sync::atomic::AtomicU64;
use vm_types::{Backlog, PageSet};

use crate::mmu::{DirtyMethod, OutOfMemory};
use crate::table::{Ept, Frames};

/// Most table entries, or words of a set of pages, that one step touches.
pub const STEP: u32 = 4096;
/// Most entries that one region costs: its own, and those of a table that is made, or looked at and put back.
const REGION: u32 = 1 + 1024;
/// Pages that a step gives back.
const FREED: usize = 64;

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
    /// The VM's CPUs are to be asked for this; once all have answered, [`crate::Mmu::answered`].
    Ask(Asked),
    /// They have been asked, and not all have answered.
    Wait(Asked),
    /// The change is over. Its figure: large pages split or put back, or pages harvested.
    Done(Change, Result<u64, OutOfMemory>),
    /// Nothing is under way.
    Idle,
}

/// Where a change is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Forgets pages noticed, from this one on.
    Forget(u64),
    /// Forgets backlog.
    ForgetBacklog(u64),
    /// Brings regions from this one on into shape.
    Walk(u64),
    /// Begins a harvest: CPUs are asked for their logs.
    Drain,
    /// Harvests pages noticed, from this one on.
    Logged(u64),
    /// Harvests dirty flags, from this region on.
    Flags(u64),
    /// Waits for what CPUs were asked for.
    Wait(Asked),
    /// Gives tables back.
    Free,
}

/// Where changes of tables end.
const FLUSH: Stage = Stage::Wait(Asked::Flush);

/// A change under way.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) change: Change,
    stage: Stage,
    count: u64,
    /// It failed and is being undone.
    failed: bool,
}

impl<'m, F: Frames<'m>> Ept<'m, F> {
    pub(crate) fn begin_change(&mut self, change: Change) {
        let free = match self.work.as_ref().map(|work| work.change) {
            None => true,
            // The end of tracking ends what is tracking's; its own walk goes over everything again.
            Some(Change::Track(_) | Change::Harvest) => change == Change::Untrack,
            Some(_) => false,
        };
        if !free {
            return;
        }
        let stage = match change {
            Change::Track(method) => {
                // The guest's faults on regions that are armed already ask for it.
                self.tracking = Some(method);
                Stage::Forget(0)
            }
            Change::Untrack => {
                self.tracking = None;
                Stage::Forget(0)
            }
            Change::Audit | Change::EndAudit => {
                self.auditing = change == Change::Audit;
                Stage::Walk(0)
            }
            Change::Harvest => Stage::Drain,
        };
        self.work = Some(Work { change, stage, count: 0, failed: false });
        if matches!(change, Change::Track(_)) && self.frames.available() < self.large_pages {
            self.undo();
        }
    }

    /// Without memory for all tables of small pages, everything becomes as it was.
    fn undo(&mut self) {
        self.tracking = None;
        if let Some(work) = &mut self.work {
            (work.stage, work.failed) = (Stage::Walk(0), true);
        }
    }

    pub(crate) fn was_answered(&mut self) {
        let Some(Work { stage, .. }) = &mut self.work else { return };
        *stage = match *stage {
            Stage::Wait(Asked::Logs) => Stage::Logged(0),
            Stage::Wait(Asked::Flush) => Stage::Free,
            other => other,
        };
    }

    pub(crate) fn step_change(&mut self, logged: &PageSet, backlog: &Backlog) -> Step {
        let Some(Work { change, stage, mut count, failed }) = self.work.take() else { return Step::Idle };
        let next = match stage {
            // Before the tables are armed: a page that the guest writes after that is noticed once, and forgetting it
            // would lose every later write to it.
            Stage::Forget(from) => {
                let next = logged.drain_some(from, STEP, |_, words| {
                    words.take(|_, _| ());
                    0
                });
                next.map_or(Stage::ForgetBacklog(0), Stage::Forget)
            }
            Stage::ForgetBacklog(from) => {
                let next = backlog.clear_some(from, STEP / 2);
                next.map_or(Stage::Walk(0), Stage::ForgetBacklog)
            }
            Stage::Walk(from) => {
                let shaped = self.walk(from, |ept, _, entry| ept.shape(change, failed, entry));
                match shaped {
                    Ok((next, shaped)) => {
                        count += shaped;
                        next.map_or(FLUSH, Stage::Walk)
                    }
                    Err(OutOfMemory) => {
                        self.work = Some(Work { change, stage, count: 0, failed });
                        self.undo();
                        return Step::Working;
                    }
                }
            }
            Stage::Logged(from) => {
                let Some(method) = self.tracking else { return Step::Done(change, Ok(0)) };
                let next = self.harvest_logged(method, from, logged, backlog, &mut count);
                // What the host wrote has no flag; what a CPU with PML logged all the same has one and counts once.
                let flags = method == DirtyMethod::AccessDirty;
                let over = if flags { Stage::Flags(0) } else { FLUSH };
                next.map_or(over, Stage::Logged)
            }
            Stage::Flags(from) => {
                let harvested =
                    self.walk(from, |ept, region, entry| Ok(ept.harvest_region(region, entry, backlog)));
                let (next, pages) = harvested.unwrap_or((None, 0));
                count += pages;
                next.map_or(FLUSH, Stage::Flags)
            }
            Stage::Drain => Stage::Wait(Asked::Logs),
            Stage::Wait(asked) => {
                self.work = Some(Work { change, stage, count, failed });
                return Step::Wait(asked);
            }
            Stage::Free => {
                let keep = self.retired.len().saturating_sub(FREED);
                self.retired.drain(keep..).for_each(|page| self.frames.free(page));
                if keep == 0 {
                    return Step::Done(change, if failed { Err(OutOfMemory) } else { Ok(count) });
                }
                Stage::Free
            }
        };
        self.work = Some(Work { change, stage: next, count, failed });
        if let Stage::Wait(asked) = next { Step::Ask(asked) } else { Step::Working }
    }

    /// Brings one region into the shape that a change asks for. Returns the large pages that came or went, and the
    /// number of entries touched.
    fn shape(
        &mut self,
        change: Change,
        failed: bool,
        entry: &'m AtomicU64,
    ) -> Result<(u64, u32), OutOfMemory> {
        match change {
            Change::Track(method) if !failed => {
                let before = self.large_pages;
                let cost = self.arm_region(entry, method)?;
                Ok((before - self.large_pages, cost))
            }
            Change::Audit => Ok((0, self.audit_region(entry))),
            Change::Track(_) | Change::Untrack | Change::EndAudit | Change::Harvest => {
                let (merged, cost) = self.put_back_region(entry);
                Ok((merged.into(), cost))
            }
        }
    }

    /// Goes over regions from `from` on until a step's work is done. `f` says what it found and how many entries it
    /// touched. Returns where to go on, and the sum of what was found.
    fn walk(
        &mut self,
        from: u64,
        mut f: impl FnMut(&mut Self, u64, &'m AtomicU64) -> Result<(u64, u32), OutOfMemory>,
    ) -> Result<(Option<u64>, u64), OutOfMemory> {
        let (mut region, mut budget, mut found) = (from, STEP, 0);
        while region < self.regions {
            if budget < REGION {
                return Ok((Some(region), found));
            }
            let Some(entry) = self.region(region) else {
                region = (region / 512 + 1) * 512; // a GiB without memory
                budget -= 1;
                continue;
            };
            let (some, cost) = f(self, region, entry)?;
            found += some;
            budget -= 1 + cost;
            region += 1;
        }
        Ok((None, found))
    }
}
