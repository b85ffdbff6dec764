//! The target's end: a VM in the making as the protocol's `TargetVm`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;
use cpu_policy::{Companion, GuestPolicy};
use devices::Platform;
use migrate::body::Fate;
use migrate::handover::{TargetOwner, Word};
use migrate::ownership::Phase;
use migrate::{
    Here, Offer, Origin, OriginFile, PAGE_BYTES, Room, Target, TargetEvent, TargetMemory, TargetOutcome,
    TargetParams, TargetVm,
};
use shell::EventKind;
use virtio::{Device, Rng};
use vm_types::{Gpa, GuestMemory, MemoryError, OnReset, PAGE_SIZE, StateError, StateRecord};

use super::handover::{Doubt, Handovers};
use super::{boot_id, state, tuning};
use crate::events;
use crate::guest::clock::Clock;
use crate::guest::mailbox::Request;
use crate::link::Link;
use crate::meter::{self, Stopped};
use crate::policy;
use crate::vm::create::{self, Spec};
use crate::vm::making::Making;
use crate::vm::registry::Reserved;
use crate::vm::source::{Source, SourceFile, role};
use crate::vm::{Change, Vm, files, registry};
use hw::arch::tsc;
use hw::mm::frame;
use hw::mm::held::Filling;
use hw::vmx::host;

/// A migration to this host.
pub(super) struct Incoming {
    peer: String,
    /// Gone once it is over.
    link: Option<Link>,
    target: Target,
    vm: Arriving,
    /// The guest stops behind the last round but one.
    marks: Stopped,
    /// What the peer wants to know.
    asked: Option<Fate>,
}

/// The VM that arrives, once it is made.
#[derive(Default)]
struct Arriving {
    /// What its policy and its companion say, from the check to the making.
    offered: Option<(GuestPolicy, Companion)>,
    making: Option<Making>,
    vm: Option<Arc<Vm>>,
    /// Files that are to come, with the memory for them.
    files: Vec<(u32, Filling)>,
    tsc: u64,
    /// Host TSC at which the link was last read: what comes in that turn is not older.
    read_at: u64,
}

/// `accept=`, in MiB; above that of any host: no limit.
static ACCEPT_MIB: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets `accept=`.
pub(super) fn set_accept(mib: Option<u32>) {
    ACCEPT_MIB.store(mib.map_or(u64::MAX, u64::from), Ordering::Relaxed);
}

fn room() -> Room {
    let accept = ACCEPT_MIB.load(Ordering::Relaxed).checked_mul(1 << 20);
    let here: u64 = registry::all().iter().filter(|vm| vm.came).map(|vm| vm.ram()).sum();
    let making: u64 = registry::making().iter().filter(|vm| vm.comes).map(|vm| vm.bytes).sum();
    let taken = here.saturating_add(making);
    Room { accept, taken, free: frame::stats().free }
}

impl Incoming {
    pub(super) fn new(link: Link) -> Self {
        let peer = link.peer().to_string();
        let params = TargetParams { boot: boot_id(), tuning: tuning(), hz: tsc::hz() };
        let target = Target::new(params, tsc::read());
        Self {
            peer,
            link: Some(link),
            target,
            vm: Arriving::default(),
            marks: Stopped::default(),
            asked: None,
        }
    }

    /// Works for a bounded time; false once it is over.
    pub(super) fn poll(&mut self, handovers: &mut Handovers) -> bool {
        let Self { peer, target, vm, link: Some(link), asked, .. } = self else { return false };
        let event = link.poll(|bound| {
            vm.read_at = tsc::read();
            target.poll(vm.read_at, bound, vm)
        });
        if !matches!(event, TargetEvent::Waiting) {
            meter::found();
        }
        let fault = link.fault_text();
        let name = target.hello().map_or(peer.as_str(), |hello| hello.vm_name.as_str());
        match event {
            TargetEvent::Waiting | TargetEvent::Working => {}
            TargetEvent::Asked(fate) => *asked = Some(fate),
            TargetEvent::Greeted => {
                log::info!(target: "migrate", "migrate {name}: offered by {peer}");
            }
            TargetEvent::Accepted => {
                log::info!(target: "migrate", "migrate {name}: accepted, memory comes");
            }
            TargetEvent::Round { round, pages, dirty } => {
                self.marks = Stopped { stop: self.marks.pages, pages: meter::now(), state: 0 };
                log::info!(target: "migrate", "migrate {name}: round {round}: {pages} pages here, {dirty} dirty next");
            }
            TargetEvent::Ready => {
                self.marks.state = meter::now();
                log::info!(target: "migrate", "migrate {name}: all here, READY");
            }
            TargetEvent::Running { downtime_ns } => {
                self.marks.log(name);
                log::info!(target: "migrate", "migrate {name}: runs here, downtime {} us", downtime_ns / 1000);
                events::tell(EventKind::VmCame, name, format!("from {peer}"));
            }
            TargetEvent::Finished(outcome) => {
                let deal = target.deal();
                let last_word = target.last_word().filter(|(_, word)| *word != Word::Holds);
                match outcome {
                    // No copy is taken here.
                    TargetOutcome::Runs | TargetOutcome::Copied => {}
                    TargetOutcome::Answered => {
                        log::debug!(target: "migrate", "{peer}: asked, answered");
                    }
                    TargetOutcome::Held(ref reason) => {
                        log::error!(target: "migrate", "migrate {name}: {reason}{fault}");
                        let port = target.hello().and_then(|hello| hello.port);
                        let from = port.map(|port| SocketAddrV4::new(*link.peer().ip(), port));
                        if let Some(held) = vm.vm.take() {
                            handovers.open(Doubt::held(held, deal.clone(), from, vm.tsc));
                        }
                    }
                    TargetOutcome::Checked => {
                        log::info!(target: "migrate", "migrate {name}: checked, it fits");
                    }
                    TargetOutcome::Refused(why) => {
                        log::warn!(target: "migrate", "migrate {name}: refused: {why}");
                    }
                    TargetOutcome::Failed(reason) => {
                        log::error!(target: "migrate", "migrate {name}: failed: {reason}{fault}");
                    }
                }
                if let Some((deal, word)) = last_word {
                    handovers.remember(deal, word);
                }
                if let Some(link) = self.link.take() {
                    link.close();
                }
                return false;
            }
        }
        true
    }
}

impl Incoming {
    /// What the peer asks; [`Incoming::answer`] follows.
    pub(super) fn take_question(&mut self) -> Option<Fate> {
        self.asked.take()
    }

    pub(super) fn answer(&mut self, fate: &Fate) {
        self.target.answer(fate);
    }

    /// What is to be said of this migration, if it is the one asked about: the peer has lost its connection before
    /// this end has noticed.
    pub(super) fn word_on(&self, asked: &Fate) -> Option<Fate> {
        let deal = self.target.deal().filter(|deal| deal.hear(asked).is_ok())?;
        Some(deal.say(self.target.owner().word(), 0))
    }

    /// Whether all of a VM is here and its guest stands still, or has just been let go.
    pub(super) fn holds(&self) -> bool {
        matches!(self.target.owner(), TargetOwner::Ready | TargetOwner::Runs)
    }

    /// How far it is, if it is this VM's.
    pub(super) fn phase(&self, vm: &Arc<Vm>) -> Option<Phase> {
        self.vm.vm.as_ref().filter(|own| Arc::ptr_eq(own, vm)).map(|_| self.target.stage())
    }
}

impl TargetMemory for Arriving {
    fn write_page(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        let gpa = Gpa(gfn.saturating_mul(PAGE_SIZE));
        self.vm.as_ref().ok_or(MemoryError { gpa, len: PAGE_BYTES })?.memory.write(gpa, page)
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let error = MemoryError { gpa: Gpa(gfn.saturating_mul(PAGE_SIZE)), len: PAGE_BYTES };
        self.vm.as_ref().ok_or(error)?.memory.fill_page(gfn, word)
    }

    fn read_page(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        let gpa = Gpa(gfn.saturating_mul(PAGE_SIZE));
        self.vm.as_ref().ok_or(MemoryError { gpa, len: PAGE_BYTES })?.memory.read(gpa, page)
    }
}

impl TargetVm for Arriving {
    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        let cpu = host::required()?;
        let guest = GuestPolicy::decode(offer.policy).map_err(|error| format!("CPU policy: {error}"))?;
        guest.check_vcpus(offer.shape.vcpus).map_err(|error| error.to_string())?;
        policy::fits(&guest)?;
        Clock::new(offer.shape.tsc_hz, cpu.caps.tsc_scaling()).map_err(|error| error.to_string())?;
        create::check_vcpus(offer.shape.vcpus, cpu)?;
        let known = |kind: &str| kind == state::VCPU || Platform::knows(kind);
        if let Some(device) = offer.shape.devices.iter().find(|device| !known(device)) {
            return Err(format!("device {device} is not known here"));
        }
        for vm in registry::all() {
            let name = vm.name.get();
            let here = Here { name: &name, uuid: vm.uuid, state: vm.state().name() };
            here.admits(&offer.hello.vm_name, &offer.hello.vm_uuid)?;
        }
        for vm in registry::making() {
            let here = Here { name: &vm.name, uuid: vm.uuid.unwrap_or_default(), state: "making" };
            here.admits(&offer.hello.vm_name, &offer.hello.vm_uuid)?;
        }
        let ranges = offer.shape.mem_ranges();
        room().check(ranges.iter().map(|range| range.len).sum())?;
        create::check_memory(&ranges)?;
        let companion = Companion::decode(offer.companion).unwrap_or_else(|error| {
            // Nothing hangs on it: the VM is as welcome without.
            log::warn!(target: "migrate", "migrate {}: {error}: left out", offer.hello.vm_name);
            Companion::default()
        });
        self.offered = Some((guest, companion));
        Ok(())
    }

    fn warning(&mut self, offer: &Offer<'_>) -> Option<String> {
        let warning = match (&self.vm, &self.offered) {
            (Some(vm), _) => policy::ledger::warning(&vm.policy(), &vm.companion)?,
            (None, Some((policy, companion))) => policy::ledger::warning(policy, companion)?,
            (None, None) => return None,
        };
        log::warn!(target: "migrate", "migrate {}: {warning}", offer.hello.vm_name);
        Some(warning)
    }

    fn wants(&mut self, origin: &Origin) -> Vec<u32> {
        let Some(vm) = &self.vm else { return Vec::new() };
        let name = vm.name.get();
        let shape = *vm.policy().shape();
        let told = Source::told(origin, &name).and_then(|source| {
            // Booted anew at another level it would be another machine.
            let told = source.options.topology();
            let same = format!("topology={told} of a VM with {}", shape.topology);
            if told == shape.topology { Ok(source) } else { Err(same) }
        });
        let mut source = match told {
            Ok(source) => source,
            Err(why) => {
                log::warn!(target: "migrate", "migrate {name}: what it was made from is left out: {why}");
                return Vec::new();
            }
        };
        for held in origin.files.iter().filter_map(|file| files::find(&file.sha256?)) {
            source.put(&held);
        }
        let files = &mut self.files;
        let wanted = origin.lacking(|sha256, len| {
            len <= files::max_file() && files::find(sha256).is_none() && len <= frame::stats().free
        });
        // One for which there is no memory in one piece does not come.
        for number in wanted {
            let len = source.files.get(number as usize).map_or(0, SourceFile::len);
            let mut filling = Filling::default();
            if filling.reserve(len) {
                files.push((number, filling));
            }
        }
        let comes = |number: usize| files.iter().any(|(file, _)| origin.same_as(number as u32) == *file);
        for (number, file) in source.files.iter().enumerate() {
            if file.held().is_none() && file.len() > 0 && !comes(number) {
                log::warn!(
                    target: "migrate",
                    "migrate {name}: its {} of {} bytes does not come along: max-file= of either host, or no memory for it",
                    role(number),
                    file.len()
                );
            }
        }
        *vm.source.lock() = Some(source);
        files.iter().map(|(number, _)| *number).collect()
    }

    fn take_file(&mut self, number: u32, bytes: &[u8]) -> Result<(), String> {
        let filling = self.files.iter_mut().find(|(file, _)| *file == number);
        let (_, filling) = filling.ok_or_else(|| format!("file {number} was not wanted"))?;
        if filling.push(bytes) { Ok(()) } else { Err(format!("no memory for file {number}")) }
    }

    fn end_file(&mut self, number: u32) -> Result<(), String> {
        let at = self.files.iter().position(|(file, _)| *file == number);
        let (Some(at), Some(vm)) = (at, &self.vm) else {
            return Err(format!("file {number} was not wanted"));
        };
        let (_, filling) = self.files.swap_remove(at);
        // It is in one piece: its memory was made room for at once.
        let Poll::Ready(Some(held)) = filling.join().poll() else {
            return Err(format!("file {number} is not in one piece"));
        };
        let mut source = vm.source.lock();
        if let Some(source) = source.as_mut()
            && let Some(file) = source.files.get_mut(number as usize)
            && let Some(sha256) = file.sha256()
        {
            log::info!(target: "migrate", "migrate {}: its {} of {} bytes is here", vm.name, role(number as usize), held.len());
            held.set_sha256(sha256);
            source.put(&Arc::new(held));
        }
        drop(source);
        files::came();
        Ok(())
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        // Bytes that are here already are told by their digest.
        let mut lens = offer.origin.iter().flat_map(|origin| &origin.files).filter(|file| file.can_come());
        let known = |file: &OriginFile| file.len > files::max_file() || files::are_known(file.len);
        if !lens.all(known) {
            return Poll::Pending;
        }
        let mut making = match self.making.take().map_or_else(|| self.make(offer), Ok) {
            Ok(making) => making,
            Err(why) => return Poll::Ready(Err(why)),
        };
        match making.poll() {
            Poll::Pending => {
                self.making = Some(making);
                Poll::Pending
            }
            Poll::Ready(made) => Poll::Ready(made.map(|vm| {
                vm.tell_changes();
                self.vm = Some(vm);
            })),
        }
    }

    fn take_history(&mut self, piece: &[u8]) {
        if let Some(vm) = &self.vm {
            vm.console.lock().take_history(piece);
        }
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        let vm =
            self.vm.as_ref().ok_or_else(|| StateError { kind: "vm".into(), why: "it is not made".into() })?;
        self.tsc = state::import(vm, records)?;
        Ok(())
    }

    fn run(&mut self, elapsed_ns: u64) {
        let Some(vm) = &self.vm else { return };
        let here_ns = tsc::ns(tsc::read().saturating_sub(self.read_at));
        vm.clock.set_after(self.tsc, elapsed_ns.saturating_add(here_ns));
        // What its devices were told before the move may be lost: they look for themselves.
        vm.vcpus[0].post(Request::Devices);
        // Incoming it is, until here or `destroy`.
        let _ = vm.apply(Change::Take);
    }

    fn destroy(&mut self) {
        self.making = None;
        self.files.clear();
        if let Some(vm) = self.vm.take() {
            vm.destroy();
        }
    }
}

impl Arriving {
    /// Begins to make it.
    fn make(&mut self, offer: &Offer<'_>) -> Result<Making, String> {
        let ranges = offer.shape.mem_ranges();
        let bytes = ranges.iter().map(|range| range.len).sum();
        // Another may have come since the check.
        room().check(bytes)?;
        let (policy, companion) = self.offered.take().ok_or("it was not checked")?;
        let (name, uuid, vcpus) = (&offer.hello.vm_name, offer.hello.vm_uuid, offer.shape.vcpus);
        let reserved = Reserved::new(name, Some(uuid), bytes, vcpus, policy.level_name())?;
        let spec = Spec {
            name: name.clone(),
            uuid,
            came: true,
            debug_exit: false,
            on_reset: OnReset::default(),
            pci: offer.shape.devices.iter().any(|device| Platform::on_pci(device)),
            rng: offer.shape.devices.iter().any(|device| device == Rng::KIND),
            ranges,
            policy,
            companion,
            vcpus,
            hz: offer.shape.tsc_hz,
            source: None,
        };
        Making::new(reserved, spec)
    }
}

#[cfg(test)]
mod tests;
