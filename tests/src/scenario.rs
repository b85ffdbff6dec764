//! One migration from a host to another: the demo and the migration tests run the same steps.

use crate::console::Console;
use crate::emu::IPS;
use crate::guest;
use crate::host::{self, Host, HostSpec, VmSpec};
use crate::hub::Hub;
use crate::levels;
use crate::migration::{Line, Round, Summary};
use crate::proof::{self, Evidence, Proof};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The VM's name.
pub const VM: &str = "demo";
/// The pool's name.
pub const POOL: &str = "lab";
/// Addresses of source and target.
pub const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// What is to be moved, from where to where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// CPU model of the source.
    pub from: String,
    /// CPU model of the target.
    pub to: String,
    /// CPUs of each host.
    pub cpus: u32,
    /// The guest.
    pub vm: VmSpec,
    /// The guest is the demo's own: it dumps its CPU and stops when told to.
    pub own_guest: bool,
    /// Emulated instructions per second of source and target.
    pub ips: [u64; 2],
    /// Text on the guest's console that starts the move.
    pub migrate_after: String,
    /// Text on the guest's console at the target that ends the run.
    pub until: Option<String>,
    /// Limit for each wait.
    pub patience: Duration,
}

impl Plan {
    /// The demo's guest, at a level, or with an empty one at that of the pool.
    pub fn linux(from: &str, to: &str, level: &str) -> Result<Self> {
        let linux = guest::debian()?;
        let mut vm = VmSpec::new(VM, &linux.kernel);
        vm.mem_mib = 256;
        vm.level = level.to_string();
        vm.initrd = Some(linux.initrd);
        vm.cmdline = guest::DEMO_CMDLINE.to_string();
        Ok(Self {
            from: from.to_string(),
            to: to.to_string(),
            cpus: 1,
            vm,
            own_guest: true,
            ips: [IPS; 2],
            migrate_after: "tick 8 ".to_string(),
            until: None,
            patience: Duration::from_secs(240),
        })
    }

    /// A small guest of `tests/guests` that rewrites and verifies memory and counts ticks without end.
    pub fn memwriter(from: &str, to: &str, level: &str, mib: u32) -> Result<Self> {
        guest::build_payloads()?;
        let mut vm = VmSpec::new(VM, &guest::payload("memwriter"));
        vm.mem_mib = 16 + mib;
        vm.level = level.to_string();
        // About 20 ticks a guest-second, 8 pages each: several rounds, and an end.
        vm.cmdline = format!("mib={mib} pages=8 gap=1000000");
        Ok(Self {
            from: from.to_string(),
            to: to.to_string(),
            cpus: 1,
            vm,
            own_guest: false,
            ips: [IPS; 2],
            migrate_after: "tick 5 ".to_string(),
            until: None,
            patience: Duration::from_secs(120),
        })
    }

    /// How many vCPUs the VM has.
    fn vcpus(&self) -> usize {
        let vcpus = self.vm.options.iter().find_map(|option| option.strip_prefix("vcpus=")?.parse().ok());
        vcpus.unwrap_or(1)
    }

    /// The VM names no level: both hosts form a pool, whose level it gets.
    pub fn is_pooled(&self) -> bool {
        self.vm.level.is_empty()
    }

    /// The level that the guest's view is judged by: its own, or what the generations of both hosts have.
    fn judged_level(&self) -> Result<String> {
        if !self.is_pooled() {
            return Ok(self.vm.level.clone());
        }
        let generation =
            |model| levels::generation(model).with_context(|| format!("no generation of {model}"));
        Ok(format!("{}+{}", generation(&self.from)?, generation(&self.to)?))
    }

    /// The two hosts, ready to be changed and started.
    pub fn hosts(&self) -> [HostSpec; 2] {
        let host = |name: &str, model: &str, address: &str| {
            let mut host = HostSpec::new(name, model).option(&format!("ip={address}/24"));
            host.cpus = self.cpus;
            host.mem_mib = self.vm.mem_mib + 256;
            if self.is_pooled() {
                // Either may be up long before the other.
                let peers = ADDRESSES.join(",");
                let options = [format!("pool={POOL}"), format!("name={name}"), format!("peers={peers}")];
                host.options.extend(options);
                host = host.option("pool-wait=600");
            }
            // A host that halts would run through its time-outs while the other has barely moved.
            host.option("idle=poll").option("migrate=listen")
        };
        let mut source = host("source", &self.from, ADDRESSES[0]).with_vm(self.vm.clone());
        let mut target = host("target", &self.to, ADDRESSES[1]);
        target.guest_console = Some(VM.to_string());
        (source.ips, target.ips) = (self.ips[SOURCE], self.ips[TARGET]);
        [source, target]
    }
}

/// Who is told about the steps.
pub trait Observer {
    /// A step begins.
    fn step(&mut self, text: &str);
    /// A round of the migration is over.
    fn round(&mut self, round: Round);
}

/// For tests: the log files tell it all.
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &str) {}
    fn round(&mut self, _: Round) {}
}

/// Index of the host where the guest starts.
pub const SOURCE: usize = 0;
/// Index of the host to which it goes.
pub const TARGET: usize = 1;

/// Two running hosts on a hub.
pub struct Pair {
    /// [`SOURCE`] and [`TARGET`].
    pub hosts: [Host; 2],
    /// What joins them.
    pub hub: Hub,
}

/// How the source says that a migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest runs on the other host.
    Done(Summary),
    /// It runs where it was, and why.
    Failed(String),
    /// It is paused where it was, and may run on the other.
    Unknown(String),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Totals, as the source printed them.
    pub summary: Summary,
    /// All proofs.
    pub proofs: Vec<Proof>,
}

impl Report {
    /// All proofs held.
    pub fn held(&self) -> bool {
        !self.proofs.iter().any(Proof::failed)
    }
}

const READY: Duration = Duration::from_secs(120);

impl Pair {
    /// Starts both hosts and waits until they are up.
    pub fn start(
        hosts: &[HostSpec; 2],
        dir: &Path,
        deadline: Instant,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let hub = Hub::new();
        hub.capture(&dir.join("wire.pcap"))?;
        let mut target = hosts[1].start(dir, Some((&hub, 2)))?;
        let mut source = hosts[0].start(dir, Some((&hub, 1)))?;
        source.set_deadline(deadline);
        target.set_deadline(deadline);
        let ready = target.wait_ready(READY)?;
        observer.step(&format!("target is up: {ready}"));
        let ready = source.wait_ready(READY)?;
        observer.step(&format!("source is up: {ready}"));
        Ok(Self { hosts: [source, target], hub })
    }

    /// Waits until a guest without a level has one: the hosts are a pool by then.
    pub fn wait_pool(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        if plan.is_pooled() {
            let made = self.hosts[SOURCE].vm_event(VM, &["made, "], plan.patience)?;
            observer.step(&format!("pool {POOL} is formed: vm {VM} is {made}"));
        }
        Ok(())
    }

    /// Waits until the guest has come so far as the plan wants.
    pub fn wait_guest(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        let console = self.hosts[SOURCE].guest()?;
        if plan.own_guest {
            console.expect("guest: init ran", plan.patience)?;
            observer.step("the guest's user space runs");
            console.expect("cpuid end 1", plan.patience)?;
        }
        if plan.migrate_after.is_empty() {
            return Ok(());
        }
        let line = console.expect(&plan.migrate_after, plan.patience)?;
        observer.step(&format!("the guest printed `{}`", line.trim_end()));
        Ok(())
    }

    /// Moves the guest from host `from` to the other.
    pub fn migrate(&mut self, from: usize, plan: &Plan, observer: &mut dyn Observer) -> Result<Summary> {
        match self.try_migrate(from, plan, observer)? {
            Outcome::Done(summary) => Ok(summary),
            Outcome::Failed(reason) => bail!("the migration failed: {reason}"),
            Outcome::Unknown(text) => bail!("the migration ended unknown: {text}"),
        }
    }

    /// Gives the order and follows the source's lines to the end.
    pub fn try_migrate(&mut self, from: usize, plan: &Plan, observer: &mut dyn Observer) -> Result<Outcome> {
        self.order(from, "", observer)?;
        self.follow(from, plan, observer)
    }

    /// Orders the guest's move from host `from` to the other, with options.
    pub fn order(&mut self, from: usize, options: &str, observer: &mut dyn Observer) -> Result<()> {
        let target = ADDRESSES[1 - from];
        let order = format!("migrate {VM} {target} {options}");
        self.hosts[from].console()?.send_line(order.trim_end())?;
        observer.step(&format!("{}> {order}", ["source", "target"][from]));
        Ok(())
    }

    /// Follows a move that was ordered to its end.
    pub fn follow(&mut self, from: usize, plan: &Plan, observer: &mut dyn Observer) -> Result<Outcome> {
        let console = self.hosts[from].console()?;
        let mut outcome = None;
        loop {
            let line = console.expect_line("the next line of the migration", plan.patience, |line| {
                let end = (line == "ok").then(String::new).or_else(|| host::failure(line));
                end.map(Err).or_else(|| Line::parse(line, VM).map(Ok))
            })?;
            match line {
                Ok(Line::Round(round)) => observer.round(round),
                Ok(Line::Done(summary)) => outcome = Some(Outcome::Done(summary)),
                Ok(Line::Failed(reason)) => outcome = Some(Outcome::Failed(reason)),
                Ok(Line::Unknown(text)) => outcome = Some(Outcome::Unknown(text)),
                Ok(Line::Other(text)) => observer.step(&text),
                Err(error) => return outcome.or(Some(Outcome::Failed(error))).context("no outcome"),
            }
        }
    }

    /// Lets the guest run on at the target until all proofs can be judged, then ends it.
    pub fn finish(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        let guest = self.hosts[TARGET].guest()?;
        if plan.own_guest {
            let line = guest.expect("tick ", plan.patience)?;
            observer.step(&format!("the guest runs on at the target: `{}`", line.trim_end()));
            guest.send_line("dump")?;
            guest.expect_any(&["cpuid end 2"], plan.patience)?;
            two_passes(guest, plan)?;
            observer.step("two passes of the memory worker are over");
        }
        if let Some(text) = &plan.until {
            let line = guest.expect(text, plan.patience)?;
            observer.step(&format!("the guest printed `{}`", line.trim_end()));
        }
        if plan.own_guest {
            guest.send_line("stop")?;
            let how = self.hosts[TARGET].vm_event(VM, &["stopped: "], plan.patience)?;
            ensure!(how == "stopped: power-off", "the guest ended otherwise on the target: {how}");
            observer.step("the guest powered off");
            self.hosts[TARGET].guest()?.drain(Duration::from_millis(300), Duration::from_secs(5));
        }
        Ok(())
    }

    /// Waits for the guest. The target has nothing to do yet: the processor is better used for the guest's start. A
    /// member of a pool has: the others would miss it.
    pub fn wait_frozen(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        self.wait_pool(plan, observer)?;
        let freezes = !plan.is_pooled();
        if freezes {
            self.hosts[TARGET].machine.process.freeze(true)?;
        }
        self.wait_guest(plan, observer)?;
        if freezes {
            self.hosts[TARGET].machine.process.freeze(false)?;
        }
        Ok(())
    }

    /// All of it.
    pub fn run(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<Report> {
        self.wait_frozen(plan, observer)?;
        let summary = self.migrate(SOURCE, plan, observer)?;
        let printed = self.hosts[SOURCE].guest()?.text();
        self.finish(plan, observer)?;
        Ok(Report { summary, proofs: self.judge(plan, &printed)? })
    }

    /// There and back again: the guest ends where it began.
    pub fn run_and_back(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<Report> {
        self.wait_frozen(plan, observer)?;
        self.migrate(SOURCE, plan, observer)?;
        two_passes(self.hosts[TARGET].guest()?, plan)?;
        let before = self.hosts[SOURCE].guest()?.text();
        let summary = self.migrate(TARGET, plan, observer)?;
        let guest = self.hosts[SOURCE].guest()?;
        guest.take_lines();
        guest.expect("tick ", plan.patience)?;
        guest.send_line("dump")?;
        guest.expect_any(&["cpuid end 2"], plan.patience)?;
        two_passes(guest, plan)?;
        let away = self.hosts[TARGET].guest()?.text();
        let back = self.hosts[SOURCE].guest()?.text_from(before.len());
        let (source, level, model) = (format!("{before}{away}"), &plan.judged_level()?, &plan.from);
        let evidence = Evidence { source: &source, target: &back, level, model, strict: true };
        Ok(Report { summary, proofs: proof::judge(&evidence) })
    }

    /// Judges everything printed so far. `printed` is what the guest had printed at the source when it left.
    pub fn judge(&mut self, plan: &Plan, printed: &str) -> Result<Vec<Proof>> {
        let source = self.hosts[SOURCE].guest()?.text();
        let target = self.hosts[TARGET].guest()?.text();
        let (level, model) = (&plan.judged_level()?, &plan.from);
        let strict = plan.own_guest;
        let evidence = Evidence { source: &source, target: &target, level, model, strict };
        let mut proofs = proof::judge(&evidence);
        let given_up = self.given_up(&source, printed);
        proofs.push(Proof::new("the source gave the guest up", given_up.map_err(|e| format!("{e:#}"))));
        if plan.own_guest {
            let log = self.hosts[TARGET].console()?.text();
            let ended = log.contains(&format!("vm {VM}: stopped: power-off"));
            let outcome = if ended { Ok("power-off on request".into()) } else { Err("no power-off".into()) };
            proofs.push(Proof::new("the guest obeys at the target", outcome));
        }
        Ok(proofs)
    }

    fn given_up(&mut self, source: &str, printed: &str) -> Result<String> {
        // What was under way in the serial port when the move ended may still have come: the rest of the buffers.
        let late = source.len().saturating_sub(printed.len());
        ensure!(late < 4096, "it printed {late} bytes after the guest had left");
        let log = self.hosts[SOURCE].console()?.text();
        for event in ["given to", "freed"] {
            ensure!(log.contains(&format!("vm {VM}: {event}")), "it never said `vm {VM}: {event}`");
        }
        let answer = self.hosts[SOURCE].command("vm list", Duration::from_secs(60))?;
        let row = answer.lines.iter().find(|line| line.split_whitespace().any(|word| word == VM));
        if let Some(row) = row {
            ensure!(!row.contains("running"), "`vm list` says: {row}");
        }
        Ok("given to the target, freed, not in `vm list`".to_string())
    }
}

/// The worker on each of the guest's CPUs tells of two passes from here on.
fn two_passes(guest: &mut Console, plan: &Plan) -> Result<()> {
    let mut passes = vec![0; plan.vcpus()];
    while passes.iter().any(|passes| *passes < 2) {
        let cpu = guest.expect_line("two passes of each worker", plan.patience, |line| {
            let (cpu, _) = line.strip_prefix("worker ")?.split_once("pass ")?;
            if cpu.is_empty() { Some(0) } else { cpu.trim_end().parse::<usize>().ok() }
        })?;
        *passes.get_mut(cpu).with_context(|| format!("a worker on CPU {cpu}"))? += 1;
    }
    Ok(())
}
