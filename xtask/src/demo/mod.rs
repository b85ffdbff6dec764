//! `demo`: a running Linux moves between two Xeons of different generations, told for a person who watches.

mod live;
mod picture;
mod plain;
mod record;

use crate::run::{Backend, file, model};
use crate::tools;
use anyhow::Result;
use live::Live;
use plain::Plain;
use record::Recording;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbench::emu::IPS;
use testbench::host::Platform;
use testbench::migration::{Summary, emulated};
use testbench::paths;
use testbench::scenario::{Observer, Pair, Plan, VM};

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 every proof held, 1 one failed (it is named, and the logs), 2 usage, 3 missing tool."
)]
pub(crate) struct Args {
    /// What plays the hosts.
    #[arg(long, default_value = "bochs")]
    backend: Backend,
    /// CPU model of the source: one of Bochs' Intel models, qemu-kvm, or qemu-kvm:MODEL [default: the backend's newer one].
    #[arg(long, value_name = "MODEL", value_parser = model)]
    from: Option<String>,
    /// CPU model of the target [default: the backend's older one].
    #[arg(long, value_name = "MODEL", value_parser = model)]
    to: Option<String>,
    /// CPU level of the guest; without it, the hosts form a pool and the guest gets its level.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    level: String,
    /// CPUs of each host.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// Number of vCPUs of the guest; on each of them a worker verifies memory and looks at the clock.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// RAM of the guest in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=2048))]
    mem: u32,
    /// Another guest kernel; proofs that it offers no lines for are left out.
    #[arg(long, value_name = "FILE", value_parser = file)]
    kernel: Option<PathBuf>,
    /// Its initrd.
    #[arg(long, value_name = "FILE", value_parser = file)]
    initrd: Option<PathBuf>,
    /// The guest's command line.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// Migrate once the guest has printed this.
    #[arg(long, value_name = "TEXT")]
    migrate_after: Option<String>,
    /// Go on until the guest has printed this on the target.
    #[arg(long, value_name = "TEXT")]
    until: Option<String>,
    /// Limit for the whole run.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Plain lines in place of the consoles side by side; the default where the output is no terminal.
    #[arg(long)]
    plain: bool,
    /// Write what the screen shows to a file: NAME.cast for asciinema, NAME.svg for a page.
    #[arg(long, value_name = "FILE", conflicts_with = "plain", value_parser = record::file)]
    record: Option<PathBuf>,
    /// Where the logs go.
    #[arg(long, value_name = "DIR", default_value_os_t = paths::build().join("logs/demo"))]
    keep_logs: PathBuf,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let [newer, older] = args.backend.models();
    let [from, to] = [args.from.as_deref().unwrap_or(newer), args.to.as_deref().unwrap_or(older)];
    let platform = |model| Platform::parse(model).map_err(anyhow::Error::msg);
    let platforms = [platform(from)?, platform(to)?];
    let started = Instant::now();
    let mut narrator = Plain::new(started);
    narrator.step("building");
    tools::build()?;
    let plan = plan(args, from, to)?;
    let dir = paths::log_dir(&args.keep_logs)?;
    let mut hosts = plan.hosts();
    for (host, platform) in hosts.iter_mut().zip(platforms) {
        host.platform = platform;
    }
    narrator.step(&format!("booting source ({from}) and target ({to}), {} CPU(s) each", args.cpus));
    narrator.step(&format!(
        "guest: {} MiB, {}; logs in {}",
        plan.vm.mem_mib,
        if plan.is_pooled() { "at the pool's level".to_string() } else { format!("level {}", plan.vm.level) },
        dir.display()
    ));
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let run = |observer: &mut dyn Observer| {
        Pair::start(&hosts, &dir, deadline, observer).and_then(|mut pair| pair.run(&plan, observer))
    };
    let terminal = std::io::stdout().is_terminal();
    let outcome = if args.plain || !(terminal || args.record.is_some()) {
        run(&mut narrator)
    } else {
        let recording = args.record.clone().map(Recording::new);
        let mut live = Live::start(&dir, [from, to], started, terminal, recording);
        let outcome = run(&mut live);
        live.end(&outcome)?;
        outcome
    };
    let report = match outcome {
        Ok(report) => report,
        Err(e) => {
            println!("\nFAILED: {e:#}");
            name_logs(&dir);
            return Ok(1);
        }
    };
    println!();
    summary(&report.summary);
    println!();
    for proof in &report.proofs {
        println!("  {proof}");
    }
    println!("\n{:.0} s in all, logs in {}", started.elapsed().as_secs_f64(), dir.display());
    if !report.held() {
        name_logs(&dir);
    }
    Ok(u8::from(!report.held()))
}

fn plan(args: &Args, from: &str, to: &str) -> Result<Plan> {
    let mut plan = Plan::linux(from, to, &args.level)?;
    plan.cpus = args.cpus;
    if args.vcpus > 1 {
        plan.vm.options.push(format!("vcpus={}", args.vcpus));
    }
    plan.vm.mem_mib = args.mem;
    plan.patience = Duration::from_secs(args.timeout);
    plan.until.clone_from(&args.until);
    if let Some(kernel) = &args.kernel {
        plan.own_guest = false;
        plan.vm.kernel.clone_from(kernel);
        plan.vm.initrd = None;
        plan.vm.cmdline.clear();
        plan.migrate_after.clear(); // at once
    }
    if let Some(initrd) = &args.initrd {
        plan.own_guest = false;
        plan.vm.initrd = Some(initrd.clone());
    }
    if let Some(cmdline) = &args.cmdline {
        plan.vm.cmdline.clone_from(cmdline);
        plan.own_guest &= cmdline.split_whitespace().any(|word| word == "guest=demo");
    }
    if let Some(text) = &args.migrate_after {
        plan.migrate_after.clone_from(text);
    }
    Ok(plan)
}

fn name_logs(dir: &std::path::Path) {
    for host in ["source", "target"] {
        let log = |port| dir.join(format!("{host}-com{port}.log")).display().to_string();
        println!("{host}: host log {}, guest log {}", log(1), log(2));
    }
}

fn summary(summary: &Summary) {
    let Summary { rounds, pages, zero, bytes, ticks, downtime, last_pages, state, resume, stop } = *summary;
    let time = |ticks| format!("{ticks:>14} ticks  {:>9.3} s emulated", emulated(ticks, IPS).as_secs_f64());
    println!("migration of {VM} (1 tick = 1 instruction, {IPS} a second)");
    println!("  rounds                {rounds:>10}");
    println!("  pages sent            {pages:>10}");
    println!("  zero pages among them {zero:>10}");
    println!("  bytes                 {bytes:>10}");
    println!("  total             {}", time(ticks));
    println!("  downtime          {}", time(downtime));
    println!("    last pages      {}", time(last_pages));
    println!("    state           {}", time(state));
    println!("    resume          {}", time(resume));
    println!("  vCPUs stopped in  {}", time(stop));
}
