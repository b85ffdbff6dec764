//! The end that the VM comes to.

mod fill;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Poll;

use vm_types::StateRecord;

use crate::body::{
    self, Abort, Commit, Fate, Hello, HelloAck, Holding, Id, Running, Shape, Verdict, printable,
};
use crate::handover::{Deal, Role, TargetAction, TargetInput, TargetOwner};
use crate::inbox::{Inbox, Item};
use crate::limits;
use crate::link::Link;
use crate::memory::{RamDigest, Run, Runs, Scratch};
use crate::outbox::Outbox;
use crate::reason::Reason;
use crate::stats::Totals;
use crate::tuning::{Clock, Tuning};
use crate::vm::{Offer, TargetVm};
use crate::wire::{FATE_VERSION, OLDEST_VERSION, RecordType, WireError};

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

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetOutcome {
    /// The VM runs here.
    Runs,
    /// A copy of the VM is here, whole; the VM runs on at its source.
    Copied,
    /// The source only asked; the answer was yes.
    Checked,
    /// The VM does not fit, and why.
    Refused(String),
    /// The VM is here, whole and paused, and its source is lost: it can be asked ([`crate::handover`]).
    Held(Reason),
    /// There was no migration, but a question about one.
    Answered,
    /// Nothing is left here.
    Failed(Reason),
}

/// What a poll did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetEvent {
    /// It waits for the peer, the link or the VM.
    Waiting,
    /// It worked; more may be done at once.
    Working,
    /// HELLO was read: [`Target::hello`].
    Greeted,
    /// The VM is made; memory may come.
    Accepted,
    /// A round is over.
    Round {
        /// From 1.
        round: u32,
        /// Pages in it.
        pages: u64,
        /// Pages dirty at its end, as the source counts them.
        dirty: u64,
    },
    /// All is here and loaded; READY is queued.
    Ready,
    /// The VM runs here; RUNNING is queued.
    Running {
        /// From the guest's stop to COMMIT and half a round trip.
        downtime_ns: u64,
    },
    /// The peer does not migrate, but asks about a migration: [`Target::answer`] is due.
    Asked(Fate),
    /// It is over; given once. The link can be closed.
    Finished(TargetOutcome),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Stream,
    Hello,
    Policy,
    Shape,
    Create,
    Fill,
    Ready,
    Inquiry,
    Closing,
    Finished,
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
    outcome: Option<TargetOutcome>,
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
            outcome: None,
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

    /// What it is at, for a status line.
    #[must_use]
    pub fn doing(&self) -> &'static str {
        match self.phase {
            Phase::Stream | Phase::Hello => "waiting for the source",
            Phase::Policy | Phase::Shape => "checking",
            Phase::Create => "making the VM",
            Phase::Fill => "receiving",
            Phase::Ready => "ready",
            Phase::Inquiry => "answering",
            Phase::Closing | Phase::Finished => "ending",
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
        if !self.is_closing() {
            event = self.step(now, link, vm).unwrap_or_else(|reason| {
                self.end(reason, now, vm);
                TargetEvent::Working
            });
            self.outbox.flush(link, now);
        }
        // An event is told before the end is.
        if self.phase == Phase::Closing && matches!(event, TargetEvent::Waiting | TargetEvent::Working) {
            let late = self.clock.passed(self.progress, now, self.params.tuning.linger_ms);
            if self.outbox.is_done(link, late) {
                self.phase = Phase::Finished;
                if let Some(outcome) = self.outcome.take() {
                    return TargetEvent::Finished(outcome);
                }
            }
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

    /// Answers [`TargetEvent::Asked`].
    pub fn answer(&mut self, fate: &Fate) {
        self.outbox.put(RecordType::Fate, fate);
    }

    /// Ends the migration and destroys what came. `false` once READY is queued or all is over: nothing happens then, for
    /// the source may have given the VM up.
    pub fn cancel(&mut self, why: &str, now: u64, vm: &mut impl TargetVm) -> bool {
        if self.is_closing() || self.owner == TargetOwner::Ready {
            return false;
        }
        self.end(Reason::Cancelled(why.into()), now, vm);
        true
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Finished)
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
            if self.is_closing() {
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
                }
            }
        }
        self.timers(now)?;
        Ok(event)
    }

    fn record(
        &mut self,
        kind: RecordType,
        seal: u64,
        now: u64,
        vm: &mut impl TargetVm,
    ) -> Result<Option<TargetEvent>, Reason> {
        let body = self.inbox.body();
        match (kind, self.phase) {
            (RecordType::Ping, _) => {}
            (RecordType::Abort, _) => {
                let Abort { reason } = body::decode(kind, body)?;
                return Err(Reason::Peer(printable(&reason, limits::MAX_TEXT)));
            }
            (RecordType::Hello, Phase::Hello) => {
                let hello: Hello = body::decode(kind, body)?;
                body::check_name(kind, "VM name", &hello.vm_name)?;
                let ack = HelloAck { migration: hello.migration, boot: self.params.boot };
                self.outbox.put(RecordType::HelloAck, &ack);
                self.hello = Some(hello);
                self.phase = Phase::Policy;
                return Ok(Some(TargetEvent::Greeted));
            }
            (RecordType::Fate, Phase::Hello | Phase::Inquiry) => {
                let fate = body::decode(kind, body)?;
                self.phase = Phase::Inquiry;
                return Ok(Some(TargetEvent::Asked(fate)));
            }
            (RecordType::Policy, Phase::Policy) => {
                self.policy = body.to_vec();
                self.phase = Phase::Shape;
            }
            (RecordType::Companion, Phase::Shape) if self.companion.is_empty() => {
                self.companion = body.to_vec();
            }
            (RecordType::History, Phase::Fill) => vm.take_history(body),
            (RecordType::Shape, Phase::Shape) => {
                let shape: Shape = body::decode(kind, body)?;
                shape.validate()?;
                self.shape = Some(shape);
                self.check(now, vm);
            }
            (RecordType::Memory, Phase::Fill) if self.states.is_empty() => {
                self.applying = Some(Applying { runs: Runs::default(), run: None, seal });
            }
            (RecordType::RoundEnd, Phase::Fill) if self.states.is_empty() => {
                return self.round_end().map(Some);
            }
            (RecordType::State, Phase::Fill) if self.round > 0 => self.state(seal)?,
            (RecordType::StateEnd, Phase::Fill) if self.round > 0 => {
                let sent: Holding = body::decode(kind, body)?;
                if sent.ram.is_some() {
                    self.ram_digest = Some(RamDigest::new());
                    return Ok(None);
                }
                return self.verified(now, vm).map(Some);
            }
            // A COMMIT that no READY has called for commits nothing.
            (RecordType::Commit, Phase::Ready) if self.outbox.is_empty() => {
                let commit: Commit = body::decode(kind, body)?;
                if self.migration() != Some(commit.migration) {
                    return Err(Reason::OtherMigration(kind));
                }
                let downtime_ns = commit.paused_ns.saturating_add(commit.transit_ns);
                if downtime_ns > limits::MAX_DOWNTIME_NS || commit.exported_ns > commit.paused_ns {
                    let why =
                        format!("downtime of {downtime_ns} ns, {} since the export", commit.exported_ns);
                    return Err(WireError::body(kind, why).into());
                }
                let here_ns = self.clock.ns(now.saturating_sub(self.inbox.came()));
                let elapsed_ns = commit.exported_ns.saturating_add(commit.transit_ns).saturating_add(here_ns);
                return Ok(self.commit(elapsed_ns, downtime_ns, now, vm));
            }
            (kind, phase) => return Err(WireError::Unexpected { kind, state: unexpected_in(phase) }.into()),
        }
        Ok(None)
    }

    fn migration(&self) -> Option<Id> {
        self.hello.as_ref().map(|hello| hello.migration)
    }

    /// The verdict, or the part of it that needs no memory.
    fn check(&mut self, now: u64, vm: &mut impl TargetVm) {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return };
        if hello.is_copy() && !vm.stores() {
            return self.refuse(
                "this host runs VMs and keeps no copies: a copy goes to a peer that stores",
                now,
                vm,
            );
        }
        let verdict = vm.check(&Offer { hello, policy: &self.policy, companion: &self.companion, shape });
        match verdict {
            Err(why) => self.refuse(&why, now, vm),
            Ok(()) if hello.check_only => {
                self.accept(vm);
                self.owner = self.owner.step(TargetInput::Stop).0;
                self.close(TargetOutcome::Checked, now);
            }
            Ok(()) => self.phase = Phase::Create,
        }
    }

    /// Makes the VM; whether it is made.
    fn create(&mut self, now: u64, vm: &mut impl TargetVm) -> Result<bool, Reason> {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return Ok(false) };
        self.made = true;
        match vm.create(&Offer { hello, policy: &self.policy, companion: &self.companion, shape }) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(why)) => {
                self.made = false;
                self.refuse(&why, now, vm);
                Ok(false)
            }
            Poll::Ready(Ok(())) => {
                self.accept(vm);
                self.policy = Vec::new();
                self.companion = Vec::new();
                self.phase = Phase::Fill;
                self.progress = now;
                self.inbox.touch(now);
                Ok(true)
            }
        }
    }

    fn accept(&mut self, vm: &mut impl TargetVm) {
        let (Some(hello), Some(shape)) = (&self.hello, &self.shape) else { return };
        let offer = Offer { hello, policy: &self.policy, companion: &self.companion, shape };
        let warning = vm.warning(&offer).map(|text| printable(&text, limits::MAX_TEXT));
        self.outbox.put(RecordType::Verdict, &Verdict { refused: None, warning, purpose: hello.purpose });
    }

    fn refuse(&mut self, why: &str, now: u64, vm: &mut impl TargetVm) {
        let why = printable(why, limits::MAX_TEXT);
        self.outbox
            .put(RecordType::Verdict, &Verdict { refused: Some(why.clone()), warning: None, purpose: None });
        self.act(TargetInput::Stop, Reason::Refused(why.clone()), now, vm);
        self.close(TargetOutcome::Refused(why), now);
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
        let quiet = self.clock.passed(self.outbox.spoke(), now, tuning.keepalive_ms);
        if quiet && self.outbox.is_empty() && self.phase != Phase::Stream && !self.is_closing() {
            self.outbox.put_raw(RecordType::Ping, &[]);
        }
        Ok(())
    }

    fn commit(
        &mut self,
        elapsed_ns: u64,
        downtime_ns: u64,
        now: u64,
        vm: &mut impl TargetVm,
    ) -> Option<TargetEvent> {
        let (owner, action) = self.owner.step(TargetInput::Commit);
        self.owner = owner;
        if action != TargetAction::Run {
            return None;
        }
        vm.run(elapsed_ns);
        if let Some(migration) = self.migration() {
            self.outbox.put(RecordType::Running, &Running { migration });
        }
        self.close(TargetOutcome::Runs, now);
        Some(TargetEvent::Running { downtime_ns })
    }

    /// The migration cannot go on.
    fn end(&mut self, reason: Reason, now: u64, vm: &mut impl TargetVm) {
        if self.phase == Phase::Inquiry {
            return self.close(TargetOutcome::Answered, now);
        }
        let input = match reason {
            Reason::Peer(_) => TargetInput::Aborted,
            _ if self.deal().is_none() => TargetInput::Cut,
            Reason::LinkLost | Reason::Wire(_) | Reason::Differs { .. } | Reason::OtherMigration(_) => {
                TargetInput::Lost
            }
            _ => TargetInput::Stop,
        };
        self.act(input, reason, now, vm);
    }

    /// Carries out what [`TargetOwner`] decides; running the VM is [`Target::commit`]'s.
    fn act(&mut self, input: TargetInput, reason: Reason, now: u64, vm: &mut impl TargetVm) {
        let (owner, action) = self.owner.step(input);
        self.owner = owner;
        match action {
            TargetAction::Nothing | TargetAction::Run => {}
            TargetAction::SendReady => {
                if let Some(migration) = self.migration() {
                    self.outbox.put(RecordType::Ready, &self.totals.holding(migration));
                }
                self.phase = Phase::Ready;
            }
            TargetAction::Hold => self.close(TargetOutcome::Held(reason), now),
            TargetAction::Destroy => {
                if core::mem::take(&mut self.made) {
                    vm.destroy();
                }
                let deaf = matches!(
                    reason,
                    Reason::LinkLost
                        | Reason::Peer(_)
                        | Reason::Refused(_)
                        | Reason::Wire(WireError::NotOurs(_))
                );
                if !deaf && self.phase != Phase::Stream {
                    let reason = printable(&format!("{reason}"), limits::MAX_TEXT);
                    self.outbox.put(RecordType::Abort, &Abort { reason });
                }
                self.close(TargetOutcome::Failed(reason), now);
            }
        }
    }

    fn close(&mut self, outcome: TargetOutcome, now: u64) {
        self.outcome = Some(outcome);
        self.applying = None;
        self.ram_digest = None;
        self.states = Vec::new();
        self.policy = Vec::new();
        self.companion = Vec::new();
        self.progress = now;
        self.phase = Phase::Closing;
    }
}

fn unexpected_in(phase: Phase) -> &'static str {
    match phase {
        Phase::Stream | Phase::Hello => "where HELLO was due",
        Phase::Policy => "where POLICY was due",
        Phase::Shape => "where SHAPE was due",
        Phase::Create => "before the verdict",
        Phase::Fill => "out of order in memory and state",
        Phase::Ready => "where COMMIT was due",
        Phase::Inquiry => "where FATE was due",
        Phase::Closing | Phase::Finished => "after the end",
    }
}
