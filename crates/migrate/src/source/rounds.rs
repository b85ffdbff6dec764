//! Memory: rounds while the guest runs, and the last one while it stands.

use core::task::Poll;

use vm_types::{Compression, Gpa, MemoryError};

use super::{Phase, Slowed, Source, SourceEvent};
use crate::body::RoundEnd;
use crate::convergence::Decision;
use crate::link::Link;
use crate::memory::{Choice, RamDigest};
use crate::page::{PAGE_BYTES, PageKind};
use crate::reason::Reason;
use crate::stats::RoundStats;
use crate::vm::SourceVm;
use crate::wire::{PACKED_VERSION, RecordType};

impl Source {
    pub(super) fn track(&mut self, now: u64, vm: &mut impl SourceVm) -> Result<(), Reason> {
        if !self.tracking {
            let wanted = self.params.tuning.compression;
            let compression = if self.version < PACKED_VERSION { Compression::None } else { wanted };
            self.encoder.prepare(&self.params.shape, self.params.hello.migration, compression);
            self.choice = (compression == Compression::Auto).then(Choice::new);
            self.tracking = true;
        }
        let Poll::Ready(started) = vm.start_tracking() else { return Ok(()) };
        if let Err(why) = started {
            self.tracking = false;
            return Err(Reason::Vm(why));
        }
        self.begin_round(self.params.shape.pages(), now);
        Ok(())
    }

    /// `goal`: pages that it is to bring.
    fn begin_round(&mut self, goal: u64, now: u64) {
        self.round = RoundStats { round: self.round.round.saturating_add(1), ..RoundStats::default() };
        self.round_goal = goal;
        self.round_began = now;
        self.round_queued = self.outbox.queued();
        self.next = 0;
        self.encoder.begin_round(self.round.round);
        if let Some(choice) = &mut self.choice {
            choice.begin_round(self.round.round, self.paused_at.is_some());
        }
        self.enter(Phase::Copy, now);
    }

    /// Sends pages until the poll's share is done, the link is full or the round is over.
    pub(super) fn copy(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl SourceVm,
    ) -> Result<Option<SourceEvent>, Reason> {
        self.choose(now);
        for _ in 0..self.params.tuning.pages_per_poll.max(1) {
            if self.encoder.is_full() && !self.send_memory(now, link) {
                return Ok(None);
            }
            let Some(gfn) = self.next_page(vm)? else {
                if !self.encoder.is_empty() && !self.send_memory(now, link) {
                    return Ok(None);
                }
                if self.paused_at.is_none() {
                    self.enter(Phase::Harvest, now);
                    return Ok(None);
                }
                self.last_page_at = now;
                let stats = self.finish_round(0, now);
                self.after_rounds(now);
                return Ok(Some(SourceEvent::Round(stats)));
            };
            let Some(kind) = self.encoder.add(gfn, vm)? else {
                self.round.duplicate += 1;
                self.totals.duplicate += 1;
                continue;
            };
            let (zero, fill) = match kind {
                PageKind::Fill(0) => (1, 0),
                PageKind::Fill(_) => (0, 1),
                PageKind::Data => (0, 0),
            };
            self.round.pages += 1;
            self.round.zero += zero;
            self.round.fill += fill;
            self.totals.pages += 1;
            self.totals.zero += zero;
            self.totals.fill += fill;
        }
        Ok(None)
    }

    /// The first round takes all RAM, the others what is dirty.
    fn next_page(&mut self, vm: &mut impl SourceVm) -> Result<Option<u64>, Reason> {
        let gfn = if self.round.round == 1 {
            self.params.shape.next_frame(self.next)
        } else {
            vm.take_dirty(self.next)
        };
        if let Some(gfn) = gfn {
            if gfn < self.next || !self.params.shape.covers(gfn, 1) {
                let gpa = Gpa(gfn.saturating_mul(PAGE_BYTES as u64));
                return Err(MemoryError { gpa, len: PAGE_BYTES }.into());
            }
            self.next = gfn + 1;
        }
        Ok(gfn)
    }

    /// Queues the record that the encoder holds; `false` where the link has no room yet.
    fn send_memory(&mut self, now: u64, link: &mut impl Link) -> bool {
        self.outbox.flush(link, now);
        if !self.outbox.is_empty() {
            return false;
        }
        let outbox = &mut self.outbox;
        let seal = self.encoder.take(|buf, len| outbox.put_swap(RecordType::Memory, buf, len));
        self.totals.mix(seal);
        self.totals.memory_records += 1;
        self.outbox.flush(link, now);
        true
    }

    fn finish_round(&mut self, dirty: u64, now: u64) -> RoundStats {
        let end = RoundEnd { round: self.round.round, pages: self.round.pages, dirty };
        self.outbox.put(RecordType::RoundEnd, &end);
        self.round.dirty_next = dirty;
        self.round.bytes = self.outbox.queued().saturating_sub(self.round_queued);
        self.round.ticks = now.saturating_sub(self.round_began);
        self.round.ns = self.clock.ns(self.round.ticks);
        self.summary.rounds = self.round.round;
        self.summary.pages = self.totals.pages;
        self.summary.zero = self.totals.zero;
        self.summary.fill = self.totals.fill;
        self.round
    }

    fn after_rounds(&mut self, now: u64) {
        let verify = self.params.tuning.verify;
        self.ram_digest = verify.then(RamDigest::new);
        self.enter(if verify { Phase::Digest } else { Phase::Export }, now);
    }

    /// Digests a poll's share of the RAM of the paused guest.
    pub(super) fn digest(&mut self, now: u64, vm: &mut impl SourceVm) -> Result<(), Reason> {
        let budget = u64::from(self.params.tuning.pages_per_poll);
        if let Some(digest) = &mut self.ram_digest {
            let done = digest.step(&self.params.shape, budget, |gfn, page| vm.read_page(gfn, page))?;
            if done.is_none() {
                return Ok(());
            }
            self.totals.ram = done;
            self.ram_digest = None;
        }
        self.enter(Phase::Export, now);
        Ok(())
    }

    /// The end of a round with the guest running: go on, or stop it for the last one.
    pub(super) fn harvest(
        &mut self,
        now: u64,
        vm: &mut impl SourceVm,
    ) -> Result<Option<SourceEvent>, Reason> {
        let Poll::Ready(dirty) = vm.harvest() else { return Ok(None) };
        let stats = self.finish_round(dirty, now);
        self.writers.round(vm.dirtied());
        if stats.round == 1 {
            // What comes after that is little, and goes while the guest stands.
            self.send_history(vm);
        }
        let elapsed = now.saturating_sub(self.began);
        match self.convergence.decide(&stats, elapsed, self.clock, &self.params.tuning) {
            Decision::Go => self.begin_round(dirty, now),
            Decision::Stop(cause) => {
                self.summary.stop = cause;
                self.enter(Phase::Pausing, now);
            }
            Decision::Throttle(share) => {
                let spare = self.convergence.spare(self.clock, &self.params.tuning);
                let shares = self.writers.cut(share, spare);
                vm.throttle(&shares);
                let stall = self.convergence.stall(self.clock, &self.params.tuning);
                self.slowed = Some(Slowed { stall, shares });
                self.begin_round(dirty, now);
            }
            Decision::GiveUp => {
                let stall = self.convergence.stall(self.clock, &self.params.tuning);
                return Err(Reason::NoConvergence(stall));
            }
        }
        Ok(Some(SourceEvent::Round(stats)))
    }

    pub(super) fn pause(&mut self, now: u64, vm: &mut impl SourceVm) {
        self.pausing = true;
        if let Poll::Ready(ticks) = vm.pause() {
            self.summary.stop_ticks = ticks;
            self.paused_at = Some(now);
            self.enter(Phase::LastHarvest, now);
        }
    }

    pub(super) fn last_harvest(&mut self, now: u64, vm: &mut impl SourceVm) {
        if let Poll::Ready(dirty) = vm.harvest() {
            self.begin_round(dirty, now);
        }
    }
}
