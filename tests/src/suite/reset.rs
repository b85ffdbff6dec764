//! Guests that reset their machine, and VMs that are booted anew.

use super::create::{done, fails};
use super::verbs::json;
use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::hub::serve::{Server, Way};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;

/// CPUID.7.EBX: AVX2.
const AVX2: u32 = 1 << 5;
const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 240;

/// Each way in which a guest resets its machine: VM, payload, command line.
const WAYS: [(&str, &str, &str); 4] = [
    ("cf9", "reset", "by=0xcf9"),
    ("keyboard", "reset", "by=8042"),
    ("acpi", "reset", ""),
    ("fault", "triple-fault", ""),
];

pub(super) fn cases() -> Vec<Case> {
    let mut elsewhere = Case::new("reset/elsewhere", LIMIT, elsewhere);
    let mut too_large = Case::new("reset/too_large", LIMIT, too_large);
    let mut fetched_again = Case::new("reset/fetched_again", LIMIT, fetched_again);
    (elsewhere.weight, too_large.weight, fetched_again.weight) = (2, 2, 2);
    vec![
        Case::new("reset/by_the_guest", LIMIT, by_the_guest),
        Case::new("reset/one_kernel", LIMIT, one_kernel),
        elsewhere,
        too_large,
        fetched_again,
    ]
}

/// A guest that resets itself boots anew, the first time at once; one that does nothing else waits ever longer.
fn by_the_guest(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", MODEL);
    for (name, payload, cmdline) in WAYS {
        let mut vm = VmSpec::new(name, &guest::payload(payload));
        (vm.mem_mib, vm.cmdline) = (8, cmdline.to_string());
        vm.options.push("on-reset=restart".to_string());
        spec = spec.with_vm(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let mut left: Vec<String> =
        WAYS.iter().map(|(name, ..)| format!("vm {name}: reset itself 3 times, boots anew in 2 s")).collect();
    while !left.is_empty() {
        let texts: Vec<&str> = left.iter().map(String::as_str).collect();
        let (which, _) = host.console()?.expect_any(&texts, PATIENCE)?;
        left.remove(which);
    }
    for (name, ..) in WAYS {
        let show = json(&mut host, &format!("vm show {name}"))?;
        let resets = show["resets"].as_u64().unwrap_or(0);
        ensure!(show["on_reset"] == "restart" && (3..=6).contains(&resets), "{show}");
        let answer = host.command(&format!("vm destroy {name} --force"), PATIENCE)?;
        ensure!(answer.error.is_none(), "{:?}", answer.error);
    }
    let text = host.console()?.text();
    let booted = text.matches("booted anew, as its guest asked").count();
    ensure!((8..=4 * 6).contains(&booted), "{booted} times booted anew");
    Ok(())
}

/// Asks until the host holds that many files.
fn files(host: &mut Host, count: usize) -> Result<Vec<Value>> {
    // Bounded by the case's deadline: each question waits for its answer.
    for _ in 0..2000 {
        let memory = json(host, "mem")?;
        let files = memory["files"].as_array().context("no files")?.clone();
        if files.len() == count {
            return Ok(files);
        }
    }
    bail!("mem never showed {count} files")
}

/// Two VMs of one kernel hold it once, whichever file it came in, and the last of them takes it along.
fn one_kernel(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", MODEL);
    for (name, payload) in [("first", "echo"), ("second", "echo"), ("third", "halt-forever")] {
        let mut vm = VmSpec::new(name, &guest::payload(payload));
        vm.mem_mib = 8;
        spec = spec.with_vm(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let shown = files(&mut host, 2)?;
    let users: Vec<_> = shown.iter().map(|file| file["users"].as_u64().unwrap_or(0)).collect();
    ensure!(users.iter().sum::<u64>() == 3 && users.contains(&2), "{shown:?}");
    done(&mut host, "vm reset second --force")?;
    done(&mut host, "vm destroy first --force")?;
    files(&mut host, 2)?;
    done(&mut host, "vm reset second --force")?;
    done(&mut host, "vm destroy second --force")?;
    let shown = files(&mut host, 1)?;
    ensure!(shown[0]["users"] == 1, "{shown:?}");
    Ok(())
}

/// Whether the guest has AVX2, by the CPUID leaf 7 that it printed since `from`.
fn has_avx2(host: &mut Host, from: usize) -> Result<bool> {
    let text = host.guest()?.text_from(from);
    let regs =
        text.lines().find_map(|line| line.strip_prefix("cpuid 00000007 00000000: ")).context("no leaf 7")?;
    let ebx = regs.split_whitespace().nth(1).context("no EBX")?;
    Ok(u32::from_str_radix(ebx, 16).with_context(|| regs.to_string())? & AVX2 != 0)
}

/// A guest that came from another host boots anew, at the level that is chosen then; its kernel came along.
fn elsewhere(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter("corei5_lynnfield_750", MODEL, "nehalem", 4)?;
    plan.vm.kernel = guest::payload("cpuid-dump");
    plan.vm.cmdline = String::new();
    plan.migrate_after = "no debug exit: result 0".to_string();
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    ensure!(!has_avx2(&mut pair.hosts[SOURCE], 0)?, "nehalem has AVX2");
    let uuid = json(&mut pair.hosts[SOURCE], &format!("vm show {VM}"))?["uuid"].clone();
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    let target = &mut pair.hosts[TARGET];
    let came = files(target, 1)?;
    ensure!(came[0]["users"] == 1 && came[0]["sha256"].is_string(), "{came:?}");

    for (level, code, part) in
        [("icelake-server", "unsupported ", "icelake"), ("bogus", "unsupported ", "bogus")]
    {
        fails(target, &format!("vm reset {VM} --level {level} --force"), code, part)?;
        let show = json(target, &format!("vm show {VM}"))?;
        ensure!(show["state"] == "running" && show["level"] == "nehalem", "{show}");
    }
    done(target, &format!("vm dirty start {VM}"))?;
    for (level, has) in
        [("", false), (" --level haswell", true), (" --level nehalem", false), (" --level pool", true)]
    {
        let from = target.guest()?.text().len();
        done(target, &format!("vm reset {VM} --force{level}"))?;
        target.guest()?.expect("no debug exit: result 0", PATIENCE)?;
        ensure!(has_avx2(target, from)? == has, "reset{level}: AVX2 is {}", !has);
        let show = json(target, &format!("vm show {VM}"))?;
        ensure!(show["uuid"] == uuid && show["tracking"].is_null() && show["came"] == true, "{show}");
    }
    done(target, &format!("vm destroy {VM} --force"))?;
    files(target, 0)?;
    Ok(())
}

/// A kernel that is longer than goes along stays behind: the guest moves, and cannot be booted anew.
fn too_large(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(MODEL, MODEL, "haswell", 4)?;
    plan.vm.kernel = guest::payload("echo");
    plan.vm.cmdline = "echo".to_string();
    plan.migrate_after = "type a line".to_string();
    let mut hosts = plan.hosts();
    hosts[TARGET].options.push("max-file=0".to_string());
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    let target = &mut pair.hosts[TARGET];
    files(target, 0)?;
    fails(target, &format!("vm reset {VM} --force"), "unsupported ", "did not come along")?;
    pair.hosts[TARGET].guest()?.send_line("still here")?;
    pair.hosts[TARGET].guest()?.expect("still here", PATIENCE)?;
    Ok(())
}

/// What stays behind and was fetched once is fetched again, but not what has another digest by now.
fn fetched_again(context: &Context) -> Result<()> {
    const SERVER: &str = "10.77.0.9";
    let mut plan = Plan::memwriter(MODEL, MODEL, "haswell", 4)?;
    plan.migrate_after = "type a line".to_string();
    let mut hosts = plan.hosts();
    hosts[SOURCE].vms.clear();
    hosts[SOURCE].options.push("max-file=0".to_string());
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    let files = Server::files(&pair.hub, 9, SERVER.parse().context("address")?)?;
    let kernel = std::fs::read(guest::payload("echo")).context("echo")?;
    let serve = |bytes: &[u8]| files.put("/kernel", bytes.to_vec(), Way::Whole);
    serve(&kernel);
    let create =
        format!("vm create {VM} --kernel http://{SERVER}/kernel --mem 16 --level haswell --cmdline echo");
    done(&mut pair.hosts[SOURCE], &create)?;
    pair.wait_guest(&plan, &mut Silent)?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    let target = &mut pair.hosts[TARGET];
    // By a byte more, and by another one: what payloads there are has sizes of its own.
    let longer = [&kernel[..], &[0]].concat();
    let mut other = kernel.clone();
    other.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
    for (bytes, why) in [(longer, "at most"), (other, "SHA-256 is ")] {
        serve(&bytes);
        fails(target, &format!("vm reset {VM} --force"), "failed ", why)?;
    }
    target.guest()?.send_line("still here")?;
    target.guest()?.expect("still here", PATIENCE)?;
    serve(&kernel);
    done(target, &format!("vm reset {VM} --force"))?;
    target.guest()?.expect("type a line", PATIENCE)?;
    ensure!(files.asked() == ["http kernel"; 4], "{:?}", files.asked());
    // It is here now.
    done(target, &format!("vm reset {VM} --force"))?;
    target.guest()?.expect("type a line", PATIENCE)?;
    ensure!(files.asked().len() == 4, "{:?}", files.asked());
    Ok(())
}
