//! What a guest pays for its local APIC, and beside that KVM's for two vCPUs that wake each other.

use super::exits::{self, Setting};
use super::tables::Figure;
use super::{kvm, step};
use anyhow::Result;
use std::path::Path;

pub(super) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    step("the local APIC of a vCPU under KVM");
    let kvm = kvm::ipi_halted(dir)?;
    let mut figures = Vec::new();
    for (apicv, suffix) in [("off", ""), ("on", "_apicv")] {
        step(&format!("the local APIC, apicv={apicv}"));
        let host = ["mitigations=off", &format!("apicv={apicv}")];
        let setting = Setting { host: &host, suffix, ..Setting::default() };
        figures.extend(exits::measure(dir, "apic-bench", &setting)?);
        let two = Setting { vm: &["vcpus=2"], guest: "ipi=1", ..setting };
        let halted = exits::measure(dir, "apic-bench", &two)?;
        figures.extend(halted.into_iter().map(|figure| figure.with_kvm(kvm).with_reach(Some(kvm / 3.0))));
    }
    Ok(figures)
}
