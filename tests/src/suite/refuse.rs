//! Hosts that lack what guests need get one clear line, not a fault, and come up to a console that works.

use super::{Case, Context, start};
use crate::emu::qemu::Accel;
use crate::guest;
use crate::host::{HostSpec, Platform, VmSpec};
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let bochs = [
        ("core2_penryn_t9600", "EPT is missing"),
        ("ryzen", "VMX is missing"),
        ("phenom_8650_toliman", "VMX is missing"),
    ];
    let mut cases: Vec<Case> = bochs
        .into_iter()
        .map(|(model, text)| {
            Case::new(&format!("refuse/{model}"), 120, move |context| {
                refused(context, &HostSpec::new("host", model), text)
            })
        })
        .collect();
    cases.push(Case::new("refuse/qemu_tcg", 120, |context| {
        let mut spec = HostSpec::new("host", "");
        spec.platform = Platform::Qemu(Accel::Tcg);
        refused(context, &spec, "VMX is missing")
    }));
    cases
}

fn refused(context: &Context, spec: &HostSpec, text: &str) -> Result<()> {
    let mut host = start(
        context,
        &spec.clone().with_vm(VmSpec::new("hello", &guest::payload("hello"))).option("pool=rack"),
    )?;
    let line =
        host.console()?.expect_line(text, PATIENCE, |line| line.contains(text).then(|| line.to_string()))?;
    ensure!(line.contains("; ") || line.contains(": "), "no cure is named: {line}");
    host.console()?.expect("pool: warning: off: a host without guests", PATIENCE)?;
    host.console()?.expect("vm: error: vm hello: refused: this host has no VMX", PATIENCE)?;
    let ready = host.wait_ready(PATIENCE)?;
    ensure!(ready.starts_with("0 vms (no VMX), console on COM1, "), "ready: {ready}");
    for command in [
        "vm list --json",
        "cpu",
        "cpu levels",
        "cpu show",
        "cpu dump",
        "cpu flex",
        "cpu mitigations",
        "mem",
        "net show",
        "net stats",
        "boot",
        "config show",
        "dmesg",
        "log",
        "version",
        "msr read 0x10",
        "migrate status",
    ] {
        let answer = host.command(command, PATIENCE)?;
        ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    }
    for (command, code) in [
        ("vm start hello", "not-found"),
        ("vm create x --kernel http://10.0.0.9/k", "unsupported this host has no VMX"),
        ("pool show", "state a host without guests is no member of a pool: this host has no VMX"),
    ] {
        let error = host.command(command, PATIENCE)?.error.unwrap_or_default();
        ensure!(error.starts_with(code), "{command}: {error}");
    }
    Ok(())
}
