//! What an operator does while VMs move: watches, cancels, types ahead, evacuates.

use super::memory::{free_memory, memory_is_free_again};
use super::{Case, Context};
use crate::guest;
use crate::host::VmSpec;
use crate::scenario::{ADDRESSES, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 300;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("operate/{name}"), LIMIT, run);
        case.weight = 2;
        cases.push(case);
    };
    add("watch_cancel_and_retry", watch_cancel_and_retry);
    add("evacuate", evacuate);
    add("crosswise", crosswise);
    cases
}

/// Asks until the status holds all of `wanted`.
fn status_becomes(pair: &mut Pair, wanted: &[&str]) -> Result<String> {
    // Bounded by the case's deadline: each question waits for its answer.
    for _ in 0..2000 {
        let answer = pair.hosts[SOURCE].command("migrate status --json", PATIENCE)?;
        let line = answer.lines.last().context("no status")?.clone();
        if wanted.iter().all(|text| line.contains(text)) {
            return Ok(line);
        }
        ensure!(!line.contains("\"failed\""), "{line}");
    }
    bail!("the status never had {wanted:?}")
}

fn list(pair: &mut Pair, host: usize) -> Result<String> {
    Ok(pair.hosts[host].command("vm list", PATIENCE)?.lines.join("\n"))
}

/// A guest that cannot be stopped within a millisecond is watched, cancelled with a command and by Ctrl-C, and
/// moved in the end; what was typed ahead is done after that.
fn watch_cancel_and_retry(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.cpus = 2;
    // It writes without a pause. With one, a short round falls into it, leaves nothing to send, and the guest is gone
    // before the operator has typed `cancel`.
    plan.vm.cmdline = "mib=4 pages=64".into();
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let target = ADDRESSES[TARGET];
    let none = pair.hosts[SOURCE].command("migrate status", PATIENCE)?;
    ensure!(none.lines.iter().any(|l| l.contains("no migration since")), "{none:?}");
    let free = free_memory(&mut pair, TARGET)?;

    let slow = format!("migrate {VM} {target} downtime=0 timeout=600 on-timeout=cancel");
    let begun = pair.hosts[SOURCE].command(&format!("{slow} --detach"), PATIENCE)?;
    ensure!(begun.error.is_none(), "{begun:?}");
    // The first round has to be over for that.
    let active = status_becomes(&mut pair, &["\"status\":\"active\"", "\"expected-downtime\""])?;
    ensure!(active.contains("\"page-size\":4096") && !active.contains("error-desc"), "{active}");
    let twice = pair.hosts[SOURCE].command(&slow, PATIENCE)?;
    ensure!(twice.error.as_deref().is_some_and(|e| e.starts_with("busy ")), "{twice:?}");
    let other = pair.hosts[SOURCE].command("migrate cancel other", PATIENCE)?;
    ensure!(other.error.as_deref().is_some_and(|e| e.starts_with("not-found ")), "{other:?}");
    let cancelled = pair.hosts[SOURCE].command(&format!("migrate cancel {VM}"), PATIENCE)?;
    ensure!(cancelled.error.is_none(), "{cancelled:?}");
    status_becomes(&mut pair, &["\"status\":\"cancelled\"", "error-desc"])?;
    pair.hosts[TARGET].console()?.expect("failed: peer: cancelled: by the operator", PATIENCE)?;

    // Again at once, in the foreground, until Ctrl-C. What was typed before it is dropped with it.
    pair.hosts[SOURCE].console()?.send_line(&slow)?;
    pair.hosts[SOURCE].console()?.expect("migrate demo: round 2:", PATIENCE)?;
    pair.hosts[SOURCE].console()?.send(b"version\r\x03")?;
    pair.hosts[SOURCE]
        .console()?
        .expect("error: failed: cancelled: by the operator (running here)", PATIENCE)?;
    pair.hosts[TARGET].console()?.expect("failed: peer: cancelled: by the operator", PATIENCE)?;
    ensure!(list(&mut pair, SOURCE)?.contains("running"), "the guest is not running here");
    memory_is_free_again(&mut pair, TARGET, free)?;

    // And for good; commands typed meanwhile come after.
    let from = pair.hosts[SOURCE].console()?.text().len();
    pair.hosts[SOURCE].console()?.send_line(&format!("migrate {VM} {target} downtime=10000"))?;
    pair.hosts[SOURCE].console()?.expect("migrate demo: round 1:", PATIENCE)?;
    pair.hosts[SOURCE].console()?.send(b"vm list\rmigrate status\r")?;
    pair.hosts[SOURCE].console()?.expect("status    completed", PATIENCE)?;
    let text = pair.hosts[SOURCE].console()?.text_from(from);
    let at = |what: &str| text.find(what).with_context(|| format!("no {what:?} in {text}"));
    let done = at("migrate demo: done: 20 MiB in ")?;
    ensure!(done < at("vm list")? && done < at("status    completed")?, "typed ahead, done before: {text}");
    ensure!(!text.contains("version"), "{text}");
    super::migrate::goes_on(&mut pair, TARGET, 5)?;
    // What it printed there is still shown here, what it printed first included.
    let host = pair.hosts[TARGET].console()?;
    host.send_line(&format!("console {VM} --read-only"))?;
    host.expect("read-only: Ctrl-", PATIENCE)?;
    host.expect("memwriter: * pages at", PATIENCE)?;
    host.expect("tick 1 errors 0", PATIENCE)?;
    host.send(b"\x1c.")?;
    let ended = host.expect_any(&["ok", "error: "], PATIENCE)?;
    ensure!(ended.1 == "ok", "{ended:?}");
    Ok(())
}

/// Three VMs: one moves, one has a name that the target knows already, one does not run.
fn evacuate(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut hosts = plan.hosts();
    let mut more = |at: usize, name: &str, option: Option<&str>| {
        let mut vm = VmSpec::new(name, &guest::payload("halt-forever"));
        vm.mem_mib = 8;
        vm.level = "haswell".into();
        vm.options.extend(option.map(str::to_string));
        hosts[at].vms.push(vm);
    };
    more(SOURCE, "twin", None);
    more(SOURCE, "idle", Some("paused"));
    more(TARGET, "twin", None);
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let all = pair.hosts[SOURCE].command(&format!("migrate all {}", ADDRESSES[TARGET]), PATIENCE)?;
    let error = all.error.context("two VMs cannot go")?;
    ensure!(error.starts_with("failed 1 moved, 2 stay: ") && error.contains("twin"), "{error}");
    let said = all.lines.join("\n");
    for why in [
        "vm twin stays: peer refuses: vm twin is on this host already",
        "vm idle stays: it is paused, not running",
    ] {
        ensure!(said.contains(why), "no {why:?} in {said}");
    }
    let (here, there) = (list(&mut pair, SOURCE)?, list(&mut pair, TARGET)?);
    ensure!(!here.contains(VM) && here.contains("twin") && here.contains("idle"), "{here}");
    ensure!(there.contains(VM), "{there}");
    super::migrate::goes_on(&mut pair, TARGET, 5)
}

/// Two VMs pass each other on the way.
fn crosswise(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut hosts = plan.hosts();
    let mut vm = VmSpec::new("back", &guest::payload("halt-forever"));
    vm.mem_mib = 16;
    vm.level = "haswell".into();
    hosts[TARGET].vms.push(vm);
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    for (host, name) in [(SOURCE, VM), (TARGET, "back")] {
        let to = ADDRESSES[1 - host];
        let begun = pair.hosts[host].command(&format!("migrate {name} {to} --detach"), PATIENCE)?;
        ensure!(begun.error.is_none(), "{begun:?}");
    }
    for (host, name) in [(SOURCE, VM), (TARGET, "back")] {
        pair.hosts[host].console()?.expect(&format!("migrate {name}: done: "), PATIENCE)?;
    }
    for (host, name) in [(SOURCE, VM), (TARGET, "back")] {
        let (here, there) = (list(&mut pair, host)?, list(&mut pair, 1 - host)?);
        ensure!(!here.contains(name) && there.contains(name), "{name}: {here}, {there}");
    }
    super::migrate::goes_on(&mut pair, TARGET, 5)
}
