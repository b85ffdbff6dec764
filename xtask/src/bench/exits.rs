//! What a VM exit costs.

use super::tables::{Figure, KEYS};
use super::{NEW, PATIENCE, values};
use anyhow::Result;
use std::path::Path;
use testbench::guest;
use testbench::host::{HostSpec, VmSpec};

/// The figures of a payload, its own loops included, on a host with these boot options. A name gets `suffix`.
pub(super) fn measure(dir: &Path, payload: &str, options: &[&str], suffix: &str) -> Result<Vec<Figure>> {
    let mut vm = VmSpec::new("bench", &guest::payload(payload));
    vm.options.push("debug-exit".to_string());
    let mut spec = HostSpec::new(&format!("{payload}{suffix}"), NEW).with_vm(vm);
    for option in options {
        spec = spec.option(option);
    }
    let mut host = spec.start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    let found = values(&mut host, &format!("{payload}: done"))?;
    let figures = found.into_iter().map(|(name, value)| Figure::new(&format!("{name}{suffix}"), value, NEW));
    Ok(figures.filter(|figure| KEYS.contains(&figure.name.as_str())).collect())
}
