//! Whatever becomes of a migration, the guest that runs here again has its whole CPU and is not tracked.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::{Goal, OnTimeout, SourceOutcome};

/// A guest that never rests, and is slowed down for it.
fn slowed() -> World {
    let mut vm = Leaving::new(&[(0, 64)]);
    vm.writes = (0..1_000_000).map(|i| i % 64).collect();
    for page in &mut vm.pages {
        page.iter_mut().zip(1..).for_each(|(byte, i)| *byte = i as u8 | 1);
    }
    let mut params = source_params(&vm);
    params.tuning.pages_per_poll = 1;
    params.tuning.goal = Goal { on_timeout: OnTimeout::Throttle, ..Goal::default() };
    let mut world = World::with(vm, params);
    world.cable.borrow_mut().window = 4096;
    world.tick = 5000;
    world
}

fn run_until(world: &mut World, done: impl Fn(&World) -> bool) {
    for _ in 0..2_000_000 {
        if done(world) {
            return;
        }
        world.turn();
    }
    panic!("it hangs");
}

/// Fault 1.4: the connection is lost after COMMIT, and the guest comes back by the target's word or an operator's.
#[test]
fn of_a_guest_that_was_slowed_down_and_given_away() {
    let mut world = slowed();
    run_until(&mut world, |world| world.leaving.given);
    assert!(world.leaving.share < 100, "it was slowed down");
    {
        let mut cable = world.cable.borrow_mut();
        (cable.dead, cable.open) = (true, [false; 2]);
        cable.wires.iter_mut().for_each(|wire| wire.bytes.clear());
    }
    for _ in 0..100_000 {
        world.now += world.tick;
        world.poll_source();
        if world.source_outcome.is_some() {
            break;
        }
    }
    assert!(matches!(world.source_outcome, Some(SourceOutcome::Asking(_))), "{:?}", world.source_outcome);
    assert_eq!((world.leaving.share, world.leaving.tracking), (100, false));
}

/// Cancelled while it is slowed down and still runs.
#[test]
fn of_a_guest_that_was_slowed_down_and_kept() {
    let mut world = slowed();
    run_until(&mut world, |world| world.leaving.share < 100);
    let (now, mut leaving) = (world.now, std::mem::replace(&mut world.leaving, Leaving::new(&[(0, 1)])));
    assert!(world.source.cancel("by the operator", now, &mut leaving));
    assert_eq!((leaving.share, leaving.tracking, leaving.runs()), (100, false, true));
}
