//! Debian's kernel on one host, to its shell.

use super::{Case, Context, start};
use crate::console::Console;
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::levels;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// What its VM is called.
pub(super) const VM: &str = "linux";
const PATIENCE: Duration = Duration::from_secs(400);
/// Prefix of the cases of the full matrix.
const MATRIX: &str = "matrix-linux/";
/// The levels that skylake_x can give.
const LEVELS: [&str; 15] = [
    "x86-64-v1",
    "x86-64-v2",
    "x86-64-v2-aes",
    "x86-64-v3",
    "x86-64-v4",
    "merom",
    "penryn",
    "nehalem",
    "westmere",
    "sandybridge",
    "ivybridge",
    "haswell",
    "broadwell",
    "skylake-server",
    "avoton",
];

/// What Linux says, in any case of letters, where it finds fault with a CPU: its features and what they need, XSAVE's
/// sizes and layout, MSRs that are not there, errata.
const COMPLAINTS: [&str; 12] = [
    "xstate_warn",
    "xsave inconsistency",
    "inconsisten",
    "unchecked msr",
    "firmware bug",
    "errata",
    "warning: cpu",
    "missing dependency",
    "x86/cpu: disabl",
    "clearing",
    "invalid opcode",
    "general protection",
];

pub(super) fn cases() -> Vec<Case> {
    // The newest with what the older ones get, the oldest without unrestricted guest; migrations boot others. Of the levels
    // of user space the one that most distributions speak of.
    let rows = [
        ("corei7_skylake_x", "haswell"),
        ("corei5_lynnfield_750", "nehalem"),
        ("corei7_haswell_4770", "x86-64-v3"),
    ];
    let more = [("corei7_haswell_4770", "haswell"), ("corei7_sandy_bridge_2600k", "sandybridge")];
    let case = |(model, level)| {
        Case::new(&format!("linux/{level}_on_{model}"), 420, move |context| {
            shell(context, model, level, 1, false)
        })
    };
    let mut cases: Vec<Case> = rows.into_iter().map(case).collect();
    cases.extend(more.into_iter().map(case).map(Case::slow));
    for level in LEVELS {
        let run = move |context: &Context| shell(context, "corei7_skylake_x", level, 1, false);
        cases.push(Case::new(&format!("{MATRIX}{level}"), 600, run).slow());
    }
    // Its own leaf D makes Linux give up XSAVE, and stall (docs/hardware.md).
    cases.push(case(("corei7_icelake_u", "haswell")).slow());
    cases.push(Case::new("linux/pci_bus", 420, pci_bus));
    cases.push(Case::new("linux/virtio_rng", 420, virtio_rng));
    let two = |context: &Context| shell(context, "corei7_skylake_x", "haswell", 2, false);
    cases.push(Case::new("linux/two_host_cpus", 600, two).slow());
    let bzimage = |context: &Context| shell(context, "corei7_skylake_x", "haswell", 1, true);
    cases.push(Case::new("linux/bzimage", 1200, bzimage).slow());
    cases
}

fn shell(context: &Context, model: &str, level: &str, cpus: u32, bzimage: bool) -> Result<()> {
    let mut vm = debian(VM, level)?;
    if bzimage {
        vm.kernel = guest::debian()?.bzimage;
    }
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
    judge_flags(level, &flags)?;
    judge_log(level, &read_log(console, PATIENCE)?)?;
    // Interrupts come: a sleep ends.
    console.send_line("sleep 1 && echo slept $((1 + 1))")?;
    console.expect("slept 2", PATIENCE)?;
    powers_off(&mut host, VM, PATIENCE)
}

/// A VM with Debian's kernel, at that CPU level, that ends in a shell on its console.
pub(super) fn debian(name: &str, level: &str) -> Result<VmSpec> {
    let linux = guest::debian()?;
    let mut vm = VmSpec::new(name, &linux.kernel);
    vm.mem_mib = 256;
    vm.level = level.to_string();
    vm.initrd = Some(linux.initrd);
    vm.cmdline = guest::SHELL_CMDLINE.to_string();
    Ok(vm)
}

/// All of the kernel's log, to be judged and to be read. The guest is at its shell.
pub(super) fn read_log(console: &mut Console, patience: Duration) -> Result<Vec<String>> {
    console.take_lines();
    console.send_line("dmesg; echo dmesg ends $((2 + 3))")?;
    let mut log = Vec::new();
    console.expect_line("the end of the log", patience, |line| {
        log.push(line.to_string());
        line.contains("dmesg ends 5").then_some(())
    })?;
    Ok(log)
}

/// The guest, which is at its shell, powers off when it is told.
pub(super) fn powers_off(host: &mut Host, vm: &str, patience: Duration) -> Result<()> {
    host.guest()?.send_line("poweroff -f")?;
    let event = host.vm_event(vm, &["stopped: "], patience)?;
    ensure!(event == "stopped: power-off", "ended with `{event}`");
    Ok(())
}

/// The lines of a kernel's log that hold one of these, in any case of letters.
pub(super) fn complaints<'l>(log: &'l [String], said: &[&str]) -> Vec<&'l String> {
    let complains = |line: &&String| {
        let line = line.to_lowercase();
        said.iter().any(|complaint| line.contains(complaint))
    };
    log.iter().filter(complains).collect()
}

/// What Linux says where there is no way to a configuration space.
const NO_PCI: &str = "No config space access function found";
/// The functions of a VM with `pci=on`, as /proc/bus/pci/devices names them: place, vendor and device.
const FUNCTIONS: [&str; 3] = ["0000\t80861237", "0008\t80867000", "000b\t80867113"];

/// Linux finds the PCI bus that it is given, and has nothing to say against it.
fn pci_bus(context: &Context) -> Result<()> {
    let mut vm = debian(VM, "haswell")?;
    vm.options.push("pci=on".to_string());
    let mut host = start(context, &HostSpec::new("host", "corei7_skylake_x").with_vm(vm))?;
    let console = host.guest()?;
    console.expect("guest# ", PATIENCE)?;
    console.take_lines();
    console.send_line("dmesg; cut -f 1,2 /proc/bus/pci/devices; echo all ends $((2 + 3))")?;
    let mut log = Vec::new();
    console.expect_line("the end of the log", PATIENCE, |line| {
        log.push(line.trim_end().to_string());
        line.contains("all ends 5").then_some(())
    })?;
    judge_log("haswell", &log)?;
    let said = |text: &str| log.iter().any(|line| line.contains(text));
    ensure!(!said(NO_PCI), "Linux finds no way to the configuration space");
    ensure!(said("PCI: Using configuration type 1"), "Linux does not use the ports 0xcf8 and 0xcfc");
    for function in FUNCTIONS {
        ensure!(said(function), "{function:?} is not on the bus");
    }
    for complaint in ["can't claim", "no compatible bridge window", "BIOS bug", "conflicts with"] {
        ensure!(!said(complaint), "Linux says `{complaint}`");
    }
    powers_off(&mut host, VM, PATIENCE)
}

/// Linux drives the entropy device, by MSI-X, and gets different bytes each time.
fn virtio_rng(context: &Context) -> Result<()> {
    let mut vm = debian(VM, "haswell")?;
    vm.initrd = Some(guest::with_virtio()?.initrd);
    vm.options.extend(["pci=on".to_string(), "rng=on".to_string()]);
    let mut host = start(context, &HostSpec::new("host", "corei7_skylake_x").with_vm(vm))?;
    let console = host.guest()?;
    console.expect("guest# ", PATIENCE)?;
    console.take_lines();
    let load = guest::VIRTIO_RNG.map(|name| format!("insmod /{name}")).join(" && ");
    let read = "dd if=/dev/hwrng bs=32 count=1 2>/dev/null | hexdump -v -e '32/1 \"%02x\" \"\\n\"'";
    console.send_line(&format!(
        "{load} && cat /sys/class/misc/hw_random/rng_current; {read}; {read}; grep virtio /proc/interrupts; dmesg; echo all ends $((2 + 3))"
    ))?;
    let mut log = Vec::new();
    console.expect_line("the end of the log", PATIENCE, |line| {
        log.push(line.trim_end().to_string());
        line.contains("all ends 5").then_some(())
    })?;
    ensure!(log.iter().any(|line| line.ends_with("virtio_rng.0")), "Linux has no entropy device: {log:#?}");
    let bytes: Vec<&String> = log
        .iter()
        .filter(|line| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    ensure!(matches!(bytes[..], [first, second] if first != second), "no random bytes: {bytes:?}");
    let interrupts: Vec<&String> = log.iter().filter(|line| line.contains("PCI-MSI")).collect();
    ensure!(
        interrupts.iter().any(|line| line.contains("virtio0-input") && !line.contains(": 0 ")),
        "no interrupt by MSI-X: {interrupts:?}"
    );
    judge_log("haswell", &log)?;
    powers_off(&mut host, VM, PATIENCE)
}

/// Nothing in the kernel's log finds fault with the CPU, and XSAVE is used where the level has it.
pub(super) fn judge_log(level: &str, log: &[String]) -> Result<()> {
    let complaints = complaints(log, &COMPLAINTS);
    ensure!(complaints.is_empty(), "at level {level} the kernel complains: {complaints:#?}");
    ensure!(log.len() > 100, "the kernel's log has {} lines", log.len());
    let xsave = levels::flags(level).is_some_and(|flags| flags.contains(&"xsave"));
    let enabled = log.iter().any(|line| line.contains("x86/fpu: Enabled xstate features"));
    ensure!(xsave == enabled, "level {level} has XSAVE: {xsave}, and the kernel enabled it: {enabled}");
    Ok(())
}

/// The flags of /proc/cpuinfo are those of the level, and what Linux adds by itself.
fn judge_flags(level: &str, flags: &str) -> Result<()> {
    let expected = levels::flags(level).context("an unknown level")?;
    let seen: Vec<&str> = flags.split_whitespace().filter(|flag| *flag != ":").collect();
    let more: Vec<_> =
        seen.iter().filter(|flag| !expected.contains(flag) && !levels::OF_LINUX.contains(flag)).collect();
    let fewer: Vec<_> = expected.iter().filter(|flag| !seen.contains(flag)).collect();
    ensure!(more.is_empty() && fewer.is_empty(), "at level {level} the guest saw {more:?} and not {fewer:?}");
    Ok(())
}
