//! The end that the VM leaves.

mod event;
mod fate;
mod files;
mod note;
mod phase;
mod progress;
mod records;
mod rounds;
mod state;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::{self, Vec};

use vm_types::StateRecord;

use crate::body::{self, Hello, Id, Shape};
use crate::convergence::Convergence;
use crate::ending::Ending;
use crate::handover::{Deal, Role, SourceInput, SourceOwner, Word};
use crate::inbox::Inbox;
use crate::limits;
use crate::link::Link;
use crate::memory::{Choice, Encoder, RamDigest};
use crate::origin::Origin;
use crate::outbox::Outbox;
use crate::ownership;
use crate::reason::Reason;
use crate::stats::{RoundStats, Summary, Totals};
use crate::tuning::{Clock, Tuning};
use crate::vm::SourceVm;
use crate::wire::{FATE_VERSION, OLDEST_VERSION, RecordType};
use crate::writers::Writers;
use phase::Phase;

pub use event::{Slowed, SourceEvent, SourceOutcome};
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
    /// What the VM was made from, where that is known. It is not sent where it is longer than
    /// [`limits::MAX_ORIGIN_BODY`], nor for a check.
    pub origin: Option<Origin>,
    /// Times and sizes.
    pub tuning: Tuning,
    /// Ticks a second of the clock that `now` is read from.
    pub hz: u64,
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
    notes: Vec<Note>,
    /// ORIGIN was sent.
    told_origin: bool,
    /// Files that the target wants and has not been sent all of.
    files: VecDeque<u32>,
    /// How much of the first of them has been sent.
    file_at: u64,
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
    writers: Writers,
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
    /// STATE_END is queued.
    told_all: bool,
    ready_at: u64,
    summary: Summary,
    ending: Ending<SourceOutcome>,
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
            notes: Vec::new(),
            told_origin: false,
            files: VecDeque::new(),
            file_at: 0,
            ram_digest: None,
            next: 0,
            round: RoundStats::default(),
            round_began: now,
            round_queued: 0,
            round_goal: 0,
            convergence: Convergence::default(),
            writers: Writers::default(),
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
            told_all: false,
            ready_at: now,
            summary: Summary::default(),
            ending: Ending::NotYet,
        }
    }

    /// Who owns the VM now.
    #[must_use]
    pub fn owner(&self) -> SourceOwner {
        self.owner
    }

    /// How far it is, for who judges an operator's command.
    #[must_use]
    pub fn stage(&self) -> ownership::Phase {
        match self.owner {
            SourceOwner::Freed | SourceOwner::Kept => ownership::Phase::None,
            SourceOwner::Given => ownership::Phase::Commit,
            SourceOwner::Unknown => ownership::Phase::InDoubt,
            SourceOwner::Owns if self.pausing => ownership::Phase::Still,
            SourceOwner::Owns => match self.phase {
                Phase::Open | Phase::AwaitAck | Phase::AwaitVerdict => ownership::Phase::Setup,
                _ => ownership::Phase::Memory,
            },
        }
    }

    /// What it is at, for a status line.
    #[must_use]
    pub fn doing(&self) -> &'static str {
        match self.phase {
            _ if self.ending.has_come() => "ending",
            Phase::Open | Phase::AwaitAck | Phase::AwaitVerdict => "checking",
            Phase::Files => "sending kernel and modules",
            Phase::Track | Phase::Copy | Phase::Harvest if self.paused_at.is_none() => "sending memory",
            Phase::Track | Phase::Copy | Phase::Harvest | Phase::Pausing | Phase::LastHarvest => {
                "sending last pages"
            }
            Phase::Digest => "digesting memory",
            Phase::Export | Phase::SendState | Phase::AwaitReady => "sending state",
            Phase::Commit | Phase::AwaitRunning => "handing over",
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

    /// What this host must be able to say later of this migration; none where nobody can ask: the target asks once it has
    /// had all of the state.
    #[must_use]
    pub fn last_word(&self) -> Option<(Deal, Word)> {
        let deal = self.deal().filter(|_| self.told_all)?;
        Some((deal, self.owner.word()))
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
        if !self.ending.has_come() {
            let over = vm.ended().filter(|_| self.owner == SourceOwner::Owns).map(Reason::Over);
            let done = over.map_or_else(|| self.step(now, link, vm), Err);
            event = done.unwrap_or_else(|reason| {
                self.end(reason, now, vm);
                SourceEvent::Working
            });
            self.outbox.flush(link, now);
        }
        // An event is told before the end is.
        if matches!(event, SourceEvent::Waiting | SourceEvent::Working)
            && let linger_ms = self.params.tuning.linger_ms
            && let Some(outcome) = self.ending.tell(now, &self.outbox, link, self.clock, linger_ms)
        {
            return SourceEvent::Finished(outcome);
        }
        event
    }

    /// Ends the migration; the VM runs on here. `false` once COMMIT is queued or all is over: nothing happens then.
    pub fn cancel(&mut self, why: &str, now: u64, vm: &mut impl SourceVm) -> bool {
        if self.ending.has_come() || self.owner != SourceOwner::Owns {
            return false;
        }
        self.end(Reason::Cancelled(why.into()), now, vm);
        true
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
        if self.ending.has_come() {
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
            let working =
                [Phase::Files, Phase::Track, Phase::Copy, Phase::Harvest, Phase::LastHarvest, Phase::Digest];
            if working.contains(&self.phase) {
                event = SourceEvent::Working;
            }
            if self.phase == before {
                return Ok(event);
            }
        }
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
        if self.phase != Phase::Open {
            self.outbox.keep_alive(now, self.clock, tuning.keepalive_ms);
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
            Phase::Files => self.send_files(now, link, vm)?,
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
            Phase::Export => self.export(now, vm)?,
            Phase::SendState => self.send_state(now, link)?,
            Phase::Commit => {
                self.act(SourceInput::Ready, Reason::LinkLost, now, vm);
                return Ok(Some(SourceEvent::Given));
            }
            Phase::AwaitAck | Phase::AwaitVerdict | Phase::AwaitReady | Phase::AwaitRunning => {}
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
}
