//! A guest that writes without a pause: it is told about with figures, stays, is slowed down, or stopped for long, each
//! as asked. Of a guest with several vCPUs it is those that write which are slowed down.

use super::faults::check;
use super::{Case, Context};
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn cases() -> Vec<Case> {
    let mut case = Case::new("converge/unpaced_guest", 400, unpaced);
    case.weight = 2;
    let mut readers = Case::new("converge/readers_keep_their_share", 400, readers);
    readers.weight = 2;
    vec![case, readers]
}

fn unpaced(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter("corei7_skylake_x", "corei7_haswell_4770", "haswell", 2)?;
    plan.vm.cmdline = "mib=2 pages=256".into();
    plan.migrate_after = "tick 2 ".into();
    plan.patience = PATIENCE;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;

    match asked(&mut pair, &plan, SOURCE, "timeout=6 on-timeout=cancel")? {
        (Outcome::Failed(why), _) => explains(&why)?,
        (other, _) => bail!("it should stay: {other:?}"),
    }
    check(&mut pair, SOURCE)?;
    ensure!(
        super::migrate::runs(&mut pair, SOURCE)? && !super::migrate::runs(&mut pair, TARGET)?,
        "it stays"
    );

    let (outcome, said) = asked(&mut pair, &plan, SOURCE, "on-timeout=throttle")?;
    ensure!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let slowed =
        said.lines().find(|line| line.contains("the guest gets")).context("it was not slowed down")?;
    explains(slowed)?;
    check(&mut pair, TARGET)?;

    let (outcome, said) = asked(&mut pair, &plan, TARGET, "timeout=3 on-timeout=force")?;
    let Outcome::Done(summary) = outcome else { bail!("{outcome:?}") };
    ensure!(summary.rounds > 1 && !said.contains("the guest gets"), "{said}");
    check(&mut pair, SOURCE)
}

/// Of two vCPUs one writes and one reads. Where the host has a log for each vCPU, the writer alone is slowed down; where it
/// has dirty flags in its tables alone, nobody knows who it is, and both are.
fn readers(context: &Context) -> Result<()> {
    let mut plan = Plan::memwriter("corei7_skylake_x", "corei7_haswell_4770", "haswell", 2)?;
    // CPU 0 runs no vCPU here: each of them has one of the others.
    plan.cpus = 3;
    plan.vm.kernel = crate::guest::payload("writers");
    plan.vm.mem_mib = 8;
    plan.vm.options.push("vcpus=2".into());
    plan.vm.cmdline = "writers=2 mib=1".into();
    plan.migrate_after = "tick 2 ".into();
    plan.patience = PATIENCE;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;

    let order =
        |at: usize| format!("migrate {VM} {} downtime=20 on-timeout=throttle --detach", ADDRESSES[1 - at]);
    for (from, said) in
        [(SOURCE, "vCPU 1 of 2 gets 70 % of its CPU"), (TARGET, "the guest gets 70 % of its CPU")]
    {
        let begun = pair.hosts[from].command(&order(from), PATIENCE)?;
        ensure!(begun.error.is_none(), "{begun:?}");
        let line = pair.hosts[from].console()?.expect(said, PATIENCE)?;
        explains(&line)?;
        let shares = shares(&mut pair, from)?;
        let reader = if from == SOURCE { shares[0] == 100 } else { shares[0] == shares[1] };
        ensure!(reader && shares[1] < 100, "shares of the vCPUs: {shares:?}");
        pair.hosts[from].console()?.expect("migrate demo: done: ", PATIENCE)?;
        let text = pair.hosts[from].console()?.text();
        ensure!(from == TARGET || !text.contains("the guest gets"), "the reader was slowed down:\n{text}");
        let at = 1 - from;
        check(&mut pair, at)?;
        ensure!(self::shares(&mut pair, at)? == [100, 100], "they have all of their CPUs again");
    }
    Ok(())
}

/// The share of each vCPU, as a host shows it.
fn shares(pair: &mut Pair, host: usize) -> Result<Vec<u64>> {
    let answer = pair.hosts[host].command(&format!("vm show {VM} --json"), PATIENCE)?;
    let line = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    let value: serde_json::Value = serde_json::from_str(line)?;
    let vcpus = value["vcpus"].as_array().context("`vcpus` is no array")?;
    Ok(vcpus.iter().filter_map(|vcpu| vcpu["share"].as_u64()).collect())
}

/// The outcome of a move with options, and what the source has said.
fn asked(pair: &mut Pair, plan: &Plan, from: usize, options: &str) -> Result<(Outcome, String)> {
    let before = pair.hosts[from].console()?.text().len();
    pair.order(from, &format!("downtime=20 {options}"), &mut Silent)?;
    let outcome = pair.follow(from, plan, &mut Silent).with_context(|| options.to_string())?;
    Ok((outcome, pair.hosts[from].console()?.text_from(before)))
}

fn explains(text: &str) -> Result<()> {
    let rest =
        text.split_once("does not converge: dirties ").with_context(|| format!("no reason in {text:?}"))?.1;
    let rest = rest.split_once(" MB/s, link gives ").with_context(|| format!("no rates in {text:?}"))?.1;
    ensure!(rest.contains(" MB/s"), "no rate of the link in {text:?}");
    Ok(())
}
