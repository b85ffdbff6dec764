//! Copies: the VM stays where it is, and what a peer stores of it never is that VM.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::handover::{SourceOwner, TargetOwner};
use migrate::{Purpose, Reason, SourceOutcome, TargetOutcome};

fn copying() -> World {
    let guest = small_guest();
    let mut params = source_params(&guest);
    params.hello.purpose = Some(Purpose::Copy);
    let mut world = World::with(guest, params);
    world.coming.stores = true;
    world
}

#[test]
fn a_copy_is_whole_and_the_guest_runs_on() {
    let mut world = copying();
    let (source, target) = world.finish();
    let SourceOutcome::Copied(summary) = source else { panic!("{source:?}") };
    assert_eq!(target, TargetOutcome::Copied);
    assert!(summary.pages >= 24 && summary.downtime_ticks() > 0);
    assert!(source.to_string().ends_with("a copy, the VM runs on here"));
    assert_eq!(world.leaving.log, ["track", "pause", "give_back", "untrack", "resume"]);
    assert_eq!(world.coming.log, ["check", "create", "import"]);
    assert!(world.leaving.runs() && !world.leaving.tracking && !world.coming.runs);
    assert_eq!((world.source.owner(), world.target.owner()), (SourceOwner::Kept, TargetOwner::Copied));
    assert_eq!(world.leaving.states, world.coming.states);
    // The guest has not run since: the source was done in the same poll in which it let it go.
    assert!(world.leaving.pages == world.coming.pages, "memory differs");
}

#[test]
fn a_host_that_runs_vms_takes_no_copy() {
    let mut world = copying();
    world.coming.stores = false;
    let (source, _) = world.finish();
    let why = "this host runs VMs and keeps no copies: a copy goes to a peer that stores";
    assert_eq!(source.to_string(), format!("failed: peer refuses: {why} (running here)"));
    world.assert_stayed();
    assert_eq!(world.coming.log, Vec::<&str>::new(), "nothing was looked at");
}

/// One that does not know the field would take the VM for its own: it says nothing of the purpose with its verdict.
#[test]
fn a_target_that_does_not_understand_gets_nothing() {
    let guest = small_guest();
    let mut moving = World::new(small_guest());
    moving.finish();
    let answers = moving.cable.borrow().wires[1].record.to_vec();
    let mut params = source_params(&guest);
    params.hello.purpose = Some(Purpose::Copy);
    let mut world = World::with(guest, params);
    // What a target says to a move, and only that.
    for piece in pieces(&records(&answers)).into_iter().take(3) {
        world.poll_source();
        world.cable.borrow_mut().wires[1].bytes.extend(piece);
    }
    for _ in 0..1000 {
        world.poll_source();
    }
    assert_eq!(failed(world.source_outcome.as_ref().expect("an end")), &Reason::TakesNoCopy);
    assert!(world.leaving.runs() && world.leaving.log.is_empty());
}

#[test]
fn a_copy_is_cancelled_and_lost_like_a_move() {
    let mut world = copying();
    while world.source.totals().pages < 8 {
        world.turn();
    }
    let now = world.now;
    assert!(world.source.cancel("by the operator", now, &mut world.leaving));
    let (source, target) = world.finish();
    assert!(matches!(failed(&source), Reason::Cancelled(_)));
    assert!(matches!(target, TargetOutcome::Failed(_)));
    world.assert_stayed();
}

/// A purpose of a later version is no move.
#[test]
fn a_purpose_that_is_not_known_is_refused() {
    let mut hello = source_params(&small_guest()).hello;
    hello.purpose = Some(Purpose::Copy);
    let mut bytes = minicbor::to_vec(&hello).expect("to memory");
    let at = bytes.windows(2).rposition(|pair| pair == [6, 1]).expect("key 6") + 1;
    assert_eq!(minicbor::decode::<migrate::Hello>(&bytes).expect("as it is"), hello);
    for unknown in [2, 23] {
        bytes[at] = unknown;
        assert!(minicbor::decode::<migrate::Hello>(&bytes).is_err(), "{unknown}");
    }
}
