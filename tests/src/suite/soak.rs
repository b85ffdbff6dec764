//! Debian Linux under load, moved back and forth again and again. With `--soak` only.

use super::moves::there_and_back;
use super::{Case, Context};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many moves the case makes.
pub static MOVES: AtomicUsize = AtomicUsize::new(100);

const PATIENCE: Duration = Duration::from_secs(600);
/// For each move, with what the guest computes between two of them.
const SECONDS_PER_MOVE: u64 = 300;

pub(super) fn cases() -> Vec<Case> {
    let limit = 900 + SECONDS_PER_MOVE * MOVES.load(Ordering::Relaxed) as u64;
    let mut case = Case::new("soak/linux_under_load", limit, linux);
    case.weight = 2;
    case.apart = true;
    vec![case]
}

fn linux(context: &Context) -> Result<()> {
    let mut plan = Plan::linux("corei7_skylake_x", "corei7_haswell_4770", "haswell")?;
    plan.vm.cmdline = plan.vm.cmdline.replace("guest=demo", "guest=load");
    plan.vm.mem_mib = 128;
    plan.patience = PATIENCE;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let moves = MOVES.load(Ordering::Relaxed);
    there_and_back(&mut pair, &plan, moves, works)?;
    let at = moves % 2;
    let guest = pair.hosts[at].guest()?;
    guest.send_line("stop")?;
    let errors = guest.expect_line("the guest's log", PATIENCE, |line| {
        line.strip_prefix("guest: kernel errors ").map(str::to_string)
    })?;
    ensure!(errors == "0", "errors in the guest's kernel log, see {}", guest.log().display());
    let how = pair.hosts[at].vm_event(VM, &["stopped: "], PATIENCE)?;
    ensure!(how == "stopped: power-off", "the guest ended otherwise: {how}");
    Ok(())
}

/// The guest goes through its memory without an error, and its load goes on.
fn works(pair: &mut Pair, at: usize) -> Result<()> {
    let guest = pair.hosts[at].guest()?;
    guest.take_lines();
    guest.expect_any(&["load pass "], PATIENCE)?;
    for _ in 0..2 {
        let (_, line) = guest.expect_any(&["worker pass "], PATIENCE)?;
        ensure!(line.contains(" errors 0 "), "{line}");
    }
    for host in [SOURCE, TARGET] {
        let text = pair.hosts[host].guest()?.text();
        for bad in ["Call Trace", "BUG:", "Oops", "soft lockup", "rcu_sched", "differs"] {
            ensure!(!text.contains(bad), "{bad:?} on the guest's console");
        }
    }
    Ok(())
}
