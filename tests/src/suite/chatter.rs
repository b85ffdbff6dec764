//! A guest that prints as fast as its UART takes it and echoes what is typed: every byte is accounted for, whether the
//! guest stays, ends, or moves (fault 1.2).

use super::{Case, Context, start};
use crate::chatter::{LINE, Shown, merge, without_returns};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::scenario::{Outcome, Pair, Plan, Silent, VM};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
/// A byte takes the emulated port 87 us: fewer instructions in the same time. The guest still outruns the port.
const SLOW_IPS: u64 = 10_000_000;
/// More than the 256 KiB that once waited for a port.
const LINES: usize = 30_000;
const FEW: usize = 4;
const MANY: usize = 20;

pub(super) fn cases() -> Vec<Case> {
    let faster = Case::new("chatter/faster_than_the_port", 300, stays);
    let destroyed = Case::new("chatter/destroyed_with_output_left", 120, destroyed);
    let mut few = Case::new("chatter/moves", 300, |context| moves(context, FEW));
    few.weight = 2;
    let mut many = Case::new("chatter/twenty_moves", 900, |context| moves(context, MANY)).slow();
    many.weight = 2;
    vec![faster, destroyed, few, many]
}

fn vm(lines: usize) -> Result<VmSpec> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("chatter"));
    vm.mem_mib = 4;
    vm.options.push("debug-exit".to_string());
    vm.cmdline = format!("lines={lines}");
    Ok(vm)
}

/// What is on the ports of `hosts` once `enough` finds it complete, or when no more is waited for.
fn shown<const N: usize>(
    mut hosts: [&mut Host; N],
    enough: impl Fn(&[Shown; N]) -> bool,
) -> Result<[Shown; N]> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let mut ports = std::array::from_fn(|_| Shown::default());
        for (port, host) in ports.iter_mut().zip(&mut hosts) {
            *port = Shown::parse(&host.guest()?.text());
        }
        if enough(&ports) || Instant::now() > limit {
            return Ok(ports);
        }
        // What is still under way may come on any of them.
        for host in &mut hosts {
            let guest = host.guest()?;
            guest.wait_news(guest.text().len(), Duration::from_millis(50));
        }
    }
}

fn host(context: &Context, lines: usize) -> Result<Host> {
    let mut spec = HostSpec::new("host", SKYLAKE).with_vm(vm(lines)?);
    spec.ips = SLOW_IPS;
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    Ok(host)
}

/// What came is the beginning of what the guest printed, `bytes` of it, and the port had nothing to say.
fn complete(host: &mut Host, bytes: usize) -> Result<()> {
    let [port] = shown([host], |[port]| port.text.len() >= bytes)?;
    let story = merge(&port.text, "")?;
    ensure!(port.notes.is_empty(), "the port said {:?}", port.notes);
    ensure!(story.bytes == bytes, "{} bytes of {bytes} on the port", story.bytes);
    Ok(())
}

/// The guest prints more than anything here could hold back.
fn stays(context: &Context) -> Result<()> {
    let mut host = host(context, LINES)?;
    let how = host.vm_event(VM, &["stopped: "], Duration::from_secs(240))?;
    ensure!(how == "stopped: debug exit 0", "the guest ended otherwise: {how}");
    complete(&mut host, LINES * LINE)
}

/// The guest is destroyed while the port is behind, and printed what `vm show` said just before.
fn destroyed(context: &Context) -> Result<()> {
    let mut host = host(context, 0)?;
    host.guest()?.expect("00002000 -", PATIENCE)?;
    let console = host.console()?;
    console.send(format!("vm pause {VM}\rvm show {VM}\rvm destroy {VM} --force\r").as_bytes())?;
    let printed = console.expect_line("what the guest printed", PATIENCE, |line| {
        line.strip_prefix("printed ")?.trim().strip_suffix(" bytes")?.parse::<usize>().ok()
    })?;
    console.expect(&format!("vm {VM}: destroyed"), PATIENCE)?;
    let before = host.guest()?.text().len();
    complete(&mut host, without_returns(printed))?;
    context.note(&format!("{} of {printed} bytes after its end", without_returns(printed) - before));
    Ok(())
}

/// Back and forth; a letter is typed before each move and one just after it was ordered.
fn moves(context: &Context, moves: usize) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.vm = vm(0)?;
    plan.migrate_after = "00000100 -".to_string();
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let mut typed = String::new();
    for number in 0..moves {
        let from = number % 2;
        let (before, on_the_way) = (char::from(b'a' + number as u8), char::from(b'A' + number as u8));
        typed.extend([before, on_the_way]);
        let port = pair.hosts[from].guest()?;
        port.send(&[before as u8])?;
        port.expect(&format!(" {before}"), PATIENCE)?;
        pair.order(from, "", &mut Silent)?;
        pair.hosts[from].guest()?.send(&[on_the_way as u8])?;
        let outcome = pair.follow(from, &plan, &mut Silent)?;
        ensure!(matches!(outcome, Outcome::Done(_)), "move {number}: {outcome:?}");
        pair.hosts[1 - from].guest()?.expect(" -", PATIENCE)?;
    }
    let last = moves % 2;
    typed.push('.');
    pair.hosts[last].guest()?.send(b".")?;
    pair.hosts[last].vm_event(VM, &["stopped: "], PATIENCE)?;
    pair.hosts[last].guest()?.expect(" .", PATIENCE)?;
    let [source, target] = &mut pair.hosts;
    let [here, there] = shown([source, target], |[here, there]| {
        merge(&here.text, &there.text)
            .is_ok_and(|story| story.typed.ends_with('.') && story.bytes % LINE == 0)
    })?;
    let story = merge(&here.text, &there.text)?;
    let said = |text: &str| here.noted(text) + there.noted(text);
    let lost = said("typed here did not reach") + said("typed while no VM");
    ensure!(said("left out") == 0, "{:?} {:?}", here.notes, there.notes);
    ensure!(story.changes <= moves, "the output changed ports {} times in {moves} moves", story.changes);
    let missing = typed.chars().filter(|c| !story.typed.contains(*c)).count();
    ensure!(
        missing == lost && story.typed.len() + lost == typed.len(),
        "typed {typed}, echoed {}, said to be lost {lost}",
        story.typed
    );
    context.note(&format!(
        "{moves} moves, {} bytes, {} letters echoed, {lost} said to be lost",
        story.bytes,
        story.typed.len()
    ));
    Ok(())
}
