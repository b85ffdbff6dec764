//! Debian's kernel on one host, to its shell.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{HostSpec, VmSpec};
use crate::levels;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(400);

pub(super) fn cases() -> Vec<Case> {
    let rows = [
        ("corei7_skylake_x", "haswell", 1),
        ("corei7_haswell_4770", "haswell", 1),
        ("corei7_sandy_bridge_2600k", "sandybridge", 1),
        ("corei5_lynnfield_750", "nehalem", 1),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(model, level, cpus)| {
            Case::new(&format!("linux/{level}_on_{model}"), 420, move |context| {
                shell(context, model, level, cpus, false)
            })
        })
        .collect();
    let two = |context: &Context| shell(context, "corei7_skylake_x", "haswell", 2, false);
    cases.push(Case::new("linux/two_host_cpus", 600, two));
    let bzimage = |context: &Context| shell(context, "corei7_skylake_x", "haswell", 1, true);
    cases.push(Case::new("linux/bzimage", 1200, bzimage).slow());
    cases
}

fn shell(context: &Context, model: &str, level: &str, cpus: u32, bzimage: bool) -> Result<()> {
    let linux = guest::debian()?;
    let mut vm = VmSpec::new("linux", if bzimage { &linux.bzimage } else { &linux.kernel });
    vm.mem_mib = 256;
    vm.level = level.to_string();
    vm.initrd = Some(linux.initrd);
    vm.cmdline = guest::SHELL_CMDLINE.to_string();
    let mut spec = HostSpec::new("host", model).with_vm(vm);
    spec.cpus = cpus;
    let mut host = start(context, &spec)?;
    let patience = if bzimage { PATIENCE * 3 } else { PATIENCE };
    let console = host.guest()?;
    console.expect("guest# ", patience)?;
    console.send_line("echo $((6 * 7)) answers")?;
    console.expect("42 answers", PATIENCE)?;
    console.send_line("grep -m1 flags /proc/cpuinfo")?;
    let flags =
        console.expect_line("the flags", PATIENCE, |line| line.strip_prefix("flags").map(str::to_string))?;
    let beyond = levels::beyond(level).context("an unknown level")?;
    let seen: Vec<&str> = flags.split_whitespace().filter(|flag| beyond.contains(flag)).collect();
    ensure!(seen.is_empty(), "at level {level} the guest saw {}", seen.join(" "));
    // Interrupts come: a sleep ends.
    console.send_line("sleep 1 && echo slept $((1 + 1))")?;
    console.expect("slept 2", PATIENCE)?;
    console.send_line("poweroff -f")?;
    let event = host.vm_event("linux", &["stopped: "], PATIENCE)?;
    ensure!(event == "stopped: power-off", "ended with `{event}`");
    Ok(())
}
