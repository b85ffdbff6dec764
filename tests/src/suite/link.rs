//! The keyed link: who is refused, by which name, and what no log shows.

use super::{Case, Context};
use crate::host::{Host, HostSpec, LinkKey, random_hex};
use crate::hub::peer::Peer;
use crate::hub::stream::{Bytes, PORT};
use crate::hub::{Frame, Hub, Verdict};
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 300;
/// Preface of a peer that asks for a migration without a key.
const PLAIN: &[u8; 16] = b"FLEXLNK\x1a\x01\0\x01\0\0\0\0\0";
/// What a host says that wants a key: its own preface, keyed, with the reason.
const NEEDS_KEY: &[u8; 16] = b"FLEXLNK\x1a\x01\0\x01\0\x01\x02\0\0";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, weight: usize, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("link/{name}"), LIMIT, run);
        case.weight = weight;
        cases.push(case);
    };
    add("wrong_key_refused", 2, wrong_key);
    add("plain_peer_refused", 2, plain_peer);
    add("replay_refused", 2, replay);
    add("changed_host_key_refused", 2, changed_host_key);
    add("insecure_is_announced", 2, insecure);
    add("twins_differ", 2, twins);
    add("silent_peers_give_way", 1, silent_peers);
    add("no_key_no_link", 1, no_key);
    add("no_randomness_no_key", 1, no_randomness);
    cases
}

fn plan() -> Result<Plan> {
    Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)
}

fn start(context: &Context, plan: &Plan, hosts: &[HostSpec; 2]) -> Result<Pair> {
    let mut pair = Pair::start(hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(plan, &mut Silent)?;
    Ok(pair)
}

/// One host of its own, on a hub.
fn alone(context: &Context, hub: &Hub, spec: &HostSpec) -> Result<(Host, String)> {
    let mut host = spec.start(&context.dir, Some((hub, 1)))?;
    host.set_deadline(context.deadline);
    let ready = host.wait_ready(PATIENCE)?;
    Ok((host, ready))
}

fn listening(name: &str, index: usize) -> HostSpec {
    let address = format!("ip={}/24", ADDRESSES[index]);
    HostSpec::new(name, SKYLAKE).option(&address).option("idle=poll").option("migrate=listen")
}

fn bench_peer(hub: &Hub) -> Result<Peer> {
    Ok(Peer::new(hub, 9, "10.77.0.9".parse().context("address")?))
}

/// The order to move the guest fails for a reason with `words`, and the guest goes on where it was.
fn refused(pair: &mut Pair, plan: &Plan, words: &str) -> Result<()> {
    match pair.try_migrate(SOURCE, plan, &mut Silent)? {
        Outcome::Failed(reason) => {
            ensure!(reason.contains(words), "the reason does not say `{words}`: {reason}");
        }
        other => bail!("not refused: {other:?}"),
    }
    pair.hosts[SOURCE].guest()?.take_lines();
    for _ in 0..5 {
        pair.hosts[SOURCE].guest()?.expect("tick *errors", PATIENCE)?;
    }
    let answer = pair.hosts[TARGET].command("vm list", PATIENCE)?;
    ensure!(!answer.lines.iter().any(|line| line.contains(VM)), "the target has it: {:?}", answer.lines);
    Ok(())
}

/// The target has logged a text by now.
fn said(pair: &mut Pair, text: &str) -> Result<()> {
    ensure!(pair.hosts[TARGET].console()?.text().contains(text), "the target never said `{text}`");
    Ok(())
}

/// Peers that connect and say nothing hold every place for a handshake. One that speaks has its answer all the same, long
/// before theirs are over.
fn silent_peers(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let (mut host, _) = alone(context, &hub, &listening("host", SOURCE))?;
    let address = ADDRESSES[SOURCE].parse().context("address")?;
    let mut silent = Vec::new();
    for index in [7, 8] {
        let mut peer = Peer::new(&hub, index, format!("10.77.0.{index}").parse().context("address")?);
        peer.connect(address, PORT, PATIENCE)?;
        peer.connect(address, PORT, PATIENCE)?;
        silent.push(peer);
    }
    let mut peer = bench_peer(&hub)?;
    let connection = peer.connect(address, PORT, PATIENCE)?;
    peer.send(connection, PLAIN, PATIENCE)?;
    let (answer, _) = peer.read_to_end(connection, PATIENCE);
    ensure!(answer == NEEDS_KEY, "it says {answer:x?}");
    let text = host.console()?.text();
    ensure!(!text.contains("no link within"), "it waited until a silent peer's time was over: {text}");
    Ok(())
}

/// Both sides name the reason, and neither shows a key.
fn wrong_key(context: &Context) -> Result<()> {
    let plan = plan()?;
    let keys = [random_hex()?, random_hex()?];
    let mut hosts = plan.hosts();
    for (host, key) in hosts.iter_mut().zip(&keys) {
        host.link = LinkKey::Other(key.clone());
    }
    let mut pair = start(context, &plan, &hosts)?;
    refused(&mut pair, &plan, "another pool key")?;
    said(&mut pair, "refused: the peer holds another pool key")?;
    let answer = pair.hosts[TARGET].command(&format!("pool key {}", keys[SOURCE]), PATIENCE)?;
    ensure!(answer.error.is_none(), "{answer:?}");
    // With the right key the same move goes through.
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    pair.hosts[TARGET].guest()?.expect("tick *errors", PATIENCE)?;
    for (index, key) in keys.iter().enumerate() {
        let answer = pair.hosts[index].command("dmesg", PATIENCE)?;
        ensure!(answer.lines.iter().any(|line| line.contains("key=... seed=...")), "no boot line in the log");
        ensure!(!answer.lines.iter().any(|line| line.contains(key.as_str())), "the log shows the key");
    }
    Ok(())
}

fn plain_peer(context: &Context) -> Result<()> {
    let plan = plan()?;
    let mut hosts = plan.hosts();
    hosts[SOURCE].link = LinkKey::Unset;
    hosts[SOURCE].options.push("insecure".to_string());
    let mut pair = start(context, &plan, &hosts)?;
    refused(&mut pair, &plan, "the peer has a pool key and this host is insecure")?;
    said(&mut pair, "refused: the peer is insecure and this host has a pool key")?;
    let ip = ADDRESSES[TARGET].parse().context("address")?;
    let mut peer = bench_peer(&pair.hub)?;
    peer.ping(ip, PATIENCE)?;
    let cases: [(&[u8], &[u8]); 2] = [(PLAIN, NEEDS_KEY), (b"FLEXMIG\x1a\x01\0\x01\0\0\0\0\0", b"")];
    for (said, want) in cases {
        let connection = peer.connect(ip, PORT, PATIENCE)?;
        peer.send(connection, said, PATIENCE)?;
        let (answer, closed) = peer.read_to_end(connection, PATIENCE);
        ensure!(closed && answer == want, "{said:x?}: answered {answer:x?}, closed: {closed}");
        peer.abort(connection);
    }
    pair.hosts[TARGET].console()?.expect("refused: not a link: it starts with", PATIENCE)?;
    Ok(())
}

/// Everything that the source said in a migration that went through, said again.
fn replay(context: &Context) -> Result<()> {
    let plan = plan()?;
    let mut pair = start(context, &plan, &plan.hosts())?;
    let captured = Arc::new(Mutex::new(Vec::new()));
    let (all, mut stream) = (Arc::clone(&captured), Bytes::default());
    pair.hub.set_filter(move |_, frame: Frame<'_>| {
        if frame.tcp().is_some_and(|segment| segment.to == PORT) {
            stream.collect(frame, &mut all.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Verdict::Pass
    });
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    pair.hub.clear_filter();
    let said = captured.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(said.len() > 100_000 && said.starts_with(b"FLEXLNK"), "{} bytes were captured", said.len());
    ensure!(!said.windows(7).any(|bytes| bytes == b"FLEXMIG"), "the stream is in clear");

    let ip = ADDRESSES[TARGET].parse().context("address")?;
    let mut peer = bench_peer(&pair.hub)?;
    peer.ping(ip, PATIENCE)?;
    let connection = peer.connect(ip, PORT, PATIENCE)?;
    peer.send(connection, &said[..4096], PATIENCE)?;
    let (answer, closed) = peer.read_to_end(connection, PATIENCE);
    ensure!(closed, "the host keeps the connection");
    // Its preface, its second message, and why it goes no further.
    ensure!(answer.len() == 16 + 96 + 3 && answer.ends_with(&[1, 0, 8]), "it answered {answer:x?}");
    let console = pair.hosts[TARGET].console()?;
    console.expect("refused: handshake message 3 does not authenticate", PATIENCE)?;
    pair.hosts[TARGET].guest()?.expect("tick *errors", PATIENCE)?;
    Ok(())
}

/// A host that comes back with another key is refused until the operator says that it may.
fn changed_host_key(context: &Context) -> Result<()> {
    let plan = plan()?;
    let mut hosts = plan.hosts();
    let mut pair = start(context, &plan, &hosts)?;
    let command = format!("migrate check {VM} {}", ADDRESSES[TARGET]);
    ensure!(pair.hosts[SOURCE].command(&command, PATIENCE)?.error.is_none(), "the first check fails");
    let pinned = pair.hosts[SOURCE].command("pool keys", PATIENCE)?;
    ensure!(pinned.lines.iter().any(|line| line.contains(ADDRESSES[TARGET])), "{pinned:?}");

    pair.hosts[TARGET].machine.process.kill();
    hosts[TARGET].name = "target-again".to_string();
    let mut again = hosts[TARGET].start(&context.dir, Some((&pair.hub, 2)))?;
    again.set_deadline(context.deadline);
    again.wait_ready(PATIENCE)?;
    pair.hosts[TARGET] = again;

    let answer = pair.hosts[SOURCE].command(&command, PATIENCE)?;
    let forget = format!("pool keys forget {}", ADDRESSES[TARGET]);
    let error = answer.error.context("a changed key is not noticed")?;
    ensure!(error.contains(&format!("say `{forget}`")), "{error}");
    ensure!(pair.hosts[SOURCE].command(&forget, PATIENCE)?.error.is_none(), "`{forget}` fails");
    let answer = pair.hosts[SOURCE].command(&command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{answer:?}");
    Ok(())
}

fn insecure(context: &Context) -> Result<()> {
    let plan = plan()?;
    let hosts = plan.hosts().map(|mut host| {
        host.link = LinkKey::Unset;
        host.option("insecure")
    });
    let mut pair = start(context, &plan, &hosts)?;
    for host in &mut pair.hosts {
        let log = host.console()?.text();
        let ready = log.lines().find(|line| line.contains("ready: ")).unwrap_or_default();
        ensure!(ready.contains("migration port 4444, INSECURE"), "{ready}");
        ensure!(log.contains("INSECURE: whoever reaches this host"), "no warning");
    }
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    pair.hosts[TARGET].guest()?.expect("tick *errors", PATIENCE)?;
    Ok(())
}

/// Two hosts with the same processor, clock and seed, started in the same second: only their card's address differs.
fn twins(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let seed = format!("seed={}", random_hex()?);
    let spec = |name: &str, index: usize| {
        let mut spec = listening(name, index).option(&format!("key={}", "0123456789abcdef".repeat(4)));
        spec.link = LinkKey::Operator;
        spec.option(&seed).with_vm(crate::host::VmSpec::new(VM, &crate::guest::payload("hello")))
    };
    crate::guest::build_payloads()?;
    let mut found = Vec::new();
    let specs = [spec("one", 0), spec("two", 1)];
    let mut hosts =
        [specs[0].start(&context.dir, Some((&hub, 1)))?, specs[1].start(&context.dir, Some((&hub, 2)))?];
    for host in &mut hosts {
        host.set_deadline(context.deadline);
        host.wait_ready(PATIENCE)?;
        let log = host.console()?.text();
        ensure!(log.contains("RDRAND does not count"), "an emulator's RDRAND counts");
        let key =
            log.lines().find_map(|line| line.split_once("this host's key is ")).context("no host key")?;
        let shown = host.command(&format!("vm show {VM}"), PATIENCE)?;
        let uuid = shown.lines.iter().find(|line| line.starts_with("uuid")).context("no uuid")?;
        found.push((key.1.trim().to_string(), uuid.clone()));
    }
    let [one, two] = found.as_slice() else { bail!("two hosts") };
    ensure!(one.0.len() == 64 && one.0 != two.0, "both have the key {}", one.0);
    ensure!(one.1 != two.1, "both made {}", one.1);
    Ok(())
}

/// Without a key a host does not listen, says how to get one, and takes it.
fn no_key(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let mut spec = listening("host", 0);
    spec.link = LinkKey::Unset;
    let (mut host, ready) = alone(context, &hub, &spec)?;
    ensure!(ready.contains("migration off"), "{ready}");
    let log = host.console()?.text();
    ensure!(
        log.contains("not listening: no pool key: give this host key="),
        "it does not say how to get one"
    );
    let ip = ADDRESSES[0].parse().context("address")?;
    let mut peer = bench_peer(&hub)?;
    peer.ping(ip, PATIENCE)?;
    ensure!(peer.connect(ip, PORT, PATIENCE).is_err(), "it listens without a key");
    let phrase = host.command("pool key correcthorsebatterystaple", PATIENCE)?;
    ensure!(phrase.error.is_some_and(|error| !error.contains("battery")), "a passphrase is taken or shown");
    let answer = host.command(&format!("pool key {}", random_hex()?), PATIENCE)?;
    ensure!(answer.error.is_none(), "{answer:?}");
    let connection = peer.connect(ip, PORT, PATIENCE)?;
    peer.abort(connection);
    Ok(())
}

/// An emulator's generator does not count: without a seed there is no key.
fn no_randomness(context: &Context) -> Result<()> {
    let mut spec = listening("host", 0).option(&format!("key={}", "0123456789abcdef".repeat(4)));
    spec.link = LinkKey::Operator;
    let (mut host, ready) = alone(context, &Hub::new(), &spec)?;
    ensure!(ready.contains("migration off"), "{ready}");
    let log = host.console()?.text();
    ensure!(
        log.contains("not listening: 0 of 256 bits of randomness: give the host seed="),
        "it does not say why"
    );
    Ok(())
}
