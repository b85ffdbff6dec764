//! A guest that writes without a pause: it is told about with figures, stays, is slowed down, or stopped for long, each
//! as asked.

use super::faults::check;
use super::{Case, Context};
use crate::scenario::{Outcome, Pair, Plan, SOURCE, Silent, TARGET};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn cases() -> Vec<Case> {
    let mut case = Case::new("converge/unpaced_guest", 400, unpaced);
    case.weight = 2;
    vec![case]
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
