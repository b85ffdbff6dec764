//! Tracking of written pages, by each method: `vm dirty` counts what the guest wrote, and refuses what it cannot do.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 180;

/// Pages that the guest writes when told to, and how many it may write besides: stack and data.
const WRITTEN: u64 = 256;
const OTHERS: u64 = 16;

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
    METHODS.into_iter().map(case).collect()
}

fn counts(context: &Context, method: &str, model: &str, lacking: Option<(&str, &str)>) -> Result<()> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("dirty-bench"));
    vm.mem_mib = 16;
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
    // The second time, tables of the first are used again.
    for _ in 0..2 {
        done(&mut host, &format!("vm dirty start {VM} {method}"))?;
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
    }
    host.guest()?.send(b"q")?;
    host.guest()?.expect("dirty-bench: done", PATIENCE)?;
    Ok(())
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
    let lines = done(host, &format!("vm dirty harvest {VM}"))?;
    let pages = lines.iter().find_map(|line| line.strip_prefix("dirty: ")?.split(' ').next()?.parse().ok());
    pages.with_context(|| format!("no number of pages in {lines:?}"))
}
