//! The demo guest by itself: what the proofs rely on must hold before anything moves.

use super::{Case, Context};
use crate::emu::Media;
use crate::emu::qemu;
use crate::guest;
use crate::proof::Record;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("guest/demo_in_qemu", 120, demo_in_qemu),
        Case::new("guest/shell_in_qemu", 120, shell_in_qemu),
    ]
}

fn start(context: &Context, cmdline: &str) -> Result<crate::emu::Machine> {
    let linux = guest::debian()?;
    let media = Media::Kernel {
        file: linux.kernel,
        cmdline: cmdline.to_string(),
        modules: Some(linux.initrd.to_string_lossy().into_owned()),
    };
    let mut machine = qemu::Config::new(media).start("guest", &context.dir)?;
    machine.serial[0].as_mut().context("no console")?.set_deadline(context.deadline);
    Ok(machine)
}

fn demo_in_qemu(context: &Context) -> Result<()> {
    let mut machine = start(context, guest::DEMO_CMDLINE)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("guest: init ran", Duration::from_secs(90))?;
    console.expect("tick 3 ", Duration::from_secs(30))?;
    console.send_line("dump")?;
    console.expect("cpuid end 2", Duration::from_secs(30))?;
    console.expect("worker pass 2 errors 0", Duration::from_secs(60))?;
    console.send_line("stop")?;
    console.expect("guest: power-off", Duration::from_secs(30))?;
    let record = Record::parse(&console.text());
    ensure!(record.ticks.len() > 8, "{} counter lines", record.ticks.len());
    ensure!(record.cpuid.len() == 2 && record.cpuid[0] == record.cpuid[1], "two equal CPUID dumps");
    ensure!(record.flags.len() == 2 && record.flags[0].contains("sse2"), "flags of /proc/cpuinfo");
    Ok(())
}

fn shell_in_qemu(context: &Context) -> Result<()> {
    let mut machine = start(context, guest::SHELL_CMDLINE)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.expect("guest# ", Duration::from_secs(90))?;
    console.send_line("echo $((6 * 7)) answers")?;
    console.expect("42 answers", Duration::from_secs(20))?;
    console.send_line("exit")?;
    console.expect("guest: power-off", Duration::from_secs(20))?;
    Ok(())
}
