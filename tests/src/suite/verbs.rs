//! The console's verbs on one host: each does what it says, `--json` is one document with the keys that are documented,
//! and what may do harm asks first.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::hub::Hub;
use crate::hub::peer::Peer;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
pub(super) const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 240;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs/vm", LIMIT, of_a_vm),
        Case::new("verbs/deaf_guest", LIMIT, deaf_guest),
        Case::new("verbs/host", LIMIT, of_the_host),
        Case::new("verbs/net", LIMIT, of_the_net),
        Case::new("verbs/warm_reboot", LIMIT, warm_reboot),
        Case::new("verbs/poweroff", LIMIT, poweroff),
    ]
}

pub(super) fn spec(cmdline: &str) -> Result<HostSpec> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("power-button"));
    vm.mem_mib = 32;
    vm.cmdline = cmdline.to_string();
    Ok(HostSpec::new("host", MODEL).with_vm(vm))
}

pub(super) fn done(host: &mut Host, command: &str) -> Result<Vec<String>> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {:?}", answer.error);
    // What the log says meanwhile is no answer; what is left of the prompt is none either.
    let log = |line: &String| line.starts_with("[ ") && line.contains("] ");
    let spoken = ["dmesg", "vm log", "events"].iter().any(|verb| command.contains(verb));
    Ok(answer.lines.into_iter().filter(|line| !line.is_empty() && (spoken || !log(line))).collect())
}

pub(super) fn refused(host: &mut Host, command: &str, start: &str) -> Result<()> {
    let error = host.command(command, PATIENCE)?.error.with_context(|| format!("`{command}` was obeyed"))?;
    ensure!(error.starts_with(start), "`{command}`: not `{start}...` but `{error}`");
    Ok(())
}

/// Every path of keys in a document: `vcpus[].cpu`.
fn paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                into.insert(path.clone());
                paths(value, &path, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{at}[]"), into)),
        _ => {}
    }
}

/// The answer to a command with `--json`, as one document whose keys are those of the table.
pub(super) fn json(host: &mut Host, command: &str) -> Result<Value> {
    let lines = done(host, &format!("{command} --json"))?;
    let [line] = lines.as_slice() else { bail!("`{command} --json`: {} lines: {lines:?}", lines.len()) };
    let value: Value = serde_json::from_str(line).with_context(|| format!("`{command}`: {line}"))?;
    let words = shell::JSON_KEYS.iter().filter(|keys| command.starts_with(keys.command));
    let keys = words.max_by_key(|keys| keys.command.len()).with_context(|| format!("{command}: no keys"))?;
    let known: Vec<(String, bool)> = keys.paths().collect();
    let mut found = BTreeSet::new();
    paths(&value, "", &mut found);
    let fits = |path: &str, known: &str| match known.strip_suffix('*') {
        Some(open) => path.starts_with(open),
        None => path == known,
    };
    let stray: Vec<_> =
        found.iter().filter(|path| !known.iter().any(|(known, _)| fits(path, known))).collect();
    ensure!(stray.is_empty(), "`{command}`: {stray:?} are not documented");
    let missing: Vec<_> = known.iter().filter(|(path, always)| *always && !found.contains(path)).collect();
    ensure!(missing.is_empty(), "`{command}`: {missing:?} are documented and not there: {line}");
    Ok(value)
}

fn number(text: &str, before: &str) -> Result<u64> {
    let word = text.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next());
    let word = word.with_context(|| format!("no `{before}` in {text}"))?;
    u64::from_str_radix(word.trim_start_matches("0x"), 16).with_context(|| word.to_string())
}

fn of_a_vm(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("")?)?;
    host.wait_ready(PATIENCE)?;
    let said = host.guest()?.expect("power-button: frames *ready", PATIENCE)?;
    let (inside_middle, mark) = (number(&said, "frames ")?, number(&said, "mark ")?);

    let list = json(&mut host, "vm list")?;
    ensure!(list[0]["name"] == VM && list[0]["state"] == "running", "{list}");
    ensure!(list[0]["cpu_permille"].is_u64() && list[0]["up_us"].as_u64() > Some(0), "{list}");
    let listed = done(&mut host, "vm list --state running --sort cpu")?;
    ensure!(listed.len() == 2 && listed[1].starts_with(&format!("{VM} ")), "{listed:?}");
    ensure!(done(&mut host, "vm list --state stopped")?.len() == 1, "a VM that runs is listed as stopped");
    let nowhere = "state this host has no network: say `ip=` on the command line";
    refused(&mut host, &format!("migrate {VM} 10.0.0.2"), nowhere)?;
    refused(&mut host, "pool show", nowhere)?;
    refused(&mut host, &format!("migrate check {VM} host-b"), "not-found no member 'host-b' of the pool")?;
    let show = json(&mut host, &format!("vm show {VM}"))?;
    ensure!(show["memory"][0]["end"] == 32 << 20 && show["reason"].is_null(), "{show}");
    ensure!(done(&mut host, &format!("vm show {VM}"))?.iter().any(|l| l == "state     running"), "vm show");

    // Counts go up, and ticks only while they are asked for.
    let exits = json(&mut host, &format!("vm exits {VM}"))?;
    ensure!(exits["total"].as_u64() > Some(0) && exits["timed"] == false, "{exits}");
    ensure!(exits["reasons"][0]["ticks"] == 0 && exits["reasons"][0]["count"].as_u64() > Some(0), "{exits}");
    done(&mut host, &format!("vm exits {VM} on"))?;
    done(&mut host, &format!("vm rename {VM} other"))?;
    refused(&mut host, &format!("vm show {VM}"), "not-found ")?;
    refused(&mut host, "vm rename other other", "state ")?;
    done(&mut host, &format!("vm rename other {VM}"))?;

    let regs = json(&mut host, &format!("vm regs {VM}"))?;
    ensure!(regs["vcpus"][0]["cr0"].as_u64().is_some_and(|cr0| cr0 & 1 == 1), "{regs}");
    let text = done(&mut host, &format!("vm regs {VM}"))?.join("\n");
    ensure!(text.contains("vcpu 0  rip ") && text.lines().all(|l| l.len() <= 80), "{text}");
    for option in ["", " --virtual"] {
        let lines = done(&mut host, &format!("vm mem {VM} {mark:#x} 32{option}"))?;
        ensure!(lines.len() == 2 && lines[0].ends_with("  Flexvisor looks "), "{lines:?}");
        let memory = json(&mut host, &format!("vm mem {VM} {mark:#x} 9{option}"))?;
        ensure!(memory["bytes"] == "466c65787669736f72", "{memory}");
    }
    refused(&mut host, &format!("vm mem {VM} 0xffffffff0000"), "failed ")?;
    refused(&mut host, &format!("vm mem {VM} 0x800000000000 --virtual"), "failed ")?;
    let stack = json(&mut host, &format!("vm stack {VM}"))?;
    let addresses = stack["vcpus"][0]["addresses"].as_array().context("no addresses")?;
    ensure!(addresses.len() >= 3 && addresses[1] == inside_middle, "{stack}, {inside_middle:#x}");
    let stack = done(&mut host, &format!("vm stack {VM}"))?;
    ensure!(stack.iter().any(|l| l.trim() == format!("{inside_middle:016x}")), "{stack:?}");
    let log = done(&mut host, &format!("vm log {VM}"))?;
    ensure!(log.iter().any(|l| l.ends_with(&format!("vm: vm {VM}: running"))), "{log:?}");
    ensure!(log.iter().all(|l| l.contains(VM)), "{log:?}");
    let lines = json(&mut host, &format!("vm log {VM}"))?;
    ensure!(lines.as_array().is_some_and(|lines| lines.len() == log.len()), "{lines} for {log:?}");

    // The guest is as it was: it is reset, and it hears the power button.
    refused(&mut host, &format!("vm reset {VM}"), "force ")?;
    done(&mut host, &format!("vm reset {VM} --force"))?;
    host.guest()?.expect("power-button: frames *ready", PATIENCE)?;
    let exits = json(&mut host, &format!("vm exits {VM}"))?;
    ensure!(exits["timed"] == true && exits["reasons"][0]["ticks"].as_u64() > Some(0), "{exits}");
    done(&mut host, &format!("vm stop {VM}"))?;
    host.guest()?.expect("power-button: pressed 1, stray 0", PATIENCE)?;
    let show = json(&mut host, &format!("vm show {VM}"))?;
    ensure!(show["state"] == "stopped" && show["reason"] == "power-off", "{show}");
    refused(&mut host, &format!("vm stop {VM}"), "state ")?;
    let over = format!("state vm {VM} is stopped, not paused: `vm start {VM}` boots it anew");
    refused(&mut host, &format!("vm resume {VM}"), &over)?;
    done(&mut host, &format!("vm start {VM}"))?;
    host.guest()?.expect("power-button: frames *ready", PATIENCE)?;
    let runs = format!("state vm {VM} is running: `vm reset {VM} --force` boots it anew");
    refused(&mut host, &format!("vm start {VM}"), &runs)?;
    done(&mut host, &format!("vm pause {VM}"))?;
    // Each verb does its own: a paused guest is not started.
    let paused = format!("state vm {VM} is paused: `vm resume {VM}` lets it go on");
    refused(&mut host, &format!("vm start {VM}"), &paused)?;
    ensure!(json(&mut host, "vm list")?[0]["state"] == "paused", "it runs");
    done(&mut host, &format!("vm regs {VM}"))?;
    refused(&mut host, &format!("vm destroy {VM}"), "force ")?;
    done(&mut host, &format!("vm destroy {VM} --force"))?;
    let log = done(&mut host, &format!("vm log {VM}"))?;
    ensure!(log.iter().any(|l| l.ends_with(&format!("vm: vm {VM}: destroyed"))), "{log:?}");
    refused(&mut host, "vm log nobody", "not-found no VM named nobody")?;
    // Its kernel is free again with it.
    let memory = json(&mut host, "mem")?;
    ensure!(memory["guests"] == 0 && memory["kernels"] == 0, "{memory}");
    Ok(())
}

/// A guest that does not listen runs on, and the operator is told what is left.
fn deaf_guest(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("listen=0")?)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("power-button: frames *ready", PATIENCE)?;
    let error = host.command(&format!("vm stop {VM} timeout=1"), PATIENCE)?.error.context("it stopped")?;
    ensure!(
        error
            == format!(
                "failed vm {VM} did not power off within 1 s and runs on: `vm destroy {VM} --force` ends it"
            ),
        "{error}"
    );
    host.console()?.send_line(&format!("vm stop {VM}"))?;
    host.console()?.expect("power button pressed", PATIENCE)?;
    host.console()?.send(b"\x03")?;
    host.console()?.expect_line("the end of the wait", PATIENCE, |line| {
        line.starts_with("error: failed: not waited for: ").then_some(())
    })?;
    ensure!(json(&mut host, "vm list")?[0]["state"] == "running", "it does not run");
    Ok(())
}

fn of_the_host(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("")?.option("idle=poll"))?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("power-button: frames *ready", PATIENCE)?;
    let version = json(&mut host, "version")?;
    let shown = done(&mut host, "version")?;
    let banner = format!("Flexvisor {}", version["version"].as_str().context("version")?);
    ensure!(shown.iter().any(|l| l.starts_with(&banner)), "{shown:?}");
    let cpu = json(&mut host, "cpu")?;
    ensure!(cpu["cpus"] == 1, "{cpu}");
    // What is missing for a level is said, in all three places.
    let others = cpu["others"].as_array().context("others")?;
    let ice = others.iter().find(|level| level["name"] == "icelake-server").context("Skylake gives it")?;
    let missing = ice["missing"].as_array().context("missing")?;
    ensure!(!missing.is_empty() && missing.iter().all(Value::is_string), "{cpu}");
    let levels = json(&mut host, "cpu levels")?;
    let rows = levels.as_array().context("levels")?;
    ensure!(
        rows.iter().any(|row| row["name"] == "icelake-server" && row["missing"] == ice["missing"]),
        "{levels}"
    );
    ensure!(
        rows.iter().all(|row| row["here"] == row["missing"].as_array().is_some_and(Vec::is_empty)),
        "{levels}"
    );
    for command in ["cpu", "cpu levels"] {
        let text = done(&mut host, command)?;
        let first = missing[0].as_str().context("no text")?;
        let named = |line: &String| line.trim_start().starts_with("icelake-server ") && line.contains(first);
        ensure!(text.iter().any(named), "`{command}`: {text:?}");
    }
    for question in ["levels", "show", "diff haswell nehalem", "check guest here", "ledger guest", "flex"] {
        json(&mut host, &format!("cpu {question}"))?;
    }
    for question in ["mitigations", "mitigations guest", "audit guest report"] {
        json(&mut host, &format!("cpu {question}"))?;
    }
    ensure!(json(&mut host, "migrate status")?["status"] == "none", "migrate status");

    let boot = json(&mut host, "boot")?;
    let stages = boot["stages"].as_array().context("stages")?;
    let sum: u64 = stages.iter().filter_map(|stage| stage["us"].as_u64()).sum();
    ensure!(boot["via"] == "multiboot2" && boot["us"] == sum && stages.len() >= 6, "{boot}");
    ensure!(!boot["line"].to_string().contains("key=0"), "a key is shown: {boot}");
    let text = host.console()?.text();
    ensure!(text.lines().any(|l| l.contains("] boot: ready in ") && l.contains(", memory ")), "{text}");

    let config = json(&mut host, "config show")?;
    let option = |name: &str| config.as_array()?.iter().find(|row| row["option"] == name).cloned();
    let row = |name: &str| option(name).with_context(|| format!("no {name} in {config}"));
    ensure!(row("idle")?["value"] == "poll" && row("idle")?["from"] == "boot line", "{config}");
    ensure!(row("panic")?["value"] == "halt" && row("panic")?["from"] == "default", "{config}");
    ensure!(row("key")?["value"] == "...", "{config}");

    let memory = json(&mut host, "mem")?;
    let bytes = |key: &str| memory[key].as_u64().unwrap_or(0);
    let used = bytes("guests") + bytes("kernels") + bytes("heap") + bytes("other");
    ensure!(bytes("guests") == 32 << 20 && bytes("kernels") > 0, "{memory}");
    ensure!(bytes("total") == bytes("free") + used, "{memory}");

    // The log: levels of console and ring apart, and everything in it.
    ensure!(json(&mut host, "log")?["ring"] == "info", "log");
    done(&mut host, "log console warn")?;
    done(&mut host, &format!("vm pause {VM}"))?;
    let shown = done(&mut host, "dmesg")?;
    let paused = format!("vm: vm {VM}: paused");
    ensure!(shown.iter().any(|l| l.ends_with(&paused)), "the ring lost a line");
    ensure!(shown.first().is_some_and(|l| l.contains("Flexvisor ")), "{:?}", shown.first());
    done(&mut host, "log error")?;
    done(&mut host, &format!("vm resume {VM}"))?;
    let log = json(&mut host, "dmesg")?;
    let last = log.as_array().and_then(|lines| lines.last()).context("an empty log")?;
    ensure!(last["text"] == paused && last["us"].as_u64() > Some(0), "{last}");
    done(&mut host, "log info")?;
    ensure!(done(&mut host, "dmesg --previous")?.iter().any(|l| l == "none"), "a log of no boot");

    let top = json(&mut host, "top")?;
    ensure!(top["vms"][0]["name"] == VM && top["cpus"].as_array().map(Vec::len) == Some(1), "{top}");
    let top = done(&mut host, "top --once")?;
    ensure!(top.iter().any(|l| l.starts_with("VM ")) && top.iter().any(|l| l.starts_with(VM)), "{top:?}");
    for (term, end) in [("dumb", &b"q"[..]), ("ansi", b"\x03")] {
        done(&mut host, &format!("term {term}"))?;
        host.console()?.send_line("top")?;
        if term == "ansi" {
            host.console()?.expect("\x1b[H\x1b[Jup ", PATIENCE)?;
        }
        host.console()?.expect("net  in ", PATIENCE)?;
        host.console()?.expect("net  in ", PATIENCE)?;
        host.console()?.send(end)?;
        host.console()?.expect_line("the end of top", PATIENCE, |line| (line == "ok").then_some(()))?;
    }
    done(&mut host, "term dumb")?;

    // Registers: a fault is caught, what the host lives by is refused.
    ensure!(json(&mut host, "msr read 0x10")?["msr"] == 0x10, "msr read");
    refused(&mut host, "msr read 0x804", "failed ")?; // reserved in x2APIC mode
    refused(&mut host, "msr write 0x480 1", "force ")?;
    refused(&mut host, "msr write 0x480 1 --force", "failed ")?; // IA32_VMX_BASIC is read-only
    refused(&mut host, "msr write 0xc0000080 0 --force", "unsupported ")?;
    refused(&mut host, "msr write 0x1b 0 --force", "unsupported ")?;

    let net = json(&mut host, "net show")?;
    ensure!(net["present"] == false, "{net}");
    refused(&mut host, "net ping 10.0.0.9", "failed ")?;
    for command in ["reboot", "poweroff"] {
        refused(&mut host, command, "force ")?;
    }
    ensure!(json(&mut host, "vm list")?[0]["state"] == "running", "the guest is not running");
    Ok(())
}

fn of_the_net(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let spec = HostSpec::new("host", MODEL).option("ip=10.77.0.1/24").option("idle=poll").option("pool=lab");
    let mut host = spec.start(&context.dir, Some((&hub, 1)))?;
    host.set_deadline(context.deadline);
    host.wait_ready(PATIENCE)?;
    let over = AtomicBool::new(false);
    let (answered, silent) = std::thread::scope(|scope| -> Result<_> {
        // Whatever the peer does, it answers meanwhile.
        let peer = scope.spawn(|| {
            let mut peer = Peer::new(&hub, 9, [10, 77, 0, 9].into());
            while !over.load(Ordering::Relaxed) {
                let _ = peer.ping([10, 77, 0, 1].into(), Duration::from_secs(1));
            }
        });
        let answered = done(&mut host, "net ping 10.77.0.9");
        let silent = host.command("net ping 10.77.0.8", PATIENCE);
        over.store(true, Ordering::Relaxed);
        ensure!(peer.join().is_ok(), "the peer panicked");
        Ok((answered?, silent?))
    })?;
    let timed = |l: &&String| l.starts_with("10.77.0.9: answer ") && l.ends_with(" ms");
    let answers = answered.iter().filter(timed).count();
    ensure!(answers >= 1, "{answered:?}");
    ensure!(
        silent.error.as_deref()
            == Some("failed no answer to ARP for 10.77.0.8: is the host on, in this network?"),
        "{silent:?}"
    );
    ensure!(json(&mut host, "pool show")?["members"].as_array().map(Vec::len) == Some(1), "pool show");
    json(&mut host, "pool keys")?;
    let net = json(&mut host, "net show")?;
    ensure!(net["present"] == true && net["up"] == true, "{net}");
    ensure!(net["address"].as_str().is_some_and(|a| a.starts_with("10.77.0.1/24")), "{net}");
    let stats = json(&mut host, "net stats")?;
    ensure!(stats["rx_frames"].as_u64() > Some(0) && stats["tx_frames"].as_u64() > Some(0), "{stats}");
    Ok(())
}

/// The log of one boot is there in the next.
fn warm_reboot(context: &Context) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", MODEL))?;
    host.wait_ready(PATIENCE)?;
    host.console()?.send_line("reboot")?;
    host.wait_ready(PATIENCE)?;
    let log = done(&mut host, "dmesg --previous")?;
    ensure!(log.iter().any(|l| l.starts_with("Flexvisor ")), "{log:?}");
    ensure!(log.last().is_some_and(|l| l.ends_with("rebooting")), "{log:?}");
    ensure!(json(&mut host, "dmesg --previous")?.as_array().is_some_and(|a| a.len() == log.len()), "json");
    // It is the boot before, not an older one.
    host.console()?.send_line("reboot")?;
    host.wait_ready(PATIENCE)?;
    let again = done(&mut host, "dmesg --previous")?;
    ensure!(again.iter().filter(|l| l.starts_with("Flexvisor ")).count() == 1, "{again:?}");
    Ok(())
}

fn poweroff(context: &Context) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", MODEL))?;
    host.wait_ready(PATIENCE)?;
    host.console()?.send_line("poweroff")?;
    host.console()?.expect("powering off", PATIENCE)?;
    // The emulator ends, and with it the line.
    for _ in 0..100 {
        if host.console()?.is_closed() {
            return Ok(());
        }
        let known = host.console()?.text().len();
        host.console()?.wait_news(known, Duration::from_millis(500));
    }
    bail!("the machine is still on")
}
