//! What Linux' KVM takes for the same, on the same emulated CPU in the same run.

use super::{NEW, PATIENCE};
use anyhow::{Context, Result};
use std::path::Path;
use testbench::emu::bochs::{Config, Cpu};
use testbench::emu::{IPS, Media, Serial};
use testbench::guest;
use testbench::image::{self, Module, Protocol};

/// Without mitigations, as ours; nothing but what is asked for on the console.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off";
const NAME: &str = "kvm";

/// Ticks of a round trip between two halted vCPUs whose threads share the one CPU.
pub(super) fn ipi_halted(dir: &Path) -> Result<f64> {
    let linux = guest::kvm_peer()?;
    let module = |file, line: &str| Module { file, line: line.to_string() };
    let modules = vec![module(linux.kernel, "vmlinux"), module(linux.initrd, "initrd")];
    let kernel = guest::payload("bare-linux");
    let spec = image::Spec { protocol: Protocol::Multiboot1, kernel, cmdline: CMDLINE.to_string(), modules };
    let file = dir.join(format!("{NAME}.iso"));
    image::build(&spec, &file)?;
    let mut config = Config::new(Cpu::model(NEW), Media::Cd(file.clone()));
    config.serial = [Serial::Console, Serial::Absent];
    config.ips = IPS;
    let mut machine = config.start(NAME, dir)?;
    let console = machine.serial.first_mut().and_then(Option::as_mut).context("no console on COM1")?;
    let value = console.expect_line("a figure of KVM", PATIENCE, |line| {
        let failed = line.strip_prefix("kvm-ipi: ").map(|why| Err(anyhow::anyhow!("KVM: {why}")));
        let figure = line.strip_prefix("bench ipi_halted ").map(|value| value.parse().context("a figure"));
        figure.or(failed)
    })?;
    machine.process.kill();
    std::fs::remove_file(&file)?;
    value
}
