//! A small guest with several CPUs moves while they work on the same memory: their counters, locks, pages, IPIs, registers
//! and clocks are right each time, whatever state one of them is in (`tests/guests/smp.c`).

use super::faults::check;
use super::moves::there_and_back;
use super::{Case, Context, start};
use crate::emu::IPS;
use crate::guest;
use crate::host::{HostSpec, VmSpec};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
const FEW: usize = 4;
const MANY: usize = 100;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, limit: u64, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(name, limit, run);
        case.weight = 2;
        case
    };
    let mut many = case("faults/smp_a_hundred_moves", 3600, |context| moves(context, 4, 1, "", MANY));
    many.apart = true;
    vec![
        case("smp/locks_2_vcpus", 300, |context| moves(context, 2, 1, "", FEW)),
        case("smp/locks_4_vcpus_on_2", 300, |context| moves(context, 4, 2, "x2apic=1", FEW)),
        case("smp/stops_in_cli_loops", 300, stops_in_cli_loops),
        case("smp/special_states", 300, |context| special_states(context, "")),
        case("smp/special_states_x2apic", 300, |context| special_states(context, "x2apic=1")).slow(),
        many,
        Case::new("smp/fair_share", 300, fair_share),
    ]
}

/// The guest with so many vCPUs, on hosts with so many CPUs.
fn plan(vcpus: u32, cpus: u32, options: &str) -> Result<Plan> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 1)?;
    plan.cpus = cpus;
    plan.vm.kernel = guest::payload("smp");
    plan.vm.mem_mib = 4;
    plan.vm.options.push(format!("vcpus={vcpus}"));
    plan.vm.cmdline = format!("gap=2000000 {options}").trim_end().to_string();
    plan.migrate_after = "tick 2 ".into();
    plan.patience = PATIENCE;
    Ok(plan)
}

fn moves(context: &Context, vcpus: u32, cpus: u32, options: &str, moves: usize) -> Result<()> {
    let plan = plan(vcpus, cpus, options)?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    there_and_back(&mut pair, &plan, moves, is_right)
}

/// All CPUs stop, and what they find is right, as all that they found before: the count of what is wrong never goes back.
fn is_right(pair: &mut Pair, at: usize) -> Result<()> {
    let found = check(pair, at);
    for host in [SOURCE, TARGET] {
        let text = pair.hosts[host].guest()?.text();
        let said = text.lines().find(|line| line.starts_with("smp: cpu "));
        ensure!(said.is_none(), "host {host}: {}", said.unwrap_or_default());
    }
    found
}

/// The states of the VM's vCPUs as a host shows them.
fn states(pair: &mut Pair, host: usize) -> Result<Vec<String>> {
    let json = ask(pair, host, &format!("vm show {VM} --json"))?;
    let vcpus = json["vcpus"].as_array().context("`vcpus` is no array")?;
    Ok(vcpus.iter().map(|vcpu| vcpu["state"].as_str().unwrap_or_default().to_string()).collect())
}

/// Whether each of the VM's vCPUs takes interrupts.
fn open(pair: &mut Pair, host: usize) -> Result<Vec<bool>> {
    let json = ask(pair, host, &format!("vm regs {VM} --json"))?;
    let vcpus = json["vcpus"].as_array().context("`vcpus` is no array")?;
    Ok(vcpus.iter().map(|vcpu| vcpu["rflags"].as_u64().is_some_and(|flags| flags & 1 << 9 != 0)).collect())
}

fn ask(pair: &mut Pair, host: usize, command: &str) -> Result<Value> {
    let answer = pair.hosts[host].command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    let line = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    serde_json::from_str(line).with_context(|| format!("`{command}` answers {line}"))
}

/// vCPU 0 works, 1 waits in HLT, 2 has interrupts off, 3 is in the handler of an NMI, and 4 has not been started. All of
/// them go on from there after each move, then work as the first does.
fn special_states(context: &Context, options: &str) -> Result<()> {
    let plan = plan(5, 1, &format!("halted=1 closed=2 nmi=3 waiting=4 {options}"))?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    for from in [SOURCE, TARGET, SOURCE] {
        pair.migrate(from, &plan, &mut Silent)?;
        let at = 1 - from;
        are_special(&mut pair, at)?;
        is_right(&mut pair, at)?;
        // And so they are again, for the next move.
        pair.hosts[at].guest()?.expect("tick *errors 0", PATIENCE)?;
        are_special(&mut pair, at)?;
    }
    let guest = pair.hosts[TARGET].guest()?;
    guest.send(b"r")?;
    let (_, line) = guest.expect_any(&["checked "], PATIENCE)?;
    ensure!(line.starts_with("checked 4 cpus") && line.ends_with(" 0 wrong"), "{line}");
    pair.migrate(TARGET, &plan, &mut Silent)?;
    is_right(&mut pair, SOURCE)?;
    let text = pair.hosts[SOURCE].guest()?.text();
    ensure!(text.contains("checked 5 cpus"), "the vCPU that waited does not work");
    Ok(())
}

/// A vCPU that takes no interrupts and never exits by itself is stopped all the same, within a millisecond.
const STOP: u64 = IPS / 1000;

/// Each of four vCPUs is in a loop with interrupts off. On hosts with four CPUs they have three of them; then one of them has
/// CPU 0, which also has all else to do.
fn stops_in_cli_loops(context: &Context) -> Result<()> {
    let mut plan = plan(4, 4, "")?;
    plan.vm.kernel = guest::payload("writers");
    plan.vm.mem_mib = 8;
    plan.vm.cmdline = "writers=0 gap=2000000".into();
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    for from in [SOURCE, TARGET] {
        if from == TARGET {
            ask_plainly(&mut pair, from, &format!("vm pin {VM} 3 0"))?;
        }
        let wanted: &[u64] = if from == TARGET { &[0, 1, 2, 3] } else { &[1, 1, 2, 3] };
        let are_there = |pair: &mut Pair| Ok::<_, anyhow::Error>(cpus(pair, from)? == wanted);
        // Its old CPU lets go of it after the turn that it is in.
        let mut looks = 0;
        while !are_there(&mut pair)? {
            looks += 1;
            ensure!(looks < 100, "host CPUs of the vCPUs: {:?}", cpus(&mut pair, from)?);
        }
        let open = open(&mut pair, from)?;
        ensure!(open == [false; 4], "vCPUs that take interrupts: {open:?}");
        let summary = pair.migrate(from, &plan, &mut Silent)?;
        println!("        four vCPUs in CLI loops on host CPUs {wanted:?} stopped in {} ticks", summary.stop);
        ensure!(summary.stop <= STOP, "stopped in {} ticks", summary.stop);
        check(&mut pair, 1 - from)?;
    }
    Ok(())
}

/// The host CPUs of the VM's vCPUs, in order.
fn cpus(pair: &mut Pair, host: usize) -> Result<Vec<u64>> {
    let json = ask(pair, host, &format!("vm show {VM} --json"))?;
    let vcpus = json["vcpus"].as_array().context("`vcpus` is no array")?;
    let mut cpus: Vec<u64> = vcpus.iter().filter_map(|vcpu| vcpu["cpu"].as_u64()).collect();
    cpus.sort_unstable();
    Ok(cpus)
}

fn ask_plainly(pair: &mut Pair, host: usize, command: &str) -> Result<()> {
    let answer = pair.hosts[host].command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    Ok(())
}

fn are_special(pair: &mut Pair, at: usize) -> Result<()> {
    let states = states(pair, at)?;
    ensure!(states[1] == "halted" && states[4] == "wait-for-sipi", "states of the vCPUs: {states:?}");
    let open = open(pair, at)?;
    ensure!(open[0] && !open[2] && !open[3], "vCPUs that take interrupts: {open:?}");
    Ok(())
}

/// Of the time in which the work of both guests is compared, in ticks of their TSC: 20 s, two thousand turns.
const WINDOW: u64 = 20 * IPS;
/// What is left out before it: the guests start one after the other.
const LEAD: u64 = 5 * IPS;
/// A command of the host's is answered within one second of its time.
const ANSWER: u64 = IPS;

/// Two guests with four vCPUs each, all of them busy, on a host with two CPUs: the host answers meanwhile, and over the
/// same stretch of time either does as much as the other, to one part in ten.
fn fair_share(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", SKYLAKE);
    spec.cpus = 2;
    for name in ["other", "one"] {
        let mut vm = VmSpec::new(name, &guest::payload("smp"));
        vm.mem_mib = 4;
        vm.options.push("vcpus=4".into());
        vm.cmdline = format!("work=1 gap={}", IPS / 2);
        spec = spec.with_vm(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let mut at = [0; 2];
    let mut apart = Vec::new();
    while at[0] < LEAD + WINDOW {
        host.guest()?.expect("work * at ", PATIENCE)?;
        for (at, name) in at.iter_mut().zip(["one", "other"]) {
            let answer = host.command(&format!("vm show {name} --json"), PATIENCE)?;
            let line = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
            let value: Value = serde_json::from_str(line).with_context(|| line.clone())?;
            ensure!(value["state"] == "running", "{line}");
            *at = value["tsc"].as_u64().context("no tsc")?;
        }
        apart.push(at[1] as i64 - at[0] as i64);
    }
    // Both TSCs count the same ticks, each from the start of its guest on, and the second is read an answer later.
    let (Some(&least), Some(&most)) = (apart.iter().min(), apart.iter().max()) else { bail!("no answer") };
    ensure!(most - least < ANSWER as i64, "an answer of the host's took {} ticks", most - least);
    let later = -least;
    host.guest()?.expect("work * at ", PATIENCE)?;
    host.console()?.send_line("console other --read-only")?;
    let until = (LEAD + WINDOW) as i64 - later;
    host.console()?.expect_line("the other guest's work", PATIENCE, |line| {
        work(line).is_some_and(|(_, at)| at as i64 > until).then_some(())
    })?;
    let from = LEAD as i64;
    let texts = [host.guest()?.text(), host.console()?.text()];
    let one = done(&texts[0], from)?;
    let other = done(&texts[1], from - later)?;
    println!("        rounds of the two guests in 20 s: {one:.0} and {other:.0}");
    ensure!(one.max(other) <= one.min(other) * 1.1, "{one:.0} rounds and {other:.0} over the same time");
    for text in texts {
        ensure!(!text.contains("smp: cpu "), "a guest has found harm");
    }
    Ok(())
}

/// Rounds and time of a line `work R at T`.
fn work(line: &str) -> Option<(u64, u64)> {
    let (rounds, at) = line.strip_prefix("work ")?.split_once(" at ")?;
    Some((rounds.parse().ok()?, at.parse().ok()?))
}

/// The rounds that a guest has done in [`WINDOW`] from `from` on, by its own TSC.
fn done(text: &str, from: i64) -> Result<f64> {
    let lines: Vec<(f64, f64)> =
        text.lines().filter_map(work).map(|(rounds, at)| (rounds as f64, at as f64)).collect();
    // Between two lines the work is taken to go on evenly.
    let by = |time: f64| {
        let pair = lines.windows(2).find(|pair| pair[0].1 <= time && time < pair[1].1)?;
        Some(pair[0].0 + (pair[1].0 - pair[0].0) * (time - pair[0].1) / (pair[1].1 - pair[0].1))
    };
    let ends = [from, from + WINDOW as i64].map(|time| by(time as f64));
    match ends {
        [Some(first), Some(last)] => Ok(last - first),
        _ => bail!("{} lines tell of the guest's work, none of them about {from}", lines.len()),
    }
}
