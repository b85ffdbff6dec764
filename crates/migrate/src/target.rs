//! The end that the VM comes to.

mod event;
mod fate;
mod files;
mod fill;
mod offer;
mod phase;
mod records;

use alloc::vec::Vec;

use vm_types::StateRecord;

use crate::body::{Fate, Hello, Id, Shape};
use crate::ending::Ending;
use crate::handover::{Deal, Role, TargetInput, TargetOwner, Word};
use crate::inbox::{Inbox, Item};
use crate::limits;
use crate::link::Link;
use crate::memory::{RamDigest, Run, Runs, Scratch};
use crate::origin::Origin;
use crate::outbox::Outbox;
use crate::ownership;
use crate::reason::Reason;
use crate::stats::Totals;
use crate::tuning::{Clock, Tuning};
use crate::vm::TargetVm;
use crate::wire::{FATE_VERSION, OLDEST_VERSION, RecordType};
use files::Files;
use phase::Phase;

pub use event::{TargetEvent, TargetOutcome};

/// What a target needs to know before it starts.
#[derive(Clone, Debug)]
pub struct TargetParams {
    /// Drawn by this host when it started.
    pub boot: Id,
    /// Times and sizes.
    pub tuning: Tuning,
    /// Ticks a second of the clock that `now` is read from.
    pub hz: u64,
}

/// A memory record that is being put in place, over several polls.
#[derive(Clone, Copy)]
struct Applying {
    runs: Runs,
    run: Option<Run>,
    seal: u64,
}

/// The end that the VM comes to: made for each connection accepted, polled until [`TargetEvent::Finished`].
#[derive(Clone)]
pub struct Target {
    params: TargetParams,
    clock: Clock,
    phase: Phase,
    /// When the last record other than a sign of life was read.
    progress: u64,
    owner: TargetOwner,
    inbox: Inbox,
    outbox: Outbox,
    /// That both ends speak.
    version: u16,
    hello: Option<Hello>,
    policy: Vec<u8>,
    companion: Vec<u8>,
    shape: Option<Shape>,
    /// What the VM was made from.
    origin: Option<Origin>,
    /// Of it, what was asked for.
    files: Files,
    /// Whether `create` was called and `destroy` is due.
    made: bool,
    applying: Option<Applying>,
    scratch: Scratch,
    /// Under way while STATE_END stands in the inbox.
    ram_digest: Option<RamDigest>,
    round: u32,
    round_pages: u64,
    /// Page frame behind the last one of this round.
    next: u64,
    totals: Totals,
    states: Vec<StateRecord>,
    state_bytes: usize,
    /// READY is queued.
    told_ready: bool,
    ending: Ending<TargetOutcome>,
}

impl Target {
    /// A target that waits for the first byte. `now` in ticks.
    #[must_use]
    pub fn new(params: TargetParams, now: u64) -> Self {
        Self {
            clock: Clock::new(params.hz),
            params,
            phase: Phase::Stream,
            progress: now,
            owner: TargetOwner::Filling,
            inbox: Inbox::new(now),
            outbox: Outbox::new(now),
            version: OLDEST_VERSION,
            hello: None,
            policy: Vec::new(),
            companion: Vec::new(),
            shape: None,
            origin: None,
            files: Files::new(Vec::new()),
            made: false,
            applying: None,
            scratch: Scratch::default(),
            ram_digest: None,
            round: 0,
            round_pages: 0,
            next: 0,
            totals: Totals::default(),
            states: Vec::new(),
            state_bytes: 0,
            told_ready: false,
            ending: Ending::NotYet,
        }
    }

    /// Who owns the VM now.
    #[must_use]
    pub fn owner(&self) -> TargetOwner {
        self.owner
    }

    /// Who is at the other end, and which VM it is about.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// The machine that was offered, once its numbers are checked.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }

    /// How far it is, for who judges an operator's command.
    #[must_use]
    pub fn stage(&self) -> ownership::Phase {
        match self.owner {
            TargetOwner::Filling => ownership::Phase::Arriving,
            TargetOwner::Ready => ownership::Phase::Ready,
            TargetOwner::Held => ownership::Phase::Held,
            TargetOwner::Runs | TargetOwner::Gone | TargetOwner::Copied => ownership::Phase::None,
        }
    }

    /// What it is at, for a status line.
    #[must_use]
    pub fn doing(&self) -> &'static str {
        match self.phase {
            _ if self.ending.has_come() => "ending",
            Phase::Stream | Phase::Hello => "waiting for the source",
            Phase::Policy | Phase::Shape => "checking",
            Phase::Create => "making the VM",
            Phase::Fill => "receiving",
            Phase::Ready => "ready",
            Phase::Inquiry => "answering",
        }
    }

    /// The pages and records held so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Does a bounded amount of work. `now` in ticks, never going back.
    pub fn poll(&mut self, now: u64, link: &mut impl Link, vm: &mut impl TargetVm) -> TargetEvent {
        self.outbox.flush(link, now);
        let mut event = TargetEvent::Waiting;
        if !self.ending.has_come() {
            event = self.step(now, link, vm).unwrap_or_else(|reason| {
                self.end(reason, now, vm);
                TargetEvent::Working
            });
            self.outbox.flush(link, now);
        }
        // An event is told before the end is.
        if matches!(event, TargetEvent::Waiting | TargetEvent::Working)
            && let linger_ms = self.params.tuning.linger_ms
            && let Some(outcome) = self.ending.tell(now, &self.outbox, link, self.clock, linger_ms)
        {
            return TargetEvent::Finished(outcome);
        }
        event
    }

    /// What is needed to ask the source later; `None` where it speaks version 1.
    #[must_use]
    pub fn deal(&self) -> Option<Deal> {
        let hello = self.hello.as_ref().filter(|_| self.version >= FATE_VERSION)?;
        Some(Deal {
            role: Role::Target,
            migration: hello.migration,
            vm_uuid: hello.vm_uuid,
            here: self.params.boot,
            there: hello.boot,
            secret: hello.secret?,
        })
    }

    /// What this host must be able to say later of this migration; none where nobody can ask: the source asks once it has
    /// had READY. A refused offer is soon forgotten.
    #[must_use]
    pub fn last_word(&self) -> Option<(Deal, Word)> {
        let deal = self.deal().filter(|_| self.told_ready)?;
        Some((deal, self.owner.word()))
    }

    /// Answers [`TargetEvent::Asked`].
    pub fn answer(&mut self, fate: &Fate) {
        self.outbox.put(RecordType::Fate, fate);
    }

    /// Ends the migration and destroys what came. `false` once READY is queued or all is over: nothing happens then, for
    /// the source may have given the VM up.
    pub fn cancel(&mut self, why: &str, now: u64, vm: &mut impl TargetVm) -> bool {
        if self.ending.has_come() || self.owner == TargetOwner::Ready {
            return false;
        }
        self.end(Reason::Cancelled(why.into()), now, vm);
        true
    }

    fn step(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl TargetVm,
    ) -> Result<TargetEvent, Reason> {
        let mut budget = u64::from(self.params.tuning.pages_per_poll.max(1));
        let mut event = TargetEvent::Waiting;
        for _ in 0..limits::RECORDS_PER_POLL {
            if self.applying.is_some() {
                event = TargetEvent::Working;
                let done = self.apply(&mut budget, vm)?;
                self.inbox.touch(now);
                self.progress = now;
                if !done {
                    break;
                }
            }
            if self.ram_digest.is_some() {
                self.inbox.touch(now);
                self.progress = now;
                if !self.digest(budget, vm)? {
                    event = TargetEvent::Working;
                    break;
                }
                return self.verified(now, vm);
            }
            if self.phase == Phase::Create {
                if !link.is_open() {
                    return Err(Reason::LinkLost);
                }
                if self.create(now, vm)? {
                    return Ok(TargetEvent::Accepted);
                }
                break;
            }
            if self.ending.has_come() {
                return Ok(TargetEvent::Working);
            }
            match self.inbox.next(link, now)? {
                None if link.is_open() => break,
                None => return Err(Reason::LinkLost),
                Some(Item::Skipped) => {}
                Some(Item::Stream(header)) => {
                    self.outbox.put_stream_header();
                    self.phase = Phase::Hello;
                    self.version = header.agree()?;
                }
                Some(Item::Record(kind, seal)) => {
                    event = TargetEvent::Working;
                    let told = self.record(kind, seal, now, vm)?;
                    if kind != RecordType::Ping {
                        self.progress = now;
                    }
                    if self.applying.is_none() && self.ram_digest.is_none() {
                        self.inbox.release();
                    }
                    if let Some(told) = told {
                        return Ok(told);
                    }
                    if kind == RecordType::File {
                        break; // its digest is a poll's share of work
                    }
                }
            }
        }
        self.timers(now)?;
        Ok(event)
    }

    fn migration(&self) -> Option<Id> {
        self.hello.as_ref().map(|hello| hello.migration)
    }

    fn timers(&mut self, now: u64) -> Result<(), Reason> {
        let tuning = &self.params.tuning;
        // While this end is busy it does not listen, and silence means nothing.
        let listens = self.phase != Phase::Create && self.applying.is_none() && self.ram_digest.is_none();
        if listens && self.clock.passed(self.inbox.heard(), now, tuning.dead_man_ms) {
            return Err(Reason::Silent(tuning.dead_man_ms));
        }
        if self.clock.passed(self.progress, now, tuning.stall_ms) {
            let what = if self.phase == Phase::Create { "memory for the VM" } else { "progress of the peer" };
            return Err(Reason::NoReply { what, ms: tuning.stall_ms });
        }
        if self.phase != Phase::Stream && !self.ending.has_come() {
            self.outbox.keep_alive(now, self.clock, tuning.keepalive_ms);
        }
        Ok(())
    }
}
