//! Operators type any command at any step of a migration, at both hosts, from several sessions, while everything goes wrong:
//! the commands are judged by the kernel's own table, and a VM's state and gate are the kernel's own types.
//! `FLEXVISOR_FAULTS=1` runs more of it, `FLEXVISOR_SEED=N` one seed.
#![allow(missing_docs)]

mod sim;

use std::collections::BTreeMap;

use migrate::SourceOutcome;
use migrate::ownership::{Command, Phase, Ruling, State};
use sim::{Dice, Fault, Named, World, seeds};

const SECOND: u64 = 1_000_000;

const FAULTS: [Fault; 10] = [
    Fault::Cut,
    Fault::CutFrom(0),
    Fault::CutFrom(1),
    Fault::Interrupt(3 * SECOND),
    Fault::Crash(0, SECOND),
    Fault::Crash(1, SECOND),
    Fault::Reset(0),
    Fault::Reset(1),
    Fault::Lose,
    Fault::Double,
];

/// Until the source's VM is in this phase; false where the migration ended before.
fn until(world: &mut World, phase: Phase) -> bool {
    for _ in 0..200_000 {
        world.step();
        match world.machine(0).phase() {
            now if now == phase => return true,
            Phase::None if world.machine(0).outgoing.is_none() => return false,
            _ => {}
        }
    }
    panic!("it hangs");
}

/// Fault 1.1: the guest stands still for its migration, and two commands of another session let it run again. READY came,
/// COMMIT went out, and both hosts executed it.
#[test]
fn pause_and_resume_in_the_gap_start_nothing() {
    for start in [Command::Resume, Command::Start, Command::Reset] {
        let mut world = World::new(1);
        world.order(0);
        assert!(until(&mut world, Phase::Still));
        let executed = world.timeline.executed();
        while world.machine(0).phase() == Phase::Still {
            for command in [Command::Pause, start] {
                let now = world.now;
                let ruling = world.machine(0).operate(command, now);
                assert!(matches!(ruling, Some(Ruling::Refused(_))), "{command:?}: {ruling:?}");
            }
            world.step();
        }
        assert!(world.timeline.executed() <= executed + 1, "it executed while it stood still");
        world.conclude();
        assert_eq!(world.place(), 1);
    }
}

/// Fault 1.3: a host was asked about a VM that it runs after 64 more migrations, and said that it knew nothing of it.
#[test]
fn much_may_happen_while_a_host_is_in_doubt() {
    let mut world = World::new(1);
    world.order(0);
    let ready = |world: &mut World| world.machine(1).phase() == Phase::Ready;
    while !ready(&mut world) {
        world.step();
    }
    // The target holds all of it; the source goes on by itself, and sees thousands of other migrations.
    world.strike(Fault::Cut);
    world.settle();
    assert_eq!(world.states(), [Some(State::Running), Some(State::Unknown)]);
    world.machine(0).has_seen(5000);
    world.finish();
    assert_eq!(world.states(), [Some(State::Running), None], "the source says that it kept it");
    world.again();
}

/// Fault 1.5: the migration of a guest that is over ends at once, and says what is so.
#[test]
fn a_guest_that_ends_on_its_way_ends_its_migration() {
    let mut world = World::with(1, &[(0, 400)], 100_000);
    world.order(0);
    assert!(until(&mut world, Phase::Memory));
    let now = world.now;
    assert_eq!(world.machine(0).operate(Command::Stop, now), Some(Ruling::Allowed));
    let rounds = world.machine(0).rounds;
    world.settle();
    assert_eq!(world.machine(0).rounds, rounds, "the round is not sent to its end");
    let said = world.machine(0).outcome.clone().expect("it ended").to_string();
    assert_eq!(said, "failed: the guest ended: power-off (stopped here)");
    assert_eq!(world.states(), [Some(State::Stopped), None]);
    assert!(world.now - now < SECOND, "{} us", world.now - now);
}

#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// Each step of the guest is accounted for by [`sim`]: none is executed twice, none is left out, on whichever host.
#[test]
fn any_command_at_any_step() {
    let mut counts = Counts::default();
    let mut typed = [0; 3];
    let all = seeds(150, 6000);
    for &seed in &all {
        let _named = Named(format!("FLEXVISOR_SEED={seed}"));
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed);
        let (mut destroyed, mut crashed) = (false, false);
        for _ in 0..60 {
            for _ in 0..dice.below(25) {
                world.step();
            }
            if world.machines.iter().any(Option::is_none) {
                continue;
            }
            if dice.one_in(40) {
                let fault = FAULTS[dice.below(FAULTS.len() as u64) as usize];
                crashed |= matches!(fault, Fault::Crash(..));
                world.strike(fault);
                continue;
            }
            let host = dice.below(2) as usize;
            let command = match Command::ALL[dice.below(Command::ALL.len() as u64) as usize] {
                // Rarely: nothing more happens after it.
                Command::Destroy if !dice.one_in(20) && world.machine(host).phase() == Phase::None => {
                    continue;
                }
                // A world without migrations shows nothing.
                Command::Check | Command::Look | Command::Rename => Command::Move,
                command => command,
            };
            let ruling = world.operate(host, command);
            destroyed |= command == Command::Destroy && ruling == Some(Ruling::Allowed);
            match ruling {
                Some(Ruling::Allowed) => typed[0] += 1,
                Some(Ruling::Queued) => typed[1] += 1,
                Some(Ruling::Refused(_)) => typed[2] += 1,
                None => {}
            }
        }
        world.finish();
        let states = world.states();
        let owners = states.iter().flatten().filter(|state| state.is_owned()).count();
        assert!(owners < 2, "two hosts have it: {states:?}");
        let doubts = states.iter().flatten().filter(|state| !state.is_owned()).count();
        assert!(owners + doubts > 0 || destroyed || crashed, "no host has it: {states:?}");
        // Without a crash nobody needs an operator to know.
        assert!(doubts == 0 || crashed, "{states:?}");
        world.check();
        let said = (0..2).filter_map(|index| world.machine(index).outcome.clone()).map(|said| match said {
            SourceOutcome::Failed(_) => "failed",
            SourceOutcome::Done(_) => "moved",
            _ => "asked",
        });
        said.for_each(|said| counts.add(said.into()));
    }
    let [allowed, queued, refused] = typed;
    println!(
        "{} seeds: {allowed} commands allowed, {queued} queued, {refused} refused; last moves: {:?}",
        all.len(),
        counts.0
    );
    assert!(allowed > 0 && refused > 0 && counts.0.len() > 1, "{:?}", counts.0);
}
