//! Migrations whose connection was lost when it mattered: both hosts ask each other until they know, or an operator decides.
//!
//! Who owns the VM is decided by [`migrate::handover`]; here are the connections, the VMs and the words for the operator.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use core::task::Poll;
use migrate::body::Fate;
use migrate::handover::{
    Answer, Deal, Question, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner,
    Word, stranger,
};
use shell::{Code, Failure, Verdict};

use super::{boot_id, tuning};
use crate::arch::tsc;
use crate::link::{self as links, Dial, Link, Service};
use crate::vm::{State, Vm, registry};

/// The other end is asked again after so long at first, in microseconds; twice as long each time.
const ASK_AGAIN_US: u64 = 1_000_000;
/// At most this many times twice.
const DOUBLINGS: u32 = 4;
/// Ended migrations that this host can still be asked about.
const REMEMBERED: usize = 64;

/// All of them.
#[derive(Default)]
pub(super) struct Handovers {
    open: Vec<Doubt>,
    /// What became of others, the latest last.
    ended: VecDeque<(Deal, Word)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Source(SourceOwner),
    Target(TargetOwner),
}

enum Asking {
    Not,
    Dialling(Dial),
    Talking(Link, Box<Question>),
}

/// A VM that is paused here, and that the other host may run.
pub(super) struct Doubt {
    /// None with a peer of version 1, which cannot be asked.
    deal: Option<Deal>,
    owner: Owner,
    vm: Arc<Vm>,
    /// Where the other end listens, if it does.
    peer: Option<SocketAddrV4>,
    /// Host TSC when the state was exported (at the source), or when all was lost but the copy (at the target).
    since: u64,
    /// The guest's TSC in the state that came.
    guest_tsc: u64,
    asking: Asking,
    /// When it asks next, in microseconds.
    next: u64,
    tries: u32,
}

impl Doubt {
    /// The VM that left, or not. `exported`: host TSC.
    pub(super) fn left(vm: Arc<Vm>, deal: Option<Deal>, to: SocketAddrV4, exported: u64) -> Self {
        let owner = if deal.is_some() { SourceOwner::Given } else { SourceOwner::Unknown };
        Self::new(Owner::Source(owner), vm, deal, Some(to), exported, 0)
    }

    /// The VM that came, and waits for COMMIT.
    pub(super) fn held(vm: Arc<Vm>, deal: Option<Deal>, from: Option<SocketAddrV4>, guest_tsc: u64) -> Self {
        vm.set_state(State::Unknown);
        Self::new(Owner::Target(TargetOwner::Held), vm, deal, from, tsc::read(), guest_tsc)
    }

    fn new(
        owner: Owner,
        vm: Arc<Vm>,
        deal: Option<Deal>,
        peer: Option<SocketAddrV4>,
        since: u64,
        guest_tsc: u64,
    ) -> Self {
        Self { deal, owner, vm, peer, since, guest_tsc, asking: Asking::Not, next: 0, tries: 0 }
    }

    fn is_settled(&self) -> bool {
        matches!(
            self.owner,
            Owner::Source(SourceOwner::Freed | SourceOwner::Kept)
                | Owner::Target(TargetOwner::Runs | TargetOwner::Gone)
        )
    }

    fn word(&self) -> Word {
        match self.owner {
            Owner::Source(owner) => owner.word(),
            Owner::Target(owner) => owner.word(),
        }
    }

    fn say(&self) -> Option<Fate> {
        let ns = tsc::ns(tsc::read().saturating_sub(self.since));
        self.deal.as_ref().map(|deal| deal.say(self.word(), ns))
    }

    /// The words with which an operator decides.
    fn advice(&self) -> String {
        let name = &self.vm.name;
        format!("`migrate resolve {name} run-here` or `migrate resolve {name} discard` decides")
    }

    /// What the other end said.
    fn hear(&mut self, fate: &Fate) {
        let name = &self.vm.name;
        let word = match self.deal.as_ref().map(|deal| deal.hear(fate)) {
            Some(Ok(word)) => word,
            Some(Err(why)) => {
                log::warn!(target: "migrate", "migrate {name}: an answer counts for nothing: {why}");
                return;
            }
            None => return,
        };
        match self.owner {
            Owner::Source(_) => SourceInput::from_peer(word).map(|input| self.source(input)),
            Owner::Target(_) => {
                TargetInput::from_peer(word).map(|input| self.target(input, fate.exported_ns))
            }
        };
    }

    fn source(&mut self, input: SourceInput) {
        let Owner::Source(owner) = self.owner else { return };
        let (owner, action) = owner.step(input);
        self.owner = Owner::Source(owner);
        let name = &self.vm.name;
        match action {
            SourceAction::Free => {
                registry::remove(&self.vm);
                log::info!(target: "migrate", "migrate {name}: done: it is the other host's; freed here");
            }
            SourceAction::Resume => {
                self.vm.let_run();
                log::warn!(target: "migrate", "migrate {name}: failed: running here (the target has no copy)");
            }
            SourceAction::MarkUnknown => {
                log::error!(
                    target: "migrate",
                    "migrate {name}: unknown: paused here: the target has started anew and knows nothing of it; {}",
                    self.advice()
                );
            }
            SourceAction::Nothing | SourceAction::Commit | SourceAction::Ask | SourceAction::Keep => {}
        }
    }

    /// `elapsed_ns`: since the state was exported.
    fn target(&mut self, input: TargetInput, elapsed_ns: u64) {
        let Owner::Target(owner) = self.owner else { return };
        let (next, action) = owner.step(input);
        self.owner = Owner::Target(next);
        let name = &self.vm.name;
        match action {
            TargetAction::Run => {
                self.vm.clock.set_after(self.guest_tsc, elapsed_ns);
                self.vm.let_run();
                log::info!(target: "migrate", "migrate {name}: runs here");
            }
            TargetAction::Destroy => {
                self.vm.destroy();
                log::warn!(target: "migrate", "migrate {name}: its copy here is destroyed");
            }
            TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => {
                if input == TargetInput::Stranger && self.peer.take().is_some() {
                    log::error!(
                        target: "migrate",
                        "migrate {name}: unknown: paused here: the source has started anew and knows nothing of it; {}",
                        self.advice()
                    );
                }
            }
        }
    }

    /// Asks the other end, where it can be asked.
    fn poll(&mut self) {
        let asks = matches!(self.owner, Owner::Source(SourceOwner::Given) | Owner::Target(TargetOwner::Held));
        match &mut self.asking {
            Asking::Not => {
                let Some(peer) = self.peer.filter(|_| asks && self.deal.is_some()) else { return };
                let now = crate::arch::tsc::micros();
                if now < self.next {
                    return;
                }
                self.next = now + (ASK_AGAIN_US << self.tries.min(DOUBLINGS));
                self.tries += 1;
                match links::dial(Service::Migrate, peer) {
                    Ok(dial) => self.asking = Asking::Dialling(dial),
                    Err(why) => self.failed(&why),
                }
            }
            Asking::Dialling(dial) => match dial.poll() {
                Poll::Pending => {}
                Poll::Ready(Ok(link)) => match self.say() {
                    Some(fate) => {
                        let question = Question::new(&fate, tuning(), tsc::hz(), tsc::read());
                        self.asking = Asking::Talking(link, question.into());
                    }
                    None => link.close(),
                },
                Poll::Ready(Err(why)) => self.failed(&why),
            },
            Asking::Talking(link, question) => {
                let answer = link.poll(|bound| question.poll(tsc::read(), bound));
                match answer {
                    Ok(Answer::Waiting) => {}
                    Ok(Answer::Heard(fate)) => self.answered(&fate),
                    Ok(Answer::Over) => self.hang_up(),
                    Ok(Answer::Failed(why)) => {
                        let why = format!("{why}{}", link.fault_text());
                        self.failed(&why);
                    }
                    Err(error) => self.failed(&error.to_string()),
                }
            }
        }
    }

    fn answered(&mut self, fate: &Fate) {
        self.hear(fate);
        let last = if self.is_settled() { self.say() } else { None };
        let Asking::Talking(_, question) = &mut self.asking else { return };
        match last {
            // So that the source need not ask again.
            Some(fate) if matches!(self.owner, Owner::Target(_)) => question.add(&fate),
            _ => question.end(),
        }
    }

    fn hang_up(&mut self) {
        if let Asking::Talking(link, _) = core::mem::replace(&mut self.asking, Asking::Not) {
            link.close();
        }
    }

    fn failed(&mut self, why: &str) {
        self.hang_up();
        let (name, again) = (&self.vm.name, ASK_AGAIN_US << self.tries.min(DOUBLINGS));
        if self.tries <= 1 {
            log::warn!(
                target: "migrate",
                "migrate {name}: the other host does not answer: {why}; asked again every {} s; {}",
                again / 1_000_000,
                self.advice()
            );
        }
    }
}

impl Handovers {
    /// Takes up a VM in doubt.
    pub(super) fn open(&mut self, doubt: Doubt) {
        let (name, advice) = (&doubt.vm.name, doubt.advice());
        match doubt.peer.filter(|_| doubt.deal.is_some()) {
            Some(peer) => log::error!(
                target: "migrate",
                "migrate {name}: unknown: paused here; asking {peer}; {advice} without it"
            ),
            None => log::error!(target: "migrate", "migrate {name}: unknown: paused here; {advice}"),
        }
        self.open.push(doubt);
    }

    /// Remembers what became of a migration, for a peer that asks.
    pub(super) fn remember(&mut self, deal: Deal, word: Word) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((deal, word));
    }

    /// What this host says to a peer that asks, after taking in what the peer says.
    pub(super) fn answer(&mut self, asked: &Fate) -> Fate {
        if let Some(doubt) = self
            .open
            .iter_mut()
            .find(|d| d.deal.as_ref().is_some_and(|deal| deal.migration == asked.migration))
        {
            doubt.hear(asked);
            if let Some(fate) = doubt.say() {
                return fate;
            }
        }
        let ended = self.ended.iter().find(|(deal, _)| deal.migration == asked.migration);
        match ended {
            Some((deal, word)) if deal.hear(asked).is_ok() => deal.say(*word, 0),
            _ => stranger(boot_id(), asked),
        }
    }

    /// Lets questions go on.
    pub(super) fn poll(&mut self) {
        self.open.iter_mut().for_each(Doubt::poll);
        let (settled, open) = core::mem::take(&mut self.open)
            .into_iter()
            .partition(|doubt: &Doubt| doubt.is_settled() && matches!(doubt.asking, Asking::Not));
        self.open = open;
        for doubt in settled {
            let word = doubt.word();
            if let Some(deal) = doubt.deal {
                self.remember(deal, word);
            }
        }
    }

    pub(super) fn uses(&self, vm: &Vm) -> bool {
        self.open.iter().any(|doubt| core::ptr::eq(&raw const *doubt.vm, vm))
    }

    pub(super) fn busy(&self) -> bool {
        self.open.iter().any(|doubt| !matches!(doubt.asking, Asking::Not))
    }

    /// The operator decides. The answer is the receipt of a copy that was discarded.
    ///
    /// # Errors
    /// The VM is not in doubt; the receipt is wrong; neither receipt nor force.
    pub(super) fn resolve(
        &mut self,
        name: &str,
        verdict: Verdict,
        receipt: Option<&str>,
        force: bool,
    ) -> Result<Option<String>, Failure> {
        let doubt = self.open.iter_mut().find(|doubt| doubt.vm.name.is(name) && !doubt.is_settled());
        let Some(doubt) = doubt else {
            let state = registry::find(name)
                .ok_or_else(|| Failure::new(Code::NotFound, format!("no VM named {name}")))?
                .state();
            let text = format!("vm {name} is {}: there is nothing to resolve", state.name());
            return Err(Failure::new(Code::State, text));
        };
        let other = match doubt.owner {
            Owner::Source(_) => "the target",
            Owner::Target(_) => "the source",
        };
        if verdict == Verdict::Discard {
            match doubt.owner {
                Owner::Source(_) => doubt.source(SourceInput::Discard),
                Owner::Target(_) => doubt.target(TargetInput::Discard, 0),
            }
            return Ok(doubt.deal.as_ref().map(|deal| deal.receipt().to_string()));
        }
        match receipt {
            Some(text) if doubt.deal.as_ref().is_some_and(|deal| deal.takes(text)) => {}
            Some(_) => {
                let text = format!("that is no receipt of {other} for this migration of vm {name}");
                return Err(Failure::new(Code::Refused, text));
            }
            None if force => {
                log::warn!(target: "migrate", "migrate {name}: runs here by force: it must not run on {other}");
            }
            None => {
                let text = format!(
                    "vm {name} may run on {other}: give the receipt of `migrate resolve {name} discard` there, or make \
                     sure that it does not run there and never will, and say --force"
                );
                return Err(Failure::new(Code::Force, text));
            }
        }
        let held_ns = tsc::ns(tsc::read().saturating_sub(doubt.since));
        match doubt.owner {
            Owner::Source(_) => doubt.source(SourceInput::RunHere),
            Owner::Target(_) => doubt.target(TargetInput::RunHere, held_ns),
        }
        Ok(None)
    }
}
