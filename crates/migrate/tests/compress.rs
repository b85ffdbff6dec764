//! Pages in a smaller form: by measurement, and with a peer that does not know it.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::{Compression, Note, Reason, SourceOutcome, SourceParams, TargetOutcome};

/// Pages whose second half is noise.
fn guest(pages: u64) -> Leaving {
    let mut vm = Leaving::new(&[(0, pages)]);
    let mut rng = Rng(77);
    for page in &mut vm.pages {
        page[..2048].fill(0x55);
        page[2048..].iter_mut().for_each(|byte| *byte = rng.next() as u8);
    }
    vm
}

fn world(vm: Leaving, set: impl FnOnce(&mut SourceParams)) -> World {
    let mut params = source_params(&vm);
    set(&mut params);
    World::with(vm, params)
}

/// What is told, where a page that is packed takes `work` ticks and the wire takes `wire` bytes a tick.
fn notes(work: u64, wire: u64) -> (World, Vec<Note>) {
    let mut world = world(guest(4000), |params| params.tuning.compression = Compression::Auto);
    world.cable.borrow_mut().window = 64 * 1024;
    let (mut notes, mut free, mut left, mut pages) = (Vec::new(), 0, 0, 0);
    while world.target_outcome.is_none() || world.source_outcome.is_none() {
        world.tick = 1;
        let packs = world.source.packs_by() != Some(Compression::None);
        world.now += world.tick;
        world.poll_source();
        notes.extend(std::iter::from_fn(|| world.source.take_note()));
        let sent = world.source.totals().pages;
        world.now += (sent - pages) * if packs { work } else { 1 };
        pages = sent;
        // The target reads all there is, once the wire has had the time for it.
        let queued = world.cable.borrow().wires[0].entered;
        if world.now >= free {
            world.poll_target();
            free = world.now + (queued - left) / wire;
            left = queued;
        }
        world.never_two();
    }
    assert!(matches!(world.source_outcome, Some(SourceOutcome::Done(_))), "{:?}", world.source_outcome);
    assert_eq!(world.target_outcome, Some(TargetOutcome::Runs));
    world.assert_moved();
    (world, notes)
}

fn summary(world: &World) -> migrate::Summary {
    let Some(SourceOutcome::Done(summary)) = &world.source_outcome else { unreachable!() };
    *summary
}

#[test]
fn auto_packs_for_a_slow_wire() {
    // A page of 4096 bytes takes 400 ticks on the wire, and 100 to pack.
    let (world, notes) = notes(100, 10);
    let [Note::Chosen(chosen)] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(chosen.way, Compression::Lz4, "{chosen}");
    assert_eq!(summary(&world).chosen, Some(Compression::Lz4));
    assert!(summary(&world).bytes < 4000 * 2900, "{}", summary(&world).bytes);
    let text = notes[0].to_string();
    assert!(text.starts_with("compress=auto: lz4 (none: "), "{text}");
    assert!(summary(&world).to_string().ends_with(", compress=auto chose lz4"));
    let progress = world.source.progress(world.now);
    assert_eq!(progress.chosen.map(|chosen| chosen.way), Some(Compression::Lz4));
}

#[test]
fn auto_leaves_pages_as_they_are_for_a_fast_wire() {
    let (world, notes) = notes(100, 100);
    let [Note::Chosen(chosen)] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(chosen.way, Compression::None, "{chosen}");
    assert_eq!(summary(&world).chosen, Some(Compression::None));
    assert!(summary(&world).bytes > 4000 * 3600, "{}", summary(&world).bytes);
}

#[test]
fn nothing_is_claimed_of_a_guest_too_small_to_measure() {
    let mut world = world(guest(100), |params| params.tuning.compression = Compression::Auto);
    let (source, _) = world.finish();
    let SourceOutcome::Done(summary) = source else { panic!("{source:?}") };
    assert_eq!((summary.chosen, world.source.take_note()), (None, None));
    assert!(!summary.to_string().contains("auto"));
    world.assert_moved();
}

/// Both ends hear the other one speak version 1.
fn of_version_1(world: &mut World) {
    for _ in 0..200_000 {
        world.now += world.tick;
        for side in [0, 1] {
            if side == 0 {
                world.poll_source();
            } else {
                world.poll_target();
            }
            let wire = &mut world.cable.borrow_mut().wires[side];
            if wire.left == 0 && wire.bytes.len() >= 16 {
                wire.bytes[8] = 1;
            }
        }
        if world.source_outcome.is_some() && world.target_outcome.is_some() {
            return;
        }
    }
    panic!("it hangs: source {:?}, target {:?}", world.source_outcome, world.target_outcome);
}

#[test]
fn a_peer_of_version_1_gets_pages_as_they_are_and_the_operator_is_told() {
    for wanted in [Compression::Lz4, Compression::Delta, Compression::Auto] {
        let mut world = world(small_guest(), |params| params.tuning.compression = wanted);
        of_version_1(&mut world);
        world.assert_moved();
        let note = world.source.take_note().unwrap();
        assert!(note.is_warning());
        let expected = format!(
            "compress={} needs version 2 of the protocol, the peer speaks version 1: pages are sent as they are",
            wanted.name()
        );
        assert_eq!(note.to_string(), expected);
        assert_eq!(world.source.take_note(), None);
    }
    let mut plain = world(small_guest(), |_| {});
    of_version_1(&mut plain);
    plain.assert_moved();
    assert_eq!(plain.source.take_note(), None);
}

#[test]
fn verify_full_is_refused_where_the_peer_does_not_know_it() {
    for check_only in [false, true] {
        let mut world = world(small_guest(), |params| {
            params.tuning.verify = true;
            params.hello.check_only = check_only;
        });
        of_version_1(&mut world);
        let outcome = world.source_outcome.clone().unwrap();
        let reason = failed(&outcome);
        assert_eq!(*reason, Reason::OldPeer { what: "verify=full", needs: 2, version: 1 });
        let text = "verify=full needs version 2 of the protocol, the peer speaks version 1";
        assert_eq!(reason.to_string(), text);
        world.assert_stayed();
        let Some(TargetOutcome::Failed(theirs)) = &world.target_outcome else {
            panic!("{:?}", world.target_outcome)
        };
        assert!(theirs.to_string().contains(text), "{theirs}");
    }
}
