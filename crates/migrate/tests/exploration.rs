//! Never two, checked over every state of three hosts: A moves its VM to B, B moves it on to C and C back to A (or B back to A
//! and A to B again). It has two vCPUs, each on a CPU of its own. Messages are lost, doubled and late, hosts restart, guests end, and at each host an operator types any command at any step.
//!
//! The machines are the ones that run: [`migrate::handover`] decides who owns the VM, [`migrate::ownership`] whether a
//! command is obeyed and a vCPU entered. `FLEXVISOR_FAULTS=1` lets hosts restart more often.
#![allow(missing_docs)]

mod messages;
#[path = "common/walk.rs"]
mod walk;

use std::collections::HashSet;

use messages::{Heard, Msg};
use migrate::handover::{
    SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner, Word,
};
use migrate::ownership::{Change, Command, Phase, Ruling, State, ruling};
use walk::walk;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const MOVES: usize = 3;
const VCPUS: usize = 2;

/// The network is a set, one bit a message: what was said may arrive never, once or often, in any order.
impl Msg {
    fn bit(self) -> u32 {
        let word = |word: Word| Word::ALL.iter().position(|w| *w == word).unwrap() as u32;
        1 << match self {
            Self::StateEnd => 0,
            Self::Ready => 1,
            Self::Commit => 2,
            Self::Running => 3,
            Self::AbortToSource => 4,
            Self::AbortToTarget => 5,
            Self::ReceiptOfSource => 6,
            Self::ReceiptOfTarget => 7,
            Self::ToSource(w) => 8 + word(w),
            Self::ToTarget(w) => 16 + word(w),
        }
    }

    fn of(owner: &[Self]) -> u32 {
        owner.iter().map(|msg| msg.bit()).sum::<u32>()
    }
}

const TO_SOURCE: u32 = 0x7f << 8;
const TO_TARGET: u32 = 0x7f << 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Host {
    vm: Option<State>,
    /// Which of its vCPUs are on a CPU: they execute.
    on: [bool; VCPUS],
    /// Their state was read, and is not thrown away: it is what the target gets.
    read: bool,
}

impl Host {
    fn executes(&self) -> bool {
        self.on.contains(&true)
    }

    /// Its VM is no more here, or it restarted.
    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// A migration; an end that does not know of it, or knows no more, is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Move {
    begun: bool,
    source: Option<SourceOwner>,
    target: Option<TargetOwner>,
    said: u32,
    /// Source and target were told that the other end knows nothing of it.
    alone: [bool; 2],
}

impl Move {
    /// It has not begun, or can begin again: neither end has a question left.
    fn is_over(&self) -> bool {
        let source = matches!(self.source, None | Some(SourceOwner::Freed | SourceOwner::Kept));
        source && matches!(self.target, None | Some(TargetOwner::Runs | TargetOwner::Gone))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    hosts: [Host; 3],
    moves: [Move; MOVES],
    restarts: u8,
    /// An operator has destroyed or discarded it.
    dropped: bool,
}

/// What is explored.
#[derive(Clone, Copy)]
struct Machines {
    source: fn(SourceOwner, SourceInput) -> (SourceOwner, SourceAction),
    target: fn(TargetOwner, TargetInput) -> (TargetOwner, TargetAction),
    step: fn(State, Change) -> Option<State>,
    ruling: fn(Command, State, Phase) -> Ruling,
    /// Whether the scheduler leaves a vCPU on its CPU in that state.
    stays_on: fn(State) -> bool,
    /// Whether these vCPUs count as off: state is read then, and `give_up` refuses before.
    is_off: fn([bool; VCPUS]) -> bool,
    /// `run-here` asks the pool's records for the VM's uuid.
    pool: bool,
    /// A receipt is given with the act only.
    acts: bool,
    /// Hosts that have not restarted remember what they must.
    remembers: bool,
    /// Where B moves it on to.
    on_to: usize,
    restarts: u8,
}

const REAL: Machines = Machines {
    source: SourceOwner::step,
    target: TargetOwner::step,
    step: State::step,
    ruling,
    stays_on: State::may_run,
    is_off: |on| on == [false; VCPUS],
    pool: true,
    acts: true,
    remembers: true,
    on_to: C,
    restarts: 1,
};

impl Machines {
    fn ends(&self, number: usize) -> (usize, usize) {
        match number {
            0 => (A, B),
            1 => (B, self.on_to),
            _ if self.on_to == C => (C, A),
            _ => (A, B),
        }
    }
}

impl World {
    fn new() -> Self {
        let mut hosts = [Host::default(); 3];
        hosts[A].vm = Some(State::Running);
        Self { hosts, moves: [Move::default(); MOVES], restarts: 0, dropped: false }
    }

    fn say(&mut self, number: usize, msg: Msg) {
        self.moves[number].said |= msg.bit();
    }

    fn heard(&self, number: usize, msg: Msg) -> bool {
        self.moves[number].said & msg.bit() != 0
    }

    /// A change of a VM, where it fits.
    fn change(&mut self, m: &Machines, host: usize, change: Change) -> bool {
        let next = self.hosts[host].vm.and_then(|state| (m.step)(state, change));
        if next.is_some() {
            self.hosts[host].vm = next;
            self.hosts[host].read &= change != Change::Back;
        }
        next.is_some()
    }

    fn source(mut self, m: &Machines, number: usize, input: SourceInput) -> Self {
        let Some(owner) = self.moves[number].source else { return self };
        let host = m.ends(number).0;
        let (next, action) = (m.source)(owner, input);
        // As `Source::act`: the VM is given up before anything else.
        if action == SourceAction::Commit && owner == SourceOwner::Owns {
            let off = (m.is_off)(self.hosts[host].on);
            if !off || !self.change(m, host, Change::GiveUp) {
                return self.source(m, number, SourceInput::Stop);
            }
        }
        self.moves[number].source = Some(next);
        match action {
            SourceAction::Commit => self.say(number, Msg::Commit),
            SourceAction::Resume => {
                self.change(m, host, Change::Back);
                self.say(number, Msg::AbortToTarget);
            }
            SourceAction::Free => self.hosts[host].forget(),
            SourceAction::Ask | SourceAction::MarkUnknown => drop(self.change(m, host, Change::Doubt)),
            SourceAction::Nothing | SourceAction::Keep => {}
        }
        self
    }

    fn target(mut self, m: &Machines, number: usize, input: TargetInput) -> Self {
        let Some(owner) = self.moves[number].target else { return self };
        let host = m.ends(number).1;
        let (next, action) = (m.target)(owner, input);
        self.moves[number].target = Some(next);
        match action {
            TargetAction::SendReady => self.say(number, Msg::Ready),
            TargetAction::Run => {
                self.change(m, host, Change::Take);
                self.say(number, Msg::Running);
            }
            TargetAction::Destroy => {
                self.hosts[host].forget();
                self.say(number, Msg::AbortToSource);
            }
            TargetAction::Hold => drop(self.change(m, host, Change::Doubt)),
            TargetAction::Nothing => {}
        }
        self
    }

    fn phase(&self, m: &Machines, host: usize) -> Phase {
        let phase = self.migration(m, host);
        self.hosts[host].vm.map_or(phase, |state| phase.with(state))
    }

    fn migration(&self, m: &Machines, host: usize) -> Phase {
        for (number, way) in self.moves.iter().enumerate() {
            let (from, to) = m.ends(number);
            let phase = match (way.source.filter(|_| from == host), way.target.filter(|_| to == host)) {
                (Some(SourceOwner::Owns), _) if self.hosts[host].vm == Some(State::Leaving) => Phase::Still,
                (Some(SourceOwner::Owns), _) => Phase::Memory,
                (Some(SourceOwner::Given), _) if self.hosts[host].vm == Some(State::Given) => Phase::Commit,
                (Some(SourceOwner::Given | SourceOwner::Unknown), _) => Phase::InDoubt,
                (_, Some(TargetOwner::Filling)) => Phase::Arriving,
                (_, Some(TargetOwner::Ready)) => Phase::Ready,
                (_, Some(TargetOwner::Held)) => Phase::Held,
                _ => Phase::None,
            };
            if phase != Phase::None {
                return phase;
            }
        }
        Phase::None
    }

    /// What happens by itself.
    fn automatic(&self, m: &Machines, out: &mut Vec<Self>) {
        for host in [A, B, C] {
            let Host { vm: Some(state), on, .. } = self.hosts[host] else { continue };
            for (vcpu, is_on) in on.into_iter().enumerate() {
                let mut next = *self;
                next.hosts[host].on[vcpu] = if is_on { (m.stays_on)(state) } else { state.may_run() };
                out.push(next);
                out.extend(self.guest_ends(m, host, vcpu));
            }
            // A reset and a VM's end go on once its vCPUs are off.
            let off = (m.is_off)(on);
            if off && state == State::Resetting {
                for done in [Change::Anew, Change::Fail] {
                    let mut next = *self;
                    next.change(m, host, done);
                    next.change(m, host, Change::Run);
                    out.push(next);
                }
            }
            if off && state == State::Ending {
                let mut next = *self;
                next.hosts[host].forget();
                next.dropped = true;
                out.push(next);
            }
        }
        for (number, way) in self.moves.iter().enumerate() {
            let from = m.ends(number).0;
            if way.source == Some(SourceOwner::Owns) {
                let mut next = *self;
                next.change(m, from, Change::Still);
                out.push(next);
                let Host { vm, on, .. } = self.hosts[from];
                if vm == Some(State::Leaving) && (m.is_off)(on) {
                    let mut next = *self;
                    next.hosts[from].read = true;
                    next.say(number, Msg::StateEnd);
                    out.push(next);
                }
                if vm == Some(State::Stopped) {
                    out.push(self.source(m, number, SourceInput::Stop));
                }
            }
            out.extend([SourceInput::Lost, SourceInput::Stop].map(|input| self.source(m, number, input)));
            out.extend([TargetInput::Lost, TargetInput::Stop].map(|input| self.target(m, number, input)));
            for msg in Msg::PLAIN.into_iter().filter(|msg| self.heard(number, *msg)) {
                out.push(match msg.heard() {
                    Some(Heard::Source(input)) => self.source(m, number, input),
                    Some(Heard::Target(input)) => self.target(m, number, input),
                    None => continue,
                });
            }
            self.fates(m, number, out);
            // Either asks or answers, whenever it likes. Who restarted can only say so.
            let source = way.source.map_or(Word::Unknown, SourceOwner::word);
            let target = way.target.map_or(Word::Unknown, TargetOwner::word);
            let mut words = vec![Msg::ToTarget(source), Msg::ToSource(target)];
            if !m.remembers {
                words.extend([Msg::ToTarget(Word::Unknown), Msg::ToSource(Word::Unknown)]);
            }
            for msg in words.into_iter().filter(|_| way.begun) {
                let mut next = *self;
                next.say(number, msg);
                out.push(next);
            }
        }
        for host in [A, B, C] {
            if self.restarts == m.restarts {
                break;
            }
            let mut next = *self;
            next.restarts += 1;
            next.hosts[host].forget();
            for (number, way) in next.moves.iter_mut().enumerate() {
                let (from, to) = m.ends(number);
                if from == host {
                    (way.source, way.alone[0]) = (None, false);
                }
                if to == host {
                    (way.target, way.alone[1]) = (None, false);
                }
            }
            out.push(next);
        }
    }

    /// The guest ends by itself, on the CPU of one of its vCPUs: the others are still to be taken off theirs.
    fn guest_ends(&self, m: &Machines, host: usize, vcpu: usize) -> Option<Self> {
        let mut next = *self;
        let ends = next.hosts[host].on[vcpu] && next.change(m, host, Change::End);
        next.hosts[host].on[vcpu] = false;
        ends.then_some(next)
    }

    /// What an end in doubt is told by the other one.
    fn fates(&self, m: &Machines, number: usize, out: &mut Vec<Self>) {
        let way = self.moves[number];
        for word in Word::ALL {
            let in_doubt = matches!(way.source, Some(SourceOwner::Given | SourceOwner::Unknown));
            if let Some(input) = SourceInput::from_peer(word).filter(|_| in_doubt)
                && self.heard(number, Msg::ToSource(word))
            {
                let mut next = self.source(m, number, input);
                next.moves[number].alone[0] |= word == Word::Unknown;
                out.push(next);
            }
            if let Some(input) =
                TargetInput::from_peer(word).filter(|_| way.target == Some(TargetOwner::Held))
                && self.heard(number, Msg::ToTarget(word))
            {
                let mut next = self.target(m, number, input);
                next.moves[number].alone[1] |= word == Word::Unknown;
                out.push(next);
            }
        }
    }

    /// An operator at `host` types a command; none where it is refused or changes nothing here.
    fn operate(&self, m: &Machines, host: usize, command: Command, out: &mut Vec<Self>) {
        let Some(state) = self.hosts[host].vm else { return };
        if (m.ruling)(command, state, self.phase(m, host)) != Ruling::Allowed {
            return;
        }
        let mut next = *self;
        match command {
            Command::Pause => drop(next.change(m, host, Change::Pause)),
            Command::Resume => drop(next.change(m, host, Change::Run)),
            Command::Start if state == State::Paused => drop(next.change(m, host, Change::Run)),
            Command::Start | Command::Reset => drop(next.change(m, host, Change::Reset)),
            // The guest answers the power button by its end.
            Command::Stop => return out.extend((0..VCPUS).filter_map(|vcpu| self.guest_ends(m, host, vcpu))),
            Command::Destroy => drop(next.change(m, host, Change::Destroy)),
            Command::Move => {
                let free = |number: &usize| {
                    let (from, to) = m.ends(*number);
                    from == host && self.moves[*number].is_over() && self.hosts[to].vm.is_none()
                };
                let Some(number) = (0..MOVES).find(free) else { return };
                next.moves[number] = Move {
                    begun: true,
                    source: Some(SourceOwner::Owns),
                    target: Some(TargetOwner::Filling),
                    ..Move::default()
                };
                next.hosts[m.ends(number).1].vm = Some(State::Incoming);
            }
            Command::Cancel => {
                for number in 0..MOVES {
                    if m.ends(number).0 == host && self.moves[number].source == Some(SourceOwner::Owns) {
                        next = next.source(m, number, SourceInput::Stop);
                    }
                }
            }
            Command::Resolve => return self.resolve(m, host, out),
            Command::Rename
            | Command::Inspect
            | Command::Dirty
            | Command::Audit
            | Command::Check
            | Command::Type
            | Command::Look => return,
        }
        out.push(next);
    }

    /// The operator believes what the console says: he forces it where the other host is said to know nothing of it.
    fn resolve(&self, m: &Machines, host: usize, out: &mut Vec<Self>) {
        // In whatever state: a copy that waits for COMMIT may be the next to run.
        let has = |other: &usize| self.hosts[*other].vm.is_some();
        let elsewhere = m.pool && [A, B, C].iter().any(|other| *other != host && has(other));
        for (number, way) in self.moves.iter().enumerate() {
            let (from, to) = m.ends(number);
            let source = way.source.filter(|_| from == host);
            let target = way.target.filter(|_| to == host);
            if matches!(source, Some(SourceOwner::Given | SourceOwner::Unknown)) {
                let mut next = self.source(m, number, SourceInput::Discard);
                next.say(number, Msg::ReceiptOfSource);
                next.dropped = true;
                out.push(next);
                let may = self.heard(number, Msg::ReceiptOfTarget) || way.alone[0];
                if may && !elsewhere {
                    out.push(self.source(m, number, SourceInput::RunHere));
                }
            }
            if target == Some(TargetOwner::Held) {
                let mut next = self.target(m, number, TargetInput::Discard);
                next.say(number, Msg::ReceiptOfTarget);
                next.dropped = true;
                out.push(next);
                let may = self.heard(number, Msg::ReceiptOfSource) || way.alone[1];
                if may && !elsewhere {
                    out.push(self.target(m, number, TargetInput::RunHere));
                }
            }
            // A receipt that comes without the act.
            if !m.acts && source == Some(SourceOwner::Kept) {
                let mut next = *self;
                next.say(number, Msg::ReceiptOfSource);
                out.push(next);
            }
        }
    }

    /// What can have no effect any more is as good as never said.
    fn without_dead_words(mut self) -> Self {
        for way in &mut self.moves {
            let source = matches!(way.source, None | Some(SourceOwner::Freed | SourceOwner::Kept));
            let target = matches!(way.target, None | Some(TargetOwner::Runs | TargetOwner::Gone));
            if source {
                let dead = [Msg::Ready, Msg::Running, Msg::AbortToSource, Msg::ReceiptOfTarget];
                way.said &= !(TO_SOURCE | Msg::of(&dead));
                way.alone[0] = false;
            }
            if target {
                let dead = [Msg::StateEnd, Msg::Commit, Msg::AbortToTarget, Msg::ReceiptOfSource];
                way.said &= !(TO_TARGET | Msg::of(&dead));
                way.alone[1] = false;
            }
            let words = |mean: &dyn Fn(Word) -> bool, msg: fn(Word) -> Msg| {
                Word::ALL.into_iter().filter(|word| !mean(*word)).map(|word| msg(word).bit()).sum::<u32>()
            };
            way.said &= !words(&|word| SourceInput::from_peer(word).is_some(), Msg::ToSource);
            way.said &= !words(&|word| TargetInput::from_peer(word).is_some(), Msg::ToTarget);
        }
        self
    }

    /// Two run it, two have it, one that has given it away still executes it, or one goes on after its state was read.
    fn is_wrong(&self) -> Option<&'static str> {
        let count = |f: fn(&Host) -> bool| self.hosts.iter().filter(|host| f(host)).count();
        if count(Host::executes) > 1 {
            return Some("two hosts execute it");
        }
        if count(|host| host.read && host.executes()) > 0 {
            return Some("a vCPU executes while the state that goes is being read, or after that");
        }
        if count(|host| host.vm.is_some_and(State::is_owned)) > 1 {
            return Some("two hosts own it");
        }
        if count(|host| host.executes() && !host.vm.is_some_and(State::is_owned)) > 0 {
            return Some("a host executes what is not its own");
        }
        let gone = count(|host| host.vm.is_some()) == 0;
        (gone && self.restarts == 0 && !self.dropped).then_some("no host has it")
    }
}

/// The number of states and the phases that were met, or the first wrong state.
fn explore(m: Machines) -> Result<(usize, HashSet<Phase>), (&'static str, World)> {
    let mut phases = HashSet::new();
    let states = walk(World::new(), |world, out| {
        let wrong = world.is_wrong();
        if wrong.is_some() {
            return wrong;
        }
        world.automatic(&m, out);
        for host in [A, B, C] {
            phases.insert(world.phase(&m, host));
            for command in Command::ALL {
                world.operate(&m, host, command, out);
            }
        }
        out.iter_mut().for_each(|next| *next = next.without_dead_words());
        None
    })?;
    Ok((states, phases))
}

fn deep() -> bool {
    std::env::var_os("FLEXVISOR_FAULTS").is_some()
}

#[test]
fn never_two_whatever_an_operator_types() {
    for (on_to, name) in [(C, "A to B to C to A"), (A, "A to B to A to B")] {
        let began = std::time::Instant::now();
        let restarts = if deep() { 4 } else { 2 };
        let (states, phases) = explore(Machines { on_to, restarts, ..REAL }).unwrap();
        println!("operators, {name}: {states} states, all checked, in {:?}", began.elapsed());
        // All but the first, in which nothing of the VM is touched.
        assert!(states > 5_000 && phases.len() == Phase::ALL.len() - 1, "{phases:?}");
    }
}

/// A checker that finds nothing wrong in a wrong machine checks nothing.
#[test]
fn wrong_machines_are_found_out() {
    // Fault 1.1: state and stopped vCPUs were two things, and commands knew nothing of migrations.
    let before = Machines {
        step: |state, change| match (state, change) {
            (State::Leaving, Change::Pause) => Some(State::Paused),
            (State::Running | State::Paused, Change::GiveUp) => Some(State::Given),
            _ => state.step(change),
        },
        ruling: |_, _, _| Ruling::Allowed,
        stays_on: |state| matches!(state, State::Running | State::Given | State::Unknown),
        is_off: |_| true,
        restarts: 0,
        ..REAL
    };
    let (why, world) = explore(before).unwrap_err();
    println!("as it was: {why}: {world:?}");
    // The scheduler does not ask the state, and `give_up` does not look.
    let deaf = Machines { stays_on: |_| true, is_off: |_| true, ..REAL };
    assert!(explore(deaf).is_err());
    // The first acknowledgement counts for all: state is read while the other vCPU executes.
    let hasty = Machines { is_off: |on| on.contains(&false), restarts: 0, ..REAL };
    let (why, world) = explore(hasty).unwrap_err();
    println!("the first of two is waited for: {why}: {world:?}");
    // One CPU asks for its vCPU, and looks no more.
    let one_is_asked = Machines { is_off: |on| !on[0], restarts: 0, ..REAL };
    assert!(explore(one_is_asked).is_err());
    // Fault 1.3: the pool is not asked, a host forgets, a receipt is given by one that runs it.
    assert!(explore(Machines { pool: false, ..REAL }).is_err());
    assert!(explore(Machines { pool: false, remembers: false, restarts: 0, ..REAL }).is_err());
    let any_receipt = |command, state, phase| match command {
        Command::Resolve => Ruling::Allowed,
        _ => ruling(command, state, phase),
    };
    let early = Machines { pool: false, acts: false, restarts: 0, ruling: any_receipt, ..REAL };
    assert!(explore(early).is_err());
    let lets_it_run = Machines {
        source: |owner, input| match (owner, input) {
            (SourceOwner::Given, SourceInput::Stop) => (SourceOwner::Kept, SourceAction::Resume),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(explore(lets_it_run).is_err());
}
