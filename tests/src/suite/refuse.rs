//! Hosts that lack what Flexvisor needs get one clear line, not a fault.

use super::{Case, Context, start};
use crate::emu::qemu::Accel;
use crate::host::{HostSpec, Platform};
use anyhow::{Result, ensure};
use std::time::Duration;

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
    let mut host = start(context, spec)?;
    let line = host
        .console()?
        .expect_line(text, Duration::from_secs(60), |line| line.contains(text).then(|| line.to_string()))?;
    ensure!(line.contains("; "), "no cure is named: {line}");
    let console = host.console()?;
    console.drain(Duration::from_millis(500), Duration::from_secs(5));
    let text = console.text();
    for word in ["panic", "exception", "ready: "] {
        ensure!(!text.contains(word), "{word} on a host that cannot run guests:\n{text}");
    }
    Ok(())
}
