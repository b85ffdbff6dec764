//! Connections cut, peers silent, migrations cancelled: at every place.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::handover::{SourceOwner, TargetOwner};
use migrate::{Source, SourceOutcome, Target, TargetOutcome};

/// A guest of four pages: the smallest that has every kind of record.
fn tiny_guest() -> Leaving {
    let mut vm = Leaving::new(&[(0, 2), (8, 2)]);
    for (at, byte) in vm.pages[1].iter_mut().enumerate() {
        *byte = (at * 3) as u8;
    }
    vm.pages[2].fill(0x5a);
    vm.writes = [8, 8, 8, 1].into();
    vm
}

fn tiny_world() -> World {
    let mut params = source_params(&tiny_guest());
    params.tuning.dirty_threshold = 1;
    params.tuning.pages_per_poll = 2;
    World::with(tiny_guest(), params)
}

/// Bytes in each direction when nothing goes wrong.
fn lengths() -> [u64; 2] {
    let mut world = tiny_world();
    world.finish();
    world.assert_moved();
    let cable = world.cable.borrow();
    [cable.wires[0].entered, cable.wires[1].entered]
}

/// Runs to the end and checks who owns the guest.
fn settle(world: &mut World) {
    for turn in 0..200_000 {
        world.turn();
        if world.source_outcome.is_some() && world.target_outcome.is_some() {
            break;
        }
        if world.cable.borrow().dead || world.cable.borrow().deaf != [false; 2] {
            world.tick = 50_000;
        }
        if world.now > 200_000_000 {
            // The host's TCP gives the connection up.
            world.cable.borrow_mut().open = [false; 2];
        }
        assert!(turn < 199_999, "it hangs");
    }
    let outcome = world.source_outcome.clone().unwrap();
    let held = matches!(world.target_outcome, Some(TargetOutcome::Held(_)));
    let asking = matches!(outcome, SourceOutcome::Asking(_));
    if asking {
        assert!(
            world.leaving.given && world.leaving.unknown && !world.leaving.freed && !world.leaving.runs()
        );
    }
    if held {
        assert!(!world.coming.runs && world.coming.made, "it holds the copy, paused");
    }
    // Either end asks first, then the other, in vain: all is settled by then.
    if asking || held {
        let first = usize::from(world.now.is_multiple_of(2) && held || !asking);
        let mut settling = Settling::new(world);
        settling.ask(first);
        let (source, target) = (settling.source, settling.target);
        settling.ask(first);
        settling.ask(1 - first);
        assert_eq!((source, target), (settling.source, settling.target));
        assert!(matches!(
            (source, target),
            (SourceOwner::Freed, TargetOwner::Runs) | (SourceOwner::Kept, TargetOwner::Gone)
        ));
    }
    let (here, there) = (world.leaving.runs(), world.coming.runs);
    match &outcome {
        SourceOutcome::Done(_) => world.assert_moved(),
        SourceOutcome::Failed(_) => {
            assert!(here && !there, "{outcome:?}");
            world.assert_stayed();
        }
        SourceOutcome::Asking(_) if there => assert!(world.leaving.pages == world.coming.pages),
        SourceOutcome::Asking(_) => {}
        SourceOutcome::Unknown(_) | SourceOutcome::Checked | SourceOutcome::Copied(_) => {
            panic!("{outcome:?}")
        }
    }
    assert!(here ^ there, "{outcome:?}");
}

#[test]
fn cut_at_every_byte() {
    let mut seen = [0; 3];
    for (way, &len) in lengths().iter().enumerate() {
        for at in 0..=len {
            let mut world = tiny_world();
            world.cable.borrow_mut().cut[way] = at;
            settle(&mut world);
            match world.source_outcome.as_ref().unwrap() {
                SourceOutcome::Done(_) => seen[0] += 1,
                SourceOutcome::Failed(_) => seen[1] += 1,
                _ => seen[2] += 1,
            }
        }
    }
    println!("cuts: {} done, {} failed and running here, {} unknown", seen[0], seen[1], seen[2]);
    // All three outcomes are met, and unknown only while COMMIT and RUNNING are under way.
    assert!(seen.iter().all(|&n| n > 0) && seen[2] < 200, "{seen:?}");
}

#[test]
fn silence_at_every_byte_near_a_record_and_some_between() {
    for half in [false, true] {
        for (way, &len) in lengths().iter().enumerate() {
            let stride = if way == 0 { 61 } else { 1 };
            for at in (0..=len).filter(|at| at % stride == 0 || len - at < 100) {
                let mut world = tiny_world();
                {
                    let mut cable = world.cable.borrow_mut();
                    cable.cut[way] = at;
                    cable.silent = true;
                    cable.half = half;
                }
                settle(&mut world);
            }
        }
    }
}

#[test]
fn cut_with_small_windows() {
    let [len, _] = lengths();
    for at in (0..=len).step_by(13) {
        let mut world = tiny_world();
        {
            let mut cable = world.cable.borrow_mut();
            cable.cut[0] = at;
            cable.window = 100;
            cable.chunk = 40;
        }
        settle(&mut world);
    }
}

#[test]
fn retry_loses_nothing() {
    let [len, _] = lengths();
    for at in (0..len).step_by(37) {
        let mut world = tiny_world();
        world.cable.borrow_mut().cut[0] = at;
        settle(&mut world);
        if !matches!(world.source_outcome, Some(SourceOutcome::Failed(_))) {
            continue;
        }
        let failed = world.leaving;
        if failed.log.contains(&"track") {
            assert!(failed.log.contains(&"give_back") && failed.log.contains(&"untrack"));
        }
        assert_eq!(
            failed.log.contains(&"pause"),
            failed.log.contains(&"resume") && failed.log.contains(&"pause")
        );
        let mut again = World::new(failed);
        again.leaving.writes = [0, 9, 1].into();
        again.finish();
        again.assert_moved();
    }
}

/// Wherever an attempt fails, and however: each page that the guest wrote in it counts as dirty again before the
/// tracking ends, those too whose bits were harvested, taken and sent.
#[test]
fn bits_taken_by_a_failed_attempt_are_given_back() {
    let [len, _] = lengths();
    let (mut attempts, mut taken) = (0, 0);
    let mut judge = |world: &World| {
        let vm = &world.leaving;
        if !vm.log.contains(&"track") || !matches!(world.source_outcome, Some(SourceOutcome::Failed(_))) {
            return;
        }
        let back = vm.given_back.as_ref().expect("nothing is given back");
        assert!(vm.touched.is_subset(back), "written {:?}, given back {back:?}", vm.touched);
        assert!(vm.log.iter().position(|w| *w == "give_back") < vm.log.iter().position(|w| *w == "untrack"));
        attempts += 1;
        taken += back.len();
    };
    for at in (0..len).step_by(29) {
        let mut cut = tiny_world();
        cut.leaving.writes = [0, 9, 1, 0, 1, 9].into();
        cut.cable.borrow_mut().cut[0] = at;
        settle(&mut cut);
        judge(&cut);
    }
    for turns in 0..400 {
        let mut cancelled = tiny_world();
        cancelled.leaving.writes = [0, 9, 1, 0, 1, 9].into();
        (0..turns).for_each(|_| cancelled.turn());
        let now = cancelled.now;
        if cancelled.source_outcome.is_some()
            || !cancelled.source.cancel("operator", now, &mut cancelled.leaving)
        {
            break;
        }
        cancelled.finish();
        judge(&cancelled);
    }
    assert!(attempts > 20 && taken > attempts, "{attempts} attempts, {taken} bits");
}

#[test]
fn cancel_after_every_poll() {
    let mut turns = 0;
    let mut world = tiny_world();
    while world.source_outcome.is_none() {
        world.turn();
        turns += 1;
    }
    let mut refused = 0;
    for side in 0..2 {
        for after in 0..turns {
            let mut world = tiny_world();
            for _ in 0..after {
                world.turn();
            }
            let now = world.now;
            let done = if side == 0 {
                let done = world.source.cancel("operator", now, &mut world.leaving);
                assert_eq!(done, !world.leaving.given);
                done
            } else {
                let had_it = world.coming.runs;
                let done = world.target.cancel("operator", now, &mut world.coming);
                assert!(!(had_it && done));
                done
            };
            world.never_two();
            refused += u32::from(!done);
            settle(&mut world);
            if done && side == 0 {
                world.assert_stayed();
                assert!(world.source_outcome.unwrap().to_string().contains("cancelled: operator"));
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_mute_target_ends_in_a_reason() {
    let mut source = Source::new(source_params(&tiny_guest()), 0);
    let mut vm = tiny_guest();
    let mut link = Hand::default();
    let mut now = 0;
    let outcome = loop {
        now += 1000;
        if let migrate::SourceEvent::Finished(outcome) = source.poll(now, &mut link, &mut vm) {
            break outcome;
        }
        assert!(now < 20 * HZ);
    };
    assert_eq!(outcome.to_string(), "failed: peer silent for 10000 ms (running here)");
    assert!(vm.runs());
}

#[test]
fn a_target_that_only_pings_ends_in_a_reason() {
    let mut source = Source::new(source_params(&tiny_guest()), 0);
    let mut vm = tiny_guest();
    let mut link = Hand::default();
    link.input.extend(migrate::wire::StreamHeader::OURS.to_bytes());
    let mut now = 0;
    let mut seq = 0;
    let outcome = loop {
        now += HZ;
        link.input.extend(record(seq, 0x8001, &[]));
        seq += 1;
        if let migrate::SourceEvent::Finished(outcome) = source.poll(now, &mut link, &mut vm) {
            break outcome;
        }
        assert!(now < 60 * HZ);
    };
    assert_eq!(outcome.to_string(), "failed: no HELLO_ACK from the peer within 30000 ms (running here)");
}

#[test]
fn a_mute_source_ends_in_a_reason() {
    let mut target = Target::new(target_params(), 0);
    let mut link = Hand::default();
    let mut vm = Coming::default();
    assert_eq!(target.poll(9 * HZ, &mut link, &mut vm), migrate::TargetEvent::Waiting);
    let end = target.poll(10 * HZ, &mut link, &mut vm);
    assert_eq!(end, migrate::TargetEvent::Finished(TargetOutcome::Failed(migrate::Reason::Silent(10_000))));
    assert!(link.output.is_empty(), "nothing is said to a stranger");
}

#[test]
fn a_guest_that_does_not_pause_runs_on() {
    let mut world = tiny_world();
    world.leaving.pause_delay = u32::MAX;
    world.tick = 10_000;
    let (source, target) = world.finish();
    assert_eq!(source.to_string(), "failed: no pause of the guest within 30000 ms (running here)");
    assert!(matches!(target, TargetOutcome::Failed(_)));
    world.assert_stayed();
    assert_eq!(world.leaving.log, ["track", "give_back", "untrack", "resume"]);
}
