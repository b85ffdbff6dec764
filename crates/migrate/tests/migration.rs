//! Whole migrations over a pipe in memory.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::{
    Goal, OnTimeout, Reason, RoundStats, SourceEvent, SourceOutcome, Status, StopCause, TargetEvent,
    TargetOutcome,
};

fn rounds(world: &World) -> Vec<RoundStats> {
    world
        .source_events
        .iter()
        .filter_map(|e| if let SourceEvent::Round(r) = e { Some(*r) } else { None })
        .collect()
}

#[test]
fn a_guest_moves() {
    let mut world = World::new(small_guest());
    let (source, target) = world.finish();
    world.assert_moved();
    assert_eq!(target, TargetOutcome::Runs);
    let SourceOutcome::Done(summary) = source else { panic!("{source:?}") };
    let rounds = rounds(&world);
    assert_eq!(summary.rounds as usize, rounds.len());
    assert_eq!(rounds[0].pages, 24);
    assert_eq!(summary.pages, rounds.iter().map(|r| r.pages).sum::<u64>());
    assert_eq!(summary.bytes, world.cable.borrow().wires[0].record.len() as u64);
    assert_eq!(world.leaving.log, ["track", "pause", "give_up", "free"]);
    assert_eq!(world.coming.log, ["check", "create", "import", "run"]);
    let last = world.target_events.iter().rev().nth(1);
    assert_eq!(last, Some(&TargetEvent::Ready));
    // The last events: READY, RUNNING with the downtime; the guest's clock goes on from the export of its state.
    let Some(TargetEvent::Running { downtime_ns }) = world.target_events.last() else { panic!() };
    let known = (summary.pages_ticks + summary.state_ticks) * 1000; // the clock ticks once a microsecond
    assert!((known..=known + summary.resume_ticks * 1000).contains(downtime_ns));
    // The state is exported one poll after the last page, and a poll is 100 ticks.
    assert_eq!(world.coming.elapsed_ns, downtime_ns - (summary.pages_ticks + 100) * 1000);
    let text = source.to_string();
    assert!(text.starts_with("done: ") && text.contains("downtime "), "{text}");
    assert_eq!(summary.stop_ticks, STOP_TICKS);
    assert!(text.contains(", stopped in 4.211 ms"), "{text}");
}

/// What a status line shows is true at every moment, and only goes forward.
#[test]
fn progress_is_told_all_the_time() {
    let mut world = World::new(small_guest());
    let mut seen = vec![];
    let ram = 24 * 4096;
    for _ in 0..100_000 {
        world.turn();
        let now = world.source.progress(world.now);
        assert!(now.remaining <= ram && now.total == ram, "{now:?}");
        let totals = world.source.totals();
        assert_eq!(now.normal + now.duplicate, totals.pages + totals.duplicate);
        if seen.last() != Some(&now.status) {
            seen.push(now.status);
        }
        if now.status == Status::Completed {
            assert!(now.downtime_ms.is_some() && now.remaining == 0, "{now:?}");
            break;
        }
        assert_eq!(now.downtime_ms.is_some(), now.status == Status::Device, "{now:?}");
    }
    assert_eq!(seen, [Status::Setup, Status::Active, Status::Device, Status::Completed]);
}

/// What there is goes after the first round, and the rest while the guest stands; a piece that is too long stays.
#[test]
fn the_history_of_the_console_goes_along() {
    let most = vec![7; migrate::limits::MAX_HISTORY_BODY];
    let mut world = World::new(small_guest());
    let pieces = [most, b"more".to_vec(), Vec::new(), b"at last".to_vec(), b"the end".to_vec(), Vec::new()];
    world.leaving.printed = [&pieces[..], &[b"never asked for".to_vec()]].concat().into();
    let (source, _) = world.finish();
    assert!(matches!(source, SourceOutcome::Done(_)), "{source:?}");
    world.assert_moved();
    assert_eq!(world.coming.printed, pieces.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>());
    assert_eq!(world.leaving.printed.len(), 1);

    let mut world = World::new(small_guest());
    world.leaving.printed = [vec![7; migrate::limits::MAX_HISTORY_BODY + 1], Vec::new()].into();
    world.finish();
    world.assert_moved();
    assert!(world.coming.printed.is_empty());
}

#[test]
fn chunks_of_any_size_change_nothing() {
    for chunk in [1, 2, 7, 15, 16, 17, 100, 5000] {
        for window in [1, 64, 1460, 65536] {
            let mut world = World::new(small_guest());
            {
                let mut cable = world.cable.borrow_mut();
                cable.chunk = chunk;
                cable.window = window;
                cable.rng = Rng(chunk as u64 * 31 + window as u64);
            }
            world.finish();
            world.assert_moved();
        }
    }
}

#[test]
fn a_guest_that_writes_all_the_time_moves_whole() {
    for seed in 1..40 {
        let mut rng = Rng(seed * 0x9e37_79b9);
        let mut vm = Leaving::new(&[(0, 160), (256, 200)]);
        for page in &mut vm.pages {
            match rng.below(4) {
                0 => {}
                1 => page.fill(rng.next() as u8),
                _ => page.iter_mut().for_each(|b| *b = rng.next() as u8),
            }
        }
        vm.writes = (0..3000)
            .map(|_| if rng.below(2) == 0 { rng.below(160) } else { 256 + rng.below(200) })
            .collect();
        let mut params = source_params(&vm);
        params.tuning.dirty_threshold = rng.below(20);
        let mut world = World::with(vm, params);
        world.cable.borrow_mut().window = 1 + rng.below(20_000) as usize;
        world.finish();
        world.assert_moved();
    }
}

/// A guest of 64 pages that writes them in turn, over a link that takes a page in four polls.
fn restless(goal: Goal) -> World {
    let mut vm = Leaving::new(&[(0, 64)]);
    vm.writes = (0..1_000_000).map(|i| i % 64).collect();
    for page in &mut vm.pages {
        page.iter_mut().zip(1..).for_each(|(byte, i)| *byte = i as u8 | 1);
    }
    let mut params = source_params(&vm);
    params.tuning.pages_per_poll = 1;
    params.tuning.goal = goal;
    let mut world = World::with(vm, params);
    world.cable.borrow_mut().window = 4096;
    world.tick = 5000;
    world
}

#[test]
fn a_guest_that_never_calms_down_is_stopped_in_the_end() {
    let mut world = restless(Goal::default());
    let (source, _) = world.finish();
    world.assert_moved();
    let SourceOutcome::Done(summary) = source else { panic!("{source:?}") };
    assert!(matches!(summary.stop, StopCause::MaxRounds | StopCause::NoProgress), "{summary:?}");
    assert!(summary.rounds <= 13);
    let late = Goal { timeout_ms: Some(5_000), ..Goal::default() };
    let mut world = restless(late);
    let (source, _) = world.finish();
    world.assert_moved();
    let SourceOutcome::Done(summary) = source else { panic!("{source:?}") };
    assert_eq!(summary.stop, StopCause::TimedOut);
    assert!(summary.ticks >= 5 * HZ, "{summary:?}");
}

#[test]
fn a_guest_that_never_calms_down_stays_here_where_that_was_asked() {
    for timeout_ms in [None, Some(5_000)] {
        let goal = Goal { timeout_ms, on_timeout: OnTimeout::Cancel, ..Goal::default() };
        let mut world = restless(goal);
        let (source, target) = world.finish();
        let SourceOutcome::Failed(Reason::NoConvergence(stall)) = source else { panic!("{source:?}") };
        assert!(stall.expected_ms > 100 && stall.wanted_ms == 100, "{stall}");
        assert!(matches!(target, TargetOutcome::Failed(Reason::Peer(_))), "{target:?}");
        assert!(world.leaving.runs() && !world.leaving.tracking);
    }
}

#[test]
fn a_guest_that_never_calms_down_is_slowed_down_where_that_was_asked() {
    let goal = Goal { on_timeout: OnTimeout::Throttle, ..Goal::default() };
    let mut world = restless(goal);
    let (source, _) = world.finish();
    world.assert_moved();
    let SourceOutcome::Done(summary) = source else { panic!("{source:?}") };
    assert_eq!(summary.stop, StopCause::Converged);
    assert!(world.leaving.share < 100, "it was never slowed down");
    let slowed = world.source_events.iter().filter(|e| matches!(e, SourceEvent::Slowed(_))).count();
    assert!(slowed > 0);
}

/// Where the host knows who writes, who does not keeps its CPU.
#[test]
fn a_vcpu_that_only_reads_is_not_slowed_down() {
    let goal = Goal { on_timeout: OnTimeout::Throttle, ..Goal::default() };
    let mut world = restless(goal);
    world.leaving.dirtied = Some(vec![0, 0, 0]);
    let (source, _) = world.finish();
    world.assert_moved();
    assert!(matches!(source, SourceOutcome::Done(_)), "{source:?}");
    let slowed: Vec<_> = world
        .source_events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Slowed(slowed) => Some(slowed.shares.clone()),
            _ => None,
        })
        .collect();
    assert!(!slowed.is_empty());
    for shares in &slowed {
        assert!(matches!(shares, migrate::Shares::Each(each) if each[0] < 100 && each[1..] == [100, 100]));
    }
    assert_eq!(slowed.last(), Some(&world.leaving.shares));
}

#[test]
fn a_slowed_guest_that_stays_is_as_fast_as_before() {
    let goal = Goal { on_timeout: OnTimeout::Throttle, ..Goal::default() };
    let mut world = restless(goal);
    for _ in 0..100_000 {
        world.turn();
        if world.leaving.share != 100 {
            break;
        }
    }
    assert!(world.source.cancel("enough", world.now, &mut world.leaving));
    world.finish();
    assert!(world.leaving.runs());
    assert_eq!(world.leaving.share, 100);
}

#[test]
fn a_zero_page_costs_next_to_nothing() {
    let mut vm = Leaving::new(&[]);
    vm.ranges = vec![migrate::PageRange { first: 0, pages: 65536 }];
    // One page stands for all of them.
    struct Zero(Leaving);
    impl migrate::SourceVm for Zero {
        fn start_tracking(&mut self) -> std::task::Poll<Result<(), String>> {
            self.0.start_tracking()
        }
        fn harvest(&mut self) -> std::task::Poll<u64> {
            self.0.harvest()
        }
        fn take_dirty(&mut self, from: u64) -> Option<u64> {
            self.0.take_dirty(from)
        }
        fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), vm_types::MemoryError> {
            page.fill(0);
            // Linux leaves freed init memory filled, here and there.
            if gfn % 4096 == 5 {
                page.fill(0xcc);
            }
            Ok(())
        }
        fn throttle(&mut self, shares: &migrate::Shares) {
            self.0.throttle(shares);
        }
        fn pause(&mut self) -> std::task::Poll<u64> {
            self.0.pause()
        }
        fn resume(&mut self) {
            self.0.resume();
        }
        fn give_back(&mut self) {
            self.0.give_back();
        }
        fn stop_tracking(&mut self) {
            self.0.stop_tracking();
        }
        fn export_state(&mut self) -> Result<Vec<vm_types::StateRecord>, String> {
            self.0.export_state()
        }
        fn give_up(&mut self) -> Result<(), String> {
            self.0.give_up()
        }
        fn free(&mut self) {
            self.0.free();
        }
        fn mark_unknown(&mut self) {
            self.0.mark_unknown();
        }
    }
    let mut encoder = migrate::memory::Encoder::new();
    let mut bytes = 0;
    let mut zero = Zero(vm);
    for gfn in 0..65536 {
        if encoder.is_full() {
            bytes += encoder.take(|_, len| len);
        }
        encoder.add(gfn, &mut zero).unwrap();
    }
    bytes += encoder.take(|_, len| len);
    println!("{bytes} bytes for 65536 pages, headers included");
    assert!(bytes * 100 <= 65536, "{bytes} bytes: more than 0.01 a page");
}

#[test]
fn rounds_print_as_the_log_wants_them() {
    let round = RoundStats {
        round: 2,
        pages: 10,
        zero: 3,
        fill: 1,
        duplicate: 0,
        bytes: 28_000,
        dirty_next: 4,
        ticks: 99,
        ns: 45_678,
    };
    assert_eq!(
        round.to_string(),
        "round 2: 10 pages, 3 zero, 28000 bytes, 4 dirty next, 99 ticks (0.045 ms)"
    );
}

#[test]
fn memory_that_is_not_there_at_once_is_waited_for() {
    let mut world = World::new(small_guest());
    world.coming.create_delay = 50_000;
    world.tick = 1000; // 50 s in all, beyond the dead-man's time but within the stall's
    let mut params = source_params(&world.leaving);
    params.tuning.reply_ms = 100_000;
    world.source = migrate::Source::new(params, 0);
    world.finish();
    world.assert_moved();
}

/// The tables of a large VM: the source goes on step by step, and the peer hears from it meanwhile.
#[test]
fn tracking_that_starts_in_many_steps_is_waited_for() {
    let mut world = World::new(small_guest());
    world.leaving.steps_each = 20_000;
    world.tick = 1000; // 20 s for each, beyond the dead-man's time
    let mut params = source_params(&world.leaving);
    params.tuning.reply_ms = 100_000;
    world.source = migrate::Source::new(params, 0);
    world.finish();
    world.assert_moved();
    assert_eq!(world.leaving.log, ["track", "pause", "give_up", "free"]);
}

/// Cancelled in the middle of the start of tracking, it ends that, and the guest runs on.
#[test]
fn a_start_of_tracking_that_is_cancelled_is_undone() {
    let mut world = World::new(small_guest());
    world.leaving.steps_each = u32::MAX;
    while world.leaving.log.is_empty() {
        world.turn();
    }
    (0..10).for_each(|_| world.turn());
    let now = world.now;
    assert!(world.source.cancel("operator", now, &mut world.leaving));
    assert!(!world.leaving.tracking);
    assert_eq!(world.leaving.log, ["track", "give_back", "untrack"]);
    world.finish();
    world.assert_stayed();
}

#[test]
fn companion_arrives_before_the_verdict_or_not_at_all() {
    for length in [0, 1, migrate::limits::MAX_COMPANION_BODY, migrate::limits::MAX_COMPANION_BODY + 1] {
        let mut world = World::new(Leaving::new(&[(0, 8)]));
        let mut params = source_params(&world.leaving);
        params.companion = vec![0x5a; length];
        world.source = migrate::Source::new(params, 0);
        world.finish();
        world.assert_moved();
        let came = if length <= migrate::limits::MAX_COMPANION_BODY { length } else { 0 };
        assert_eq!(world.coming.companion, vec![0x5a; came], "{length} bytes");
    }
}

#[test]
fn a_warning_comes_with_the_verdict_and_stops_nothing() {
    for check_only in [false, true] {
        let mut world = World::new(Leaving::new(&[(0, 8)]));
        let mut params = source_params(&world.leaving);
        params.hello.check_only = check_only;
        world.source = migrate::Source::new(params, 0);
        world.coming.warning = Some(format!("lacks POPCNT\x1b[2J{}", "x".repeat(5000)));
        world.finish();
        if !check_only {
            world.assert_moved();
        }
        let warning = world.source.take_warning().unwrap();
        assert!(warning.starts_with("lacks POPCNT?[2Jxxx"), "{warning}");
        assert_eq!(warning.len(), migrate::limits::MAX_TEXT);
        assert_eq!(world.source.take_warning(), None);
    }
}
