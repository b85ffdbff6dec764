//! Moves back and forth, again and again: nothing is lost, and nothing stays on the host that the guest leaves.

use super::faults::{check, plan};
use super::memory::{heap_settles, memory, memory_is_free_again};
use super::{Case, Context};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET};
use anyhow::{Context as _, Result};

const FEW: usize = 6;
const MANY: usize = 100;
/// Bytes of a guest's output that are kept with its VM, as docs/console.md says.
const CONSOLE_RING: u64 = 64 << 10;

pub(super) fn cases() -> Vec<Case> {
    let mut few = Case::new("moves/few", 300, |context| small_guest(context, FEW));
    few.weight = 2;
    let mut many = Case::new("faults/a_hundred_moves", 3600, |context| small_guest(context, MANY));
    many.weight = 2;
    many.apart = true;
    vec![few, many]
}

fn small_guest(context: &Context, moves: usize) -> Result<()> {
    let mut plan = plan()?;
    plan.vm.mem_mib = 4;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    there_and_back(&mut pair, &plan, moves, check)
}

/// `moves` moves, `look` after each; the free memory of both hosts returns to the same figure each time.
pub(super) fn there_and_back(
    pair: &mut Pair,
    plan: &Plan,
    moves: usize,
    look: fn(&mut Pair, usize) -> Result<()>,
) -> Result<()> {
    let mut free: [[Option<u64>; 2]; 2] = Default::default();
    let heap = [memory(pair, SOURCE)?.heap_used, memory(pair, TARGET)?.heap_used];
    for number in 1..=moves {
        let from = (number - 1) % 2;
        let name = || format!("move {number} of {moves}");
        pair.migrate(from, plan, &mut Silent).with_context(name)?;
        look(pair, 1 - from).with_context(name)?;
        for host in [SOURCE, TARGET] {
            match free[from][host] {
                Some(before) => memory_is_free_again(pair, host, before).with_context(name)?,
                // The first of each kind leaves caches behind that the others use.
                None if number > 2 => free[from][host] = Some(memory(pair, host)?.free),
                None => {}
            }
        }
    }
    let mut after = [0; 2];
    if moves.is_multiple_of(2) {
        // A VM keeps the last of what its guest has printed.
        let mut printed = 0;
        for host in [SOURCE, TARGET] {
            printed += pair.hosts[host].guest()?.text().len() as u64;
        }
        let kept = printed.min(CONSOLE_RING);
        for host in [SOURCE, TARGET] {
            after[host] = heap_settles(pair, host, heap[host] + kept)?;
        }
    }
    println!("        {moves} moves, free bytes of source and target when the guest is there: {free:?}");
    println!("        heap of source and target in bytes: {heap:?} before, {after:?} after");
    Ok(())
}
