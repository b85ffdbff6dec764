//! The source's end: a VM of this host as the protocol's `SourceVm`.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use core::sync::atomic::Ordering;
use core::task::Poll;
use migrate::body::Fate;
use migrate::ownership::Phase;
use migrate::{
    Cost, Hello, PAGE_BYTES, PageKind, Progress, Purpose, Reason, Shares, Slowed, Source, SourceEvent,
    SourceOutcome, SourceParams, SourceVm, Status, Tuning,
};
use shell::{EventKind, Millis};
use vm_types::{Gpa, GuestMemory, MemoryError, PAGE_SIZE, StateRecord};

use super::handover::{Doubt, Handovers};
use super::{Report, boot_id, shape, state};
use crate::ended::Ended;
use crate::entropy;
use crate::events;
use crate::link::{self as links, Dial, Link, Service};
use crate::meter::{self, Stopped};
use crate::net as network;
use crate::vm::source::SourceFile;
use crate::vm::{Change, State, Vm, files, registry, sched};
use hw::arch::tsc;
use hw::mm::held::Held;

/// How often the log says how far a round is, in microseconds.
const TELL_US: u64 = 5_000_000;

/// What a migration is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    /// To learn whether the target would take the VM.
    Check,
    /// The VM is the target's afterwards.
    Move,
    /// The target stores a copy, the VM runs on here.
    Copy,
}

/// A migration from this host.
pub(super) struct Outgoing {
    to: SocketAddrV4,
    stage: Stage,
    vm: Leaving,
    tuning: Tuning,
    aim: Aim,
    /// How it stood when it ended.
    last: Option<Report>,
    /// When the log last said how far it is, in host TSC ticks.
    told: u64,
    /// Host TSC ticks of all polls that encoded or sent something.
    work_ticks: u64,
    /// Of them those to seal, and those to hand to TCP.
    link_ticks: (u64, u64),
    /// What [`network::busy_ticks`] was at the start.
    network_ticks: u64,
}

enum Stage {
    /// The files that the VM was made from are read for their digests.
    Reading,
    /// The link is being made.
    Dialling(Dial),
    /// The migration is under way.
    Moving {
        link: Link,
        source: Box<Source>,
    },
    Over,
}

/// The VM that leaves.
struct Leaving {
    vm: Arc<Vm>,
    to: SocketAddrV4,
    /// This migration asked the vCPUs to stop, at this TSC.
    stopped: Option<u64>,
    /// How much of what the guest has printed has gone along.
    told: u64,
    /// What it was made from, as the target was told.
    files: Vec<Option<Arc<Held>>>,
    marks: Stopped,
}

impl Outgoing {
    /// # Errors
    /// It cannot be begun.
    pub(super) fn new(vm: Arc<Vm>, to: SocketAddrV4, tuning: Tuning, aim: Aim) -> Result<Self, String> {
        links::ready()?;
        let stage = if aim != Aim::Check && !are_read(&vm) {
            Stage::Reading
        } else {
            Stage::Dialling(links::dial(Service::Migrate, to)?)
        };
        let vm = Leaving { vm, to, stopped: None, told: 0, files: Vec::new(), marks: Stopped::default() };
        Ok(Self {
            to,
            stage,
            vm,
            tuning,
            aim,
            last: None,
            told: tsc::read(),
            work_ticks: 0,
            link_ticks: (0, 0),
            network_ticks: network::busy_ticks(),
        })
    }

    /// The protocol begins once there is a link.
    fn source(&mut self) -> Source {
        let vm = Arc::clone(&self.vm.vm);
        let source = vm.source.lock().clone().filter(|_| self.aim != Aim::Check);
        self.vm.files =
            source.iter().flat_map(|source| &source.files).map(|file| file.held().cloned()).collect();
        let vm = &vm;
        let hello = Hello {
            migration: entropy::uuid(),
            vm_uuid: vm.uuid,
            boot: boot_id(),
            vm_name: vm.name.owned(),
            check_only: self.aim == Aim::Check,
            secret: Some(entropy::secret()),
            purpose: (self.aim == Aim::Copy).then_some(Purpose::Copy),
            port: links::port(),
        };
        let params = SourceParams {
            hello,
            policy: vm.policy().encode(),
            companion: vm.parting().encode(),
            shape: shape(vm),
            origin: source.map(|source| source.origin(files::max_file())),
            tuning: self.tuning.clone(),
            hz: tsc::hz(),
        };
        Source::new(params, tsc::read())
    }

    pub(super) fn vm(&self) -> &Vm {
        &self.vm.vm
    }

    pub(super) fn to(&self) -> SocketAddrV4 {
        self.to
    }

    pub(super) fn check_only(&self) -> bool {
        self.aim == Aim::Check
    }

    /// How far it is. A check changes nothing: it is none.
    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            _ if self.check_only() => Phase::None,
            Stage::Reading | Stage::Dialling(_) => Phase::Setup,
            Stage::Moving { source, .. } => source.stage(),
            Stage::Over => Phase::None,
        }
    }

    /// Whether its guest stands still for it.
    pub(super) fn holds(&self) -> bool {
        self.vm.stopped.is_some()
    }

    /// How far it is.
    pub(super) fn report(&self) -> Report {
        let progress = match &self.stage {
            Stage::Moving { source, .. } => source.progress(tsc::read()),
            Stage::Reading | Stage::Dialling(_) | Stage::Over => Progress::default(),
        };
        let now = || Report { vm: self.vm().name.owned(), to: self.to, progress, error: None };
        self.last.clone().unwrap_or_else(now)
    }

    /// Ends it; the VM goes on here.
    ///
    /// # Errors
    /// It is too late.
    pub(super) fn cancel(&mut self) -> Result<(), String> {
        const WHY: &str = "by the operator";
        match &mut self.stage {
            Stage::Moving { source, .. } => {
                let cancelled = source.cancel(WHY, tsc::read(), &mut self.vm);
                let name = &self.vm.vm.name;
                if cancelled { Ok(()) } else { Err(format!("vm {name} is handed over: it ends by itself")) }
            }
            Stage::Reading | Stage::Dialling(_) | Stage::Over => {
                self.stage = Stage::Over;
                Ok(())
            }
        }
    }

    /// Works for a bounded time; the answer is given once, when it is over.
    pub(super) fn poll(&mut self, handovers: &mut Handovers) -> Option<Ended> {
        match &mut self.stage {
            Stage::Moving { .. } => {}
            Stage::Over => return Some(self.never(Status::Cancelled, "cancelled: by the operator")),
            Stage::Reading if !are_read(&self.vm.vm) => return None,
            Stage::Reading => match links::dial(Service::Migrate, self.to) {
                Ok(dial) => {
                    self.stage = Stage::Dialling(dial);
                    return None;
                }
                Err(why) => return Some(self.never(Status::Failed, &why)),
            },
            Stage::Dialling(dial) => match dial.poll() {
                Poll::Pending => return None,
                Poll::Ready(Ok(link)) => {
                    self.stage = Stage::Moving { link, source: self.source().into() };
                }
                Poll::Ready(Err(why)) => return Some(self.never(Status::Failed, &why)),
            },
        }
        let Self { stage: Stage::Moving { link, source }, vm, work_ticks, link_ticks, .. } = self else {
            return None;
        };
        let event = link.poll(|bound| {
            let (now, pages) = (tsc::read(), source.totals().pages);
            let event = source.poll(now, bound, vm);
            if bound.sent() != 0 || source.totals().pages != pages {
                *work_ticks += tsc::read() - now;
                let (seal, socket) = bound.ticks();
                *link_ticks = (link_ticks.0 + seal, link_ticks.1 + socket);
                meter::found();
            }
            event
        });
        let fault = link.fault_text();
        if let Some(warning) = source.take_warning() {
            log::warn!(target: "migrate", "migrate {}: peer: {warning}", self.vm.vm.name);
        }
        while let Some(note) = source.take_note() {
            let level = if note.is_warning() { log::Level::Warn } else { log::Level::Info };
            log::log!(target: "migrate", level, "migrate {}: {note}", self.vm.vm.name);
        }
        self.tell(event, &fault, handovers)
    }

    /// It ended before it began.
    fn never(&mut self, status: Status, why: &str) -> Ended {
        let name = &self.vm.vm.name;
        self.stage = Stage::Over;
        log::error!(target: "migrate", "migrate {name}: failed: {why} (running here)");
        events::tell(EventKind::MigrationFailed, name.owned(), format!("{why} (running here)"));
        let progress = Progress { status, ..Progress::default() };
        self.last = Some(Report { vm: name.owned(), to: self.to, progress, error: Some(why.into()) });
        Ended::Failed(format!("{why} (running here)"))
    }

    /// Logs what happened; how it ended, if it did.
    fn tell(&mut self, event: SourceEvent, fault: &str, handovers: &mut Handovers) -> Option<Ended> {
        let name = self.vm.vm.name.owned();
        match event {
            SourceEvent::Waiting | SourceEvent::Working => {
                let now = tsc::read();
                if now.saturating_sub(self.told) < tsc::ticks(TELL_US) {
                    return None;
                }
                self.told = now;
                let progress = self.report().progress;
                if progress.round > 0 {
                    log::info!(target: "migrate", "migrate {name}: in round {}: {progress}", progress.round);
                }
                None
            }
            SourceEvent::Round(stats) => {
                self.told = tsc::read();
                let progress = self.report().progress;
                log::info!(target: "migrate", "migrate {name}: {stats}; {progress}");
                None
            }
            SourceEvent::Slowed(Slowed { stall, shares }) => {
                log::warn!(target: "migrate", "migrate {name}: {stall}; {shares}");
                None
            }
            SourceEvent::Given => {
                log::info!(target: "migrate", "vm {name}: given to {}", self.to.ip());
                None
            }
            SourceEvent::Finished(outcome) => {
                let mut report = self.report();
                report.progress.status = Status::of(&outcome);
                if let Stage::Moving { link, source } = core::mem::replace(&mut self.stage, Stage::Over) {
                    link.close();
                    self.close_deal(&source, &outcome, handovers);
                }
                if let SourceOutcome::Done(_) = &outcome {
                    events::tell(EventKind::VmLeft, name.as_str(), format!("to {}", self.to.ip()));
                }
                if let SourceOutcome::Done(summary) | SourceOutcome::Copied(summary) = &outcome {
                    let network = network::busy_ticks() - self.network_ticks;
                    let data = summary.pages - summary.zero - summary.fill;
                    log::info!(
                        target: "migrate",
                        "migrate {name}: work: {} ticks in the migration ({} to seal, {} in the socket), {network} in the \
                         network, {data} data pages; a turn that finds nothing: {} ticks; {} and {} in the network",
                        self.work_ticks,
                        self.link_ticks.0,
                        self.link_ticks.1,
                        meter::idle_turn(),
                        Millis(tsc::ns(self.work_ticks) / 1000),
                        Millis(tsc::ns(network) / 1000)
                    );
                }
                let ended = ended(&name, outcome, fault);
                report.error = match &ended {
                    Ended::Done => None,
                    Ended::Refused(why) | Ended::Failed(why) => Some(why.clone()),
                };
                self.last = Some(report);
                Some(ended)
            }
        }
    }
}

impl Outgoing {
    /// What is to be said of this migration, if it is the one asked about: the target has lost its connection before
    /// this end has noticed.
    pub(super) fn word_on(&self, asked: &Fate) -> Option<Fate> {
        let Stage::Moving { source, .. } = &self.stage else { return None };
        let deal = source.deal().filter(|deal| deal.hear(asked).is_ok())?;
        let ns = tsc::ns(tsc::read().saturating_sub(source.exported_at()));
        Some(deal.say(source.owner().word(), ns))
    }

    /// What the target may ask about later.
    fn close_deal(&self, source: &Source, outcome: &SourceOutcome, handovers: &mut Handovers) {
        let deal = source.deal();
        match outcome {
            SourceOutcome::Asking(_) | SourceOutcome::Unknown(_) => {
                let vm = Arc::clone(&self.vm.vm);
                handovers.open(Doubt::left(vm, deal, self.to, source.exported_at()));
            }
            SourceOutcome::Checked => {}
            SourceOutcome::Done(_) | SourceOutcome::Copied(_) | SourceOutcome::Failed(_) => {
                if let Some((deal, word)) = source.last_word() {
                    handovers.remember(deal, word);
                }
            }
        }
    }
}

/// `fault` says what became of the link.
fn ended(name: &str, outcome: SourceOutcome, fault: &str) -> Ended {
    match outcome {
        SourceOutcome::Done(summary) => {
            log::info!(target: "migrate", "migrate {name}: {}", Cost(&summary));
            log::info!(target: "migrate", "migrate {name}: {summary}");
            Ended::Done
        }
        SourceOutcome::Copied(summary) => {
            log::info!(target: "migrate", "migrate {name}: {}", Cost(&summary));
            log::info!(target: "migrate", "migrate {name}: {summary}; a copy, the VM runs on here");
            Ended::Done
        }
        SourceOutcome::Checked => {
            log::info!(target: "migrate", "migrate {name}: check: the target would take it");
            Ended::Done
        }
        SourceOutcome::Failed(reason) => {
            let stays = reason.leaves();
            log::error!(target: "migrate", "migrate {name}: failed: {reason}{fault} ({stays} here)");
            events::tell(EventKind::MigrationFailed, name, format!("{reason}{fault} ({stays} here)"));
            match reason {
                Reason::Refused(why) => Ended::Refused(why),
                other => Ended::Failed(format!("{other}{fault} ({stays} here)")),
            }
        }
        SourceOutcome::Asking(reason) | SourceOutcome::Unknown(reason) => {
            log::error!(target: "migrate", "migrate {name}: unknown: {reason}{fault} (paused here)");
            Ended::Failed(format!("{reason}{fault}: unknown: paused here; the log says how to resolve it"))
        }
    }
}

/// Whether each file that may go along has a digest; asks for the first that is missing.
fn are_read(vm: &Vm) -> bool {
    let source = vm.source.lock();
    let held = source.iter().flat_map(|source| &source.files).filter_map(SourceFile::held);
    let mut goes = held.filter(|held| held.len() <= files::max_file());
    goes.all(|held| files::sha256(held).is_ready())
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        let method = Vm::best_method();
        if self.vm.tracking().is_none() {
            log::info!(target: "migrate", "migrate {}: to {}, dirty tracking by {}", self.vm.name, self.to, method.name());
        }
        self.vm.start_tracking(method).map_err(|error| error.to_string())
    }

    fn harvest(&mut self) -> Poll<u64> {
        self.vm.harvest().map(|_| self.vm.to_send.count())
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        self.vm.to_send.take(from)
    }

    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        self.vm.memory.read(Gpa(gfn.saturating_mul(PAGE_SIZE)), page)
    }

    fn classify_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<PageKind, MemoryError> {
        match self.vm.memory.page(gfn).map(migrate::scan_shared) {
            Some(fill @ PageKind::Fill(_)) => Ok(fill),
            _ => self.read_page(gfn, page).map(|()| PageKind::Data),
        }
    }

    fn ended(&self) -> Option<String> {
        let over = self.vm.state() == State::Stopped;
        over.then(|| self.vm.stop_reason().map_or_else(String::new, |why| why.to_string()))
    }

    fn read_file(&mut self, number: u32, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let held = self.files.get(number as usize).and_then(Option::as_ref);
        let from = usize::try_from(offset).ok();
        let bytes = held.zip(from).and_then(|(held, from)| held.bytes().get(from..)?.get(..into.len()));
        into.copy_from_slice(
            bytes.ok_or_else(|| format!("file {number} is not here from byte {offset} on"))?,
        );
        Ok(())
    }

    fn dirtied(&mut self) -> Option<Vec<u64>> {
        self.vm.dirtied()
    }

    fn throttle(&mut self, shares: &Shares) {
        for (vcpu, slot) in self.vm.vcpus.iter().enumerate() {
            slot.share.store(u32::from(shares.of(vcpu)), Ordering::Relaxed);
        }
    }

    fn pause(&mut self) -> Poll<u64> {
        let first = self.stopped.is_none();
        let asked = *self.stopped.get_or_insert_with(tsc::read);
        if first {
            self.marks.stop = meter::before();
            meter::found();
            // One that has ended by itself is off already: `ended` says so.
            let _ = self.vm.apply(Change::Still);
        }
        sched::take_off_here(&self.vm);
        if self.vm.is_off() { Poll::Ready(tsc::read() - asked) } else { Poll::Pending }
    }

    fn resume(&mut self) {
        if self.stopped.take().is_some() {
            // It may have ended by itself in the moment that it was stopped: then there is nothing to resume.
            let _ = self.vm.apply(Change::Back);
        }
    }

    fn give_back(&mut self) {
        // Nothing is lost: the next attempt starts with every page of RAM.
    }

    fn stop_tracking(&mut self) {
        self.vm.stop_tracking();
    }

    fn history(&mut self) -> Vec<u8> {
        self.vm.console.lock().history(&mut self.told, migrate::limits::MAX_HISTORY_BODY)
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        self.marks.pages = meter::now();
        meter::found();
        match self.vm.state() {
            State::Leaving => {
                self.vm.console.lock().hold();
                state::export(&self.vm)
            }
            other => Err(format!("the VM is {} by now", other.name())),
        }
    }

    fn give_up(&mut self) -> Result<(), String> {
        self.marks.state = meter::now();
        meter::found();
        if !self.vm.is_off() {
            return Err(format!("vm {} is on a CPU", self.vm.name));
        }
        self.vm.apply(Change::GiveUp)
    }

    fn free(&mut self) {
        self.marks.log(&self.vm.name.get());
        registry::remove(&self.vm);
        log::info!(target: "migrate", "vm {}: freed", self.vm.name);
    }

    fn mark_unknown(&mut self) {
        let _ = self.vm.apply(Change::Doubt);
    }
}
