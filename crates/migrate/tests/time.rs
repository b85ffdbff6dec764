//! The guest's time line across a move: hosts whose clocks start anywhere and run at different rates, a link with a
//! latency. What the target is told has passed is what has passed.
#![allow(missing_docs)]

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use common::{Coming, Leaving, source_params, target_params};
use migrate::handover::TargetOwner;
use migrate::{Arrival, Link, Source, SourceEvent, SourceOutcome, Target, TargetEvent, TargetParams, Tuning};

/// Nanoseconds between two polls of an end.
const STEP: u64 = 20_000;

/// Bytes under way with the instant of their arrival, in each direction.
#[derive(Default)]
struct Way {
    now: u64,
    latency: u64,
    bytes: VecDeque<(u64, u8)>,
}

struct End {
    out: Rc<RefCell<Way>>,
    into: Rc<RefCell<Way>>,
    arrival: Arrival,
}

impl End {
    fn new(out: &Rc<RefCell<Way>>, into: &Rc<RefCell<Way>>) -> Self {
        Self { out: out.clone(), into: into.clone(), arrival: Arrival::new() }
    }

    /// Looks for bytes before a poll, as a host looks at its network card. `tick`: this end's clock.
    fn look(&mut self, tick: u64) {
        let way = self.into.borrow();
        self.arrival.look(tick, tick, way.bytes.front().is_some_and(|(at, _)| *at <= way.now));
    }
}

impl Link for End {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let mut way = self.into.borrow_mut();
        let now = way.now;
        let n = way.bytes.iter().take(buf.len()).take_while(|(at, _)| *at <= now).count();
        buf.iter_mut().zip(way.bytes.drain(..n)).for_each(|(slot, (_, byte))| *slot = byte);
        n
    }

    fn came(&self, now: u64) -> u64 {
        self.arrival.came().min(now)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let mut way = self.out.borrow_mut();
        let at = way.now + way.latency;
        way.bytes.extend(data.iter().map(|byte| (at, *byte)));
        data.len()
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// A clock that shows `start` at instant 0.
struct Clock {
    start: u64,
    hz: u64,
}

impl Clock {
    fn at(&self, ns: u64) -> u64 {
        self.start + (u128::from(ns) * u128::from(self.hz) / 1_000_000_000) as u64
    }
}

/// Moves a guest; what the target was told has passed since the export, and what has, in nanoseconds. Once the target
/// is ready, it polls every `rare` nanoseconds and `late` after a full turn.
fn told_and_true(clocks: [&Clock; 2], latency: [u64; 2], rare: u64, late: u64) -> (u64, u64) {
    let [there, back] = latency.map(|latency| Rc::new(RefCell::new(Way { latency, ..Way::default() })));
    let (mut near, mut far) = (End::new(&there, &back), End::new(&back, &there));
    let (mut leaving, mut coming) = (Leaving::new(&[(0, 16)]), Coming::default());
    let mut source = Source::new(
        migrate::SourceParams { hz: clocks[0].hz, tuning: Tuning::default(), ..source_params(&leaving) },
        clocks[0].at(0),
    );
    let params = TargetParams { tuning: Tuning::default(), hz: clocks[1].hz, ..target_params() };
    let mut target = Target::new(params, clocks[1].at(0));
    let (mut exported, mut ran, mut done) = (None, None, false);
    for now in (0..5_000_000_000).step_by(STEP as usize) {
        there.borrow_mut().now = now;
        back.borrow_mut().now = now;
        if !done {
            near.look(clocks[0].at(now));
            let event = source.poll(clocks[0].at(now), &mut near, &mut leaving);
            done = matches!(event, SourceEvent::Finished(SourceOutcome::Done(_)));
            assert!(done || !matches!(event, SourceEvent::Finished(_)), "{event:?}");
        }
        if exported.is_none() && source.totals().state_records > 0 {
            exported = Some(now);
        }
        if target.owner() == TargetOwner::Ready && now % rare != late {
            continue;
        }
        far.look(clocks[1].at(now));
        let event = target.poll(clocks[1].at(now), &mut far, &mut coming);
        if matches!(event, TargetEvent::Running { .. }) {
            ran = Some(now);
        }
        if let (true, Some(ran), Some(exported)) = (done, ran, exported) {
            return (coming.elapsed_ns, ran - exported);
        }
    }
    panic!("the move has no end: exported {exported:?}, runs {ran:?}, done {done}")
}

#[test]
fn the_pause_is_seen_as_elapsed_time() {
    let clocks = [
        Clock { start: 0, hz: 1_000_000 },
        Clock { start: 1 << 50, hz: 1_700_000_000 },
        Clock { start: 12_345, hz: 3_300_000_000 },
        Clock { start: 77, hz: 20_000_000 },
    ];
    for source in &clocks {
        for target in &clocks {
            for latency in [0, 50_000, 1_000_000, 30_000_000] {
                let (told, real) = told_and_true([source, target], [latency; 2], STEP, 0);
                // The polls of both ends: half of two on the way of HELLO, one on that of COMMIT.
                assert!(
                    told.abs_diff(real) <= 2 * STEP,
                    "{} Hz to {} Hz, {latency} ns: {told}, {real}",
                    source.hz,
                    target.hz
                );
                assert!(real >= 2 * latency, "STATE, READY and COMMIT are under way one after the other");
            }
        }
    }
}

#[test]
fn a_link_of_two_speeds_costs_half_the_difference() {
    let (source, target) = (Clock { start: 5, hz: 2_000_000_000 }, Clock { start: 0, hz: 3_000_000_000 });
    for [there, back] in [[1_000_000, 9_000_000], [9_000_000, 1_000_000]] {
        let (told, real) = told_and_true([&source, &target], [there, back], STEP, 0);
        assert!(told.abs_diff(real).abs_diff(4_000_000) <= 2 * STEP, "{there}, {back}: {told}, {real}");
    }
}

/// COMMIT waits unread while the target does something else: that counts too, to half of the time between two looks.
#[test]
fn what_waits_unread_is_elapsed_time() {
    let (source, target) =
        (Clock { start: 9, hz: 1_900_000_000 }, Clock { start: 1 << 40, hz: 2_600_000_000 });
    for rare in [1_000_000, 20_000_000, 80_000_000] {
        for part in 0..8 {
            let late = rare / 8 * part / STEP * STEP;
            let (told, real) = told_and_true([&source, &target], [500_000; 2], rare, late);
            assert!(told.abs_diff(real) <= rare / 2 + 2 * STEP, "{rare}, {late}: {told}, {real}");
        }
    }
}
