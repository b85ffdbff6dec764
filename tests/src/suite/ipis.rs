//! A guest whose CPUs send each other what no sound guest sends: it gets what the architecture says, the host's console
//! answers, and another VM runs on (`tests/guests/hostile.c`).

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const HOSTILE: &str = "hostile";
const OTHER: &str = "other";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("smp/hostile_ipis", 300, hostile)]
}

fn hostile(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut other = VmSpec::new(OTHER, &guest::payload("memwriter"));
    other.mem_mib = 8;
    other.cmdline = "mib=1 pages=8 gap=500000".into();
    let mut vm = VmSpec::new(HOSTILE, &guest::payload("hostile"));
    vm.mem_mib = 4;
    vm.options.push("vcpus=3".into());
    let mut spec = HostSpec::new("host", "corei7_skylake_x").with_vm(vm).with_vm(other);
    spec.cpus = 2;
    spec.guest_console = Some(HOSTILE.into());
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    for what in [
        "start-up IPIs at CPUs that run",
        "that are not there",
        "INIT to itself",
        "INIT and start-up IPIs in turn",
    ] {
        host.guest()?.expect(what, PATIENCE)?;
        is_well(&mut host)?;
    }
    let (_, end) = host.guest()?.expect_any(&[" wrong"], PATIENCE)?;
    ensure!(end == "hostile: 0 wrong", "the guest says:\n{}", host.guest()?.text());
    // INIT to the bootstrap CPU is a reset of that VM, and of nothing else.
    host.guest()?.send(b"i")?;
    let how = host.vm_event(HOSTILE, &["stopped: "], PATIENCE)?;
    ensure!(how == "stopped: reset", "it ended otherwise: {how}");
    is_well(&mut host)
}

/// The console answers, and the other guest gets on.
fn is_well(host: &mut Host) -> Result<()> {
    let ran = |host: &mut Host| -> Result<u64> {
        let answer = host.command(&format!("vm show {OTHER} --json"), PATIENCE)?;
        let line = answer.lines.iter().find(|line| line.starts_with('{')).cloned().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&line)?;
        ensure!(value["state"] == "running", "{line}");
        let vcpus = value["vcpus"].as_array().cloned().unwrap_or_default();
        Ok(vcpus.iter().filter_map(|vcpu| vcpu["exits"].as_u64()).sum())
    };
    let before = ran(host)?;
    for _ in 0..100 {
        if ran(host)? > before {
            return Ok(());
        }
    }
    anyhow::bail!("the other guest has not exited once while the console has answered a hundred times")
}
