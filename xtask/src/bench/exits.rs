//! What a VM exit costs.

use super::tables::{Figure, KEYS};
use super::{NEW, PATIENCE, values};
use anyhow::Result;
use std::path::Path;
use testbench::guest;
use testbench::host::{HostSpec, VmSpec};

/// The figures of the payload `exit-bench`, its own loop included. A name gets `suffix`.
pub(super) fn measure(dir: &Path, mitigations: &str, suffix: &str) -> Result<Vec<Figure>> {
    let mut vm = VmSpec::new("bench", &guest::payload("exit-bench"));
    vm.options.push("debug-exit".to_string());
    let name = format!("exits-{mitigations}");
    let spec = HostSpec::new(&name, NEW).with_vm(vm).option(&format!("mitigations={mitigations}"));
    let mut host = spec.start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    let found = values(&mut host, "exit-bench: done")?;
    let figures = found.into_iter().map(|(name, value)| Figure::new(&format!("{name}{suffix}"), value, NEW));
    Ok(figures.filter(|figure| KEYS.contains(&figure.name.as_str())).collect())
}
