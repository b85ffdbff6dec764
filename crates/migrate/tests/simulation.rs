//! Migrations between two simulated hosts while everything goes wrong, at each place in turn: the machines and the TCP
//! that the hypervisor runs, over a cable that loses, delays, doubles and shuffles frames, and hosts that lose their
//! power. `FLEXVISOR_FAULTS=1` runs all of it (`scripts/test --faults`), `FLEXVISOR_SEED=N` one seed.
#![allow(missing_docs)]

mod sim;

use std::collections::BTreeMap;

use migrate::wire::{RECORD_HEADER, RecordType};
use sim::link::{Counter, Point, Tamper};
use sim::{Dice, End, Fault, Named, World, seeds, whole};

const SECOND: u64 = 1_000_000;

/// Faults that are tried at each place.
const FAULTS: [Fault; 17] = [
    Fault::Cut,
    Fault::CutFrom(0),
    Fault::CutFrom(1),
    Fault::Interrupt(3 * SECOND),
    Fault::Late(400_000),
    Fault::Shuffle,
    Fault::Double,
    Fault::Lose,
    Fault::Crash(0, 0),
    Fault::Crash(0, 90 * SECOND),
    Fault::Crash(1, 0),
    Fault::Crash(1, 90 * SECOND),
    Fault::CrashBoth,
    Fault::Reset(0),
    Fault::Reset(1),
    Fault::Cancel,
    Fault::Interrupt(200_000),
];

/// What each side sends in a migration without faults.
fn streams(mut world: World) -> [Counter; 2] {
    world.order(0);
    assert_eq!(world.conclude(), End::Moved);
    [0, 1].map(|index| world.machine(index).last_sent.clone())
}

/// Record types of each side, the stream header as 0.
fn records(seed: u64) -> [Vec<u16>; 2] {
    streams(World::new(seed)).map(|sent| sent.kinds)
}

#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn print(&self, title: &str) {
        let text: Vec<_> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{title}: {}", text.join(", "));
    }
}

/// One move with one fault, what follows from it, and the retry.
fn one(seed: u64, side: usize, reading: bool, point: Point, fault: Fault) -> Option<End> {
    let _named = Named(format!(
        "FLEXVISOR_SEED={seed}: {fault:?} when side {side} has {} {point:?}",
        if reading { "read" } else { "sent" }
    ));
    let mut world = World::new(seed);
    world.arm(0, side, reading, point, fault);
    world.order(0);
    let end = world.conclude();
    world.came.first()?;
    if fault.is_weather() {
        assert_eq!(end, End::Moved, "{:?}", world.machine(0).outcome);
    }
    if end != End::Lost {
        world.again();
    }
    Some(end)
}

#[test]
fn every_record_boundary_with_every_fault() {
    let mut counts = Counts::default();
    let mut places = 0;
    for seed in seeds(1, 40) {
        let kinds = records(seed);
        for (side, kinds) in kinds.iter().enumerate() {
            for record in 0..=kinds.len() as u64 {
                for reading in [false, true] {
                    places += 1;
                    let sender = if reading { 1 - side } else { side };
                    for fault in FAULTS {
                        match one(seed, sender, reading, Point::Record(record), fault) {
                            Some(end) => counts.add(format!("{end:?}")),
                            None => counts.add("not reached"),
                        }
                    }
                }
            }
        }
    }
    counts.print(&format!("{places} places x {} faults", FAULTS.len()));
    for end in [End::Moved, End::Stayed, End::ResolvedThere, End::ResolvedHere, End::Lost] {
        assert!(counts.0.contains_key(&format!("{end:?}")), "{end:?} never came");
    }
}

/// A machine that leaves out, doubles or exchanges records is not one of ours: it is refused, whatever the record.
#[test]
fn tampered_records_are_refused_and_late_ones_are_not() {
    let mut counts = Counts::default();
    for seed in seeds(1, 20) {
        for (side, kinds) in records(seed).iter().enumerate() {
            for (number, kind) in kinds.iter().enumerate() {
                for tamper in [Tamper::Leave, Tamper::Double, Tamper::Exchange, Tamper::Delay(2 * SECOND)] {
                    let _named =
                        Named(format!("FLEXVISOR_SEED={seed}: {tamper:?} record {number} of side {side}"));
                    let mut world = World::new(seed);
                    world.tamper(0, side, number as u64, tamper);
                    world.order(0);
                    let end = world.conclude();
                    let said = world.machine(0).outcome.clone();
                    // The last of all is doubled too late to be read.
                    let last =
                        [RecordType::Commit, RecordType::Running].map(|kind| kind as u16).contains(kind);
                    let last = last && tamper == Tamper::Double;
                    let moves = last || matches!(tamper, Tamper::Delay(_));
                    assert_eq!(end == End::Moved, moves, "record {kind:#06x}: {end:?}, {said:?}");
                    world.again();
                    counts.add(format!("{end:?}"));
                }
            }
        }
    }
    counts.print("records left out, doubled, exchanged, late");
}

/// Places in a stream: everything but the middle of large bodies, of which every `stride`th byte.
fn places(stream: &Counter, stride: u64) -> Vec<u64> {
    let mut places = Vec::new();
    let mut at = 0;
    for &length in &stream.lengths {
        let (head, tail) = (RECORD_HEADER as u64 + 48, 16);
        places.extend(
            (0..length).filter(|&n| n < head || n + tail > length || n % stride == 0).map(|n| at + n),
        );
        at += length;
    }
    places.push(at);
    places
}

#[test]
fn every_byte() {
    const RANGES: [(u64, u64); 2] = [(0, 2), (8, 3)];
    let mut counts = Counts::default();
    let mut tried = 0;
    for seed in seeds(1, 3) {
        let tiny = || World::with(seed, &RANGES, 100_000);
        let mut dice = Dice::new(seed);
        for (side, stream) in streams(tiny()).iter().enumerate() {
            let stride = if whole() && seed == 1 { 1 } else { 61 };
            for at in places(stream, stride) {
                // A bounded run takes some of them.
                if !whole() && !dice.one_in(5) {
                    continue;
                }
                for fault in [Fault::Cut, Fault::Crash(0, SECOND), Fault::Crash(1, SECOND)] {
                    let reading = dice.one_in(2);
                    let _named = Named(format!("FLEXVISOR_SEED={seed}: {fault:?}, side {side}, byte {at}"));
                    let mut world = tiny();
                    let tapped = if reading { 1 - side } else { side };
                    world.arm(0, tapped, reading, Point::Byte(at), fault);
                    world.order(0);
                    let end = world.conclude();
                    if end != End::Lost && tried % 4 == 0 {
                        world.again();
                    }
                    counts.add(format!("{end:?}"));
                    tried += 1;
                }
            }
        }
    }
    counts.print(&format!("{tried} faults at bytes"));
}

/// Moves back and forth while faults come in any number, at any time.
#[test]
fn random_faults_at_random_times() {
    const MOVES: u64 = 6;
    let mut counts = Counts::default();
    let all = seeds(40, 3000);
    for &seed in &all {
        let _named = Named(format!("FLEXVISOR_SEED={seed}"));
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed);
        // A third of them speaks version 1: nobody can be asked, and the operator looks.
        world.asks = !seed.is_multiple_of(3);
        for _ in 0..MOVES {
            let from = world.place();
            if dice.one_in(2) {
                let point = if dice.one_in(3) {
                    Point::Byte(dice.below(60_000))
                } else {
                    Point::Record(dice.below(24))
                };
                let side = dice.below(2) as usize;
                let fault = FAULTS[dice.below(FAULTS.len() as u64) as usize];
                world.arm(from, side, dice.one_in(2), point, fault);
            }
            world.cable.weather.lose_one_in = [0, 0, 50, 30][dice.below(4) as usize];
            world.cable.weather.double_one_in = [0, 0, 9][dice.below(3) as usize];
            (world.cable.weather.shuffle_one_in, world.cable.weather.shuffle_us) =
                [(0, 0), (7, 1000), (3, 30_000)][dice.below(3) as usize];
            world.order(from);
            let later = dice.below(400) as u32;
            for _ in 0..later {
                world.step();
            }
            if dice.one_in(3) && world.machines.iter().all(Option::is_some) && world.came.is_empty() {
                let fault = FAULTS[dice.below(FAULTS.len() as u64) as usize];
                world.strike(fault);
            }
            let end = world.conclude();
            counts.add(format!("{end:?}"));
            if end == End::Lost {
                break;
            }
        }
    }
    counts.print(&format!("{} seeds, up to {MOVES} moves each", all.len()));
}

/// The cable stays cut in the middle of the hand-over: what one host gives up for good may run on the other, and no
/// other receipt is good for that.
#[test]
fn an_operator_carries_a_receipt() {
    for keeps in [0, 1] {
        let commit = records(1)[0].len() as u64;
        let mut world = World::new(1);
        world.arm(0, 0, false, Point::Record(commit), Fault::Cut);
        world.order(0);
        world.settle();
        let wrong = "5a".repeat(32);
        assert!(!world.machine(keeps).doubts[0].run_here(Some(&wrong)));
        let own = world.machine(keeps).doubts[0].deal.receipt().to_string();
        assert!(!world.machine(keeps).doubts[0].run_here(Some(&own)), "its own receipt");
        let receipt = world.machine(1 - keeps).doubts[0].discard();
        assert!(world.machine(keeps).doubts[0].run_here(Some(&receipt)));
        assert_eq!(world.place(), keeps);
        let end = world.conclude();
        assert_eq!(end, if keeps == 0 { End::ResolvedHere } else { End::ResolvedThere });
        world.again();
    }
}

#[test]
fn a_hundred_moves_leave_nothing_behind() {
    let mut world = World::new(1);
    for turn in 0..100 {
        assert_eq!(world.place(), turn % 2);
        world.again();
        let open: Vec<usize> = (0..2).map(|index| world.machine(index).connections()).collect();
        assert_eq!(open, [0, 0], "connections left after move {turn}");
    }
    println!("100 moves, {} instructions of the guest, each once", world.timeline.executed());
}
