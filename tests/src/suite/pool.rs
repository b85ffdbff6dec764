//! Hosts that form a pool: its level, its members, its guests.

use super::{Case, Context};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::hub::Hub;
use crate::scenario::{ADDRESSES, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const SANDY: &str = "corei7_sandy_bridge_2600k";
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn cases() -> Vec<Case> {
    let mut formed = Case::new("pool/level_moves_join_and_leave", 420, formed);
    formed.weight = 2;
    let mut wrong = Case::new("pool/wrong_name_refused", 240, wrong_name);
    wrong.weight = 2;
    let mut three = Case::new("pool/three_hosts", 900, three_hosts).slow();
    three.weight = 3;
    let alone = Case::new("pool/wait_expires", 120, wait_expires);
    vec![formed, wrong, three, alone]
}

fn answer(host: &mut Host, command: &str) -> Result<String> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{}: `{command}`: {:?}", host.name, answer.error);
    Ok(answer.lines.join("\n"))
}

fn json(host: &mut Host, command: &str) -> Result<Value> {
    let text = answer(host, command)?;
    // The log may put in a word of its own.
    let line = text.lines().find(|line| line.starts_with('{')).with_context(|| format!("no JSON: {text}"))?;
    serde_json::from_str(line).with_context(|| format!("`{command}` answers no JSON: {line}"))
}

/// Asks until the pool is as wanted.
fn wait_for(host: &mut Host, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = json(host, "pool show --json")?;
        if wanted(&shown) {
            return Ok(shown);
        }
        if Instant::now() > deadline {
            bail!("{}: {what} never came: {shown}", host.name);
        }
        host.console()?.drain(Duration::from_millis(300), Duration::from_secs(1));
    }
}

fn agreed(members: usize) -> impl Fn(&Value) -> bool {
    move |pool| pool["members"].as_array().is_some_and(|m| m.len() == members) && pool["state"] == "agreed"
}

fn member<'a>(pool: &'a Value, name: &str) -> Result<&'a Value> {
    let mut members = pool["members"].as_array().into_iter().flatten();
    members.find(|member| member["name"] == name).with_context(|| format!("no member {name}: {pool}"))
}

/// A guest without a level gets that of the pool, moves to the older host and back; members leave and join.
fn formed(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "", 4)?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    let made = pair.hosts[SOURCE].vm_event(VM, &["made, "], PATIENCE)?;
    pair.wait_guest(&plan, &mut Silent)?;

    let [newer, older] = &mut pair.hosts;
    let here = wait_for(newer, "two members", agreed(2))?;
    let there = wait_for(older, "two members", agreed(2))?;
    let fingerprint = here["level"]["fingerprint"].clone();
    ensure!(fingerprint == there["level"]["fingerprint"], "{here}\n{there}");
    ensure!(member(&there, "source")?["fingerprint"] == fingerprint, "{there}");
    let level = here["level"]["name"].as_str().unwrap_or_default();
    ensure!(made.contains(&format!("level {level}")), "the pool is at {level}, the guest {made}");
    ensure!(here["level"]["like"] == "haswell", "{here}");
    let costs = member(&here, "target")?["costs"].as_str().unwrap_or_default();
    ensure!(costs.contains("AVX512*") && costs.contains("CLWB"), "the older one costs {costs}");
    let costs = member(&here, "source")?["costs"].as_str().unwrap_or_default();
    ensure!(!costs.contains("removes"), "the newer one costs {costs}");
    let vm = &here["vms"][0];
    ensure!(vm["name"] == VM && vm["pinned"] == false && vm["hosts"][0]["tsc"] == "offset", "{vm}");
    let check = answer(newer, &format!("cpu check {VM} target"))?;
    ensure!(check.contains("offset"), "{check}");

    pair.migrate(SOURCE, &plan, &mut Silent)?;
    pair.hosts[TARGET].guest()?.expect("tick *errors", PATIENCE)?;
    pair.migrate(TARGET, &plan, &mut Silent)?;
    pair.hosts[SOURCE].guest()?.take_lines();
    pair.hosts[SOURCE].guest()?.expect("tick *errors", PATIENCE)?;

    let [newer, older] = &mut pair.hosts;
    answer(older, "pool leave")?;
    let alone = wait_for(newer, "one member", agreed(1))?;
    ensure!(alone["level"]["fingerprint"] != fingerprint, "the level stays: {alone}");
    ensure!(alone["vms"][0]["level"] == *level, "the running guest was changed: {alone}");
    let left = json(older, "pool show --json")?;
    ensure!(left["pool"].is_null(), "{left}");

    let preview = json(newer, &format!("pool preview {} --json", ADDRESSES[TARGET]))?;
    ensure!(preview["level_then"]["fingerprint"] == fingerprint, "{preview}");
    ensure!(preview["level_now"]["fingerprint"] == alone["level"]["fingerprint"], "{preview}");
    ensure!(preview["new"][0]["name"] == "target", "{preview}");
    wait_for(newer, "no change by the preview", agreed(1))?;

    let joined = answer(older, &format!("pool join {}", ADDRESSES[SOURCE]))?;
    ensure!(joined.contains("level then") && joined.contains("2 members, agreed"), "{joined}");
    let again = wait_for(newer, "two members again", agreed(2))?;
    ensure!(again["level"]["fingerprint"] == fingerprint, "{again}");
    let refused = newer.command(&format!("pool preview {}", ADDRESSES[SOURCE]), PATIENCE)?.error;
    ensure!(refused.is_some_and(|why| why.contains("is this host")), "it asks itself");
    let refused = newer.command("pool forget target", PATIENCE)?.error;
    ensure!(refused.is_some_and(|why| why.contains("is not lost")), "it forgets a member that is there");
    Ok(())
}

fn wrong_name(context: &Context) -> Result<()> {
    let mut hosts = Plan::memwriter(SKYLAKE, HASWELL, "", 4)?.hosts();
    hosts[SOURCE].vms.clear();
    for option in &mut hosts[TARGET].options {
        if option.starts_with("pool=") {
            *option = "pool=other".into();
        }
    }
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    for (host, ours, theirs) in [(SOURCE, "lab", "other"), (TARGET, "other", "lab")] {
        let (_, line) = pair.hosts[host].console()?.expect_any(&["this host is in pool "], PATIENCE)?;
        let here = format!("pool {theirs}: this host is in pool {ours}");
        let said = format!("pool {ours}: this host is in pool {theirs}");
        ensure!(line.contains(&here) || line.contains(&said), "{line}");
        wait_for(&mut pair.hosts[host], "a pool of one", agreed(1))?;
    }
    let answer = pair.hosts[SOURCE].command(&format!("pool join {}", ADDRESSES[TARGET]), PATIENCE)?;
    ensure!(
        answer.error.as_ref().is_some_and(|why| why.starts_with("refused") && why.contains("other")),
        "{answer:?}"
    );
    wait_for(&mut pair.hosts[SOURCE], "a pool of one", agreed(1))?;
    Ok(())
}

/// A peer that never answers holds up a guest without a level for as long as was said, not longer.
fn wait_expires(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let hub = Hub::new();
    let mut vm = VmSpec::new(VM, &guest::payload("halt-forever"));
    (vm.mem_mib, vm.level) = (16, String::new());
    let options = "ip=10.77.0.1/24 name=alone migrate=listen pool=lab peers=10.77.0.2 pool-wait=2";
    let spec = HostSpec::new("alone", SKYLAKE).option(options).with_vm(vm);
    let mut host = spec.start(&context.dir, Some((&hub, 1)))?;
    host.set_deadline(context.deadline);
    host.console()?.expect(&format!("vm {VM}: waits for the pool, at most 2 s"), PATIENCE)?;
    host.console()?.expect(&format!("vm {VM}: the pool is not formed: starts at what is known"), PATIENCE)?;
    host.console()?.expect(&format!("vm {VM}: running"), PATIENCE)?;
    let shown = json(&mut host, "pool show --json")?;
    let waits = shown["waits_for"].as_array().into_iter().flatten().filter_map(Value::as_str);
    ensure!(shown["state"] == "forming" && waits.eq(["10.77.0.2:4444"]), "{shown}");
    Ok(())
}

/// Three generations. The third is looked at before it joins; it is told of one of the others only, and takes from all
/// of them what it lacks itself. In the end it crashes.
fn three_hosts(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let hub = Hub::new();
    hub.capture(&context.dir.join("wire.pcap"))?;
    let spec = |number: u8, name: &str, model: &str| {
        HostSpec::new(name, model)
            .option(&format!("ip=10.77.0.{number}/24 name={name}"))
            .option("idle=poll migrate=listen")
    };
    let mut vm = VmSpec::new("old", &guest::payload("halt-forever"));
    (vm.mem_mib, vm.level) = (16, "skylake-server".into());
    let mut new = VmSpec::new("new", &guest::payload("halt-forever"));
    (new.mem_mib, new.level) = (16, String::new());
    let pooled = |spec: HostSpec, peer: &str| spec.option(&format!("pool=lab peers={peer} pool-wait=600"));
    let mut skylake = pooled(spec(1, "skylake-a", SKYLAKE), "10.77.0.2").with_vm(vm);
    skylake.vms.push(new);
    let haswell = pooled(spec(2, "haswell-b", HASWELL), "10.77.0.1");
    let specs = [skylake, haswell, spec(3, "sandy-c", SANDY)];
    let mut hosts = Vec::new();
    for (number, spec) in (1..).zip(&specs) {
        let mut host = spec.start(&context.dir, Some((&hub, number)))?;
        host.set_deadline(context.deadline);
        host.wait_ready(PATIENCE)?;
        hosts.push(host);
    }
    let two = wait_for(&mut hosts[0], "two members", agreed(2))?;
    let made = |pool: &Value| pool["vms"].as_array().is_some_and(|vms| vms.len() == 2);
    wait_for(&mut hosts[0], "both guests", made)?;
    answer(&mut hosts[0], "pool show")?;
    let preview = answer(&mut hosts[0], "pool preview 10.77.0.3")?;
    for part in ["sandy-c, sandybridge", "AVX2", "vm new to skylake-a, haswell-b until restarted"] {
        ensure!(preview.contains(part), "no `{part}`: {preview}");
    }
    let joined = answer(&mut hosts[2], "pool join 10.77.0.2")?;
    ensure!(joined.contains("vm new is pinned to skylake-a, haswell-b until restarted"), "{joined}");
    let mut fingerprints = Vec::new();
    for host in &mut hosts {
        let shown = wait_for(host, "three members", agreed(3))?;
        fingerprints.push(shown["level"]["fingerprint"].clone());
    }
    ensure!(fingerprints.iter().all(|other| *other == fingerprints[0]), "{fingerprints:?}");
    ensure!(fingerprints[0] != two["level"]["fingerprint"], "the third costs nothing: {two}");
    let shown = answer(&mut hosts[0], "pool show")?;
    ensure!(shown.contains("vm old is pinned to skylake-a until restarted"), "{shown}");
    ensure!(shown.contains("AVX2"), "what the oldest costs: {shown}");
    answer(&mut hosts[0], "cpu check new haswell-b")?;
    // One ends without a word: it stays in the level until it is forgotten.
    hosts[2].machine.process.kill();
    let lost = |pool: &Value| member(pool, "sandy-c").is_ok_and(|member| member["state"] == "lost");
    let shown = wait_for(&mut hosts[0], "a lost member", lost)?;
    ensure!(shown["level"]["fingerprint"] == fingerprints[0], "{shown}");
    wait_for(&mut hosts[1], "a lost member", lost)?;
    answer(&mut hosts[1], "pool forget sandy-c")?;
    let shown = wait_for(&mut hosts[0], "two members", agreed(2))?;
    ensure!(shown["level"]["fingerprint"] == two["level"]["fingerprint"], "{shown}");
    answer(&mut hosts[0], "pool show")?;
    Ok(())
}
