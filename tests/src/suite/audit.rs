//! `cpu audit`: what a guest executes outside its level is named, with its place; and the guest does not suffer.

use super::linux::{debian, powers_off};
use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::scenario::{ADDRESSES, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const LINUX_PATIENCE: Duration = Duration::from_secs(400);
const LIMIT: u64 = 240;
/// Pages that the payload writes and calls at `t`.
const CALLED: u64 = 64;
const SKYLAKE: &str = "corei7_skylake_x";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("audit/names_what_is_executed", LIMIT, names),
        Case::new("audit/beside_dirty_tracking", LIMIT, beside_tracking),
        Case::new("audit/linux_goes_on", 900, |context| linux(context, 1)).slow(),
        Case::new("audit/linux_goes_on_2_vcpus", 1800, |context| linux(context, 2)).slow(),
    ];
    // The second host tracks by write protection, which the audit uses as well; it has the first three instructions.
    for (from, to, row) in [(SKYLAKE, "corei7_haswell_4770", 5), ("corei7_sandy_bridge_2600k", SKYLAKE, 3)] {
        let run = move |context: &Context| migrates(context, from, to, row);
        let mut case = Case::new(&format!("audit/goes_with_the_vm_from_{from}"), 300, run);
        case.weight = 2;
        cases.push(case);
    }
    for cpus in [1, 3] {
        let run = move |context: &Context| two_vcpus(context, cpus);
        cases.push(Case::new(&format!("audit/two_vcpus_on_{cpus}"), LIMIT, run));
    }
    let mut case = Case::new("audit/two_vcpus_move", 300, two_vcpus_move);
    case.weight = 2;
    cases.push(case);
    let mut case = Case::new("audit/check_warns_of_an_older_target", 300, warns);
    case.weight = 2;
    cases.push(case);
    cases
}

fn payload(level: &str) -> Result<VmSpec> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("audit"));
    vm.mem_mib = 16;
    vm.level = level.to_string();
    Ok(vm)
}

fn done(host: &mut Host, command: &str) -> Result<Vec<String>> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {:?}", answer.error);
    Ok(answer.lines)
}

fn report(host: &mut Host) -> Result<Value> {
    let lines = done(host, &format!("cpu audit {VM} report --json"))?;
    let line = lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    let report: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    ensure!(report["heuristic"] == true && report["vm"] == VM, "{line}");
    Ok(report)
}

/// Features of code that execution led to, with the address of the first instruction; linear is physical in the payload.
fn reached(report: &Value) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for row in report["findings"].as_array().context("no findings")? {
        if row["reached"].as_u64() != Some(0) {
            let text = |key: &str| row[key].as_str().map(str::to_string).context("no text");
            ensure!(row["linear"] == row["physical"] && row["here"] == "runs", "{row}");
            found.insert(text("feature")?, text("linear")?);
        }
    }
    Ok(found)
}

/// Has the payload do something, and answers with what it said: `FEATURE at ADDRESS` as a map, and the last line: the
/// one that ends in `end`, or the first.
fn tell(host: &mut Host, what: u8, end: &str) -> Result<(BTreeMap<String, String>, String)> {
    let console = host.guest()?;
    console.expect("audit: ready", PATIENCE)?;
    console.send(&[what])?;
    let mut said = BTreeMap::new();
    loop {
        let line = console.expect_line("the payload", PATIENCE, |line| {
            line.strip_prefix("audit: ").filter(|rest| *rest != "ready").map(str::to_string)
        })?;
        if !end.is_empty() && line.ends_with(end) {
            return Ok((said, line));
        }
        let (feature, at) = line.split_once(" at ").with_context(|| format!("odd line {line}"))?;
        said.insert(feature.to_string(), at.to_string());
        if end.is_empty() {
            return Ok((said, line));
        }
    }
}

fn ticks(host: &mut Host) -> Result<u64> {
    let (_, line) = tell(host, b't', "ticks")?;
    line.split(' ').next().and_then(|n| n.parse().ok()).with_context(|| format!("no ticks in {line}"))
}

fn names(context: &Context) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", SKYLAKE).with_vm(payload("penryn")?))?;
    host.wait_ready(PATIENCE)?;
    let host = &mut host;
    let error =
        host.command(&format!("cpu audit {VM} stop"), PATIENCE)?.error.context("no audit was stopped")?;
    ensure!(error.starts_with("state "), "{error}");
    let before = ticks(host)?.min(ticks(host)?);
    done(host, &format!("cpu audit {VM} start"))?;
    let error =
        host.command(&format!("cpu audit {VM} start"), PATIENCE)?.error.context("it was started twice")?;
    ensure!(error.starts_with("state "), "{error}");
    let during = ticks(host)?;
    ensure!(reached(&report(host)?)?.is_empty(), "found before anything was executed");

    let (mut expected, _) = tell(host, b'x', "row done")?;
    let found = reached(&report(host)?)?;
    ensure!(found == expected, "executed {expected:?}, found {found:?}");

    // code over code, and an instruction that crosses a page
    let (over, _) = tell(host, b's', "over done")?;
    expected.extend(over);
    let found = reached(&report(host)?)?;
    ensure!(found == expected, "executed {expected:?}, found {found:?}");

    // a page that writes to itself gets ahead, and what is patched into it is found once the page is closed
    let (_, line) = tell(host, b'l', "writes")?;
    ensure!(line == "1000 writes", "{line}");
    let (patched, _) = tell(host, b'o', "")?;
    expected.extend(patched);
    thread::sleep(Duration::from_millis(500));
    for _ in 0..20 {
        let (_, line) = tell(host, b'p', "writes")?;
        ensure!(line == "1000 writes", "{line}");
        if reached(&report(host)?)? == expected {
            break;
        }
    }
    let found = reached(&report(host)?)?;
    ensure!(found == expected, "executed {expected:?}, found {found:?}");
    let text = done(host, &format!("cpu audit {VM} report"))?.join("\n");
    ensure!(text.contains("heuristic") && text.contains("POPCNT"), "{text}");

    done(host, &format!("cpu audit {VM} stop"))?;
    let after = ticks(host)?.min(ticks(host)?);
    ensure!(during > 4 * before, "{before} ticks before, {during} during: nothing was looked at");
    ensure!(after < 2 * before, "{before} ticks before, {after} after: large pages are not back");
    ensure!(reached(&report(host)?)? == expected, "stop has lost the findings");
    tell(host, b'q', "done")?;
    Ok(())
}

/// Audit and tracking begin and end in any order: each write is counted, each first fetch seen, and nothing is left.
fn beside_tracking(context: &Context) -> Result<()> {
    let mut host = start(context, &HostSpec::new("host", SKYLAKE).with_vm(payload("penryn")?))?;
    host.wait_ready(PATIENCE)?;
    let host = &mut host;
    let before = ticks(host)?.min(ticks(host)?);
    let audit = |host: &mut Host, action: &str| done(host, &format!("cpu audit {VM} {action}")).map(drop);
    let pages = |host: &mut Host| report(host)?["pages"].as_u64().context("no pages");
    for method in ["pml", "ad", "wp"] {
        for audit_first in [true, false] {
            let track = format!("vm dirty start {VM} {method}");
            if audit_first {
                audit(host, "start")?;
                done(host, &track)?;
            } else {
                done(host, &track)?;
                audit(host, "start")?;
            }
            for _ in 0..2 {
                harvest(host)?;
                let decoded = pages(host)?;
                ticks(host)?;
                let (written, decoded) = (harvest(host)?, pages(host)? - decoded);
                ensure!(written >= CALLED, "{method}: {written} of {CALLED} written pages counted");
                ensure!(decoded >= CALLED, "{method}: {decoded} of {CALLED} written pages decoded");
            }
            if audit_first {
                audit(host, "stop")?;
                ticks(host)?;
                ensure!(harvest(host)? >= CALLED, "{method}: the end of the audit ended the tracking");
                done(host, &format!("vm dirty stop {VM}"))?;
            } else {
                done(host, &format!("vm dirty stop {VM}"))?;
                let decoded = pages(host)?;
                ticks(host)?;
                ensure!(
                    pages(host)? - decoded >= CALLED,
                    "{method}: the end of the tracking ended the audit"
                );
                audit(host, "stop")?;
            }
            let after = ticks(host)?.min(ticks(host)?);
            ensure!(after < 2 * before, "{method}: {before} ticks before, {after} after");
        }
    }
    Ok(())
}

fn harvest(host: &mut Host) -> Result<u64> {
    let lines = done(host, &format!("vm dirty harvest {VM}"))?;
    let pages = lines.iter().find_map(|line| line.strip_prefix("dirty: ")?.split(' ').next()?.parse().ok());
    pages.with_context(|| format!("no number of pages in {lines:?}"))
}

fn migrates(context: &Context, from: &str, to: &str, row: u32) -> Result<()> {
    let mut plan = Plan::memwriter(from, to, "penryn", 8)?;
    plan.vm = payload("penryn")?;
    plan.vm.cmdline = format!("row={row}");
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    let source = &mut pair.hosts[SOURCE];
    done(source, &format!("cpu audit {VM} start"))?;
    let (expected, _) = tell(source, b'x', "row done")?;
    let found = reached(&report(source)?)?;
    ensure!(found == expected, "executed {expected:?}, found {found:?}");
    let wanted = report(source)?["findings"].clone();
    ensure!(wanted.as_array().is_some_and(|rows| !rows.is_empty()), "nothing found");
    source.guest()?.expect("audit: ready", PATIENCE)?;
    // pages written and executed while they are sent
    source.guest()?.send(b"t")?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    let target = &mut pair.hosts[TARGET];
    let arrived = report(target)?;
    ensure!(arrived["running"] == false, "the audit does not go on by itself");
    let found = |rows: &Value| -> Vec<String> {
        let rows = rows.as_array().into_iter().flatten();
        rows.filter(|row| row["reached"] != 0)
            .map(|row| format!("{} {}", row["feature"], row["linear"]))
            .collect()
    };
    ensure!(found(&arrived["findings"]) == found(&wanted), "sent {wanted}, arrived {arrived}");
    Ok(())
}

/// Lynnfield lacks AES-NI, MOVBE and BMI1.
fn warns(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, "corei5_lynnfield_750", "penryn", 8)?;
    plan.vm = payload("penryn")?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    let source = &mut pair.hosts[SOURCE];
    let check = format!("migrate check {VM} {}", ADDRESSES[TARGET]);
    let warned = |host: &mut Host, check: &str| -> Result<Option<String>> {
        let lines = done(host, check)?;
        Ok(lines.into_iter().find(|line| line.contains("an audit saw")))
    };
    ensure!(warned(source, &check)?.is_none(), "warned before the audit");
    done(source, &format!("cpu audit {VM} start"))?;
    tell(source, b'x', "row done")?;
    let line = warned(source, &check)?.context("no warning")?;
    for (name, lacks) in
        [("AESNI", true), ("MOVBE", true), ("BMI1", true), ("POPCNT", false), ("SSE4.2", false)]
    {
        ensure!(line.contains(name) == lacks, "{line}");
    }
    Ok(())
}

/// The payload with a second vCPU.
fn pair_of_vcpus() -> Result<VmSpec> {
    let mut vm = payload("penryn")?;
    vm.options.push("vcpus=2".into());
    Ok(vm)
}

/// What the payload has the second vCPU call so often, it has called, whatever the first one writes meanwhile; and both get
/// ahead on one page.
fn contend(host: &mut Host) -> Result<()> {
    let (_, line) = tell(host, b'f', "writes")?;
    ensure!(line == "1000 calls, all writes", "{line}");
    both_on_one(host)
}

fn both_on_one(host: &mut Host) -> Result<()> {
    let (_, line) = tell(host, b'b', "writes")?;
    ensure!(line == "1000 and 1000 writes", "{line}");
    Ok(())
}

/// What one vCPU writes and the other executes is named, wherever they run; on three CPUs each has one of its own.
fn two_vcpus(context: &Context, cpus: u32) -> Result<()> {
    let mut spec = HostSpec::new("host", SKYLAKE).with_vm(pair_of_vcpus()?);
    spec.cpus = cpus;
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let host = &mut host;
    let audit = |host: &mut Host, action: &str| done(host, &format!("cpu audit {VM} {action}")).map(drop);
    audit(host, "start")?;
    let (mut expected, _) = tell(host, b'a', "handed done")?;
    let found = reached(&report(host)?)?;
    ensure!(found == expected && found.len() == 5, "executed {expected:?}, found {found:?}");
    contend(host)?;
    for method in ["pml", "wp"] {
        done(host, &format!("vm dirty start {VM} {method}"))?;
        pages_change_hands(host)?;
        done(host, &format!("vm dirty stop {VM}"))?;
    }
    if cpus > 1 {
        done(host, &format!("vm pin {VM} 1 0"))?;
        contend(host)?;
        done(host, &format!("vm dirty start {VM} ad"))?;
        pages_change_hands(host)?;
    }
    // What is written to a page that is both executable and writable is found once it is closed.
    let (patched, _) = tell(host, b'c', "")?;
    expected.extend(patched);
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(500));
        contend(host)?;
        if reached(&report(host)?)? == expected {
            break;
        }
    }
    audit(host, "stop")?;
    let found = reached(&report(host)?)?;
    ensure!(found == expected, "executed {expected:?}, found {found:?}");
    contend(host)?;
    tell(host, b'q', "done")?;
    Ok(())
}

/// The first vCPU writes to pages that the second one executes: all of them are noticed as both.
fn pages_change_hands(host: &mut Host) -> Result<()> {
    let decoded = |host: &mut Host| report(host)?["pages"].as_u64().context("no pages");
    harvest(host)?;
    for _ in 0..2 {
        let before = decoded(host)?;
        tell(host, b'm', "pages")?;
        let (written, decoded) = (harvest(host)?, decoded(host)? - before);
        ensure!(written >= CALLED, "{written} of {CALLED} written pages counted");
        ensure!(decoded >= CALLED, "{decoded} of {CALLED} written pages decoded");
    }
    Ok(())
}

/// Calls that last as long as a move.
const MANY: u32 = 3_000_000;

/// A VM moves while its vCPUs take a page from each other.
fn two_vcpus_move(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, "corei7_haswell_4770", "penryn", 8)?;
    plan.vm = pair_of_vcpus()?;
    plan.vm.cmdline = format!("calls={MANY}");
    plan.cpus = 3;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    for from in [SOURCE, TARGET] {
        let host = &mut pair.hosts[from];
        done(host, &format!("cpu audit {VM} start"))?;
        tell(host, b'a', "handed done")?;
        both_on_one(host)?;
        host.guest()?.expect("audit: ready", PATIENCE)?;
        host.guest()?.send(b"f")?;
        pair.migrate(from, &plan, &mut Silent)?;
        pair.hosts[1 - from].guest()?.expect(&format!("audit: {MANY} calls, all writes"), PATIENCE)?;
    }
    Ok(())
}

fn linux(context: &Context, vcpus: u32) -> Result<()> {
    let mut vm = debian(VM, "nehalem")?;
    vm.options.push(format!("vcpus={vcpus}"));
    let mut spec = HostSpec::new("host", SKYLAKE).with_vm(vm);
    // Each vCPU has one of its own.
    spec.cpus = if vcpus > 1 { vcpus + 1 } else { 1 };
    let mut host = start(context, &spec)?;
    host.guest()?.expect("guest# ", LINUX_PATIENCE)?;
    done(&mut host, &format!("cpu audit {VM} start"))?;
    let console = host.guest()?;
    console
        .send_line("echo $((6 * 7)) answers; sleep 1; cat /proc/cpuinfo >/dev/null; echo slept $((1 + 1))")?;
    console.expect("42 answers", LINUX_PATIENCE)?;
    console.expect("slept 2", LINUX_PATIENCE)?;
    let report = report(&mut host)?;
    ensure!(report["pages"].as_u64().is_some_and(|pages| pages > 50), "{report}");
    println!("{}", done(&mut host, &format!("cpu audit {VM} report"))?.join("\n"));
    done(&mut host, &format!("cpu audit {VM} stop"))?;
    let console = host.guest()?;
    console.send_line("dmesg | grep -ciE 'oops|BUG:|invalid opcode' ; echo alive $((1 + 1))")?;
    console.expect("alive 2", LINUX_PATIENCE)?;
    powers_off(&mut host, VM, PATIENCE)
}
