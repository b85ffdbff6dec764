//! `bench`: the project's figures, taken by small guests under Bochs with one CPU. A tick is one instruction there.

use crate::tools;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use testbench::emu::IPS;
use testbench::guest;
use testbench::host::{Host, HostSpec, VmSpec};
use testbench::paths;

const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(120);

/// What KVM takes for the same in the same emulator, mitigations off, in instructions.
const KVM: [(&str, f64); 3] =
    [("cpuid_exit", 974.0), ("cpuid_exit_mitigated", 1112.0), ("rdmsr_exit", 1089.0)];

/// What the project wants to reach.
const REACH: [(&str, f64); 5] = [
    ("cpuid_exit", 150.0),
    ("cpuid_exit_mitigated", 250.0),
    ("rdmsr_exit", 180.0),
    ("boot_to_ready", 50e6),
    ("image_bytes", 1_048_576.0),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

struct Figure {
    value: f64,
    model: &'static str,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let image = tools::build()?;
    guest::build_payloads()?;
    let dir = paths::fresh_dir(&paths::build().join("logs/bench"))?;
    let mut figures = BTreeMap::new();
    let bytes = std::fs::metadata(&image)?.len();
    figures.insert("image_bytes".to_string(), Figure { value: bytes as f64, model: "-" });
    let value = boot_to_ready(&dir)?;
    figures.insert("boot_to_ready".to_string(), Figure { value, model: MODEL });
    for (mitigations, suffix) in [("off", ""), ("auto", "_mitigated")] {
        for (name, value) in exits(&dir, mitigations)? {
            figures.insert(format!("{name}{suffix}"), Figure { value, model: MODEL });
        }
    }
    if args.json {
        print_json(&figures);
    } else {
        print_table(&figures);
    }
    Ok(0)
}

/// Ticks from the loader's entry to the ready line, by the line's own time stamp (microseconds).
fn boot_to_ready(dir: &Path) -> Result<f64> {
    let mut host = HostSpec::new("boot", MODEL).option("ip=10.77.0.1/24").start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    let text = host.console()?.text();
    let line = text.lines().find(|line| line.contains("ready: ")).context("no ready line")?;
    let stamp = line.trim_start_matches(['[', ' ']).split(']').next().unwrap_or_default();
    let seconds: f64 = stamp.trim().parse().with_context(|| format!("no time stamp in `{line}`"))?;
    Ok((seconds * IPS as f64).round())
}

/// The figures of the payload `exit-bench`, less its own loop.
fn exits(dir: &Path, mitigations: &str) -> Result<Vec<(String, f64)>> {
    let mut vm = VmSpec::new("bench", &guest::payload("exit-bench"));
    vm.options.push("debug-exit".to_string());
    let name = format!("exits-{mitigations}");
    let spec = HostSpec::new(&name, MODEL).with_vm(vm).option(&format!("mitigations={mitigations}"));
    let mut host = spec.start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    let mut figures = lines(&mut host)?;
    let at = figures.iter().position(|(name, _)| name == "floor").context("exit-bench printed no floor")?;
    let (_, floor) = figures.remove(at);
    Ok(figures.into_iter().map(|(name, value)| (name, value - floor)).collect())
}

/// Reads `bench NAME VALUE` lines up to the payload's last line.
fn lines(host: &mut Host) -> Result<Vec<(String, f64)>> {
    let mut figures = Vec::new();
    host.guest()?.expect_line("the end of the benchmark", PATIENCE, |line| {
        if let Some((name, value)) = line.strip_prefix("bench ").and_then(|rest| rest.split_once(' '))
            && let Ok(value) = value.parse()
        {
            figures.push((name.to_string(), value));
        }
        line.ends_with("-bench: done").then_some(())
    })?;
    ensure!(!figures.is_empty(), "the benchmark printed nothing");
    Ok(figures)
}

fn looked_up(table: &[(&str, f64)], name: &str) -> Option<f64> {
    table.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

fn print_table(figures: &BTreeMap<String, Figure>) {
    println!("1 tick = 1 instruction; Bochs 2.7, 1 CPU, ips={IPS}");
    println!("{:<24} {:>14} {:>10} {:>12}  model", "figure", "ours", "KVM", "reach");
    for (name, Figure { value, model }) in figures {
        let cell = |value: Option<f64>| value.map_or("-".to_string(), |value| value.to_string());
        let (kvm, reach) = (looked_up(&KVM, name), looked_up(&REACH, name));
        let verdict = if reach.is_some_and(|reach| *value > reach) { "  MISSED" } else { "" };
        println!("{name:<24} {value:>14} {:>10} {:>12}  {model}{verdict}", cell(kvm), cell(reach));
    }
}

fn print_json(figures: &BTreeMap<String, Figure>) {
    let rows = figures.iter().map(|(name, Figure { value, model })| {
        let kvm = looked_up(&KVM, name).map_or(String::new(), |kvm| format!(", \"kvm\": {kvm}"));
        format!("  \"{name}\": {{\"value\": {value}, \"model\": \"{model}\", \"ips\": {IPS}{kvm}}}")
    });
    println!("{{\n{}\n}}", rows.collect::<Vec<_>>().join(",\n"));
}
