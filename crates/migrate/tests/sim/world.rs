use std::cell::RefCell;
use std::rc::Rc;

use migrate::SourceOutcome;
use migrate::ownership::{Change, Command, Ruling, State};

use super::doubt::Doubt;
use super::guest::{Guest, Timeline};
use super::lan::{Cable, Queues, Weather};
use super::link::{Point, Tamper, Tap};
use super::machine::Machine;
use super::vm::Vm;

const MS: u64 = 1000;
pub const SECOND: u64 = 1000 * MS;
/// No migration takes longer to end, whatever happens.
const LIMIT: u64 = 400 * SECOND;

/// What goes wrong. Sides: 0 is the host that the guest leaves, 1 the one it comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing passes until the cable is mended.
    Cut,
    /// Nothing passes in the direction away from this side.
    CutFrom(usize),
    /// Nothing passes for so long, in microseconds.
    Interrupt(u64),
    /// Each frame takes so much longer, in microseconds, from here on.
    Late(u64),
    /// Frames overtake each other from here on.
    Shuffle,
    /// Frames are doubled from here on.
    Double,
    /// One frame in thirty is lost from here on.
    Lose,
    /// The host of this side loses its power, and is up again after so long, in microseconds.
    Crash(usize, u64),
    /// Both at once.
    CrashBoth,
    /// This side loses the connection; the other hears nothing of it.
    Reset(usize),
    /// The operator cancels.
    Cancel,
}

impl Fault {
    /// TCP makes up for it: the migration goes through.
    pub fn is_weather(self) -> bool {
        matches!(self, Self::Interrupt(_) | Self::Late(_) | Self::Shuffle | Self::Double | Self::Lose)
    }
}

/// Where the guest is in the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// On the other host, as asked.
    Moved,
    /// Where it was.
    Stayed,
    /// On the other host, once an operator or the hosts had made sure.
    ResolvedThere,
    /// Where it was, once an operator or the hosts had made sure.
    ResolvedHere,
    /// Its only whole copy was on a host that crashed.
    Lost,
}

pub struct World {
    pub machines: [Option<Machine>; 2],
    queues: [Rc<RefCell<Queues>>; 2],
    pub cable: Cable,
    pub now: u64,
    pub timeline: Timeline,
    boots: u64,
    seed: u64,
    writes: u64,
    pages: u64,
    armed: Option<(usize, Fault)>,
    /// The faults that came.
    pub came: Vec<Fault>,
    mend_at: Option<u64>,
    up_at: [Option<u64>; 2],
    /// Source of the move that is under way.
    from: usize,
    /// The hosts speak version 2.
    pub asks: bool,
    busy_until: u64,
}

/// A guest of 24 pages with a hole in its RAM.
const RANGES: [(u64, u64); 2] = [(0, 10), (16, 14)];

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &RANGES, 100_000)
    }

    /// With a guest of these ranges that writes until it has executed so many instructions.
    pub fn with(seed: u64, ranges: &[(u64, u64)], writes: u64) -> Self {
        let timeline = Timeline::default();
        let (a, card_a) = Machine::start(0, 1, 0, &timeline, writes);
        let (b, card_b) = Machine::start(1, 2, 0, &timeline, writes);
        let mut guest = Guest::new(ranges, seed, writes);
        guest.timeline = timeline.clone();
        let pages = guest.pages.len() as u64;
        let mut vm = Vm::new(guest);
        vm.must(Change::Run);
        a.store.put(vm);
        Self {
            machines: [Some(a), Some(b)],
            queues: [card_a, card_b],
            cable: Cable::new(seed),
            now: 0,
            timeline,
            boots: 2,
            seed,
            writes,
            pages,
            armed: None,
            came: Vec::new(),
            mend_at: None,
            up_at: [None; 2],
            from: 0,
            asks: true,
            busy_until: 0,
        }
    }

    pub fn machine(&mut self, index: usize) -> &mut Machine {
        self.machines[index].as_mut().expect("the host is up")
    }

    fn state(&self, index: usize) -> Option<State> {
        self.machines[index].as_ref().and_then(|m| m.store.state())
    }

    /// What the hosts have; none of one that is down.
    pub fn states(&self) -> [Option<State>; 2] {
        [self.state(0), self.state(1)]
    }

    /// An operator's command at a host; none where it has no VM.
    pub fn operate(&mut self, index: usize, command: Command) -> Option<Ruling> {
        let (now, asks) = (self.now, self.asks);
        let machine = self.machine(index);
        machine.asks = asks;
        let ruling = machine.operate(command, now);
        if command == Command::Move && ruling == Some(Ruling::Allowed) {
            self.from = index;
        }
        ruling
    }

    /// All is mended, and the hosts have asked each other until they know.
    pub fn finish(&mut self) {
        self.settle();
        self.mend();
        self.ask();
    }

    /// The guest's memory is as the guest left it, wherever it is.
    pub fn check(&self) {
        for machine in self.machines.iter().flatten() {
            let vm = machine.store.vm.borrow();
            let Some(vm) = vm.as_ref().map(|vm| vm.borrow()).filter(|vm| vm.state().is_owned()) else {
                continue;
            };
            vm.guest.check().unwrap_or_else(|why| panic!("{}: {why}", machine.name()));
            vm.assert_unharmed();
        }
    }

    /// Orders a move away from host `from`.
    pub fn order(&mut self, from: usize) {
        self.from = from;
        self.came.clear();
        self.machine(from).asks = self.asks;
        // Of the last move to it.
        self.machine(1 - from).was_ready = false;
        self.machine(from).migrate();
    }

    /// The fault comes when that side has sent (or read) so much of the next migration.
    pub fn arm(&mut self, from: usize, side: usize, reading: bool, point: Point, fault: Fault) {
        self.armed = Some((side, fault));
        let (stop_sent, stop_read) = if reading { (None, Some(point)) } else { (Some(point), None) };
        let index = if side == 0 { from } else { 1 - from };
        self.machine(index).next_tap = Some(Tap { stop_sent, stop_read, ..Tap::default() });
    }

    /// Something is done to that record of that side.
    pub fn tamper(&mut self, from: usize, side: usize, record: u64, tamper: Tamper) {
        let index = if side == 0 { from } else { 1 - from };
        self.machine(index).next_tap = Some(Tap { tamper: Some((record, tamper)), ..Tap::default() });
    }

    fn index(&self, side: usize) -> usize {
        if side == 0 { self.from } else { 1 - self.from }
    }

    pub fn strike(&mut self, fault: Fault) {
        self.came.push(fault);
        let weather = &mut self.cable.weather;
        match fault {
            Fault::Cut => weather.cut = [true; 2],
            Fault::CutFrom(side) => {
                let index = if side == 0 { self.from } else { 1 - self.from };
                weather.cut[index] = true;
            }
            Fault::Interrupt(us) => {
                weather.cut = [true; 2];
                self.mend_at = Some(self.now + us);
            }
            Fault::Late(us) => weather.late_us = us,
            Fault::Shuffle => (weather.shuffle_one_in, weather.shuffle_us) = (5, 2500),
            Fault::Double => weather.double_one_in = 2,
            Fault::Lose => weather.lose_one_in = 30,
            Fault::Crash(side, us) => self.crash(self.index(side), us),
            Fault::CrashBoth => (0..2).for_each(|index| self.crash(index, SECOND)),
            Fault::Reset(side) => {
                let index = self.index(side);
                self.machine(index).break_connections();
                self.cable.weather.cut = [true; 2];
                self.mend_at = Some(self.now + 2 * MS);
            }
            Fault::Cancel => {
                let (now, from) = (self.now, self.from);
                let given = self.state(from) == Some(State::Given);
                let under_way = self.machine(from).outgoing.is_some();
                let done = self.machine(from).cancel(now);
                assert!(!(done && given), "cancelled though it was given away");
                assert!(
                    done || given || !under_way || self.machine(from).tap().is_none_or(|t| t.sent.bytes == 0)
                );
            }
        }
    }

    pub fn crash(&mut self, index: usize, up_after: u64) {
        if self.machines[index].take().is_some() {
            *self.queues[index].borrow_mut() = Queues::default();
            self.up_at[index] = Some(self.now + up_after);
        }
    }

    fn boot(&mut self, index: usize) {
        self.boots += 1;
        let (machine, queues) = Machine::start(index, self.boots, self.now, &self.timeline, self.writes);
        self.machines[index] = Some(machine);
        self.queues[index] = queues;
        self.up_at[index] = None;
    }

    pub fn mend(&mut self) {
        self.cable.weather = Weather::default();
        self.mend_at = None;
    }

    /// Time passes: little while frames are on their way, more where all wait.
    pub fn step(&mut self) {
        if self.cable.next().is_some() {
            self.busy_until = self.now + 5 * MS;
        }
        let by = if self.now < self.busy_until { MS / 2 } else { 20 * MS };
        self.now += by;
        if self.mend_at.is_some_and(|at| at <= self.now) {
            self.mend();
        }
        for index in 0..2 {
            if self.up_at[index].is_some_and(|at| at <= self.now) {
                self.boot(index);
            }
        }
        for machine in self.machines.iter_mut().flatten() {
            machine.step(self.now);
        }
        self.cable.carry(&self.queues, self.now);
        self.never_two();
        if let Some((side, fault)) = self.armed {
            let index = self.index(side);
            if self.machines[index].as_ref().and_then(Machine::tap).is_some_and(Tap::stopped) {
                self.armed = None;
                self.machines.iter_mut().flatten().for_each(Machine::untap);
                self.strike(fault);
            }
        }
    }

    fn never_two(&self) {
        let running = (0..2).filter(|&index| self.state(index) == Some(State::Running)).count();
        assert!(running < 2, "the guest runs on both hosts");
    }

    /// Until every host that is up has ended its migrations.
    pub fn settle(&mut self) {
        let limit = self.now + LIMIT;
        loop {
            self.step();
            let quiet = self.machines.iter().flatten().all(|m| !m.busy());
            if quiet && self.mend_at.is_none() && self.up_at == [None; 2] {
                break;
            }
            assert!(self.now < limit, "it hangs");
        }
        self.armed = None;
        self.machines.iter_mut().flatten().for_each(Machine::untap);
    }

    /// Nobody asks any more: all is known, or a host waits for its operator.
    fn asked(&self) -> bool {
        self.machines.iter().flatten().all(|m| m.doubts.iter().all(Doubt::stuck))
    }

    /// Both hosts ask each other until they know.
    fn ask(&mut self) {
        let limit = self.now + LIMIT;
        while !self.asked() {
            self.step();
            assert!(self.now < limit, "they ask for ever");
        }
        self.settle();
    }

    fn crashed(&self, side: usize) -> bool {
        self.came.iter().any(|fault| match *fault {
            Fault::Crash(of, _) => of == side,
            Fault::CrashBoth => true,
            _ => false,
        })
    }

    /// What comes of the move, once everything is mended and the operator has done what the documents say.
    pub fn conclude(&mut self) -> End {
        self.settle();
        self.mend();
        self.ask();
        let (from, to) = (self.from, 1 - self.from);
        let said = self.machine(from).outcome.clone();
        let in_doubt = matches!(said, Some(SourceOutcome::Unknown(_) | SourceOutcome::Asking(_)));
        let end = match (self.state(from), self.state(to)) {
            (Some(State::Running), None) if in_doubt => End::ResolvedHere,
            (Some(State::Running), None) => {
                assert!(matches!(said, Some(SourceOutcome::Failed(_))), "it runs here, and yet: {said:?}");
                End::Stayed
            }
            (None, Some(State::Running)) if in_doubt => End::ResolvedThere,
            (None, Some(State::Running)) => {
                let done = matches!(said, Some(SourceOutcome::Done(_)));
                assert!(self.crashed(0) || done, "it runs there: {said:?}");
                End::Moved
            }
            (Some(State::Unknown), Some(State::Running)) => {
                assert!(in_doubt && !self.asks, "{said:?}");
                // The operator looks at the target, finds it there, and destroys what is here.
                self.machine(from).store.free();
                End::ResolvedThere
            }
            (Some(State::Unknown), None) => {
                // The operator looks at the target, does not find it, and lets it run here.
                assert!(in_doubt && (!self.asks || self.crashed(1)), "{said:?}");
                self.run_here(from, self.crashed(1));
                End::ResolvedHere
            }
            (None, Some(State::Unknown)) => {
                assert!(self.asks && self.crashed(0), "the target holds it: {said:?}");
                self.run_here(to, true);
                End::ResolvedThere
            }
            (None, None) => {
                let ready = self.machine(to).was_ready;
                let done = matches!(said, Some(SourceOutcome::Done(_)));
                // Before READY the source has the only whole copy, and once it is freed the target has.
                let survives = !self.asks || self.crashed(0) && (self.crashed(1) || !ready) || done;
                assert!(
                    (self.crashed(0) || self.crashed(1)) && survives,
                    "no host has it: {said:?}, {ready}"
                );
                End::Lost
            }
            other => panic!("source and target hold {other:?}; the source said {said:?}"),
        };
        if end != End::Lost {
            self.whole_and_well(end);
        }
        end
    }

    /// `migrate resolve demo run-here --force`. What the other host may have done before it went down is lost.
    fn run_here(&mut self, index: usize, forced: bool) {
        let vm = self.machine(index).store.vm.borrow().clone().expect("it is here");
        if forced {
            self.timeline.forced(&vm.borrow().guest);
        }
        match self.machine(index).doubts.first_mut() {
            Some(doubt) => assert!(doubt.run_here(None)),
            None => vm.borrow_mut().must(Change::Back),
        }
    }

    /// Where the guest is.
    pub fn place(&self) -> usize {
        (0..2).find(|&index| self.state(index) == Some(State::Running)).expect("it runs somewhere")
    }

    /// It runs in one place, all of its memory is as it left it, and the other host holds nothing of it.
    fn whole_and_well(&mut self, end: End) {
        let place = self.place();
        let stays = matches!(end, End::Stayed | End::ResolvedHere);
        assert_eq!(place, if stays { self.from } else { 1 - self.from }, "{end:?}");
        let before = self.timeline.executed();
        let until = self.now + 30 * MS;
        while self.now < until {
            self.step();
        }
        assert!(self.timeline.executed() > before, "the guest stands still");
        let vm = self.machine(place).store.vm.borrow().clone().expect("it is there");
        vm.borrow().guest.check().unwrap_or_else(|why| panic!("{end:?}: {why}"));
        vm.borrow().assert_unharmed();
        let (here, other) = (self.machine(place).store.used.get(), self.machine(1 - place).store.used.get());
        assert_eq!(
            (here, other),
            (self.pages, 0),
            "pages of guest memory in use, here and on the other host"
        );
    }

    /// The same move once more, or another with it where it is by now: it goes through at once.
    pub fn again(&mut self) {
        let from = self.place();
        let began = self.now;
        self.order(from);
        let end = self.conclude();
        assert_eq!(end, End::Moved, "the retry: {:?}", self.machine(from).outcome);
        assert!(self.now - began < 5 * SECOND, "the retry took {} us", self.now - began);
    }
}
