//! What a guest finds after a move: its clocks and its registers; and a target that has no place for it.

use super::memory::{free_memory, memory_is_free_again};
use super::migrate::{goes_on, in_sequence, runs};
use super::{Case, Context};
use crate::guest;
use crate::host::VmSpec;
use crate::scenario::{Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 300;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("state/{name}"), LIMIT, run);
        case.weight = 2;
        cases.push(case);
    };
    add("clocks_and_back", clocks);
    add("xcr0_lowered_and_back", xcr0_lowered);
    add("target_out_of_memory", out_of_memory);
    add("same_name_there", same_name);
    cases
}

fn plan(payload: &str, cmdline: &str) -> Result<Plan> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.vm.kernel = guest::payload(payload);
    plan.vm.cmdline = cmdline.into();
    Ok(plan)
}

fn start(context: &Context, plan: &Plan) -> Result<Pair> {
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(plan, &mut Silent)?;
    Ok(pair)
}

/// A line of the payload `clocks`, times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// How far the worst of PM timer, PIT and RTC is from the TSC.
    worst: u64,
    /// Longest time between two looks at the TSC.
    gap: u64,
}

fn looks(text: &str) -> Vec<Look> {
    let look = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("clocks ")?.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse().ok()
        };
        Some(Look { worst: after("worst")?, gap: after("gap")? })
    };
    text.lines().filter_map(look).collect()
}

/// Four clocks of one guest agree to 2 ms over both moves, and the time in which it was stopped has passed on all of
/// them: what the hosts say (to COMMIT), and at most 20 ms more than that and what a guest waits for its console.
fn clocks(context: &Context) -> Result<()> {
    let plan = plan("clocks", "gap=1000000 slack=2000")?;
    let mut pair = start(context, &plan)?;
    let mut seen = [0, 0];
    for (from, to) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
        seen[to] = pair.hosts[to].guest()?.text().len();
        pair.migrate(from, &plan, &mut Silent)?;
        let told: u64 = pair.hosts[to]
            .console()?
            .expect_line("runs here", PATIENCE, |line| {
                line.split_once("runs here, downtime ")?.1.strip_suffix(" us").map(str::to_string)
            })?
            .parse()?;
        // More than a second: the RTC shows one at least.
        goes_on(&mut pair, to, 30)?;
        let text = pair.hosts[to].guest()?.text_from(seen[to]);
        let here = looks(&text);
        // The first gap that is long enough: behind it the target's other work keeps the guest waiting too, such as what it
        // tells its pool, some 70 ms of its only CPU.
        let gaps = || here.iter().map(|look| look.gap);
        let gap = gaps().find(|gap| gap + 1000 > told).or(gaps().max()).context("no clocks line")?;
        let usual = here.iter().skip(5).map(|look| look.gap).max().context("too few clocks lines")?;
        let worst = here.iter().map(|look| look.worst).max().unwrap_or_default();
        ensure!(worst <= 2000, "a clock is {worst} us off: {text}");
        ensure!(
            gap + 1000 > told && gap < told + usual + 20_000,
            "the guest saw {gap} us pass, {usual} us is usual, and the hosts say {told} us"
        );
    }
    let (first, rest) = split(&mut pair, &seen)?;
    in_sequence(&format!("{first}{}{rest}", pair.hosts[TARGET].guest()?.text()))?;
    Ok(())
}

/// What the guest printed at the source before its first move, and after it came back.
fn split(pair: &mut Pair, seen: &[usize; 2]) -> Result<(String, String)> {
    let text = pair.hosts[SOURCE].guest()?.text();
    let (before, after) = text.split_at_checked(seen[SOURCE]).context("a console lost its text")?;
    Ok((before.to_string(), after.to_string()))
}

/// A guest leaves AVX out of XCR0 when it moves. Back in, the upper halves are what they were, first a pattern, then
/// zero: nothing of either host, whose link uses the same registers.
fn xcr0_lowered(context: &Context) -> Result<()> {
    let plan = plan("xcr0-holder", "gap=1000000")?;
    let mut pair = start(context, &plan)?;
    for (turn, from, to) in [(1, SOURCE, TARGET), (2, TARGET, SOURCE)] {
        pair.migrate(from, &plan, &mut Silent)?;
        goes_on(&mut pair, to, 3)?;
        pair.hosts[to].guest()?.send(b"x")?;
        pair.hosts[to].guest()?.expect(&format!("raised {turn}: kept 64, foreign 0"), PATIENCE)?;
        pair.hosts[to].guest()?.expect(&format!("lowered {}", turn + 1), PATIENCE)?;
        goes_on(&mut pair, to, 3)?;
    }
    Ok(())
}

/// The move is refused with `words`; the guest goes on at the source, and the target has as much memory as before.
fn refused(pair: &mut Pair, plan: &Plan, words: &str) -> Result<()> {
    let before = free_memory(pair, TARGET)?;
    for _ in 0..2 {
        match pair.try_migrate(SOURCE, plan, &mut Silent)? {
            Outcome::Failed(reason) => ensure!(reason.contains(words), "the reason is another: {reason}"),
            other => bail!("not refused: {other:?}"),
        }
        goes_on(pair, SOURCE, 3)?;
        ensure!(runs(pair, SOURCE)?, "the source does not run it");
        memory_is_free_again(pair, TARGET, before)?;
    }
    in_sequence(&pair.hosts[SOURCE].guest()?.text())?;
    Ok(())
}

/// The target really has less memory than the VM needs.
fn out_of_memory(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    plan.vm.mem_mib = 192;
    let mut hosts = plan.hosts();
    hosts[TARGET].mem_mib = 160;
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    refused(&mut pair, &plan, "192 MiB wanted, ")?;
    ensure!(!runs(&mut pair, TARGET)?, "the target runs it");
    Ok(())
}

/// The target has a VM of that name already, which goes on too.
fn same_name(context: &Context) -> Result<()> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut hosts = plan.hosts();
    let mut twin = VmSpec::new(VM, &guest::payload("memwriter"));
    twin.mem_mib = 16;
    twin.cmdline = "mib=1 pages=1 gap=1000000".into();
    hosts[TARGET].vms.push(twin);
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    refused(&mut pair, &plan, &format!("vm {VM} is on this host already (running)"))?;
    goes_on(&mut pair, TARGET, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_clocks() {
        let text = "tick 1 errors 0\nclocks 2 pm -12 pit 3 rtc 100 worst 100 gap 45000\nclocks 3 pm 1 pi";
        assert_eq!(looks(text), [Look { worst: 100, gap: 45_000 }]);
    }
}
