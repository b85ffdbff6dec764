//! The end that the VM leaves.

mod note;
mod progress;
mod rounds;

use alloc::format;
use alloc::string::String;
use alloc::vec::{self, Vec};

use vm_types::StateRecord;

use crate::body::{self, Abort, Commit, Hello, HelloAck, Holding, Id, Running, Shape, Verdict, printable};
use crate::convergence::{Convergence, Stall};
use crate::handover::{Deal, Role, SourceAction, SourceInput, SourceOwner};
use crate::inbox::{Inbox, Item};
use crate::limits;
use crate::link::Link;
use crate::memory::{Choice, Encoder, RamDigest};
use crate::outbox::Outbox;
use crate::reason::Reason;
use crate::stats::{RoundStats, Summary, Totals};
use crate::tuning::{Clock, Tuning};
use crate::vm::SourceVm;
use crate::wire::{FATE_VERSION, OLDEST_VERSION, RecordType, WireError};

pub use note::Note;
pub use progress::{Progress, Status};

/// What a source needs to know before it starts.
#[derive(Clone, Debug)]
pub struct SourceParams {
    /// Who, and which VM.
    pub hello: Hello,
    /// The CPU policy: bytes of the `cpu-policy` crate.
    pub policy: Vec<u8>,
    /// What the VM takes along for the operator: bytes of the `cpu-policy` crate. Empty is not sent, nor is what is
    /// longer than [`limits::MAX_COMPANION_BODY`]: no migration fails for it.
    pub companion: Vec<u8>,
    /// The machine that the guest sees.
    pub shape: Shape,
    /// Times and sizes.
    pub tuning: Tuning,
    /// Ticks a second of the clock that `now` is read from.
    pub hz: u64,
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceOutcome {
    /// The target runs the VM; it is freed here.
    Done(Summary),
    /// The target holds a copy; the VM runs on here.
    Copied(Summary),
    /// The target would take the VM.
    Checked,
    /// The VM runs here.
    Failed(Reason),
    /// The VM is paused here, and given away; the target can be asked what became of it: [`crate::handover`].
    Asking(Reason),
    /// The VM is paused here; the target may run it.
    Unknown(Reason),
}

/// A guest that is slowed down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slowed {
    /// Why.
    pub stall: Stall,
    /// Share of its CPU that it is left, in percent.
    pub share: u8,
}

/// What a poll did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceEvent {
    /// It waits for the peer, the link or the VM.
    Waiting,
    /// It worked; more may be done at once.
    Working,
    /// A round is over.
    Round(RoundStats),
    /// The guest does not converge and gets less of its CPU from here on.
    Slowed(Slowed),
    /// COMMIT is queued: the VM is given away.
    Given,
    /// It is over; given once. The link can be closed.
    Finished(SourceOutcome),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    AwaitAck,
    AwaitVerdict,
    Track,
    Copy,
    Harvest,
    Pausing,
    LastHarvest,
    Digest,
    Export,
    SendState,
    AwaitReady,
    Commit,
    AwaitRunning,
    Closing,
    Finished,
}

impl Phase {
    /// What is waited for without work of our own.
    fn awaits(self) -> Option<&'static str> {
        match self {
            Self::AwaitAck => Some("HELLO_ACK from the peer"),
            Self::AwaitVerdict => Some("VERDICT from the peer"),
            Self::AwaitReady => Some("READY from the peer"),
            Self::Harvest | Self::LastHarvest => Some("harvest of dirty pages"),
            Self::Pausing => Some("pause of the guest"),
            _ => None,
        }
    }
}

/// The end that the VM leaves: made when the connection stands, polled until [`SourceEvent::Finished`].
#[derive(Clone)]
pub struct Source {
    params: SourceParams,
    clock: Clock,
    phase: Phase,
    /// When the phase began.
    since: u64,
    owner: SourceOwner,
    inbox: Inbox,
    outbox: Outbox,
    /// That both ends speak.
    version: u16,
    encoder: Encoder,
    /// Where the way of packing is to be measured.
    choice: Option<Choice>,
    /// To be told.
    note: Option<Note>,
    /// Under way with the guest paused, where it was asked for.
    ram_digest: Option<RamDigest>,
    /// Where the walk of this round goes on.
    next: u64,
    round: RoundStats,
    round_began: u64,
    round_queued: u64,
    /// Pages that this round is to bring.
    round_goal: u64,
    convergence: Convergence,
    /// Told after the round that it follows from.
    slowed: Option<Slowed>,
    /// What the target said with its verdict.
    warning: Option<String>,
    totals: Totals,
    states: vec::IntoIter<StateRecord>,
    state_bytes: usize,
    tracking: bool,
    pausing: bool,
    began: u64,
    hello_rtt: u64,
    /// When the target agreed.
    accepted_at: Option<u64>,
    target_boot: Option<Id>,
    paused_at: Option<u64>,
    last_page_at: u64,
    exported_at: u64,
    ready_at: u64,
    summary: Summary,
    outcome: Option<SourceOutcome>,
}

impl Source {
    /// A source that has said nothing yet. `now` in ticks.
    #[must_use]
    pub fn new(params: SourceParams, now: u64) -> Self {
        Self {
            clock: Clock::new(params.hz),
            params,
            phase: Phase::Open,
            since: now,
            owner: SourceOwner::Owns,
            inbox: Inbox::new(now),
            outbox: Outbox::new(now),
            version: OLDEST_VERSION,
            encoder: Encoder::new(),
            choice: None,
            note: None,
            ram_digest: None,
            next: 0,
            round: RoundStats::default(),
            round_began: now,
            round_queued: 0,
            round_goal: 0,
            convergence: Convergence::default(),
            slowed: None,
            warning: None,
            totals: Totals::default(),
            states: Vec::new().into_iter(),
            state_bytes: 0,
            tracking: false,
            pausing: false,
            began: now,
            hello_rtt: 0,
            accepted_at: None,
            target_boot: None,
            paused_at: None,
            last_page_at: now,
            exported_at: now,
            ready_at: now,
            summary: Summary::default(),
            outcome: None,
        }
    }

    /// Who owns the VM now.
    #[must_use]
    pub fn owner(&self) -> SourceOwner {
        self.owner
    }

    /// What it is at, for a status line.
    #[must_use]
    pub fn doing(&self) -> &'static str {
        match self.phase {
            Phase::Open | Phase::AwaitAck | Phase::AwaitVerdict => "checking",
            Phase::Track | Phase::Copy | Phase::Harvest if self.paused_at.is_none() => "sending memory",
            Phase::Track | Phase::Copy | Phase::Harvest | Phase::Pausing | Phase::LastHarvest => {
                "sending last pages"
            }
            Phase::Digest => "digesting memory",
            Phase::Export | Phase::SendState | Phase::AwaitReady => "sending state",
            Phase::Commit | Phase::AwaitRunning => "handing over",
            Phase::Closing | Phase::Finished => "ending",
        }
    }

    /// What the target wants the operator to know; given once, after the verdict.
    pub fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// The pages and records sent so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The round that is on its way, so far.
    #[must_use]
    pub fn round(&self) -> &RoundStats {
        &self.round
    }

    /// The target's boot id, once it has said it.
    #[must_use]
    pub fn target_boot(&self) -> Option<Id> {
        self.target_boot
    }

    /// What is needed to ask the target later; `None` where it speaks version 1, or has not answered yet.
    #[must_use]
    pub fn deal(&self) -> Option<Deal> {
        let hello = &self.params.hello;
        let secret = hello.secret.filter(|_| self.version >= FATE_VERSION)?;
        Some(Deal {
            role: Role::Source,
            migration: hello.migration,
            vm_uuid: hello.vm_uuid,
            here: hello.boot,
            there: self.target_boot?,
            secret,
        })
    }

    /// When the state was exported, in ticks.
    #[must_use]
    pub fn exported_at(&self) -> u64 {
        self.exported_at
    }

    /// Does a bounded amount of work. `now` in ticks, never going back.
    pub fn poll(&mut self, now: u64, link: &mut impl Link, vm: &mut impl SourceVm) -> SourceEvent {
        self.outbox.flush(link, now);
        let mut event = SourceEvent::Waiting;
        if !self.is_closing() {
            event = self.step(now, link, vm).unwrap_or_else(|reason| {
                self.end(reason, now, vm);
                SourceEvent::Working
            });
            self.outbox.flush(link, now);
        }
        // An event is told before the end is.
        if self.phase == Phase::Closing && matches!(event, SourceEvent::Waiting | SourceEvent::Working) {
            let late = self.clock.passed(self.since, now, self.params.tuning.linger_ms);
            if self.outbox.is_done(link, late) {
                self.phase = Phase::Finished;
                if let Some(outcome) = self.outcome.take() {
                    return SourceEvent::Finished(outcome);
                }
            }
        }
        event
    }

    /// Ends the migration; the VM runs on here. `false` once COMMIT is queued or all is over: nothing happens then.
    pub fn cancel(&mut self, why: &str, now: u64, vm: &mut impl SourceVm) -> bool {
        if self.is_closing() || self.owner != SourceOwner::Owns {
            return false;
        }
        self.end(Reason::Cancelled(why.into()), now, vm);
        true
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Finished)
    }

    fn enter(&mut self, phase: Phase, now: u64) {
        self.phase = phase;
        self.since = now;
    }

    fn step(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl SourceVm,
    ) -> Result<SourceEvent, Reason> {
        let heard_all = self.listen(now, link, vm)?;
        if self.is_closing() {
            return Ok(SourceEvent::Working);
        }
        if heard_all && !link.is_open() {
            return Err(Reason::LinkLost);
        }
        self.timers(now)?;
        if !heard_all {
            return Ok(SourceEvent::Working);
        }
        let mut event = SourceEvent::Waiting;
        loop {
            let before = self.phase;
            if let Some(told) = self.work(now, link, vm)? {
                return Ok(told);
            }
            if matches!(self.phase, Phase::Copy | Phase::Digest) {
                event = SourceEvent::Working;
            }
            if self.phase == before {
                return Ok(event);
            }
        }
    }

    /// Reads what the peer sent; whether that was all there is.
    fn listen(&mut self, now: u64, link: &mut impl Link, vm: &mut impl SourceVm) -> Result<bool, Reason> {
        for _ in 0..limits::RECORDS_PER_POLL {
            match self.inbox.next(link, now)? {
                None => return Ok(true),
                Some(Item::Skipped) => {}
                Some(Item::Stream(header)) => self.version = header.agree()?,
                Some(Item::Record(kind, _)) => {
                    self.record(kind, now, vm)?;
                    self.inbox.release();
                    if self.is_closing() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn record(&mut self, kind: RecordType, now: u64, vm: &mut impl SourceVm) -> Result<(), Reason> {
        let body = self.inbox.body();
        match (kind, self.phase) {
            (RecordType::Ping, _) => {}
            (RecordType::Abort, _) => {
                let Abort { reason } = body::decode(kind, body)?;
                return Err(Reason::Peer(printable(&reason, limits::MAX_TEXT)));
            }
            (RecordType::HelloAck, Phase::AwaitAck) => {
                let ack: HelloAck = body::decode(kind, body)?;
                self.same_migration(kind, ack.migration)?;
                self.suits()?;
                self.target_boot = Some(ack.boot);
                self.hello_rtt = now.saturating_sub(self.since);
                self.outbox.put_raw(RecordType::Policy, &self.params.policy);
                if (1..=limits::MAX_COMPANION_BODY).contains(&self.params.companion.len()) {
                    self.outbox.put_raw(RecordType::Companion, &self.params.companion);
                }
                self.outbox.put(RecordType::Shape, &self.params.shape);
                self.enter(Phase::AwaitVerdict, now);
            }
            (RecordType::Verdict, Phase::AwaitVerdict) => {
                let verdict: Verdict = body::decode(kind, body)?;
                if let Some(text) = verdict.refused {
                    return Err(Reason::Refused(printable(&text, limits::MAX_TEXT)));
                }
                if self.params.hello.is_copy() && verdict.purpose != self.params.hello.purpose {
                    return Err(Reason::TakesNoCopy);
                }
                self.warning = verdict.warning.map(|text| printable(&text, limits::MAX_TEXT));
                if self.params.hello.check_only {
                    self.close(SourceOutcome::Checked, now);
                } else {
                    self.accepted_at = Some(now);
                    self.enter(Phase::Track, now);
                }
            }
            (RecordType::Ready, Phase::AwaitReady) => {
                let held: Holding = body::decode(kind, body)?;
                self.same_migration(kind, held.migration)?;
                differs(&self.totals.holding(self.params.hello.migration), &held)?;
                self.ready_at = now;
                if self.params.hello.is_copy() {
                    // At once: the target has said all it will, and may be gone.
                    self.act(SourceInput::Copied, Reason::LinkLost, now, vm);
                } else {
                    self.enter(Phase::Commit, now);
                }
            }
            (RecordType::Running, Phase::AwaitRunning) => {
                let running: Running = body::decode(kind, body)?;
                self.same_migration(kind, running.migration)?;
                self.act(SourceInput::Running, Reason::LinkLost, now, vm);
            }
            (kind, phase) => return Err(WireError::Unexpected { kind, state: unexpected_in(phase) }.into()),
        }
        Ok(())
    }

    fn same_migration(&self, kind: RecordType, id: Id) -> Result<(), Reason> {
        if id == self.params.hello.migration { Ok(()) } else { Err(Reason::OtherMigration(kind)) }
    }

    fn timers(&mut self, now: u64) -> Result<(), Reason> {
        let tuning = &self.params.tuning;
        if self.owner == SourceOwner::Owns {
            if self.clock.passed(self.inbox.heard(), now, tuning.dead_man_ms) {
                return Err(Reason::Silent(tuning.dead_man_ms));
            }
            let late = self.clock.passed(self.since, now, tuning.reply_ms);
            if let Some(what) = self.phase.awaits().filter(|_| late) {
                return Err(Reason::NoReply { what, ms: tuning.reply_ms });
            }
        }
        // Also while RUNNING is awaited: an unanswered ping lets TCP find out that the peer is gone.
        let quiet = self.clock.passed(self.outbox.spoke(), now, tuning.keepalive_ms);
        if quiet && self.outbox.is_empty() && self.phase != Phase::Open {
            self.outbox.put_raw(RecordType::Ping, &[]);
        }
        Ok(())
    }

    fn work(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl SourceVm,
    ) -> Result<Option<SourceEvent>, Reason> {
        match self.phase {
            Phase::Open => self.open(now)?,
            Phase::Track => self.track(now, vm)?,
            Phase::Copy => {
                if let Some(slowed) = self.slowed.take() {
                    return Ok(Some(SourceEvent::Slowed(slowed)));
                }
                return self.copy(now, link, vm);
            }
            Phase::Harvest => return self.harvest(now, vm),
            Phase::Pausing => self.pause(now, vm),
            Phase::LastHarvest => self.last_harvest(now, vm),
            Phase::Digest => self.digest(now, vm)?,
            Phase::Export => {
                self.send_history(vm);
                self.exported_at = now;
                self.states = vm.export_state().map_err(Reason::Vm)?.into_iter();
                if self.states.len() > limits::MAX_STATE_RECORDS {
                    return Err(Reason::Vm(format!("{} state records", self.states.len())));
                }
                self.enter(Phase::SendState, now);
            }
            Phase::SendState => self.send_state(now, link)?,
            Phase::Commit => {
                self.act(SourceInput::Ready, Reason::LinkLost, now, vm);
                return Ok(Some(SourceEvent::Given));
            }
            Phase::AwaitAck
            | Phase::AwaitVerdict
            | Phase::AwaitReady
            | Phase::AwaitRunning
            | Phase::Closing
            | Phase::Finished => {}
        }
        Ok(None)
    }

    fn open(&mut self, now: u64) -> Result<(), Reason> {
        let Hello { vm_name, .. } = &self.params.hello;
        body::check_name(RecordType::Hello, "VM name", vm_name)?;
        self.params.shape.validate()?;
        if self.params.policy.len() > limits::MAX_POLICY_BODY {
            return Err(Reason::Vm(format!("CPU policy of {} bytes", self.params.policy.len())));
        }
        self.outbox.put_stream_header();
        self.outbox.put(RecordType::Hello, &self.params.hello);
        self.enter(Phase::AwaitAck, now);
        Ok(())
    }

    /// No migration fails for it.
    fn send_history(&mut self, vm: &mut impl SourceVm) {
        let piece = vm.history();
        if (1..=limits::MAX_HISTORY_BODY).contains(&piece.len()) {
            self.outbox.put_raw(RecordType::History, &piece);
        }
    }

    fn send_state(&mut self, now: u64, link: &mut impl Link) -> Result<(), Reason> {
        loop {
            self.outbox.flush(link, now);
            if !self.outbox.is_empty() {
                return Ok(());
            }
            let Some(record) = self.states.next() else { break };
            let kind = record.kind.clone();
            let encoded = body::encode(&body::State::from(record));
            self.state_bytes = self.state_bytes.saturating_add(encoded.len());
            if encoded.len() > limits::MAX_STATE_BODY || self.state_bytes > limits::MAX_STATE_BYTES {
                return Err(Reason::Vm(format!("state record {kind} of {} bytes", encoded.len())));
            }
            let seal = self.outbox.put_raw(RecordType::State, &encoded);
            self.totals.mix(seal);
            self.totals.state_records += 1;
        }
        self.outbox.put(RecordType::StateEnd, &self.totals.holding(self.params.hello.migration));
        self.enter(Phase::AwaitReady, now);
        Ok(())
    }

    /// The migration cannot go on.
    fn end(&mut self, reason: Reason, now: u64, vm: &mut impl SourceVm) {
        let input = match reason {
            Reason::Peer(_) | Reason::Refused(_) => SourceInput::Aborted,
            Reason::LinkLost | Reason::Wire(_) | Reason::Differs { .. } | Reason::OtherMigration(_) => {
                if self.deal().is_some() { SourceInput::Lost } else { SourceInput::Cut }
            }
            _ => SourceInput::Stop,
        };
        self.act(input, reason, now, vm);
    }

    /// The one place that touches the VM's fate: [`SourceOwner`] decides, this carries out.
    fn act(&mut self, input: SourceInput, reason: Reason, now: u64, vm: &mut impl SourceVm) {
        let (owner, action) = self.owner.step(input);
        self.owner = owner;
        match action {
            SourceAction::Nothing => {}
            SourceAction::Commit => {
                vm.give_up();
                let paused = now.saturating_sub(self.paused_at.unwrap_or(now));
                self.outbox.put(
                    RecordType::Commit,
                    &Commit {
                        migration: self.params.hello.migration,
                        paused_ns: self.clock.ns(paused),
                        exported_ns: self.clock.ns(now.saturating_sub(self.exported_at)),
                        transit_ns: self.clock.ns(self.hello_rtt / 2),
                    },
                );
                self.enter(Phase::AwaitRunning, now);
            }
            SourceAction::Free => {
                vm.free();
                self.close(SourceOutcome::Done(self.summed(now)), now);
            }
            SourceAction::Keep => {
                self.run_on(vm);
                self.close(SourceOutcome::Copied(self.summed(now)), now);
            }
            SourceAction::Resume => {
                self.run_on(vm);
                self.tell(&reason);
                self.close(SourceOutcome::Failed(reason), now);
            }
            SourceAction::Ask => {
                vm.stop_tracking();
                vm.mark_unknown();
                self.close(SourceOutcome::Asking(reason), now);
            }
            SourceAction::MarkUnknown => {
                vm.stop_tracking();
                vm.mark_unknown();
                self.close(SourceOutcome::Unknown(reason), now);
            }
        }
    }

    /// Everything that was done to the VM is undone: it runs here as before.
    fn run_on(&mut self, vm: &mut impl SourceVm) {
        if self.tracking {
            vm.give_back();
            vm.stop_tracking();
        }
        if self.convergence.share() != 100 {
            vm.throttle(100);
        }
        if self.pausing {
            vm.resume();
        }
    }

    fn summed(&self, now: u64) -> Summary {
        let paused_at = self.paused_at.unwrap_or(self.last_page_at);
        Summary {
            ram: self.ram(),
            hz: self.params.hz,
            ticks: now.saturating_sub(self.began),
            bytes: self.outbox.queued(),
            pages_ticks: self.last_page_at.saturating_sub(paused_at),
            state_ticks: self.ready_at.saturating_sub(self.last_page_at),
            resume_ticks: now.saturating_sub(self.ready_at),
            chosen: self.chosen().map(|chosen| chosen.way),
            ..self.summary
        }
    }

    /// Tells the peer why, unless it said so itself or cannot hear or understand it.
    fn tell(&mut self, reason: &Reason) {
        let deaf = matches!(
            reason,
            Reason::LinkLost | Reason::Peer(_) | Reason::Refused(_) | Reason::Wire(WireError::NotOurs(_))
        );
        if !deaf && self.phase != Phase::Open {
            let reason = printable(&format!("{reason}"), limits::MAX_TEXT);
            self.outbox.put(RecordType::Abort, &Abort { reason });
        }
    }

    fn close(&mut self, outcome: SourceOutcome, now: u64) {
        self.outcome = Some(outcome);
        self.states = Vec::new().into_iter();
        self.encoder.unprepare();
        self.enter(Phase::Closing, now);
    }
}

/// Compares what was sent with what is held.
pub(crate) fn differs(sent: &Holding, held: &Holding) -> Result<(), Reason> {
    let pairs = [
        ("pages", sent.pages, held.pages),
        ("zero pages", sent.zero, held.zero),
        ("fill pages", sent.fill, held.fill),
        ("memory records", sent.memory_records, held.memory_records),
        ("state records", sent.state_records, held.state_records),
        ("digests", sent.digest, held.digest),
    ];
    let ram = sent.ram != held.ram;
    match pairs.into_iter().find(|(_, sent, held)| sent != held) {
        Some((what, sent, held)) => Err(Reason::Differs { what, sent, held }),
        None if ram => Err(Reason::Differs {
            what: "digests of RAM",
            sent: sent.ram.unwrap_or_default(),
            held: held.ram.unwrap_or_default(),
        }),
        None => Ok(()),
    }
}

fn unexpected_in(phase: Phase) -> &'static str {
    match phase {
        Phase::Open | Phase::AwaitAck => "where HELLO_ACK was due",
        Phase::AwaitVerdict => "where VERDICT was due",
        Phase::AwaitReady => "where READY was due",
        Phase::AwaitRunning => "where RUNNING was due",
        _ => "while this host sends",
    }
}

/// What the console prints behind `migrate NAME: `.
impl core::fmt::Display for SourceOutcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Done(summary) => write!(f, "{summary}"),
            Self::Copied(summary) => write!(f, "{summary}; a copy, the VM runs on here"),
            Self::Checked => f.write_str("fits"),
            Self::Failed(reason) => write!(f, "failed: {reason} (running here)"),
            Self::Asking(reason) | Self::Unknown(reason) => write!(f, "unknown: paused here ({reason})"),
        }
    }
}
