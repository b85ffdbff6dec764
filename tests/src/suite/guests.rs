//! Small guests of our own on one host: how they end, what they see, and that they harm neither host nor console.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 180;

/// A payload, its command line, and how it has to end.
const ENDS: [(&str, &str, &str, &str); 7] = [
    ("hello", "hello", "exit=0 verbatim=a,b;c", "debug exit 0"),
    ("debug_exit_5", "hello", "exit=5", "debug exit 5"),
    ("poweroff", "poweroff", "", "power-off"),
    ("reset_acpi", "reset", "", "reset"),
    ("reset_8042", "reset", "by=8042", "reset"),
    ("reset_cf9", "reset", "by=0xcf9", "reset"),
    ("triple_fault", "triple-fault", "", "triple fault"),
];

/// Payloads that judge themselves: their result is the number of things found wrong.
const PROBES: [&str; 9] = [
    "access-probe",
    "io-probe",
    "touch-unmapped",
    "timer",
    "debug-traps",
    "tsc-deadline",
    "real-mode",
    "pae",
    "task-switch",
];

/// Hosts and the levels that they have to give to a guest which looks closely.
const VIEWS: [(&str, &str); 6] = [
    ("corei7_skylake_x", "haswell"),
    ("corei7_skylake_x", "nehalem"),
    ("corei7_skylake_x", "skylake-server"),
    ("corei7_haswell_4770", "haswell"),
    ("corei7_sandy_bridge_2600k", "sandybridge"),
    ("corei5_lynnfield_750", "nehalem"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, payload, cmdline, end) in ENDS {
        cases.push(Case::new(&format!("guest/{name}"), LIMIT, move |context| {
            ends(context, payload, cmdline, end)
        }));
    }
    for payload in PROBES {
        cases.push(Case::new(&format!("guest/{payload}"), LIMIT, move |context| {
            probe(context, MODEL, "haswell", payload).map(drop)
        }));
    }
    for (model, level) in VIEWS {
        for payload in ["msr-probe", "isa-probe"] {
            let name = format!("view/{payload}_{level}_on_{model}");
            cases.push(Case::new(&name, LIMIT, move |context| {
                probe(context, model, level, payload).map(drop)
            }));
        }
    }
    for (level, text) in [("haswell", "cpuid-fault: 0 BAD"), ("sandybridge", "not enumerated, 0 BAD")] {
        cases.push(Case::new(&format!("guest/cpuid_faulting_{level}"), LIMIT, move |context| {
            let output = probe(context, MODEL, level, "cpuid-fault")?;
            ensure!(output.contains(text), "it did not print `{text}` but {output}");
            Ok(())
        }));
    }
    cases.push(Case::new("host/cpu_flex", LIMIT, cpu_flex));
    for payload in ["spin-cli", "halt-forever"] {
        cases.push(Case::new(&format!("guest/{payload}"), LIMIT, move |context| stuck(context, payload)));
    }
    cases.push(Case::new("guest/apic_timer_bounds", LIMIT, apic_timer_bounds));
    for name in ["timer", "tsc-deadline"] {
        cases.push(Case::new(&format!("guest/apicv_{name}"), LIMIT, move |context| apicv(context, name)));
    }
    cases.push(Case::new("guest/apicv_is_tried_out", LIMIT, apicv_is_tried_out));
    cases.push(Case::new("guest/no_debug_exit", LIMIT, no_debug_exit));
    cases.push(Case::new("guest/two_vms", LIMIT, two_vms));
    cases.push(Case::new("guest/refused_options", LIMIT, refused_options));
    cases.push(Case::new("guest/refused_level", LIMIT, refused_level));
    cases
}

fn spec(model: &str, level: &str, payload: &str, cmdline: &str) -> Result<HostSpec> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload(payload));
    vm.level = level.to_string();
    vm.cmdline = cmdline.to_string();
    vm.options.push("debug-exit".to_string());
    Ok(HostSpec::new("host", model).with_vm(vm))
}

/// Waits for the guest's end; gives back how it ended and all that it printed.
fn play(host: &mut Host) -> Result<(String, String)> {
    let event = host.vm_event(VM, &["stopped: ", "refused: "], PATIENCE)?;
    host.guest()?.drain(Duration::from_millis(200), Duration::from_secs(3));
    Ok((event, host.guest()?.text()))
}

/// The host's console still answers.
fn host_is_well(host: &mut Host) -> Result<()> {
    let answer = host.command("version", PATIENCE)?;
    ensure!(answer.error.is_none(), "version: {:?}", answer.error);
    ensure!(answer.lines.iter().any(|line| line.contains("Flexvisor")), "version answers {:?}", answer.lines);
    let typo = host.command("vm lsit", PATIENCE)?;
    ensure!(typo.error.is_some(), "a typo was taken: {:?}", typo.lines);
    Ok(())
}

fn ends(context: &Context, payload: &str, cmdline: &str, end: &str) -> Result<()> {
    let mut host = start(context, &spec(MODEL, "haswell", payload, cmdline)?)?;
    let (event, output) = play(&mut host)?;
    ensure!(event.starts_with(&format!("stopped: {end}")), "ended with `{event}`, printed {output}");
    if payload == "hello" {
        ensure!(output.contains(&format!("command line '{cmdline}'")), "printed {output}");
    }
    host_is_well(&mut host)
}

fn probe(context: &Context, model: &str, level: &str, payload: &str) -> Result<String> {
    let mut host = start(context, &spec(model, level, payload, "")?)?;
    let (event, output) = play(&mut host)?;
    let bad: Vec<&str> =
        output.lines().filter(|line| line.contains("BAD") && !line.contains(" 0 BAD")).collect();
    ensure!(event == "stopped: debug exit 0" && bad.is_empty(), "ended with `{event}`: {}", bad.join("; "));
    Ok(output)
}

/// Bochs has neither mask MSRs nor CPUID faulting and answers for MSRs that it does not know: the host must not be
/// fooled, and must say so.
fn cpu_flex(context: &Context) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", "corei5_lynnfield_750"))?;
    host.wait_ready(PATIENCE)?;
    let answer = host.command("cpu flex", PATIENCE)?;
    let text = answer.lines.join("\n");
    for part in [
        "Nehalem/Westmere, family 0x6, model 0x1e",
        "emulated: unknown MSRs read 0x0, writes ignored",
        "0x130 reads 0x0, writes ignored",
        "0x131 reads 0x0, writes ignored",
        "faulting  none",
    ] {
        ensure!(text.contains(part), "no `{part}` in {text}");
    }
    let answer = host.command("cpu flex --json", PATIENCE)?;
    let text = answer.lines.join("");
    ensure!(
        text.starts_with('{') && text.ends_with('}') && text.contains(r#""finding":"ignored""#),
        "`cpu flex --json` answers {text}"
    );
    ensure!(answer.error.is_none(), "{:?}", answer.error);
    host_is_well(&mut host)
}

fn stuck(context: &Context, payload: &str) -> Result<()> {
    let mut host = start(context, &spec(MODEL, "haswell", payload, "")?)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect(if payload == "spin-cli" { "spinning" } else { "halted" }, PATIENCE)?;
    host_is_well(&mut host)?;
    for command in [format!("vm pause {VM}"), format!("vm resume {VM}"), format!("vm destroy {VM} --force")] {
        let answer = host.command(&command, PATIENCE)?;
        ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    }
    host_is_well(&mut host)
}

/// A payload that judges its interrupts, in both modes of its APIC, where the CPU delivers them and takes their ends.
fn apicv(context: &Context, payload: &str) -> Result<()> {
    let spec = spec(MODEL, "haswell", payload, "")?.option("apicv=on");
    let mut host = super::start(context, &spec)?;
    host.console()?.expect("guests' APICs by APICv", PATIENCE)?;
    host.console()?.expect("vm guest: stopped: debug exit 0", PATIENCE)?;
    Ok(())
}

/// Bochs delivers what a guest has masked, and is found out.
fn apicv_is_tried_out(context: &Context) -> Result<()> {
    let mut host = super::start(context, &spec(MODEL, "haswell", "hello", "exit=0")?)?;
    let console = host.console()?;
    console.expect("APICv delivers interrupts that the guest has masked, as in Bochs: not used", PATIENCE)?;
    console.expect("guests' APICs by TPR shadow and APIC-access page", PATIENCE)?;
    console.expect("vm guest: stopped: debug exit 0", PATIENCE)?;
    Ok(())
}

/// Fault 2.6: where the preemption timer is no use, the APIC's bounds a guest's run. Two guests that spin share the host's
/// one CPU with its console, half and half although the timer of one's own cuts its turns short.
fn apic_timer_bounds(context: &Context) -> Result<()> {
    let mut spec = spec(MODEL, "haswell", "spin", "")?.option("slice-timer=apic");
    let mut ticking = spec.vms[0].clone();
    ticking.name = "ticking".to_string();
    ticking.cmdline = "count=10000".to_string();
    spec.vms.push(ticking);
    let mut host = start(context, &spec)?;
    host.console()?
        .expect("guests are bounded by the APIC's one-shot timer, as slice-timer= says", PATIENCE)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("lap 3 ", PATIENCE)?;
    host_is_well(&mut host)?;
    // Measured twice a second at the most, over what was since.
    let share = |vm: &Value| vm["cpu_permille"].as_u64().unwrap_or_default();
    let mut shares = Vec::new();
    for _ in 0..20 {
        let answer = host.command("vm list --json", PATIENCE)?;
        let vms: Value = serde_json::from_str(&answer.lines.join(""))?;
        shares = vms.as_array().into_iter().flatten().map(share).collect();
        if shares.len() == 2 && shares.iter().all(|share| *share > 200) {
            break;
        }
    }
    ensure!(shares.len() == 2 && shares.iter().all(|share| *share > 200), "per mille of the CPU: {shares:?}");
    for vm in [VM, "ticking"] {
        let answer = host.command(&format!("vm exits {vm}"), PATIENCE)?;
        let counts = answer.lines.join("\n");
        ensure!(counts.contains("external interrupt") && !counts.contains("preemption timer"), "{counts}");
    }
    host.guest()?.expect("lap 6 ", PATIENCE)?;
    host_is_well(&mut host)
}

fn no_debug_exit(context: &Context) -> Result<()> {
    let mut spec = spec(MODEL, "haswell", "hello", "")?;
    spec.vms[0].options.clear();
    let mut host = start(context, &spec)?;
    host.guest()?.expect("no debug exit: result 0", PATIENCE)?;
    host_is_well(&mut host)
}

fn two_vms(context: &Context) -> Result<()> {
    let mut spec = spec(MODEL, "haswell", "memwriter", "mib=4 ticks=20")?;
    let mut second = spec.vms[0].clone();
    second.name = "second".to_string();
    second.level = "nehalem".to_string();
    spec.vms.push(second);
    let mut host = start(context, &spec)?;
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (which, line) =
            host.console()?.expect_any(&["vm guest: stopped: ", "vm second: stopped: "], PATIENCE)?;
        ensure!(line.ends_with("debug exit 0"), "{line}");
        ended.push(which);
    }
    ended.sort_unstable();
    ensure!(ended == [0, 1], "one VM ended twice");
    host_is_well(&mut host)
}

fn refused_options(context: &Context) -> Result<()> {
    let mut spec = spec(MODEL, "haswell", "hello", "")?;
    for (name, option) in [("odd", "bogus=7"), ("bad", "vcpus=many")] {
        let mut vm = spec.vms[0].clone();
        vm.name = name.to_string();
        vm.options = vec![option.to_string()];
        spec.vms.push(vm);
    }
    // More than the host has, and more than its heap could count the pages of.
    let mut vast = spec.vms[0].clone();
    vast.name = "vast".to_string();
    vast.mem_mib = 1 << 20;
    spec.vms.push(vast);
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    host.vm_event(VM, &["stopped: debug exit 0"], PATIENCE)?;
    let text = host.console()?.text();
    for (name, word) in [("odd", "bogus"), ("bad", "many"), ("vast", "1048576 MiB")] {
        let named =
            text.lines().any(|line| line.contains(&format!("vm {name}: refused: ")) && line.contains(word));
        ensure!(named, "no line refuses {name} and names {word}");
    }
    host_is_well(&mut host)
}

fn refused_level(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("corei7_sandy_bridge_2600k", "haswell", "hello", "")?)?;
    let event = host.vm_event(VM, &["refused: "], PATIENCE)?;
    ensure!(event.to_lowercase().contains("avx2"), "the missing features are not named: {event}");
    host.wait_ready(PATIENCE).ok();
    host_is_well(&mut host)
}
