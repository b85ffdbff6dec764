//! Never two, whatever an operator types: commands in each phase of a migration, at emulated hosts, with a guest that counts
//! its steps.

use super::migrate::{goes_on, insecure, runs, state, ticks, towards_target};
use super::{Case, Context};
use crate::hub::Verdict;
use crate::hub::stream::{Records, record};
use crate::scenario::{ADDRESSES, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
/// Migrations, and commands typed at both hosts in each, by the case that types anything.
const MOVES: u64 = 8;
const COMMANDS: u64 = 10;

pub(super) fn cases() -> Vec<Case> {
    let mut still =
        Case::new("ownership/commands_while_it_stands_still", 300, |c| while_it_stands_still(c, 1));
    let mut two =
        Case::new("ownership/commands_while_it_stands_still_two_cpus", 300, |c| while_it_stands_still(c, 2));
    let mut any = Case::new("faults/any_command_in_any_phase", 1800, any_command);
    any.apart = true;
    for case in [&mut still, &mut two, &mut any] {
        case.weight = 2;
    }
    vec![still, two, any]
}

/// From the frame with READY on nothing reaches the source, until it is let go; TCP sends it again then. What an operator
/// types meanwhile starts nothing: two such commands made two runners once.
fn while_it_stands_still(context: &Context, cpus: u32) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.cpus = cpus;
    let mut pair = Pair::start(&insecure(&plan), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let (tell, ready) = sync_channel(1);
    let hold = Arc::new(AtomicBool::new(true));
    let holding = Arc::clone(&hold);
    let (mut stream, mut seen) = (Records::default(), false);
    pair.hub.set_filter(move |_, frame| {
        if towards_target(frame) {
            return Verdict::Pass;
        }
        if !seen && stream.take(frame).contains(&record::READY) {
            seen = true;
            let _ = tell.try_send(());
        }
        if seen && holding.load(Ordering::Relaxed) { Verdict::Drop } else { Verdict::Pass }
    });
    begin(&mut pair, SOURCE)?;
    ready.recv_timeout(PATIENCE).context("no READY")?;
    for command in ["pause", "resume", "start", "stop", "reset", "regs"] {
        for (host, phase) in [(SOURCE, "(phase still)"), (TARGET, "(phase ready)")] {
            let answer = pair.hosts[host].command(&format!("vm {command} {VM}"), PATIENCE)?;
            let error = answer.error.clone().unwrap_or_default();
            ensure!(error.starts_with("busy ") && error.contains(phase), "vm {command}: {answer:?}");
        }
    }
    let row = state(&mut pair, SOURCE)?.context("the source has it")?;
    ensure!(row.contains("leaving"), "{row}");
    hold.store(false, Ordering::Relaxed);
    pair.hosts[TARGET].console()?.expect("runs here", PATIENCE)?;
    pair.hosts[SOURCE].console()?.expect(&format!("vm {VM}: freed"), PATIENCE)?;
    goes_on(&mut pair, TARGET, 5)?;
    ensure!(state(&mut pair, SOURCE)?.is_none() && runs(&mut pair, TARGET)?, "the target alone has it");
    each_once(&mut pair)
}

/// Orders the move, and has the prompt back.
fn begin(pair: &mut Pair, from: usize) -> Result<()> {
    let order = format!("migrate {VM} {} --detach", ADDRESSES[1 - from]);
    let answer = pair.hosts[from].command(&order, PATIENCE)?;
    ensure!(answer.error.is_none(), "{answer:?}");
    Ok(())
}

/// Every tick was printed by one host, once. A move in the middle of a line leaves its beginning on one host's port and the rest
/// on the other's.
fn each_once(pair: &mut Pair) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    for host in [SOURCE, TARGET] {
        // What came after the beginning of a line that went on elsewhere is a line of its own.
        let text = pair.hosts[host].guest()?.text().replace("tick ", "\ntick ");
        for tick in ticks(&text)? {
            ensure!(seen.insert(tick), "TWO RUNNERS: tick {tick} was printed twice");
        }
        texts.push(text);
    }
    let last = seen.last().copied().context("no tick came")?;
    // The beginning of one line and the rest of another may have become one.
    let pieces = |text: &str| -> Vec<String> {
        let whole = |line: &str| ticks(&format!("{line}\n")).is_ok_and(|ticks| !ticks.is_empty());
        text.split('\n').filter(|line| !whole(line)).map(str::to_string).collect()
    };
    let [source, target] = [pieces(&texts[0]), pieces(&texts[1])];
    for tick in (1..=last).filter(|tick| !seen.contains(tick)) {
        let line = format!("tick {tick} errors 0");
        let split = |from: &[String], to: &[String]| {
            (1..=line.len()).map(|at| line.split_at(at)).any(|(head, rest)| {
                from.iter().any(|piece| piece.starts_with(head))
                    && to.iter().any(|piece| piece.ends_with(rest))
            })
        };
        ensure!(
            split(&source, &target) || split(&target, &source),
            "tick {tick} of {last} was printed nowhere"
        );
    }
    Ok(())
}

/// A small generator; `FLEXVISOR_SEED` names another seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Random commands at both hosts while the guest is moved back and forth. Those that would lose it lack `--force`.
fn any_command(context: &Context) -> Result<()> {
    let seed = std::env::var("FLEXVISOR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut pair = Pair::start(&insecure(&plan), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let (mut refused, mut moved) = (0, 0);
    for _ in 0..MOVES {
        let from = if state(&mut pair, SOURCE)?.is_some() { SOURCE } else { TARGET };
        begin(&mut pair, from)?;
        for _ in 0..COMMANDS {
            let host = dice.below(2) as usize;
            let commands = [
                format!("vm pause {VM}"),
                format!("vm resume {VM}"),
                format!("vm start {VM}"),
                format!("vm reset {VM}"),
                format!("vm destroy {VM}"),
                format!("vm rename {VM} other"),
                format!("vm rename other {VM}"),
                format!("vm regs {VM}"),
                format!("vm dirty start {VM}"),
                format!("vm dirty stop {VM}"),
                format!("cpu audit start {VM}"),
                format!("cpu audit stop {VM}"),
                format!("migrate {VM} {} --detach", ADDRESSES[1 - host]),
                format!("migrate resolve {VM} run-here"),
                format!("migrate cancel {VM}"),
            ];
            let command = &commands[dice.below(commands.len() as u64) as usize];
            let answer = pair.hosts[host].command(command, PATIENCE)?;
            refused += u64::from(answer.error.is_some_and(|error| error.starts_with("busy ")));
        }
        moved += u64::from(comes_to_rest(&mut pair, from)?);
        goes_on_somewhere(&mut pair)?;
        each_once(&mut pair)?;
    }
    context.note(&format!("seed {seed}: {refused} of {} commands busy, {moved} moved", MOVES * COMMANDS));
    Ok(())
}

/// The migration is over; whether the VM has left host `from`.
fn comes_to_rest(pair: &mut Pair, from: usize) -> Result<bool> {
    loop {
        let status = pair.hosts[from].command("migrate status", PATIENCE)?.lines.concat();
        if ["completed", "failed", "cancelled", "none", "no migration"].iter().any(|end| status.contains(end))
        {
            let rows = [state(pair, SOURCE)?, state(pair, TARGET)?];
            // The other host may still order it back.
            let leaves = |row: &Option<String>| row.as_ref().is_some_and(|row| row.contains("leaving"));
            if rows.iter().flatten().count() == 1 && !rows.iter().any(leaves) {
                return Ok(rows[from].is_none());
            }
        }
    }
}

/// It has its name and runs, wherever it is.
fn goes_on_somewhere(pair: &mut Pair) -> Result<()> {
    for host in [SOURCE, TARGET] {
        for command in ["vm rename other demo", "vm resume demo", "vm dirty stop demo", "cpu audit stop demo"]
        {
            pair.hosts[host].command(command, PATIENCE)?;
        }
        if runs(pair, host)? {
            return goes_on(pair, host, 3);
        }
    }
    anyhow::bail!("it runs nowhere")
}
