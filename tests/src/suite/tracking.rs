//! Tracking of written pages, by each method: `vm dirty` counts what the guest wrote, and refuses what it cannot do.

use super::verbs::json;
use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 180;

/// Pages that the guest writes when told to, and how many it may write besides: stack and data.
const WRITTEN: u64 = 256;
const OTHERS: u64 = 16;

/// Pages whose harvest takes a million ticks, and what a turn of CPU 0 may take.
const MANY: u64 = 98_304;
const TURN: u64 = 400_000;

/// Memory of a host that is to be filled: the tables of so many large pages take 4 MiB, more than is left over where no
/// large page fits into, which an odd number makes small.
const HOST_MIB: u32 = 2041;

/// Method, a host that has it, a method that this host lacks, and what the refusal names.
type Method = (&'static str, &'static str, Option<(&'static str, &'static str)>);
const METHODS: [Method; 4] = [
    ("pml", "corei7_skylake_x", None),
    ("ad", "corei7_skylake_x", None),
    ("ad", "corei7_haswell_4770", Some(("pml", "PML"))),
    ("wp", "corei5_lynnfield_750", Some(("ad", "A/D"))),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |(method, model, lacking): (&'static str, &'static str, Option<_>)| {
        Case::new(&format!("tracking/{method}_on_{model}"), LIMIT, move |context| {
            counts(context, method, model, lacking)
        })
    };
    let mut cases: Vec<Case> = METHODS.into_iter().map(case).collect();
    cases.push(Case::new("tracking/no_memory_for_tables", LIMIT, no_memory_for_tables));
    cases.push(Case::new("tracking/holds_nobody", LIMIT, holds_nobody));
    cases
}

/// A VM that has nearly all of the host's memory cannot be tracked: the host says why, and the guest goes on.
fn no_memory_for_tables(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut bare = HostSpec::new("bare", "corei7_skylake_x");
    bare.mem_mib = HOST_MIB;
    let mut host = start(context, &bare)?;
    host.wait_ready(PATIENCE)?;
    let text = host.console()?.text();
    let line = text.lines().find_map(|line| line.split_once(" mm: ")?.1.split_once(" MiB free"));
    let free: u32 = line.context("no line of free memory")?.0.parse()?;
    drop(host);
    // Guests get memory by 2 MiB; what is free in smaller pieces is left.
    for mem_mib in [1, 0, 2].map(|pieces| (free & !1) - 2 * pieces) {
        let mut vm = VmSpec::new(VM, &guest::payload("dirty-bench"));
        vm.mem_mib = mem_mib;
        vm.level = "nehalem".to_string();
        vm.cmdline = format!("wait=1 dirty={WRITTEN} pages={}", 4 * WRITTEN);
        let mut spec = HostSpec::new(&format!("full-{mem_mib}"), "corei7_skylake_x").with_vm(vm);
        spec.mem_mib = HOST_MIB;
        let mut host = start(context, &spec)?;
        host.wait_ready(PATIENCE)?;
        if !done(&mut host, "vm list")?.iter().any(|line| line.contains(VM)) {
            continue; // refused: too much
        }
        host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
        let before = host_memory(&mut host)?;
        let error = refused(&mut host, &format!("vm dirty start {VM} pml"), "failed ")?;
        ensure!(error.contains("out of memory for page tables"), "{error}");
        let after = host_memory(&mut host)?;
        ensure!(after == before, "memory before `{before}`, after `{after}`");
        refused(&mut host, &format!("vm dirty harvest {VM}"), "state ")?;
        host.guest()?.send(b"x")?;
        host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
        return Ok(());
    }
    bail!("a host with {free} MiB free makes no VM of nearly so much")
}

/// A harvest of many pages holds CPU 0 for no longer than anything else does, whoever asks for it: `top`, which loses none
/// of them, and `vm dirty harvest`, which forgets them then.
fn holds_nobody(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("dirty-bench"));
    vm.mem_mib = 400;
    vm.level = "nehalem".to_string();
    vm.cmdline = format!("wait=1 dirty={MANY} pages={MANY}");
    let mut host = start(context, &HostSpec::new("many", "corei7_skylake_x").with_vm(vm))?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
    done(&mut host, &format!("vm dirty start {VM} ad"))?;
    harvest(&mut host)?;
    host.guest()?.send(b"x")?;
    host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
    let top = json(&mut host, "top --anew")?;
    ensure!(top["vms"][0]["dirty_pages_per_s"].is_u64(), "{top}");
    let pages = harvest(&mut host)?;
    ensure!((MANY..=MANY + OTHERS).contains(&pages), "{pages} pages of {MANY} counted");
    let longest = json(&mut host, "mem")?["longest_turn"].take();
    let ticks = longest["ticks"].as_u64().context("no longest turn")?;
    ensure!(ticks <= TURN, "CPU 0 was held for {ticks} ticks: {longest}");
    Ok(())
}

fn counts(context: &Context, method: &str, model: &str, lacking: Option<(&str, &str)>) -> Result<()> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("dirty-bench"));
    vm.mem_mib = 128; // tables of 63 large pages: more than `mem` rounds away
    vm.level = "nehalem".to_string();
    vm.cmdline = format!("wait=1 dirty={WRITTEN} pages={}", 4 * WRITTEN);
    let mut host = start(context, &HostSpec::new("host", model).with_vm(vm))?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
    refused(&mut host, &format!("vm dirty harvest {VM}"), "state ")?;
    if let Some((other, name)) = lacking {
        let error = refused(&mut host, &format!("vm dirty start {VM} {other}"), "unsupported ")?;
        ensure!(error.contains(name), "{error}");
    }
    for _ in 0..2 {
        let before = host_memory(&mut host)?;
        done(&mut host, &format!("vm dirty start {VM} {method}"))?;
        let split = large_pages(&mut host, "split")?;
        ensure!(split > 0, "no large page was split");
        refused(&mut host, &format!("vm dirty start {VM}"), "busy ")?;
        refused(&mut host, &format!("migrate {VM} 10.77.0.2"), "busy ")?;
        harvest(&mut host)?;
        for _ in 0..2 {
            host.guest()?.send(b"x")?;
            host.guest()?.expect("dirty-bench: ready", PATIENCE)?;
            let pages = harvest(&mut host)?;
            ensure!((WRITTEN..=WRITTEN + OTHERS).contains(&pages), "{pages} pages of {WRITTEN} counted");
            let pages = harvest(&mut host)?;
            ensure!(pages <= OTHERS, "{pages} pages counted again");
        }
        done(&mut host, &format!("vm dirty stop {VM}"))?;
        // All come back as they were, and so does the memory of their tables.
        let back = large_pages(&mut host, "put back")?;
        ensure!(back == split, "{split} large pages were split, {back} put back");
        let after = host_memory(&mut host)?;
        ensure!(after == before, "memory before `{before}`, after `{after}`");
    }
    host.guest()?.send(b"q")?;
    host.guest()?.expect("dirty-bench: done", PATIENCE)?;
    Ok(())
}

/// The figure of the last line of the log that says how many large pages were split, or put back.
fn large_pages(host: &mut Host, what: &str) -> Result<u64> {
    let text = host.console()?.text();
    let line = text.lines().rev().find(|line| line.contains(&format!(" large pages {what}, ")));
    let line = line.with_context(|| format!("no line of large pages {what}"))?;
    let number = line.split(" large pages").next().and_then(|start| start.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no number in `{line}`"))
}

/// What the host says of its free memory.
fn host_memory(host: &mut Host) -> Result<String> {
    let lines = done(host, "mem")?;
    let free = lines.iter().find(|line| line.starts_with("free "));
    free.cloned().with_context(|| format!("no free memory in {lines:?}"))
}

fn done(host: &mut Host, command: &str) -> Result<Vec<String>> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {:?}", answer.error);
    Ok(answer.lines)
}

fn refused(host: &mut Host, command: &str, code: &str) -> Result<String> {
    let error = host.command(command, PATIENCE)?.error.with_context(|| format!("`{command}` was obeyed"))?;
    ensure!(error.starts_with(code), "`{command}`: not `{code}` but `{error}`");
    Ok(error)
}

fn harvest(host: &mut Host) -> Result<u64> {
    let harvested = json(host, &format!("vm dirty harvest {VM}"))?;
    harvested["pages"].as_u64().with_context(|| format!("no number of pages in {harvested}"))
}
