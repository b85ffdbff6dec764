//! One migration from a host to another: the demo and the migration tests run the same steps.

use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::hub::Hub;
use crate::migration::{Line, Round, Summary};
use crate::proof::{self, Evidence, Proof};
use anyhow::{Result, bail, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The VM's name.
pub const VM: &str = "demo";
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
    /// Text on the guest's console that starts the move.
    pub migrate_after: String,
    /// Text on the guest's console at the target that ends the run.
    pub until: Option<String>,
    /// Limit for each wait.
    pub patience: Duration,
}

impl Plan {
    /// The demo's guest, at a level.
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
            migrate_after: "tick 8 ".to_string(),
            until: None,
            patience: Duration::from_secs(240),
        })
    }

    /// The two hosts, ready to be changed and started.
    pub fn hosts(&self) -> [HostSpec; 2] {
        let host = |name: &str, model: &str, address: &str| {
            let mut host = HostSpec::new(name, model).option(&format!("ip={address}/24"));
            host.cpus = self.cpus;
            host.mem_mib = self.vm.mem_mib + 256;
            // A host that halts would run through its time-outs while the other has barely moved.
            host.option("idle=poll").option("migrate=listen")
        };
        let source = host("source", &self.from, ADDRESSES[0]).with_vm(self.vm.clone());
        let mut target = host("target", &self.to, ADDRESSES[1]);
        target.guest_console = Some(VM.to_string());
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

/// Two running hosts on a hub.
pub struct Pair {
    /// Where the guest starts.
    pub source: Host,
    /// Where it goes.
    pub target: Host,
    /// What joins them.
    pub hub: Hub,
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
        Ok(Self { source, target, hub })
    }

    /// Waits until the guest has come so far as the plan wants.
    pub fn wait_guest(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        let console = self.source.guest()?;
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

    /// Gives the order and follows the source's lines to the end.
    pub fn migrate(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<Summary> {
        let target = ADDRESSES[1];
        let console = self.source.console()?;
        console.send_line(&format!("migrate {VM} {target}"))?;
        observer.step(&format!("source> migrate {VM} {target}"));
        loop {
            let line = console.expect_line("the next line of the migration", plan.patience, |line| {
                let refusal = line.strip_prefix("error: ").map(|text| Line::Failed(text.to_string()));
                Line::parse(line, VM).or(refusal)
            })?;
            match line {
                Line::Round(round) => observer.round(round),
                Line::Done(summary) => return Ok(summary),
                Line::Failed(reason) => bail!("the migration failed: {reason}"),
                Line::Unknown(text) => bail!("the migration ended unknown: {text}"),
                Line::Other(text) => observer.step(&text),
            }
        }
    }

    /// Lets the guest run on at the target until all proofs can be judged, then ends it.
    pub fn finish(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        let guest = self.target.guest()?;
        if plan.own_guest {
            let line = guest.expect("tick ", plan.patience)?;
            observer.step(&format!("the guest runs on at the target: `{}`", line.trim_end()));
            guest.send_line("dump")?;
            guest.expect("cpuid end 2", plan.patience)?;
            for _ in 0..2 {
                guest.expect("worker pass ", plan.patience)?;
            }
            observer.step("two passes of the memory worker are over");
        }
        if let Some(text) = &plan.until {
            let line = guest.expect(text, plan.patience)?;
            observer.step(&format!("the guest printed `{}`", line.trim_end()));
        }
        if plan.own_guest {
            guest.send_line("stop")?;
            let how = self.target.vm_event(VM, &["stopped: "], plan.patience)?;
            ensure!(how == "stopped: power-off", "the guest ended otherwise on the target: {how}");
            observer.step("the guest powered off");
            self.target.guest()?.drain(Duration::from_millis(300), Duration::from_secs(5));
        }
        Ok(())
    }

    /// All of it.
    pub fn run(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<Report> {
        self.wait_guest(plan, observer)?;
        let summary = self.migrate(plan, observer)?;
        let printed = self.source.guest()?.text();
        self.finish(plan, observer)?;
        Ok(Report { summary, proofs: self.judge(plan, &printed)? })
    }

    /// Judges everything printed so far. `printed` is what the guest had printed at the source when it left.
    pub fn judge(&mut self, plan: &Plan, printed: &str) -> Result<Vec<Proof>> {
        let source = self.source.guest()?.text();
        let target = self.target.guest()?.text();
        let (level, model) = (&plan.vm.level, &plan.from);
        let strict = plan.own_guest;
        let evidence = Evidence { source: &source, target: &target, level, model, strict };
        let mut proofs = proof::judge(&evidence);
        let given_up = self.given_up(&source, printed);
        proofs.push(Proof::new("the source gave the guest up", given_up.map_err(|e| format!("{e:#}"))));
        if plan.own_guest {
            let log = self.target.console()?.text();
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
        let log = self.source.console()?.text();
        for event in ["given to", "freed"] {
            ensure!(log.contains(&format!("vm {VM}: {event}")), "it never said `vm {VM}: {event}`");
        }
        let answer = self.source.command("vm list", Duration::from_secs(60))?;
        let row = answer.lines.iter().find(|line| line.split_whitespace().any(|word| word == VM));
        if let Some(row) = row {
            ensure!(!row.contains("running"), "`vm list` says: {row}");
        }
        Ok("given to the target, freed, not in `vm list`".to_string())
    }
}
