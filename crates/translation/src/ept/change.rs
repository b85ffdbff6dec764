//! Changes of all of a VM's tables, in bounded steps: between two of them the guest's exits have the tables.

use core::sync::atomic::{AtomicU64, Ordering};
use vm_types::{Backlog, PageSet};

use super::entry::DEVICE;
use super::table::Ept;
use super::work::{Stage, Work};
use crate::frames::Frames;
use crate::words::{Asked, Change, DirtyMethod, OutOfMemory, STEP, Step};

/// Most entries that one region costs: its own, and those of a table that is made, or looked at and put back.
const REGION: u32 = 1 + 1024;
/// Pages that a step gives back.
const FREED: usize = 64;

/// Where changes of tables end.
const FLUSH: Stage = Stage::Wait(Asked::Flush);

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
        if entry.load(Ordering::Relaxed) & DEVICE != 0 {
            return Ok((0, 1));
        }
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
