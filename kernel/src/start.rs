//! What each CPU does once the stages of [`crate::init`] are over: VMX on, VMs made, then the loop.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;

use cmdline::{Apicv, Idle, ModuleRole, VmOptions, redacted};
use migrate::ownership::Command;
use mitigations::Plan;
use vmx_types::apic::ApicVirt;
use vmx_types::slice::SliceTimer;

use crate::boot::{self, Boot};
use crate::console::{Console, Remote, Work};
use crate::log::uarts::Opened;
use crate::machine::{self, Watch};
use crate::meter::Part;
use crate::migration::Migrations;
use crate::vm::balance::Balancer;
use crate::vm::making::Making;
use crate::vm::registry::Reserved;
use crate::vm::sched::{self, Scheduler, Turn};
use crate::vm::source::{Source, SourceFile};
use crate::vm::{audit, create, ending, files, registry, remains, reset, tracking};
use crate::{
    entropy, iommu, link, log as host_log, meter, net, policy, pool, restart, selftest, stages, vcpu,
};
use hw::arch::{self, cpu, tsc};
use hw::mm::frame;
use hw::mm::held::Held;
use hw::mm::{Hpa, module_bytes};
use hw::platform::{apic, call, irq};
use hw::vmx::{flush, host, probe, slots};

/// The longest a guest runs before the management loop has its turn, in microseconds.
const SLICE_US: u64 = 1000;
/// The same while a migration is under way and the loop's work took no longer.
const MIGRATION_SLICE_US: u64 = 250;
/// The same while somebody types or pastes: the port holds 16 bytes, 1.4 ms at 115200 baud.
const TYPING_SLICE_US: u64 = 500;
/// How long after the last byte that goes on.
const TYPING_US: u64 = 50_000;

/// How long VMs are made before the console answers, in microseconds; larger ones are made while it does.
const FIRST_US: u64 = 2_000_000;

/// The bootstrap CPU.
pub(crate) fn bsp(boot: &'static Boot) -> ! {
    let mut secrets = boot::take_secrets();
    entropy::init(secrets.seed.take());
    let (apicv, posted) = apicv(boot.options.apicv);
    let asked = host::Asked { timer: boot.options.slice_timer.map(slice_timer), apicv, posted };
    host::init(cpu::count(), asked);
    policy::ledger::set_aesni(boot.options.aesni);
    vcpu::check::init(boot.options.check_entry);
    let vmx = enable_vmx();
    if let Err(missing) = &vmx {
        log::error!(target: "vmx", "{missing}");
        log::error!(target: "vmx", "no guest can run on this host: console and network only");
    }
    fill_slots(boot);
    wake_others(vmx.is_ok());
    stages::done("vmx");
    iommu::init(boot.acpi.dmar.as_ref(), boot.options.iommu);
    let network = net::init(&boot.options);
    let key =
        boot.info.modules.iter().find(|m| ModuleRole::parse(&m.command_line) == Ok(ModuleRole::PoolKey));
    let migration = if network {
        link::init(&boot.options, secrets, key.map(module_bytes))
    } else {
        "migration off".into()
    };
    let mut migrations = Migrations::new(boot.options.accept_mib);
    files::set_max_file(boot.options.max_file_mib);
    match &vmx {
        Ok(()) if network => pool::init(&boot.options),
        Err(_) if boot.options.pool.is_some() => {
            log::warn!(target: "pool", "off: a host without guests is no member of a pool");
        }
        _ => {}
    }
    stages::done("network");
    if boot.options.selftest {
        selftest::run();
    }
    let mut console = Console::new(boot);
    let mut remote = Remote::new(&boot.options);
    let mut pending = Pending::new(boot);
    pending.begin(boot);
    stages::done("vms");
    log::info!(target: "boot", "{}", stages::Summary(stages::all()));
    let more = pending.more();
    let vms = registry::all().len() + more;
    let plural = match &vmx {
        Err(_) => "vms (no VMX)",
        Ok(()) if vms == 1 => "vm",
        Ok(()) => "vms",
    };
    let being_made = if more > 0 { alloc::format!(" ({more} being made)") } else { String::new() };
    log::info!(
        "ready: {vms} {plural}{being_made}, console on {}, {migration}",
        Opened::names(&boot.consoles)
    );
    console.start();
    host_log::defer();
    manage(boot, &mut console, &mut remote, &mut migrations, pending)
}

fn slice_timer(asked: cmdline::SliceTimer) -> SliceTimer {
    match asked {
        cmdline::SliceTimer::Preemption => SliceTimer::Preemption,
        cmdline::SliceTimer::Apic => SliceTimer::ApicOneShot,
    }
}

/// Whether APICv is asked for, and posted interrupts may be used.
fn apicv(asked: Apicv) -> (Option<bool>, bool) {
    match asked {
        Apicv::Auto => (None, true),
        Apicv::On => (Some(true), true),
        Apicv::NoPosted => (None, false),
        Apicv::Off => (Some(false), false),
    }
}

fn enable_vmx() -> Result<(), vmx_types::capability::NoVmx> {
    let cpu = host::enable()?;
    if !probe::try_apicv() {
        let used = if cpu.apic().contains(ApicVirt::APICV) { "used as apicv=on says" } else { "not used" };
        log::warn!(target: "vmx", "APICv delivers interrupts that the guest has masked, as in Bochs: {used}");
    }
    log::info!(target: "vmx", "{}; guests' APICs by {}", cpu.caps, cpu.apic());
    log::info!(target: "cpu", "levels: {}", policy::levels_of_this_host());
    Ok(())
}

fn fill_slots(boot: &Boot) {
    let plan = Plan::new(policy::mitigations::host());
    if boot.options.mitigations {
        slots::fill(plan);
    } else {
        slots::fill(plan.off());
        log::warn!(target: "vmx", "mitigations off: a guest may read what it must not");
    }
}

/// Every other CPU.
pub(crate) fn ap(index: usize) -> ! {
    machine::init_cpu();
    policy::flex::unlock_leaves();
    // Halted: a hundred that spin hold an emulator up, and cost power elsewhere.
    while !AWAKE.load(Ordering::Acquire) {
        irq::wait();
    }
    if host::boot_cpu().is_none() {
        arch::halt() // nothing but guests runs here
    }
    policy::ledger::take_aesni();
    if let Err(missing) = host::enable() {
        log::error!(target: "vmx", "CPU {index}: {missing}: it runs no guests");
        arch::halt()
    }
    log::debug!(target: "vmx", "CPU {index}: on");
    let mut scheduler = Scheduler::default();
    let mut watch = Watch::default();
    let slice = tsc::ticks(sched::SLICE_US);
    loop {
        irq::drain();
        flush::serve();
        call::serve();
        watch.poll();
        if let Turn::Idle(wake) = scheduler.turn(slice) {
            idle(wake);
        }
    }
}

static AWAKE: AtomicBool = AtomicBool::new(false);

/// Lets the other CPUs go on, and waits until each has VMX on, if this one has: nothing counts them in later.
fn wake_others(vmx: bool) {
    AWAKE.store(true, Ordering::Release);
    for other in (1..cpu::count()).filter_map(cpu::get) {
        apic::send_ipi(other.apic_id, irq::KICK);
    }
    if !vmx {
        return;
    }
    let deadline = tsc::read() + tsc::ticks(1_000_000);
    while host::all().count() < cpu::count() && tsc::read() < deadline {
        hint::spin_loop();
    }
    log::info!(target: "vmx", "on, {} of {} CPUs", host::all().count(), cpu::count());
}

/// CPU 0's loop: console, network, migrations, then the guests whose home it is.
fn manage(
    boot: &Boot,
    console: &mut Console,
    remote: &mut Remote,
    migrations: &mut Migrations,
    mut pending: Pending,
) -> ! {
    let mut scheduler = Scheduler::default();
    let (slice, migration_slice) = (tsc::ticks(SLICE_US), tsc::ticks(MIGRATION_SLICE_US));
    let poll_only = boot.options.idle == Idle::Poll;
    let mut watch = Watch::default();
    let mut balancer = Balancer::new();
    loop {
        let began = tsc::read();
        let clock = &mut meter::begin(began);
        irq::drain();
        flush::serve();
        watch.poll();
        meter::did(clock, Part::Interrupts);
        let mut busy = net::poll(tsc::micros());
        meter::did(clock, Part::Net);
        busy |= link::poll();
        meter::did(clock, Part::Link);
        host_log::listen();
        audit::poll();
        meter::did(clock, Part::Audit);
        busy |= tracking::poll();
        meter::did(clock, Part::Tracking);
        let resets = reset::poll();
        meter::did(clock, Part::Reset);
        ending::poll();
        busy |= remains::poll();
        meter::did(clock, Part::Scrub);
        if let Some(ended) = migrations.poll() {
            console.ended(Work::Migration, &ended);
            remote.ended(Work::Migration, &ended);
        }
        meter::did(clock, Part::Migration);
        if let Some(ended) = pool::poll(migrations.hold()) {
            console.ended(Work::Pool, &ended);
            remote.ended(Work::Pool, &ended);
        }
        meter::did(clock, Part::Pool);
        host_log::listen();
        pending.make(boot);
        busy |= restart::poll(|vm| migrations.admit(Command::Reset, vm).map_err(|refusal| refusal.text));
        busy |= files::poll();
        meter::did(clock, Part::Boot);
        let making = resets || registry::is_making();
        busy |= making;
        busy |= migrations.busy();
        balancer.poll();
        busy |= console.poll(migrations);
        meter::did(clock, Part::Console);
        busy |= remote.poll(migrations);
        meter::did(clock, Part::Management);
        busy |= pending.waits();
        if !busy {
            busy = frame::scrub();
            meter::did(clock, Part::Scrub);
        }
        // A guest gets as much of this CPU as the migration took.
        let ended = tsc::read();
        meter::end(clock, ended);
        let worked = ended - began;
        let typing = ended.saturating_sub(host_log::heard()) < tsc::ticks(TYPING_US);
        let most = if typing { tsc::ticks(TYPING_SLICE_US) } else { u64::MAX };
        let fair = if migrations.busy() || making { worked.max(migration_slice) } else { slice };
        let turn = scheduler.turn(fair.min(most));
        if let Turn::Idle(wake) = turn
            && !busy
            && !poll_only
        {
            idle(wake.min(tsc::read().saturating_add(slice)));
        }
    }
}

/// Halts until an interrupt, or host TSC `wake`.
fn idle(wake: u64) {
    let now = tsc::read();
    if wake <= now {
        return;
    }
    // Nothing but an IPI wakes a CPU without a deadline; a long one is cut so that the timer's counter can hold it.
    apic::timer_once((wake - now).min(tsc::ticks(100_000)));
    slots::idle(irq::wait);
    apic::timer_stop();
}

/// The VMs that the boot modules describe, until they are made. Those without a level wait for the pool, if this
/// host is to be in one. One that is refused leaves the others alone.
struct Pending {
    roles: Vec<Option<ModuleRole>>,
    /// The modules' memory, one for each.
    held: Vec<Arc<Held>>,
    /// Modules whose VM is not made yet.
    left: Vec<usize>,
    /// The one that is being made.
    making: Option<(String, Making)>,
    /// Until when VMs wait for the pool, in microseconds; none while nothing waits.
    until: Option<u64>,
    over: bool,
}

impl Pending {
    fn new(boot: &Boot) -> Self {
        let modules = &boot.info.modules;
        let mut roles: Vec<Option<ModuleRole>> = Vec::new();
        for module in modules {
            roles.push(match ModuleRole::parse(&module.command_line) {
                Ok(role) => Some(role),
                Err(refused) => {
                    log::error!(target: "vm", "vm {}: refused: {}", refused.vm, refused.error);
                    None
                }
            });
        }
        let mut left = Vec::new();
        for (at, (module, role)) in modules.iter().zip(&roles).enumerate() {
            match role {
                Some(ModuleRole::Vm(_)) => left.push(at),
                Some(ModuleRole::Other) => {
                    log::warn!(target: "boot", "module `{}` has neither vm= nor for=: ignored", redacted(&module.command_line));
                }
                Some(ModuleRole::For { name, .. })
                    if !roles
                        .iter()
                        .flatten()
                        .any(|r| matches!(r, ModuleRole::Vm(vm) if vm.name == *name)) =>
                {
                    log::warn!(target: "boot", "module `{}` is for a VM that no module describes", redacted(&module.command_line));
                }
                _ => {}
            }
        }
        let held =
            modules.iter().map(|module| Arc::new(Held::new(Hpa(module.start), module.end - module.start)));
        Self { roles, held: held.collect(), left, making: None, until: None, over: false }
    }

    /// True while VMs wait.
    fn waits(&self) -> bool {
        !self.over
    }

    /// Makes those that can be made in a moment, before the console is there.
    fn begin(&mut self, boot: &Boot) {
        let until = tsc::micros() + FIRST_US;
        self.make(boot);
        while self.making.is_some() && tsc::micros() < until {
            flush::serve();
            self.make(boot);
        }
    }

    /// How many are being made, or are to be once that one is.
    fn more(&self) -> usize {
        if self.making.is_some() { 1 + self.left.len() } else { 0 }
    }

    /// Goes on with the one that is being made. True while there is one.
    fn goes_on(&mut self) -> bool {
        let Some((name, making)) = &mut self.making else { return false };
        let Poll::Ready(made) = making.poll() else { return true };
        if let Err(why) = made.and_then(|vm| create::begin(&vm)) {
            log::error!(target: "vm", "vm {name}: refused: {why}");
        }
        self.making = None;
        false
    }

    /// Makes those that can be made now, one after the other, each for a bounded time; the memory of modules that no VM
    /// was made from is free once all are.
    fn make(&mut self, boot: &Boot) {
        if self.over || self.goes_on() {
            return;
        }
        let forming = pool::is_forming();
        let now = tsc::micros();
        let limit = u64::from(boot.options.pool_wait_s) * 1_000_000;
        let waits = |options: &VmOptions| {
            forming && options.level.is_none() && self.until.is_none_or(|until| now < until)
        };
        let mut later = Vec::new();
        for at in core::mem::take(&mut self.left) {
            let Some(Some(ModuleRole::Vm(options))) = self.roles.get(at) else { continue };
            if waits(options) && limit > 0 {
                if self.until.is_none() {
                    log::info!(target: "vm", "vm {}: waits for the pool, at most {} s", options.name, boot.options.pool_wait_s);
                }
                later.push(at);
                continue;
            }
            if self.making.is_some() {
                later.push(at);
                continue;
            }
            if forming && options.level.is_none() {
                log::warn!(target: "vm", "vm {}: the pool is not formed: starts at what is known of it", options.name);
            }
            match begin_vm(options, at, &self.roles, &self.held) {
                Ok(making) => self.making = Some((options.name.clone(), making)),
                Err(why) => log::error!(target: "vm", "vm {}: refused: {why}", options.name),
            }
        }
        self.left = later;
        if self.left.is_empty() && self.making.is_none() {
            self.over = true;
            self.held.clear(); // those of VMs stay for as long as these
        } else {
            self.until = Some(self.until.unwrap_or(now + limit));
        }
    }
}

fn begin_vm(
    options: &VmOptions,
    at: usize,
    roles: &[Option<ModuleRole>],
    held: &[Arc<Held>],
) -> Result<Making, String> {
    let kernel = held.get(at).map(Arc::clone).ok_or("its module is not there")?;
    let mut files = alloc::vec![SourceFile::here(kernel, String::new(), None)];
    for (module, role) in held.iter().zip(roles) {
        if let Some(ModuleRole::For { name, rest }) = role
            && *name == options.name
        {
            files.push(SourceFile::here(Arc::clone(module), rest.clone(), None));
        }
    }
    Making::of(Reserved::of(options)?, Source { options: options.clone(), files })
}
