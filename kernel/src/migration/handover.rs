//! Migrations whose connection was lost when it mattered: both hosts ask each other until they know, or an operator decides.
//!
//! Who owns the VM is decided by [`migrate::handover`]; here are the connections, the VMs and the words for the operator.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use core::task::Poll;
use migrate::body::Fate;
use migrate::handover::{Answer, Book, Claim, Deal, Doubt as Pure, NotYet, Question, Settle, Word};
use migrate::ownership::Phase;
use shell::{Code, EventKind, Failure, Verdict};

use super::{boot_id, tuning};
use crate::events;
use crate::link::{self as links, Dial, Link, Service};
use crate::pool;
use crate::vm::{Change, Vm, registry};
use hw::arch::tsc;

/// The other end is asked again after so long at first, in microseconds; twice as long each time.
const ASK_AGAIN_US: u64 = 1_000_000;
/// At most this many times twice.
const DOUBLINGS: u32 = 4;

/// All of them.
#[derive(Default)]
pub(super) struct Handovers {
    open: Vec<Doubt>,
    /// What became of others.
    ended: Book,
}

enum Asking {
    Not,
    Dialling(Dial),
    Talking(Link, Box<Question>),
}

/// A VM that is paused here, and that the other host may run.
pub(super) struct Doubt {
    pure: Pure,
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
        Self::new(Pure::left(deal), vm, Some(to), exported, 0)
    }

    /// The VM that came, and waits for COMMIT.
    pub(super) fn held(vm: Arc<Vm>, deal: Option<Deal>, from: Option<SocketAddrV4>, guest_tsc: u64) -> Self {
        let _ = vm.apply(Change::Doubt);
        Self::new(Pure::held(deal), vm, from, tsc::read(), guest_tsc)
    }

    fn new(pure: Pure, vm: Arc<Vm>, peer: Option<SocketAddrV4>, since: u64, guest_tsc: u64) -> Self {
        Self { pure, vm, peer, since, guest_tsc, asking: Asking::Not, next: 0, tries: 0 }
    }

    fn since_ns(&self) -> u64 {
        tsc::ns(tsc::read().saturating_sub(self.since))
    }

    fn say(&self) -> Option<Fate> {
        self.pure.say(self.since_ns())
    }

    /// The words with which an operator decides.
    fn advice(&self) -> String {
        let name = &self.vm.name;
        format!("`migrate resolve {name} run-here` or `migrate resolve {name} discard` decides")
    }

    /// What the other end said.
    fn hear(&mut self, fate: &Fate) {
        match self.pure.hear(fate) {
            Ok(settle) => self.settle(settle),
            Err(why) => {
                let name = &self.vm.name;
                log::warn!(target: "migrate", "migrate {name}: an answer counts for nothing: {why}");
            }
        }
    }

    fn settle(&mut self, settle: Settle) {
        let name = &self.vm.name;
        match settle {
            Settle::Nothing => {}
            Settle::Free => {
                registry::remove(&self.vm);
                log::info!(target: "migrate", "migrate {name}: done: it is the other host's; freed here");
                events::tell(EventKind::VmLeft, name.owned(), "");
            }
            Settle::Resume => {
                let _ = self.vm.apply(Change::Back);
                log::warn!(target: "migrate", "migrate {name}: failed: running here (the target has no copy)");
                events::tell(EventKind::MigrationFailed, name.owned(), "the target has no copy");
            }
            Settle::Run { elapsed_ns } => {
                self.vm.clock.set_after(self.guest_tsc, elapsed_ns);
                let _ = self.vm.apply(Change::Take);
                log::info!(target: "migrate", "migrate {name}: runs here");
                events::tell(EventKind::VmCame, name.owned(), "");
            }
            Settle::Destroy => {
                self.vm.destroy();
                log::warn!(target: "migrate", "migrate {name}: its copy here is destroyed");
                events::tell(EventKind::VmDestroyed, name.owned(), "a copy");
            }
            Settle::Alone { anew } => {
                let other = if self.pure.is_source() { "target" } else { "source" };
                let why =
                    if anew { "has started again and knows" } else { "has not started again, but remembers" };
                log::error!(
                    target: "migrate",
                    "migrate {name}: unknown: paused here: the {other} {why} nothing of it; {}",
                    self.advice()
                );
            }
        }
    }

    /// Asks the other end, where it can be asked.
    fn poll(&mut self) {
        match &mut self.asking {
            Asking::Not => {
                let Some(peer) = self.peer.filter(|_| self.pure.asks()) else { return };
                let now = hw::arch::tsc::micros();
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
                    Answer::Waiting => {}
                    Answer::Heard(fate) => self.answered(&fate),
                    Answer::Over => self.hang_up(),
                    Answer::Failed(why) => {
                        let why = format!("{why}{}", link.fault_text());
                        self.failed(&why);
                    }
                }
            }
        }
    }

    fn answered(&mut self, fate: &Fate) {
        self.hear(fate);
        let since_ns = self.since_ns();
        if let Asking::Talking(_, question) = &mut self.asking {
            self.pure.reply(question, since_ns);
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
        match doubt.peer.filter(|_| doubt.pure.asks()) {
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
        let vms = registry::all();
        self.ended.remember(deal, word, |uuid| vms.iter().any(|vm| vm.uuid == *uuid));
    }

    /// What this host says to a peer that asks, after taking in what the peer says.
    pub(super) fn answer(&mut self, asked: &Fate) -> Fate {
        if let Some(doubt) =
            self.open.iter_mut().find(|d| d.pure.deal().is_some_and(|deal| deal.migration == asked.migration))
        {
            doubt.hear(asked);
            if let Some(fate) = doubt.say() {
                return fate;
            }
        }
        self.ended.answer(asked, boot_id())
    }

    /// Lets questions go on.
    pub(super) fn poll(&mut self) {
        self.open.iter_mut().for_each(Doubt::poll);
        let (settled, open) = core::mem::take(&mut self.open)
            .into_iter()
            .partition(|doubt: &Doubt| doubt.pure.is_settled() && matches!(doubt.asking, Asking::Not));
        self.open = open;
        for doubt in settled {
            if let Some(deal) = doubt.pure.deal() {
                self.remember(deal.clone(), doubt.pure.word());
            }
        }
    }

    /// How far the doubt about this VM is, if there is one.
    pub(super) fn phase(&self, vm: &Arc<Vm>) -> Option<Phase> {
        self.open.iter().find(|doubt| Arc::ptr_eq(&doubt.vm, vm)).map(|doubt| doubt.pure.stage())
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
        let doubt = self.open.iter_mut().find(|doubt| doubt.vm.name.is(name) && !doubt.pure.is_settled());
        let Some(doubt) = doubt else {
            let state = registry::find(name)
                .ok_or_else(|| Failure::new(Code::NotFound, format!("no VM named {name}")))?
                .state();
            let text = format!("vm {name} is {}: there is nothing to resolve", state.name());
            return Err(Failure::new(Code::State, text));
        };
        if verdict == Verdict::Discard {
            let (settle, receipt) = doubt.pure.discard();
            doubt.settle(settle);
            return Ok(receipt.map(|receipt| receipt.to_string()));
        }
        let other = if doubt.pure.is_source() { "the target" } else { "the source" };
        let since_ns = doubt.since_ns();
        let holder = pool::holder(&doubt.vm.uuid);
        let claim = Claim { receipt, force, elsewhere: holder.is_some() };
        match doubt.pure.run_here(claim, since_ns) {
            Ok(settle) => {
                if receipt.is_none() {
                    log::warn!(target: "migrate", "migrate {name}: runs here by force: it must not run on {other}");
                }
                doubt.settle(settle);
            }
            Err(NotYet::Elsewhere) => {
                let member = holder.unwrap_or_default();
                let text = format!(
                    "vm {name} is on {member}, a member of the pool, by its uuid: say `migrate resolve {name} discard`; where \
                     {member} is no more, `pool forget {member}` first"
                );
                return Err(Failure::new(Code::Refused, text));
            }
            Err(NotYet::Receipt) => {
                let text = format!("that is no receipt of {other} for this migration of vm {name}");
                return Err(Failure::new(Code::Refused, text));
            }
            Err(NotYet::Force) => {
                let text = format!(
                    "vm {name} may run on {other}: give the receipt of `migrate resolve {name} discard` there, or make \
                     sure that it does not run there and never will, and say --force"
                );
                return Err(Failure::new(Code::Force, text));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
