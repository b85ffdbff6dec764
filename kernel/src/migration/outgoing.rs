//! The source's end: a VM of this host as the protocol's `SourceVm`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use core::sync::atomic::Ordering;
use core::task::Poll;
use migrate::{
    Hello, PAGE_BYTES, Reason, Slowed, Source, SourceEvent, SourceOutcome, SourceParams, SourceVm,
};
use vm_types::{Gpa, GuestMemory, MemoryError, PAGE_SIZE, StateRecord};

use super::{Ended, boot_id, shape, state, tuning};
use crate::arch::tsc;
use crate::entropy;
use crate::link::{Dial, Link};
use crate::net as network;
use crate::policy;
use crate::vm::{State, Vm, registry, sched};

/// A migration from this host.
pub(super) struct Outgoing {
    to: SocketAddrV4,
    stage: Stage,
    vm: Leaving,
    check_only: bool,
    /// Host TSC ticks of all polls that encoded or sent something.
    work_ticks: u64,
    /// What [`network::busy_ticks`] was at the start.
    network_ticks: u64,
}

enum Stage {
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
    /// This migration asked the vCPUs to stop.
    stopped: bool,
}

impl Outgoing {
    pub(super) fn new(vm: Arc<Vm>, dial: Dial, check_only: bool) -> Self {
        let to = dial.to();
        let vm = Leaving { vm, to, stopped: false };
        let stage = Stage::Dialling(dial);
        Self { to, stage, vm, check_only, work_ticks: 0, network_ticks: network::busy_ticks() }
    }

    /// The protocol begins once there is a link.
    fn source(&self) -> Source {
        let vm = &self.vm.vm;
        let hello = Hello {
            migration: entropy::uuid(),
            vm_uuid: vm.uuid,
            boot: boot_id(),
            vm_name: vm.name.clone(),
            check_only: self.check_only,
        };
        let params = SourceParams {
            hello,
            policy: vm.policy.encode(),
            companion: policy::ledger::companion(vm).encode(),
            shape: shape(vm),
            tuning: tuning(),
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

    /// Works for a bounded time; the answer is given once, when it is over.
    pub(super) fn poll(&mut self) -> Option<Ended> {
        if let Stage::Dialling(dial) = &mut self.stage {
            match dial.poll() {
                Poll::Pending => return None,
                Poll::Ready(Ok(link)) => {
                    self.stage = Stage::Moving { link, source: self.source().into() };
                }
                Poll::Ready(Err(why)) => {
                    self.stage = Stage::Over;
                    log::error!(target: "migrate", "migrate {}: failed: {why} (running here)", self.vm.vm.name);
                    return Some(Ended::Failed(alloc::format!("{why} (running here)")));
                }
            }
        }
        let Self { stage: Stage::Moving { link, source }, vm, work_ticks, .. } = self else { return None };
        let event = link.poll(|bound| {
            let (now, pages) = (tsc::read(), source.totals().pages);
            let event = source.poll(now, bound, vm);
            if bound.sent() != 0 || source.totals().pages != pages {
                *work_ticks += tsc::read() - now;
            }
            event
        });
        let fault = link.fault_text();
        let name = &self.vm.vm.name;
        if let Some(warning) = source.take_warning() {
            log::warn!(target: "migrate", "migrate {name}: peer: {warning}");
        }
        match event.ok()? {
            SourceEvent::Waiting | SourceEvent::Working => None,
            SourceEvent::Round(stats) => {
                log::info!(target: "migrate", "migrate {name}: {stats}");
                None
            }
            SourceEvent::Slowed(Slowed { stall, share }) => {
                log::warn!(target: "migrate", "migrate {name}: {stall}; the guest gets {share} % of its CPU");
                None
            }
            SourceEvent::Given => {
                log::info!(target: "migrate", "vm {name}: given to {}", self.to.ip());
                None
            }
            SourceEvent::Finished(outcome) => {
                if let Stage::Moving { link, .. } = core::mem::replace(&mut self.stage, Stage::Over) {
                    link.close();
                }
                if let SourceOutcome::Done(summary) = &outcome {
                    let network = network::busy_ticks() - self.network_ticks;
                    let data = summary.pages - summary.zero - summary.fill;
                    log::info!(
                        target: "migrate",
                        "migrate {name}: work: {} ticks in the migration, {network} in the network, {data} data pages",
                        self.work_ticks
                    );
                }
                Some(ended(name, outcome, &fault))
            }
        }
    }
}

/// `fault` says what became of the link.
fn ended(name: &str, outcome: SourceOutcome, fault: &str) -> Ended {
    match outcome {
        SourceOutcome::Done(summary) => {
            log::info!(target: "migrate", "migrate {name}: {summary}");
            Ended::Done
        }
        SourceOutcome::Checked => {
            log::info!(target: "migrate", "migrate {name}: check: the target would take it");
            Ended::Done
        }
        SourceOutcome::Failed(reason) => {
            log::error!(target: "migrate", "migrate {name}: failed: {reason}{fault} (running here)");
            match reason {
                Reason::Refused(why) => Ended::Refused(why),
                other => Ended::Failed(alloc::format!("{other}{fault} (running here)")),
            }
        }
        SourceOutcome::Unknown(reason) => {
            log::error!(target: "migrate", "migrate {name}: unknown: {reason}{fault} (paused here)");
            Ended::Failed(alloc::format!(
                "{reason}; vm {name} is paused here, and may run on the target: look there before `vm destroy` here"
            ))
        }
    }
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Result<(), String> {
        let method = Vm::best_method();
        log::info!(target: "migrate", "migrate {}: to {}, dirty tracking by {}", self.vm.name, self.to, method.name());
        self.vm.start_tracking(method).map_err(|error| error.to_string())
    }

    fn harvest(&mut self) -> Poll<u64> {
        self.vm.harvest();
        Poll::Ready(self.vm.to_send.count())
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let page = self.vm.to_send.next(from)?;
        self.vm.to_send.remove(page);
        Some(page)
    }

    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        self.vm.memory.read(Gpa(gfn.saturating_mul(PAGE_SIZE)), page)
    }

    fn throttle(&mut self, share: u8) {
        for slot in &self.vm.vcpus {
            slot.share.store(u32::from(share), Ordering::Relaxed);
        }
    }

    fn pause(&mut self) -> Poll<()> {
        if !self.stopped {
            self.stopped = true;
            self.vm.ask_pause();
        }
        sched::run_requests_here(&self.vm);
        if self.vm.is_off() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn resume(&mut self) {
        if !core::mem::take(&mut self.stopped) {
            return;
        }
        // It may have ended by itself in the same moment: then there is nothing to resume.
        if self.vm.state() == State::Running {
            self.vm.stop_vcpus();
            self.vm.let_run();
        }
    }

    fn give_back(&mut self) {
        // Nothing is lost: the next attempt starts with every page of RAM.
    }

    fn stop_tracking(&mut self) {
        self.vm.stop_tracking();
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        match self.vm.state() {
            State::Running => state::export(&self.vm),
            other => Err(alloc::format!("the VM is {} by now", other.name())),
        }
    }

    fn give_up(&mut self) {
        self.vm.set_state(State::Given);
    }

    fn free(&mut self) {
        registry::remove(&self.vm);
        log::info!(target: "migrate", "vm {}: freed", self.vm.name);
    }

    fn mark_unknown(&mut self) {
        self.vm.set_state(State::Unknown);
    }
}
