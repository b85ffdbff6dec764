//! The host's own checks: what they find on hosts that are in order, and that the report is whole.

use super::{Case, Context, start, verbs};
use crate::emu::qemu::Accel;
use crate::guest;
use crate::host::{Host, HostSpec, Platform, VmSpec};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// What nobody may hold CPU 0 beyond, in ticks: 20 ms at the bench's rate.
const LONGEST_TURN: u64 = 400_000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // PML and two CPUs; A/D only; neither; no unrestricted guest
    for (model, cpus) in
        [("corei7_skylake_x", 2), ("corei7_haswell_4770", 1), ("corei7_sandy_bridge_2600k", 1)]
    {
        cases.push(Case::new(&format!("selftest/{model}"), 120, move |context| {
            let mut spec = HostSpec::new("host", model);
            spec.cpus = cpus;
            let lines = report(context, spec, &[], "vmx 00000480 ")?;
            // Another CPU is needed to send an NMI to the one that runs the guest.
            let nmi =
                if cpus > 1 { ", NMI exiting" } else { ", NMI exiting not tried (no other CPU sends one)" };
            let controls = line_of(&lines, "controls")?;
            for part in [", virtual NMIs, NMI-window exiting", ", VPID", nmi] {
                ensure!(controls.contains(part), "no `{part}` in {controls}");
            }
            ensure!(controls.ends_with(" us)") && !controls.contains("no VPID"), "{controls}");
            let card = line_of(&lines, "network-loop")?;
            ensure!(card.starts_with("network-loop not tried: off, or no card"), "{card}");
            Ok(())
        }));
    }
    // The preemption timer of the real CPU is broken. Bochs lets no interrupt end the run of a guest that is entered with
    // interrupts off, so that the timer which is chosen instead is late, and the line says so: docs/testing.md.
    cases.push(Case::new("selftest/broken_preemption_timer", 120, |context| {
        let spec = HostSpec::new("host", "corei5_lynnfield_750").option("slice-timer=auto");
        let lines = report(context, spec, &["slice-timer"], "vmx 00000480 ")?;
        let line = line_of(&lines, "slice-timer")?;
        let told = "by the APIC's one-shot timer; CPU 106e5 is one of 106a0 106a1 106a4 106a5 106e5 206e6 20652 20655 306a8,";
        ensure!(line.contains(told), "{line}");
        Ok(())
    }));
    cases.push(Case::new("selftest/beside_vms", 180, beside_vms));
    let loops = [
        ("tcg", "", "not tried: off, or no card"),
        ("e1000", "e1000", "not tried: the loop of this card is its PHY's, and costs the link"),
        ("e1000e", "e1000e", "passed: 8 frames came back unchanged"),
    ];
    for (name, card, verdict) in loops {
        cases.push(Case::new(&format!("selftest/qemu_{name}"), 120, move |context| {
            qemu(context, card, verdict)
        }));
    }
    cases
}

/// On QEMU's TCG, which has no VMX and does not say that its TSC is invariant, with a card of that model, whose loop comes to
/// `verdict`; the card works afterwards.
fn qemu(context: &Context, card: &str, verdict: &str) -> Result<()> {
    let mut spec = HostSpec::new("host", "");
    spec.platform = Platform::Qemu(Accel::Tcg);
    if !card.is_empty() {
        let card = format!("{card},netdev=n,romfile=");
        spec = spec.option("ip=dhcp");
        spec.qemu = ["-netdev", "user,id=n", "-device", &card].map(str::to_string).into();
    }
    let below = "selftest: under a hypervisor that calls itself `TCG";
    let (mut host, lines) = told(context, spec, &["tsc-invariant", "vmx", "levels"], below)?;
    let line = line_of(&lines, "network-loop")?;
    ensure!(line.starts_with(&format!("network-loop {verdict}")), "{line}");
    if !card.is_empty() {
        host.console()?.expect("net: address 10.0.2.15/24", PATIENCE)?;
        let ping = verbs::done(&mut host, "net ping 10.0.2.2")?;
        ensure!(ping.iter().filter(|line| line.contains(" answer ")).count() == 4, "{ping:?}");
        // It fails on a host without VMX.
        let after = host.command("selftest", PATIENCE)?.lines;
        let at_boot = "selftest: network-loop not tried: at boot only";
        ensure!(after.iter().any(|line| line.starts_with(at_boot)), "{after:?}");
    }
    Ok(())
}

fn line_of<'a>(lines: &'a [String], check: &str) -> Result<&'a String> {
    let of = |line: &&String| line.split(' ').next() == Some(check);
    lines.iter().find(of).with_context(|| format!("no {check}"))
}

/// The command, on a host whose two CPUs do something else: what can be tried is and passes, what cannot says why, and CPU 0
/// is not held for it. The guest goes on.
fn beside_vms(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new("guest", &guest::payload("spin"));
    vm.cmdline = "rounds=200000".to_string();
    let mut spec = HostSpec::new("host", "corei7_skylake_x").with_vm(vm);
    spec.cpus = 2;
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("lap 2 ", PATIENCE)?;
    host.command("top --once --anew", PATIENCE)?;
    let lines = verbs::done(&mut host, "selftest")?;
    let held = verbs::json(&mut host, "mem")?["longest_turn"]["ticks"].as_u64().context("no turn")?;
    ensure!(held <= LONGEST_TURN, "CPU 0 was held for {held} ticks: {lines:?}");
    // Lines are folded to the width of a terminal.
    let text = lines.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
    let has = |part: &str| text.contains(part);
    for part in [
        "selftest: timer passed: 1 ms took ",
        " on 2 CPUs",
        "selftest: ipi passed: ",
        "selftest: nmi passed",
        "selftest: entropy passed",
        "selftest: vmx passed: on, 2 of 2 CPUs",
        "selftest: serial not tried: at boot only, by `selftest` on the command line: ",
        "selftest: slice-timer not tried: at boot only, ",
    ] {
        ensure!(has(part), "no `{part}` in {lines:#?}");
    }
    ensure!(!has("FAILED"), "{lines:#?}");
    let report = verbs::json(&mut host, "selftest")?;
    ensure!(report["schema"] == 1 && report["when"] == "running" && report["failed"] == 0, "{report}");
    let count = report["lines"].as_array().map_or(0, Vec::len);
    let told = lines.iter().filter(|line| line.starts_with("selftest: ")).count();
    ensure!(count + 1 == told, "{count} checks in JSON, {told} lines in text");
    host.guest()?.take_lines();
    host.guest()?.expect("lap ", PATIENCE)?;
    Ok(())
}

/// The lines of [`told`].
fn report(context: &Context, spec: HostSpec, failing: &[&str], line: &str) -> Result<Vec<String>> {
    told(context, spec, failing, line).map(|(_, lines)| lines)
}

/// Those lines of the report that are of `failing` failed with a cure, no others, and the JSON says the same. Gives back the
/// host and the lines.
fn told(context: &Context, spec: HostSpec, failing: &[&str], line: &str) -> Result<(Host, Vec<String>)> {
    let mut host = start(context, &spec.option("--selftest"))?;
    host.console()?.expect("selftest: Flexvisor ", PATIENCE)?;
    host.console()?.expect("flexvisor-cpu 1", PATIENCE)?;
    host.console()?.expect(line, PATIENCE)?;
    let mut lines = Vec::new();
    let end = host.console()?.expect_line("the report's end", PATIENCE, |line| {
        let rest = line.strip_prefix("selftest: ")?;
        lines.push(rest.to_string());
        rest.strip_prefix("---- end: ").map(str::to_string)
    })?;
    let json = lines.iter().find_map(|line| line.strip_prefix("json ")).context("no JSON")?;
    let json: serde_json::Value = serde_json::from_str(json)?;
    ensure!(json["schema"] == 1, "schema {}", json["schema"]);
    for told in json["lines"].as_array().context("no lines")? {
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        let (check, verdict) = (text("check"), text("verdict"));
        let shown =
            lines.iter().find(|line| line.starts_with(&format!("{check} "))).context("not in the text")?;
        let wanted = failing.contains(&check);
        ensure!((verdict == "failed") == wanted, "{shown}");
        ensure!(shown.contains(" FAILED") == wanted && shown.contains("; cure: ") == wanted, "{shown}");
    }
    let count = |key: &str| json[key].as_u64().unwrap_or_default();
    let counts =
        format!("{} passed, {} failed, {} not tried", count("passed"), count("failed"), count("not_tried"));
    ensure!(end == counts, "{end}, but {counts}");
    host.wait_ready(PATIENCE)?;
    Ok((host, lines))
}
