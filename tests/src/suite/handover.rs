//! Hand-overs that no question settles: one host is gone, or the operator carries a receipt from one to the other.

use super::migrate::{goes_on, insecure, towards_target};
use super::{Case, Context};
use crate::hub::Verdict;
use crate::hub::stream::{Records, record};
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(180);
const LIMIT: u64 = 400;

pub(super) fn cases() -> Vec<Case> {
    let heavy = |name: &str, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("handover/{name}"), LIMIT, run);
        case.weight = 2;
        case
    };
    vec![heavy("source_dies", source_dies), heavy("receipt", receipt).slow()]
}

/// Two hosts whose cable is cut when the source commits.
fn start(context: &Context) -> Result<(Pair, Plan)> {
    let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
    let mut pair = Pair::start(&insecure(&plan), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let (mut stream, mut cut) = (Records::default(), false);
    pair.hub.set_filter(move |_, frame| {
        cut |= towards_target(frame) && stream.take(frame).contains(&record::COMMIT);
        if cut { Verdict::Drop } else { Verdict::Pass }
    });
    Ok((pair, plan))
}

fn refused(pair: &mut Pair, host: usize, command: &str, code: &str) -> Result<String> {
    let answer = pair.hosts[host].command(command, PATIENCE)?;
    let error = answer.error.with_context(|| format!("`{command}` is not refused"))?;
    ensure!(error.starts_with(code), "`{command}`: {error}, not {code}");
    Ok(error)
}

/// The source dies with COMMIT on its way: the target has the only copy, and an operator who knows that lets it run.
fn source_dies(context: &Context) -> Result<()> {
    let (mut pair, _) = start(context)?;
    refused(&mut pair, SOURCE, &format!("migrate resolve {VM} discard"), "state ")?;
    pair.hosts[SOURCE].console()?.send_line(&format!("migrate {VM} {}", ADDRESSES[TARGET]))?;
    pair.hosts[SOURCE].console()?.expect(&format!("vm {VM}: given to"), PATIENCE)?;
    pair.hosts[SOURCE].machine.process.kill();
    pair.hosts[TARGET].console()?.expect("unknown: paused here; asking 10.77.0.1:4444", PATIENCE)?;
    let error = refused(&mut pair, TARGET, &format!("migrate resolve {VM} run-here"), "force ")?;
    ensure!(error.contains("may run on the source") && error.contains("--force"), "{error}");
    refused(&mut pair, TARGET, &format!("vm destroy {VM} --force"), "state ")?;
    let said = pair.hosts[TARGET].command(&format!("migrate resolve {VM} run-here --force"), PATIENCE)?;
    ensure!(said.error.is_none(), "{said:?}");
    goes_on(&mut pair, TARGET, 5)?;
    refused(&mut pair, TARGET, &format!("migrate resolve {VM} discard"), "state ")?;
    let texts = [pair.hosts[SOURCE].guest()?.text(), pair.hosts[TARGET].guest()?.text()];
    super::migrate::in_sequence(&texts.concat())?;
    Ok(())
}

/// Both hosts live and cannot reach each other: the target's copy is discarded, and its receipt lets the source run it.
fn receipt(context: &Context) -> Result<()> {
    let (mut pair, plan) = start(context)?;
    let outcome = pair.try_migrate(SOURCE, &plan, &mut Silent)?;
    ensure!(matches!(outcome, Outcome::Unknown(_)), "the source says {outcome:?}");
    pair.hosts[TARGET].console()?.expect("unknown: paused here; asking", PATIENCE)?;
    let run_here = format!("migrate resolve {VM} run-here");
    refused(&mut pair, SOURCE, &run_here, "force ")?;
    refused(&mut pair, SOURCE, &format!("{run_here} receipt={}", "0".repeat(64)), "refused ")?;
    let discarded = pair.hosts[TARGET].command(&format!("migrate resolve {VM} discard"), PATIENCE)?;
    let receipt =
        discarded.lines.iter().find(|line| line.starts_with("receipt=")).context("no receipt")?.clone();
    let none = pair.hosts[TARGET].command("vm list", PATIENCE)?;
    ensure!(!none.lines.iter().any(|line| line.contains(VM)), "{none:?}");
    let said = pair.hosts[SOURCE].command(&format!("{run_here} {receipt}"), PATIENCE)?;
    ensure!(said.error.is_none(), "{said:?}");
    goes_on(&mut pair, SOURCE, 5)?;
    // And it can be moved again at once.
    pair.hub.clear_filter();
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    goes_on(&mut pair, TARGET, 5)
}
