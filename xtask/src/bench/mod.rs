//! `bench`: the project's figures, taken by small guests under Bochs. A tick is one instruction there.

mod apic;
mod exits;
mod kvm;
mod native;
mod qemu;
mod stopped;
mod tables;
mod tracking;
mod turn;
mod wire;

use crate::tools;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tables::{Figure, print_json, print_table};
use testbench::emu::IPS;
use testbench::guest;
use testbench::host::{Host, HostSpec};
use testbench::hub::Hub;
use testbench::paths;

/// The host where the figure wants no other: it has all that Flexvisor uses.
const NEW: &str = "corei7_skylake_x";
/// A host without page-modification logging.
const OLD: &str = "corei7_haswell_4770";

/// From and to where guests are moved.
const MODELS: &str = "corei7_skylake_x to corei7_haswell_4770";

const PATIENCE: Duration = Duration::from_secs(240);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Take only the figures of one part.
    #[arg(long)]
    only: Option<Part>,
    /// Instead: what memory costs on its way out, on this machine itself; with the host's build and with the kernel's.
    #[arg(long, conflicts_with = "only")]
    native: bool,
    /// Instead: QEMU's stream and ours of the same idle Debian.
    #[arg(long, conflicts_with = "only")]
    qemu: bool,
}

/// What is measured together.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Exits,
    Apic,
    Dirty,
    Boot,
    Migrations,
    Stopped,
    Turn,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let figures = if args.native || args.qemu { outside(args)? } else { emulated(args)? };
    if args.json {
        print_json(&figures);
    } else {
        print_table(&figures);
    }
    Ok(0)
}

/// What needs no emulated host.
fn outside(args: &Args) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if args.native {
        figures.extend(native::measure()?);
    }
    if args.qemu {
        figures.extend(qemu::measure(&paths::fresh_dir(&paths::build().join("logs/bench-qemu"))?)?);
    }
    Ok(figures)
}

fn emulated(args: &Args) -> Result<Vec<Figure>> {
    let image = tools::build()?;
    guest::build_payloads()?;
    let dir = paths::fresh_dir(&paths::build().join("logs/bench"))?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut figures = Vec::new();
    if wanted(Part::Exits) {
        step("exits");
        figures.extend(exits::all(&dir)?);
    }
    if wanted(Part::Apic) {
        figures.extend(apic::measure(&dir)?);
    }
    for (name, method, model) in [("dirty_pml", "pml", NEW), ("dirty_ad", "ad", OLD), ("dirty_wp", "wp", OLD)]
    {
        if wanted(Part::Dirty) {
            step(&format!("dirty tracking by {method}"));
            for (dirty, suffix) in [(tracking::QUARTER, ""), (tracking::HUNDREDTH, "_sparse")] {
                let ticks = tracking::measure(&dir, method, model, dirty)?;
                figures.push(Figure::new(&format!("{name}{suffix}"), ticks, model));
            }
        }
    }
    if wanted(Part::Boot) {
        step("boot");
        figures.push(Figure::new("boot_to_ready", boot_to_ready(&dir)?, NEW));
    }
    if wanted(Part::Migrations) {
        step("migrations");
        figures.extend(wire::measure(&dir)?);
    }
    if wanted(Part::Stopped) {
        step("a guest that is stopped");
        figures.extend(stopped::measure(&dir)?);
    }
    if wanted(Part::Turn) {
        step("the longest turn of CPU 0");
        figures.extend(turn::measure(&dir)?);
    }
    let bytes = std::fs::metadata(&image).with_context(|| image.display().to_string())?.len();
    figures.push(Figure::new("image_bytes", bytes as f64, "-"));
    Ok(figures)
}

/// Says on stderr what takes so long.
fn step(text: &str) {
    eprintln!("bench: {text}");
}

/// Ticks from the loader's entry to the ready line, by the line's own time stamp (microseconds).
fn boot_to_ready(dir: &Path) -> Result<f64> {
    let hub = Hub::new();
    let mut host = HostSpec::new("boot", NEW).option("ip=10.77.0.1/24").start(dir, Some((&hub, 1)))?;
    host.wait_ready(PATIENCE)?;
    let text = host.console()?.text();
    let line = text.lines().find(|line| line.contains("ready: ")).context("no ready line")?;
    let stamp = line.trim_start_matches(['[', ' ']).split(']').next().unwrap_or_default();
    let seconds: f64 = stamp.trim().parse().with_context(|| format!("no time stamp in `{line}`"))?;
    Ok((seconds * IPS as f64).round())
}

/// The lines that answer a command, which is done.
fn done(host: &mut Host, command: &str) -> Result<Vec<String>> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {}", answer.error.unwrap_or_default());
    Ok(answer.lines)
}

/// The object that answers a command with `--json`.
fn json(host: &mut Host, command: &str) -> Result<Value> {
    let lines = done(host, command)?;
    let line = lines.iter().find(|line| line.starts_with('{')).with_context(|| format!("{lines:?}"))?;
    serde_json::from_str(line).with_context(|| line.clone())
}

/// Reads a guest's lines `bench NAME VALUE` up to the line `end`.
fn values(host: &mut Host, end: &str) -> Result<Vec<(String, f64)>> {
    let mut values = Vec::new();
    host.guest()?.expect_line(&format!("`{end}` of the guest"), PATIENCE, |line| {
        if let Some((name, value)) = line.strip_prefix("bench ").and_then(|rest| rest.split_once(' '))
            && let Ok(value) = value.parse()
        {
            values.push((name.to_string(), value));
        }
        (line == end).then_some(())
    })?;
    ensure!(!values.is_empty(), "the guest printed no figure before `{end}`");
    Ok(values)
}

/// The one value of that name.
fn value(values: &[(String, f64)], name: &str) -> Result<f64> {
    let found = values.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| *value).with_context(|| format!("the guest printed no {name}"))
}
