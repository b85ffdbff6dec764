//! The host's own checks: what they find on hosts that are in order, and that the report is whole.

use super::{Case, Context, start};
use crate::emu::qemu::Accel;
use crate::host::{HostSpec, Platform};
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // PML and two CPUs; A/D only; neither; no unrestricted guest
    for (model, cpus, skipped) in
        [("corei7_skylake_x", 2, 1), ("corei7_haswell_4770", 1, 2), ("corei7_sandy_bridge_2600k", 1, 3)]
    {
        cases.push(Case::new(&format!("selftest/{model}"), 120, move |context| {
            let mut spec = HostSpec::new("host", model);
            spec.cpus = cpus;
            report(context, spec, skipped, "vmx 00000480 ")
        }));
    }
    cases.push(Case::new("selftest/qemu_tcg", 120, |context| {
        let mut spec = HostSpec::new("host", "");
        spec.platform = Platform::Qemu(Accel::Tcg);
        // without VMX no guest, and the checks of VMX and levels fail
        report(context, spec, 6, "selftest: under a hypervisor that calls itself `TCG")
    }));
    cases
}

fn report(context: &Context, spec: HostSpec, skipped: u32, line: &str) -> Result<()> {
    let vmx = !matches!(spec.platform, Platform::Qemu(_));
    let mut host = start(context, &spec.option("--selftest"))?;
    host.console()?.expect("selftest: Flexvisor ", PATIENCE)?;
    host.console()?.expect("flexvisor-cpu 1", PATIENCE)?;
    host.console()?.expect(line, PATIENCE)?;
    let mut checks = Vec::new();
    let end = host.console()?.expect_line("the report's end", PATIENCE, |line| {
        let rest = line.strip_prefix("selftest: ")?;
        checks.push(rest.to_string());
        rest.strip_prefix("---- end: ").map(str::to_string)
    })?;
    let failed: Vec<&String> = checks.iter().filter(|check| check.contains(" FAILED")).collect();
    let wanted = if vmx { 0 } else { 2 };
    ensure!(failed.len() == wanted, "{failed:?}");
    ensure!(
        end == format!("{} passed, {wanted} failed, {skipped} skipped", 14 - wanted as u32 - skipped),
        "{end}"
    );
    host.wait_ready(PATIENCE)?;
    Ok(())
}
