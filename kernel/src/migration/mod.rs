//! Live migration: the protocol's state machines (`crates/migrate`) bound to VMs, the TCP stack and the log.

mod evacuation;
mod handover;
mod incoming;
mod link;
mod outgoing;
mod state;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddrV4;
use migrate::ownership::{self, Command, Phase};
use migrate::{Progress, Tuning};
use shell::{Code, Failure, Verdict};
use spin::Once;

use crate::ended::Ended;
use crate::link::{self as links, Service};
use crate::vm::registry;
use crate::{entropy, vm::Vm};
use evacuation::Evacuation;
use handover::Handovers;
use incoming::Incoming;
pub(crate) use outgoing::Aim;
use outgoing::Outgoing;

/// Migrations that come in at the same time, at most.
const MAX_INCOMING: usize = 4;

/// This boot's identity, for peers that ask again after a loss.
fn boot_id() -> [u8; 16] {
    static BOOT: Once<[u8; 16]> = Once::new();
    *BOOT.call_once(entropy::uuid)
}

/// All migrations of this host. CPU 0's management loop owns it.
#[derive(Default)]
pub(crate) struct Migrations {
    outgoing: Option<Outgoing>,
    /// Those that follow.
    evacuation: Option<Evacuation>,
    /// How the last one stood when it ended.
    last: Option<Report>,
    incoming: alloc::vec::Vec<Incoming>,
    handovers: Handovers,
}

/// A migration from this host, for `migrate status`.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The VM.
    pub(crate) vm: String,
    /// The other host.
    pub(crate) to: SocketAddrV4,
    /// How far it is.
    pub(crate) progress: Progress,
    /// Why it ended so, where it failed.
    pub(crate) error: Option<String>,
}

fn failure(text: String) -> Failure {
    Failure::new(Code::State, text)
}

impl Migrations {
    /// None yet. `accept_mib`: `accept=`.
    pub(crate) fn new(accept_mib: Option<u32>) -> Self {
        incoming::set_accept(accept_mib);
        Self::default()
    }

    /// Begins to move a running VM, or to ask whether it could.
    ///
    /// # Errors
    /// Why not; nothing has begun.
    pub(crate) fn start(
        &mut self,
        name: &str,
        to: SocketAddrV4,
        tuning: Tuning,
        aim: Aim,
    ) -> Result<(), Failure> {
        self.idle()?;
        let vm = registry::find(name)
            .ok_or_else(|| Failure::new(Code::NotFound, format!("no VM named {name}")))?;
        self.admit(if aim == Aim::Check { Command::Check } else { Command::Move }, &vm)?;
        if aim != Aim::Check && vm.tracking().is_some() {
            let text = format!("vm {name}'s written pages are counted: say `vm dirty stop {name}` first");
            return Err(Failure::new(Code::Busy, text));
        }
        self.outgoing = Some(Outgoing::new(vm, to, tuning, aim).map_err(failure)?);
        Ok(())
    }

    /// Begins to move all running VMs, one after the other.
    ///
    /// # Errors
    /// Why not; nothing has begun.
    pub(crate) fn start_all(&mut self, to: SocketAddrV4, tuning: Tuning) -> Result<(), Failure> {
        self.idle()?;
        self.evacuation = Some(Evacuation::new(registry::all(), to, tuning).map_err(failure)?);
        Ok(())
    }

    /// One VM leaves at a time.
    fn idle(&self) -> Result<(), Failure> {
        match &self.outgoing {
            None => Ok(()),
            Some(other) => {
                let text = format!("vm {} is on its way to {}", other.vm().name, other.to());
                Err(Failure::new(Code::Busy, text))
            }
        }
    }

    /// Leaves a VM here, or whichever is on its way, and those that would follow it.
    ///
    /// # Errors
    /// There is nothing to cancel, or it is too late.
    pub(crate) fn cancel(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let Some(outgoing) = &mut self.outgoing else {
            return Err(failure("no VM is on its way".into()));
        };
        if let Some(name) = name.filter(|name| !outgoing.vm().name.is(name)) {
            return Err(failure(format!("vm {name} is not on its way, vm {} is", outgoing.vm().name)));
        }
        outgoing.cancel().map_err(failure)?;
        if let Some(evacuation) = &mut self.evacuation {
            evacuation.give_up();
        }
        Ok(())
    }

    /// The operator decides about a VM that may run on the other host. The answer is the receipt of a copy discarded.
    ///
    /// # Errors
    /// The VM is not in doubt; the receipt is wrong; neither receipt nor force.
    pub(crate) fn resolve(
        &mut self,
        name: &str,
        verdict: Verdict,
        receipt: Option<&str>,
        force: bool,
    ) -> Result<Option<String>, Failure> {
        self.handovers.resolve(name, verdict, receipt, force)
    }

    /// The migration under way, or the last one.
    pub(crate) fn report(&self) -> Option<Report> {
        self.outgoing.as_ref().map(Outgoing::report).or_else(|| self.last.clone())
    }

    /// Lets every migration work for a bounded time. The answer is how what the console asked for ended, once.
    pub(crate) fn poll(&mut self) -> Option<Ended> {
        self.accept();
        self.incoming.retain_mut(|incoming| incoming.poll(&mut self.handovers));
        self.answer();
        self.handovers.poll();
        if let Some(outgoing) = &mut self.outgoing {
            let ended = outgoing.poll(&mut self.handovers)?;
            if !outgoing.check_only() {
                self.last = Some(outgoing.report());
            }
            let name = outgoing.vm().name.owned();
            self.outgoing = None;
            match &mut self.evacuation {
                None => return Some(ended),
                Some(evacuation) => evacuation.ended(name, ended),
            }
        }
        let mut evacuation = self.evacuation.take()?;
        while let Some(name) = evacuation.next() {
            match self.start(&name, evacuation.to(), evacuation.tuning(), Aim::Move) {
                Ok(()) => {
                    self.evacuation = Some(evacuation);
                    return None;
                }
                Err(why) => evacuation.ended(name, Ended::Failed(why.text)),
            }
        }
        Some(evacuation.finish())
    }

    /// How far the migration of the VM is, if it is in one.
    pub(crate) fn phase(&self, vm: &Arc<Vm>) -> Phase {
        let leaves = self.outgoing.as_ref().filter(|o| core::ptr::eq(o.vm(), &raw const **vm));
        let phases = leaves.map(Outgoing::phase).into_iter();
        let phases = phases.chain(self.incoming.iter().filter_map(|i| i.phase(vm)));
        let mut phases = phases.chain(self.handovers.phase(vm));
        phases.find(|phase| *phase != Phase::None).unwrap_or(Phase::None)
    }

    /// Judges what an operator asks for, from whichever session: the one place that does.
    ///
    /// # Errors
    /// The migration, or the VM's state, forbids it.
    pub(crate) fn admit(&self, command: Command, vm: &Arc<Vm>) -> Result<(), Failure> {
        let judged = ownership::judge(command, &vm.name.get(), vm.state(), vm.has_begun(), self.phase(vm));
        judged.map(|_| ()).map_err(|refusal| {
            let code = match refusal.code {
                ownership::Code::Busy => Code::Busy,
                ownership::Code::State => Code::State,
            };
            Failure::new(code, refusal.text)
        })
    }

    /// True while one is under way: the management loop then shares the CPU with the guest.
    pub(crate) fn busy(&self) -> bool {
        self.outgoing.is_some()
            || self.evacuation.is_some()
            || !self.incoming.is_empty()
            || self.handovers.busy()
    }

    /// True while a guest stands still for a migration: what can wait should.
    pub(crate) fn hold(&self) -> bool {
        self.outgoing.as_ref().is_some_and(Outgoing::holds) || self.incoming.iter().any(Incoming::holds)
    }

    /// Answers peers that have lost the connection of a migration. It may be one that has not ended here yet.
    fn answer(&mut self) {
        for index in 0..self.incoming.len() {
            let Some(asked) = self.incoming.get_mut(index).and_then(Incoming::take_question) else {
                continue;
            };
            let leaving = self.outgoing.as_ref().and_then(|outgoing| outgoing.word_on(&asked));
            let live = leaving.or_else(|| self.incoming.iter().find_map(|incoming| incoming.word_on(&asked)));
            let answer = live.unwrap_or_else(|| self.handovers.answer(&asked));
            if let Some(incoming) = self.incoming.get_mut(index) {
                incoming.answer(&answer);
            }
        }
    }

    fn accept(&mut self) {
        links::offer(Service::Migrate, Some(MAX_INCOMING - self.incoming.len()));
        while self.incoming.len() < MAX_INCOMING
            && let Some(link) = links::take(Service::Migrate)
        {
            log::info!(target: "migrate", "connection from {}", link.peer());
            self.incoming.push(Incoming::new(link));
        }
    }
}

/// Sealing a page takes some 100,000 instructions without SIMD: a poll is kept short, so that a guest on the same CPU is not.
const PAGES_PER_POLL: u32 = 16;

/// What holds where the operator says nothing.
pub(crate) fn tuning() -> Tuning {
    Tuning { pages_per_poll: PAGES_PER_POLL, ..Tuning::default() }
}

/// The machine of a VM as the protocol describes it.
fn shape(vm: &Vm) -> migrate::Shape {
    migrate::Shape {
        vcpus: vm.vcpus.len() as u32,
        ranges: migrate::Shape::page_ranges(vm_types::GuestMemory::ranges(&vm.memory)),
        tsc_hz: vm.clock.hz(),
        devices: vm.platform.lock().kinds().chain([state::VCPU]).map(String::from).collect(),
    }
}
