//! What a VM exit costs.

use super::tables::{Figure, KEYS};
use super::{NEW, PATIENCE, values};
use anyhow::Result;
use std::path::Path;
use testbench::guest;
use testbench::host::{HostSpec, VmSpec};

const BESIDE_OTHERS: &str = "_4_vcpus";

/// On what a payload takes its figures.
#[derive(Default)]
pub(super) struct Setting<'s> {
    /// Boot options of the host.
    pub(super) host: &'s [&'s str],
    /// Options of the VM.
    pub(super) vm: &'s [&'s str],
    /// The guest's command line.
    pub(super) guest: &'s str,
    /// What the names of the figures end in.
    pub(super) suffix: &'s str,
}

/// The figures of a payload, its own loops included.
pub(super) fn measure(dir: &Path, payload: &str, setting: &Setting) -> Result<Vec<Figure>> {
    let suffix = setting.suffix;
    let mut vm = VmSpec::new("bench", &guest::payload(payload));
    vm.options.push("debug-exit".to_string());
    vm.options.extend(setting.vm.iter().map(ToString::to_string));
    vm.cmdline = setting.guest.to_string();
    let several = if setting.vm.is_empty() { "" } else { "-smp" };
    let mut spec = HostSpec::new(&format!("{payload}{suffix}{several}"), NEW).with_vm(vm);
    for option in setting.host {
        spec = spec.option(option);
    }
    let mut host = spec.start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    let found = values(&mut host, &format!("{payload}: done"))?;
    let figures = found.into_iter().map(|(name, value)| Figure::new(&format!("{name}{suffix}"), value, NEW));
    Ok(figures.filter(|figure| KEYS.contains(&figure.name.as_str())).collect())
}

/// A vCPU's exits, without mitigations and with; and beside three vCPUs of its VM on the same host CPU, two of them halted
/// and one waiting for its start-up IPI, where they are to cost no more than a hundredth above those of a VM with one.
pub(super) fn all(dir: &Path) -> Result<Vec<Figure>> {
    let off = ["mitigations=off"];
    let mut figures = measure(dir, "exit-bench", &Setting { host: &off, ..Setting::default() })?;
    let beside = Setting { host: &off, vm: &["vcpus=4"], guest: "others=1", suffix: BESIDE_OTHERS };
    for figure in measure(dir, "exit-bench", &beside)? {
        let alone = figure.name.strip_suffix(BESIDE_OTHERS);
        let alone = figures.iter().find(|other| Some(other.name.as_str()) == alone);
        let reach = alone.map(|alone| alone.value * 1.01);
        figures.push(figure.with_reach(reach));
    }
    let mitigated = Setting { host: &["mitigations=auto"], suffix: "_mitigated", ..Setting::default() };
    figures.extend(measure(dir, "exit-bench", &mitigated)?);
    Ok(figures)
}
