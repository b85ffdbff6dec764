//! vCPUs are spread over the host's CPUs that run guests, and spread out again where a VM has gone.

use super::{Case, Context, start};
use crate::emu::IPS;
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

const SKYLAKE: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long rows that are even are watched, in ticks: six times as long as one judgement takes.
const WATCHED: u64 = IPS;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("smp/balance", 120, balance)]
}

/// Where the first vCPU of a VM is, and when that was by the guest's TSC.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    cpu: u64,
    pinned: bool,
    ran_us: u64,
    tsc: u64,
}

fn show(host: &mut Host, vm: &str) -> Result<Shown> {
    let answer = host.command(&format!("vm show {vm} --json"), PATIENCE)?;
    let line = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    let value: Value = serde_json::from_str(line).with_context(|| line.clone())?;
    let vcpu = &value["vcpus"][0];
    let number = |value: &Value| value.as_u64().with_context(|| line.clone());
    Ok(Shown {
        cpu: number(&vcpu["cpu"])?,
        pinned: vcpu["pinned"].as_bool().with_context(|| line.clone())?,
        ran_us: number(&vcpu["ran_us"])?,
        tsc: number(&value["tsc"])?,
    })
}

/// Three busy guests on a host with three CPUs, the first of which takes none. The one that has a CPU for itself is destroyed: of
/// the other two, which share one, the one that is not pinned moves to what is free, and both stay where they are then.
fn balance(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", SKYLAKE);
    spec.cpus = 3;
    for name in ["keeps", "leaves", "moves"] {
        let mut vm = VmSpec::new(name, &guest::payload("spin"));
        vm.mem_mib = 4;
        spec = spec.with_vm(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    for (name, cpu) in [("keeps", 1), ("leaves", 2), ("moves", 1)] {
        let shown = show(&mut host, name)?;
        ensure!((shown.cpu, shown.pinned) == (cpu, false), "{name} begins at {shown:?}");
    }
    for command in ["vm pin keeps 0 1", "vm destroy leaves --force"] {
        let answer = host.command(command, PATIENCE)?;
        ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    }
    let until = Instant::now() + PATIENCE;
    let moved = loop {
        let shown = show(&mut host, "moves")?;
        if shown.cpu == 2 {
            break shown;
        }
        ensure!(shown.cpu == 1, "{shown:?}");
        if Instant::now() > until {
            bail!("two busy vCPUs share CPU 1 and CPU 2 has none: {shown:?}");
        }
    };
    let kept = show(&mut host, "keeps")?;
    let mut last = moved.tsc;
    while last < moved.tsc + WATCHED {
        for (name, cpu, pinned) in [("keeps", 1, true), ("moves", 2, false)] {
            let shown = show(&mut host, name)?;
            ensure!((shown.cpu, shown.pinned) == (cpu, pinned), "{name} goes on to {shown:?}");
            last = shown.tsc;
        }
    }
    // Each has a CPU for itself by now, but for what the host takes.
    for (name, before) in [("keeps", kept), ("moves", moved)] {
        let after = show(&mut host, name)?;
        let (ran, time) = (after.ran_us - before.ran_us, (after.tsc - before.tsc) * 1_000_000 / IPS);
        ensure!(ran * 10 >= time * 9, "{name} ran {ran} of {time} us");
    }
    Ok(())
}
