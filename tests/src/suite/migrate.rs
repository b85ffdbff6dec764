//! Migrations: between generations, there and back, refused, and with cables cut.

use super::{Case, Context};
use crate::emu::IPS;
use crate::guest;
use crate::host::{HostSpec, LinkKey};
use crate::hub::peer::Peer;
use crate::hub::stream::{PORT, Records, record};
use crate::hub::{Frame, Hub, Verdict};
use crate::proof::all_hold;
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const SANDY: &str = "corei7_sandy_bridge_2600k";
const LYNNFIELD: &str = "corei5_lynnfield_750";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 300;
const FASTER: u64 = IPS / 5 * 6;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, limit: u64, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("migrate/{name}"), limit, run);
        case.weight = 2;
        cases.push(case);
    };
    add("linux_skylake_haswell_and_back", 900, |context| {
        linux_and_back(context, SKYLAKE, HASWELL, "haswell", 1)
    });
    add("skylake_haswell_and_back", LIMIT, |context| and_back(context, SKYLAKE, HASWELL, "haswell", 1));
    // The guest writes on a CPU of its own while the other arms, harvests and copies.
    add("two_host_cpus_and_back", LIMIT, |context| and_back(context, SKYLAKE, HASWELL, "haswell", 2));
    add("cpuid_faulting_and_back", LIMIT, cpuid_faulting);
    add("sandy_bridge_skylake_and_back", LIMIT, |context| {
        and_back(context, SANDY, SKYLAKE, "sandybridge", 1)
    });
    // The cipher borrows the registers in which a guest's vectors live.
    add("vectors_avx512_and_back", LIMIT, |context| vectors(context, SKYLAKE, SKYLAKE, "skylake-server", 64));
    add("vectors_pool_and_back", LIMIT, |context| vectors(context, SKYLAKE, HASWELL, "", 32));
    add("vectors_sse_and_back", LIMIT, |context| vectors(context, LYNNFIELD, SKYLAKE, "nehalem", 16));
    add("packed_and_verified_and_back", LIMIT, packed_and_verified);
    add("packed_by_measurement", LIMIT, packed_by_measurement);
    add("slower_without_scaling_refused", LIMIT, other_clock_refused);
    add("faster_scaled", LIMIT, other_clock_scaled);
    add("unfit_target_refused", LIMIT, unfit_refused);
    add("accept_too_small", LIMIT, accept_too_small);
    add("not_listening", LIMIT, not_listening);
    add("cut_in_memory", LIMIT, |context| cut(context, record::MEMORY, SOURCE, Expected::Here));
    add("cut_in_state", LIMIT, |context| cut(context, record::STATE, SOURCE, Expected::Here));
    add("cut_before_ready", LIMIT, |context| cut(context, record::READY, TARGET, Expected::Held));
    add("cut_before_commit", LIMIT, |context| cut(context, record::COMMIT, SOURCE, Expected::Nowhere));
    add("cut_after_commit", LIMIT, |context| cut(context, record::RUNNING, TARGET, Expected::There));
    add("wrong_stream", LIMIT, wrong_stream);
    let mut slow = Case::new("migrate/linux_sandy_bridge_skylake_and_back", 900, |context| {
        linux_and_back(context, SANDY, SKYLAKE, "sandybridge", 1)
    })
    .slow();
    slow.weight = 2;
    cases.push(slow);
    // Each time a small guest does so, and Linux with two vCPUs on hosts with one CPU: `smp/linux_moves_and_back`.
    let mut slow = Case::new("migrate/linux_two_host_cpus", 900, linux_two_host_cpus).slow();
    slow.weight = 2;
    cases.push(slow);
    cases
}

fn start(context: &Context, plan: &Plan) -> Result<Pair> {
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(plan, &mut Silent)?;
    Ok(pair)
}

/// Hosts whose stream can be read on its way.
pub(super) fn insecure(plan: &Plan) -> [HostSpec; 2] {
    plan.hosts().map(|mut host| {
        host.link = LinkKey::Unset;
        host.option("insecure")
    })
}

fn start_insecure(context: &Context, plan: &Plan) -> Result<Pair> {
    let mut pair = Pair::start(&insecure(plan), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(plan, &mut Silent)?;
    Ok(pair)
}

fn linux_and_back(context: &Context, from: &str, to: &str, level: &str, cpus: u32) -> Result<()> {
    let mut plan = Plan::linux(from, to, level)?;
    plan.cpus = cpus;
    proven_and_back(context, &plan)
}

/// The guest of a plan moves there and back while it works, and all that the proofs of a move say of it holds.
pub(super) fn proven_and_back(context: &Context, plan: &Plan) -> Result<()> {
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    all_hold(&pair.run_and_back(plan, &mut Silent)?.proofs)
}

fn linux_two_host_cpus(context: &Context) -> Result<()> {
    let mut plan = Plan::linux(SKYLAKE, HASWELL, "haswell")?;
    plan.cpus = 2;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    all_hold(&pair.run(&plan, &mut Silent)?.proofs)
}

/// The counter lines `tick N errors 0` of a payload. A line that a move has cut does not count, nor one that is the beginning
/// of one line and the rest of another, as a host has them that the guest left and came back to: `tick 67 errors 0errors 0`.
pub(super) fn ticks(text: &str) -> Result<Vec<u64>> {
    let mut ticks = Vec::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        ensure!(!line.contains("words wrong"), "memory was harmed: {line}");
        let Some((number, errors)) = line.strip_prefix("tick ").and_then(|rest| rest.split_once(" errors "))
        else {
            continue;
        };
        let (Ok(number), Ok(errors)) = (number.parse(), errors.parse::<u64>()) else { continue };
        ensure!(errors == 0, "memory was harmed: {line}");
        ticks.push(number);
    }
    Ok(ticks)
}

pub(super) fn in_sequence(text: &str) -> Result<u64> {
    let ticks = ticks(text)?;
    for pair in ticks.windows(2) {
        ensure!(pair[1] == pair[0] + 1, "tick {} is followed by {}", pair[0], pair[1]);
    }
    ticks.last().copied().context("no tick came")
}

/// The guest goes on at `host`: it counts at least `more` ticks that are new there.
pub(super) fn goes_on(pair: &mut Pair, host: usize, more: usize) -> Result<()> {
    pair.hosts[host].guest()?.take_lines();
    for _ in 0..more {
        pair.hosts[host].guest()?.expect("tick *errors", PATIENCE)?;
    }
    Ok(())
}

/// The guest's state as a host's `vm list` shows it; none if the host does not have it.
pub(super) fn state(pair: &mut Pair, host: usize) -> Result<Option<String>> {
    let answer = pair.hosts[host].command("vm list", PATIENCE)?;
    let row = answer.lines.into_iter().find(|line| line.split_whitespace().any(|word| word == VM));
    Ok(row)
}

pub(super) fn runs(pair: &mut Pair, host: usize) -> Result<bool> {
    Ok(state(pair, host)?.is_some_and(|row| row.contains("running")))
}

/// The switch of CPUID faulting is the vCPU's, and goes with it; so does the port that ends the guest.
fn cpuid_faulting(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(HASWELL, SKYLAKE, "haswell", 8)?;
    plan.vm.kernel = guest::payload("cpuid-fault");
    plan.vm.cmdline = "rounds=0 gap=1000000".into();
    plan.vm.options.push("debug-exit".into());
    plan.migrate_after = "round 3 ok".into();
    let mut pair = start(context, &plan)?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    for host in [TARGET, SOURCE] {
        pair.hosts[host].guest()?.take_lines();
        for _ in 0..3 {
            pair.hosts[host].guest()?.expect("round * ok", PATIENCE)?;
        }
        if host == TARGET {
            pair.migrate(TARGET, &plan, &mut Silent)?;
        }
    }
    pair.hosts[SOURCE].guest()?.send(b"q")?;
    pair.hosts[SOURCE].guest()?.expect("cpuid-fault: 0 BAD", PATIENCE)?;
    let how = pair.hosts[SOURCE].vm_event(VM, &["stopped: "], PATIENCE)?;
    ensure!(how == "stopped: debug exit 0", "the guest ended otherwise: {how}");
    for host in [SOURCE, TARGET] {
        let text = pair.hosts[host].guest()?.text();
        let bad = text.lines().find(|line| line.contains("BAD") && !line.contains(" 0 BAD"));
        ensure!(bad.is_none(), "{bad:?}");
    }
    Ok(())
}

fn and_back(context: &Context, from: &str, to: &str, level: &str, cpus: u32) -> Result<()> {
    let mut plan = Plan::memwriter(from, to, level, 8)?;
    plan.cpus = cpus;
    if cpus > 1 {
        // All of its memory again and again, so that it writes in every moment of every round.
        plan.vm.cmdline = "mib=2 pages=64 gap=20000".into();
    }
    let mut pair = start(context, &plan)?;
    there_and_back(&mut pair, &plan, 20)
}

/// The guest runs on one host at a time, and counts `ticks` and more after each move, leaving none out.
fn there_and_back(pair: &mut Pair, plan: &Plan, ticks: usize) -> Result<()> {
    pair.migrate(SOURCE, plan, &mut Silent)?;
    goes_on(pair, TARGET, ticks)?;
    let there = pair.hosts[SOURCE].guest()?.text().len();
    ensure!(!runs(pair, SOURCE)? && runs(pair, TARGET)?, "exactly the target runs it");
    pair.migrate(TARGET, plan, &mut Silent)?;
    goes_on(pair, SOURCE, ticks)?;
    ensure!(runs(pair, SOURCE)? && !runs(pair, TARGET)?, "exactly the source runs it");
    let source = pair.hosts[SOURCE].guest()?.text();
    let (before, after) = source.split_at(there);
    let target = pair.hosts[TARGET].guest()?.text();
    in_sequence(&format!("{before}{target}{after}"))?;
    Ok(())
}

/// A guest that keeps patterns in vector registers of `bytes` bytes goes there and back, and finds them all.
fn vectors(context: &Context, from: &str, to: &str, level: &str, bytes: u32) -> Result<()> {
    let mut plan = Plan::memwriter(from, to, level, 4)?;
    plan.vm.kernel = guest::payload("vector-holder");
    plan.vm.cmdline = "mib=4 pages=16 gap=1000000".into();
    let mut pair = start(context, &plan)?;
    let text = pair.hosts[SOURCE].guest()?.text();
    ensure!(text.contains(&format!("registers of {bytes} bytes")), "the guest has other registers: {text}");
    for (index, engine) in [(SOURCE, from), (TARGET, to)].map(|(index, model)| (index, cipher_of(model))) {
        let text = pair.hosts[index].console()?.text();
        ensure!(
            text.contains(&format!("cipher: ChaCha20 by {engine}")),
            "host {index} does not use {engine}"
        );
    }
    there_and_back(&mut pair, &plan, 4)
}

/// What the link's cipher uses on a host.
fn cipher_of(model: &str) -> &'static str {
    if model == LYNNFIELD { "SSSE3" } else { "AVX2" }
}

/// Pages travel packed where that is smaller, and the whole RAM is compared before the hand-over.
fn packed_and_verified(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut pair = start(context, &plan)?;
    for (host, options) in [(SOURCE, "verify=full compress=lz4"), (TARGET, "verify=full compress=delta")] {
        pair.order(host, options, &mut Silent)?;
        let outcome = pair.follow(host, &plan, &mut Silent)?;
        ensure!(matches!(outcome, Outcome::Done(_)), "{options}: {outcome:?}");
        goes_on(&mut pair, 1 - host, 5)?;
    }
    Ok(())
}

/// Pages go as they are and packed by turns, and what was the fastest is named with its figures.
fn packed_by_measurement(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 8)?;
    // Nearly all of its data is sent in the first round: four windows of 256 pages are half of it.
    plan.vm.cmdline = "mib=8 pages=1 gap=1000000".to_string();
    let mut pair = start(context, &plan)?;
    pair.order(SOURCE, "compress=auto", &mut Silent)?;
    let outcome = pair.follow(SOURCE, &plan, &mut Silent)?;
    ensure!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    goes_on(&mut pair, TARGET, 5)?;
    let text = pair.hosts[SOURCE].console()?.text();
    let told = text.lines().find(|line| line.contains("compress=auto: "));
    let told = told.context("no choice of compress=auto in the log")?;
    ensure!(told.contains("none: ") && told.contains("; lz4: ") && told.contains(" MB/s of RAM"), "{told}");
    ensure!(text.contains(", compress=auto chose "), "the last line does not name the choice");
    Ok(())
}

/// Haswell cannot scale the TSC: a guest that was promised another frequency does not go there.
fn other_clock_refused(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.ips = [IPS, FASTER];
    refused(context, &plan, &["TSC", "tsc"])
}

fn other_clock_scaled(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(HASWELL, SKYLAKE, "haswell", 4)?;
    plan.ips = [IPS, FASTER];
    let mut pair = start(context, &plan)?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    goes_on(&mut pair, TARGET, 20)?;
    let texts = [pair.hosts[SOURCE].guest()?.text(), pair.hosts[TARGET].guest()?.text()];
    in_sequence(&texts.concat())?;
    Ok(())
}

fn unfit_refused(context: &Context) -> Result<()> {
    refused(context, &Plan::memwriter(SKYLAKE, SANDY, "haswell", 4)?, &["AVX2", "avx2"])
}

/// The target refuses, the source names the reason, and no page was sent.
fn refused(context: &Context, plan: &Plan, words: &[&str]) -> Result<()> {
    let mut pair = start_insecure(context, plan)?;
    let records = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&records);
    let mut stream = Records::default();
    pair.hub.set_filter(move |_, frame| {
        if towards_target(frame) && stream.take(frame).contains(&record::MEMORY) {
            seen.store(true, Ordering::Relaxed);
        }
        Verdict::Pass
    });
    match pair.try_migrate(SOURCE, plan, &mut Silent)? {
        Outcome::Failed(reason) => {
            ensure!(
                words.iter().any(|word| reason.contains(word)),
                "the reason does not name {words:?}: {reason}"
            );
        }
        other => bail!("not refused: {other:?}"),
    }
    ensure!(!records.load(Ordering::Relaxed), "memory was sent before the refusal");
    still_here(&mut pair)
}

/// The guest goes on at the source, in sequence, and the target does not run it.
fn still_here(pair: &mut Pair) -> Result<()> {
    goes_on(pair, SOURCE, 5)?;
    ensure!(runs(pair, SOURCE)? && !runs(pair, TARGET)?, "exactly the source runs it");
    let text = pair.hosts[SOURCE].guest()?.text();
    in_sequence(&text)?;
    ensure!(ticks(&pair.hosts[TARGET].guest()?.text())?.is_empty(), "it ran on the target");
    Ok(())
}

/// The target takes less than the guest has; it says how much, and nothing is left behind there.
fn accept_too_small(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut hosts = plan.hosts();
    hosts[TARGET].options.push("accept=1".into());
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    match pair.try_migrate(SOURCE, &plan, &mut Silent)? {
        Outcome::Failed(reason) => {
            ensure!(reason.contains(" MiB wanted, accept=1 leaves 1 MiB"), "other figures: {reason}");
        }
        other => bail!("not refused: {other:?}"),
    }
    still_here(&mut pair)
}

fn not_listening(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut hosts = plan.hosts();
    hosts[TARGET].options.retain(|option| option != "migrate=listen");
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    match pair.try_migrate(SOURCE, &plan, &mut Silent)? {
        Outcome::Failed(_) => still_here(&mut pair),
        other => bail!("nobody listens, and yet: {other:?}"),
    }
}

pub(super) fn towards_target(frame: Frame<'_>) -> bool {
    frame.tcp().is_some_and(|segment| segment.to == PORT)
}

/// Where the guest has to run after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// At the source.
    Here,
    /// At the source, while the target keeps a whole copy and asks.
    Held,
    /// At the target, while the source keeps it paused and says so.
    There,
    /// At neither: the source keeps it paused and says so, the target was never told.
    Nowhere,
}

/// Cuts the cable at the first record of a kind from one host: that frame is lost, and every later one.
fn cut(context: &Context, kind: u16, from: usize, expected: Expected) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut pair = start_insecure(context, &plan)?;
    let mut stream = Records::default();
    let done = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&done);
    pair.hub.set_filter(move |_, frame| {
        let wanted = if from == SOURCE { towards_target(frame) } else { !towards_target(frame) };
        if wanted && stream.take(frame).contains(&kind) {
            cut.store(true, Ordering::Relaxed);
        }
        if cut.load(Ordering::Relaxed) { Verdict::Drop } else { Verdict::Pass }
    });
    let outcome = pair.try_migrate(SOURCE, &plan, &mut Silent)?;
    ensure!(done.load(Ordering::Relaxed), "the record {kind:#06x} never came");
    match expected {
        Expected::Here => {
            ensure!(matches!(outcome, Outcome::Failed(_)), "the source says {outcome:?}");
            // The target gives its part up by itself, with the cable still cut.
            pair.hosts[TARGET].console()?.expect(&format!("migrate {VM}: failed"), PATIENCE)?;
            still_here(&mut pair)?;
            // With the cable mended the same move goes through.
            pair.hub.clear_filter();
            pair.migrate(SOURCE, &plan, &mut Silent)?;
            goes_on(&mut pair, TARGET, 5)
        }
        Expected::Held => {
            ensure!(matches!(outcome, Outcome::Failed(_)), "the source says {outcome:?}");
            pair.hosts[TARGET].console()?.expect("unknown: paused here; asking 10.77.0.1:4444", PATIENCE)?;
            ensure!(runs(&mut pair, SOURCE)? && !runs(&mut pair, TARGET)?, "it runs at the source alone");
            // Asked once the cable is mended, the source says that it kept the VM.
            pair.hub.clear_filter();
            pair.hosts[TARGET].console()?.expect("its copy here is destroyed", PATIENCE)?;
            still_here(&mut pair)?;
            pair.migrate(SOURCE, &plan, &mut Silent)?;
            goes_on(&mut pair, TARGET, 5)
        }
        Expected::There | Expected::Nowhere => {
            ensure!(matches!(outcome, Outcome::Unknown(_)), "the source says {outcome:?}");
            let log = pair.hosts[SOURCE].console()?.text();
            ensure!(log.contains("unknown: paused here"), "the source does not say `unknown: paused here`");
            ensure!(!runs(&mut pair, SOURCE)?, "the source still runs it");
            let resumed = pair.hosts[SOURCE].command(&format!("vm resume {VM}"), PATIENCE)?;
            ensure!(resumed.error.as_deref().is_some_and(|e| e.contains("migrate resolve")), "{resumed:?}");
            let there = expected == Expected::There;
            if there {
                goes_on(&mut pair, TARGET, 5)?;
            }
            ensure!(runs(&mut pair, TARGET)? == there, "`vm list` of the target is not as it has to be");
            // With the cable mended the hosts ask each other, and the source frees what it knows to run there.
            pair.hub.clear_filter();
            pair.hosts[SOURCE].console()?.expect("done: it is the other host's; freed here", PATIENCE)?;
            ensure!(state(&mut pair, SOURCE)?.is_none(), "the source still has it");
            goes_on(&mut pair, TARGET, 5)?;
            let texts = [pair.hosts[SOURCE].guest()?.text(), pair.hosts[TARGET].guest()?.text()];
            in_sequence(&texts.concat())?;
            Ok(())
        }
    }
}

/// Noise on the migration port is closed and logged, and harms nothing.
fn wrong_stream(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut pair = start_insecure(context, &plan)?;
    let ip = ADDRESSES[TARGET].parse().context("address")?;
    let mut peer = peer(&pair.hub)?;
    peer.ping(ip, PATIENCE)?;
    let header = b"FLEXMIG\x1a\x01\x00\x01\x00\x00\x00\x00\x00";
    let huge = [&header[..], &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let noise: [&[u8]; 3] = [b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", &[0; 64], &huge];
    let preface = b"FLEXLNK\x1a\x01\x00\x01\x00\x00\x00\x00\x00";
    for bytes in noise.map(|bytes| [preface, bytes].concat()) {
        let connection = peer.connect(ip, PORT, PATIENCE)?;
        peer.send(connection, &bytes, PATIENCE)?;
        let (_, closed) = peer.read_to_end(connection, PATIENCE);
        ensure!(closed, "the host keeps a connection open that began with {bytes:?}");
        peer.abort(connection);
        pair.hosts[TARGET].console()?.expect("failed: ", PATIENCE)?;
    }
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    goes_on(&mut pair, TARGET, 5)
}

fn peer(hub: &Hub) -> Result<Peer> {
    Ok(Peer::new(hub, 9, "10.77.0.9".parse().context("address")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_moves_have_cut_is_no_tick() {
        let text = "tick 66 errors 0\ntick 67 errors 0errors 0\ntick 9tick 70 errors 0\ntick 91 errors 0\ntick 92 er";
        assert_eq!(ticks(text).expect("no error is counted"), [66, 91]);
        assert!(ticks("tick 5 errors 1\n").is_err());
        assert!(ticks("tick 5 errors 0\n2 words wrong\n").is_err());
    }
}
