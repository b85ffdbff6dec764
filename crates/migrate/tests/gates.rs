//! Two vCPUs, each on a CPU of its own, and CPU 0 that calls them off, looks whether they are, reads their state and gives
//! the VM to another host or lets it go on; an operator at either host types any command at any step. Every order is
//! explored in which the CPUs read and write what they share, one access after the other.
//!
//! The way into the guest is [`Entering`], which [`Gate::enter`](migrate::ownership::Gate::enter) goes; changes and
//! commands are those of [`State::step`] and [`ruling`]. What becomes of lost messages is `exploration.rs`' subject.
//! `FLEXVISOR_FAULTS=1` explores more of what an operator does at the target.
#![allow(missing_docs)]

#[path = "common/walk.rs"]
mod walk;

use std::collections::HashSet;

use migrate::ownership::{Change, Command, Entering, Entry, Phase, Ruling, State, ruling};
use walk::walk;

const A: usize = 0;
const B: usize = 1;
const VCPUS: usize = 2;
/// What is read or written while all vCPUs are off: each vCPU, then the board.
const PARTS: usize = VCPUS + 1;

/// What a CPU does with its vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Cpu {
    /// Nothing, until it is called.
    Asleep,
    Enters(Entering),
    /// The guest executes.
    Guest,
    /// Its registers are being taken off the CPU.
    TakesOff,
}

/// What CPU 0 wants the vCPUs off for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum For {
    /// `vm pause`, `vm resume`: for nothing else.
    Itself,
    /// `vm regs`.
    Inspect,
    Reset,
    Destroy,
    /// Their state is to go to the target.
    Export,
    /// The VM is to be the target's.
    Give,
}

/// What CPU 0 does with the VM next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Work {
    Rest,
    /// Calls the vCPU's CPU, if it has to look at the state.
    Calls(usize, For),
    /// Looks at the vCPU's gate.
    Looks(usize, For),
    /// Reads or writes this part.
    Touches(usize, For),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Host {
    state: State,
    /// The gates.
    closed: [bool; VCPUS],
    cpus: [Cpu; VCPUS],
    /// An interrupt is on its way to this CPU, or pending there.
    called: [bool; VCPUS],
    work: Work,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    hosts: [Host; 2],
    /// COMMIT is on its way, and may arrive at any time.
    commit: bool,
}

/// What is explored.
#[derive(Clone, Copy)]
struct Machines {
    entering: fn(Entering, bool) -> Entering,
    /// Whom CPU 0 calls when the VM may run again, and when it may not.
    wakes: fn(usize) -> bool,
    calls_off: fn(usize) -> bool,
    /// Whose gates it looks at.
    looks: fn(usize) -> bool,
    /// The gate is closed once the registers are off.
    acknowledges_after: bool,
    /// An operator at the target does all that he can do, not pause and resume alone. It is the machine of the source, where
    /// he does all of it anyhow, and the states are three times as many.
    all_at_target: bool,
}

/// There is no third host that it could be moved on to.
const AT_TARGET: [Command; 6] =
    [Command::Pause, Command::Resume, Command::Start, Command::Reset, Command::Destroy, Command::Inspect];

const REAL: Machines = Machines {
    entering: Entering::next,
    wakes: |_| true,
    calls_off: |_| true,
    looks: |_| true,
    acknowledges_after: true,
    all_at_target: false,
};

impl Host {
    const fn new(state: State) -> Self {
        Self {
            state,
            closed: [true; VCPUS],
            cpus: [Cpu::Asleep; VCPUS],
            called: [false; VCPUS],
            work: Work::Rest,
        }
    }

    /// CPU 0 changes the state, where that fits, and calls CPUs next.
    fn change(&mut self, change: Change, what: For) -> bool {
        let Some(next) = self.state.step(change) else { return false };
        self.state = next;
        self.work = Work::Calls(0, what);
        true
    }

    /// The next thing that a vCPU's CPU does by itself; none while it sleeps or its guest executes.
    fn cpu(mut self, m: &Machines, vcpu: usize) -> Option<Self> {
        let next = match self.cpus[vcpu] {
            Cpu::Asleep | Cpu::Guest => {
                if !self.called[vcpu] {
                    return None;
                }
                self.called[vcpu] = false;
                Cpu::Enters(Entering::Gate)
            }
            Cpu::Enters(Entering::Done(Entry::Run)) => Cpu::Guest,
            Cpu::Enters(Entering::Done(Entry::Off)) => Cpu::Asleep,
            Cpu::Enters(Entering::Done(Entry::TakeOff)) => {
                self.closed[vcpu] |= !m.acknowledges_after;
                Cpu::TakesOff
            }
            Cpu::Enters(at) => {
                let found = match at {
                    Entering::Gate => self.closed[vcpu],
                    Entering::Open | Entering::Close => {
                        self.closed[vcpu] = at == Entering::Close;
                        false
                    }
                    _ => self.state.may_run(),
                };
                Cpu::Enters((m.entering)(at, found))
            }
            Cpu::TakesOff => {
                self.closed[vcpu] = true;
                Cpu::Asleep
            }
        };
        self.cpus[vcpu] = next;
        Some(self)
    }

    /// The next thing that CPU 0 does by itself, and whether that queues COMMIT.
    fn work(mut self, m: &Machines) -> Option<(Self, bool)> {
        let mut commits = false;
        match self.work {
            Work::Rest => return None,
            Work::Calls(vcpu, what) => {
                let runs = self.state.may_run();
                let whom = if runs { (m.wakes)(vcpu) } else { (m.calls_off)(vcpu) && !self.closed[vcpu] };
                self.called[vcpu] |= whom;
                self.work = match what {
                    _ if vcpu + 1 < VCPUS => Work::Calls(vcpu + 1, what),
                    For::Itself => Work::Rest,
                    _ => Work::Looks(0, what),
                };
            }
            Work::Looks(vcpu, what) => {
                self.work = match what {
                    _ if (m.looks)(vcpu) && !self.closed[vcpu] => Work::Looks(0, what),
                    _ if vcpu + 1 < VCPUS => Work::Looks(vcpu + 1, what),
                    For::Give => {
                        commits = self.change(Change::GiveUp, For::Itself);
                        Work::Rest
                    }
                    _ => Work::Touches(0, what),
                };
            }
            Work::Touches(part, what) if part + 1 < PARTS => self.work = Work::Touches(part + 1, what),
            Work::Touches(_, For::Export) => self.work = Work::Looks(0, For::Give),
            Work::Touches(_, what) => {
                self.work = Work::Rest;
                if what == For::Reset && self.state.step(Change::Anew).is_some() {
                    self.change(Change::Anew, For::Itself);
                }
                self.change(Change::Run, For::Itself);
            }
        }
        // One that ended by itself is not exported: CPU 0 finds that out before it reads anything.
        if matches!(self.work, Work::Touches(0, For::Export)) && self.state != State::Leaving {
            self.work = Work::Rest;
        }
        Some((self, commits))
    }

    fn phase(&self) -> Phase {
        let phase = match (self.state, self.work) {
            (State::Leaving, _) => Phase::Still,
            (State::Given, _) => Phase::Commit,
            (State::Incoming, _) => Phase::Ready,
            _ => Phase::None,
        };
        phase.with(self.state)
    }

    /// What an operator's command begins. CPU 0 hears him between any two of its steps, but in the midst of one command it
    /// ends that first.
    fn operate(mut self, command: Command) -> Option<Self> {
        let waits = matches!(self.work, Work::Rest | Work::Looks(..));
        if !waits || ruling(command, self.state, self.phase()) != Ruling::Allowed {
            return None;
        }
        let begun = match command {
            Command::Pause => self.change(Change::Pause, For::Itself),
            Command::Resume => self.change(Change::Run, For::Itself),
            Command::Start if self.state == State::Paused => self.change(Change::Run, For::Itself),
            Command::Start | Command::Reset => self.change(Change::Reset, For::Reset),
            Command::Inspect => self.change(Change::Pause, For::Inspect),
            Command::Destroy => self.change(Change::Destroy, For::Destroy),
            Command::Move => self.change(Change::Still, For::Export),
            Command::Cancel => self.change(Change::Back, For::Itself),
            _ => false,
        };
        begun.then_some(self)
    }

    /// What the guest and its timers do: the slice is over, or the guest ends by itself.
    fn guest(mut self, vcpu: usize, ends: bool) -> Option<Self> {
        if self.cpus[vcpu] != Cpu::Guest {
            return None;
        }
        self.cpus[vcpu] = Cpu::Enters(Entering::Gate);
        if ends {
            self.state = self.state.step(Change::End)?;
            for other in 0..VCPUS {
                self.called[other] |= other != vcpu && !self.closed[other];
            }
        }
        Some(self)
    }

    /// Whether a CPU has anything of the vCPU.
    fn has(&self, vcpu: usize) -> bool {
        matches!(self.cpus[vcpu], Cpu::Guest | Cpu::TakesOff)
    }

    fn executes(&self, vcpu: usize) -> bool {
        self.cpus[vcpu] == Cpu::Guest
    }
}

impl World {
    fn new() -> Self {
        let mut source = Host::new(State::Paused);
        source.change(Change::Run, For::Itself);
        Self { hosts: [source, Host::new(State::Incoming)], commit: false }
    }

    fn with(mut self, host: usize, next: Host) -> Self {
        self.hosts[host] = next;
        self
    }

    fn successors(&self, m: &Machines, out: &mut Vec<Self>) {
        for host in [A, B] {
            let now = self.hosts[host];
            for vcpu in 0..VCPUS {
                let next = [now.cpu(m, vcpu), now.guest(vcpu, false), now.guest(vcpu, true)];
                out.extend(next.into_iter().flatten().map(|next| self.with(host, next)));
            }
            if let Some((next, commits)) = now.work(m) {
                let commit = self.commit || commits && host == A;
                out.push(Self { commit, ..self.with(host, next) });
            }
            let at_target: &[Command] =
                if m.all_at_target { &AT_TARGET } else { &[Command::Pause, Command::Resume] };
            let commands = if host == A { &Command::ALL } else { at_target };
            out.extend(
                commands.iter().filter_map(|command| now.operate(*command)).map(|next| self.with(host, next)),
            );
        }
        let mut target = self.hosts[B];
        if self.commit && target.work == Work::Rest && target.change(Change::Take, For::Itself) {
            out.push(self.with(B, target));
        }
    }

    fn is_wrong(&self, m: &Machines) -> Option<&'static str> {
        for host in &self.hosts {
            let touches = matches!(host.work, Work::Touches(..));
            if touches && (0..VCPUS).any(|vcpu| host.has(vcpu)) {
                return Some("state is touched while a CPU has a vCPU");
            }
            if !host.state.is_owned() && (0..VCPUS).any(|vcpu| host.executes(vcpu)) {
                return Some("a host executes what is not its own");
            }
        }
        let runs = |host: usize| (0..VCPUS).any(|vcpu| self.hosts[host].executes(vcpu));
        if runs(A) && runs(B) {
            return Some("two hosts execute it");
        }
        self.hosts.iter().find_map(|host| host.settles(m))
    }
}

impl Host {
    /// Left to themselves, from wherever they are, all CPUs come to what the state says: a guest that no interrupt of its
    /// own and no slice ever interrupts is stopped, and each vCPU of a VM that may run runs.
    fn settles(mut self, m: &Machines) -> Option<&'static str> {
        while let Work::Calls(..) = self.work {
            self = self.work(m)?.0;
        }
        for vcpu in 0..VCPUS {
            while let Some(next) = self.cpu(m, vcpu) {
                self = next;
            }
        }
        match self.state.may_run() {
            true if !(0..VCPUS).all(|vcpu| self.executes(vcpu)) => Some("a vCPU is left asleep"),
            false if self.closed != [true; VCPUS] => Some("a vCPU is left on its CPU"),
            _ => None,
        }
    }
}

/// The number of states, and those of the source that were met; or the first wrong one.
fn explore(m: Machines) -> Result<(usize, HashSet<State>), (&'static str, World)> {
    let mut met = HashSet::new();
    let states = walk(World::new(), |world, out| {
        let wrong = world.is_wrong(&m);
        if wrong.is_none() {
            met.insert(world.hosts[A].state);
            world.successors(&m, out);
        }
        wrong
    })?;
    Ok((states, met))
}

#[test]
fn all_vcpus_are_off_before_state_is_read_and_none_comes_back() {
    let began = std::time::Instant::now();
    let all_at_target = std::env::var_os("FLEXVISOR_FAULTS").is_some();
    let (states, met) = explore(Machines { all_at_target, ..REAL }).unwrap();
    println!("gates of two vCPUs: {states} states, all checked, in {:?}", began.elapsed());
    assert!(states > 5_000, "{states}");
    for state in [State::Leaving, State::Given, State::Stopped, State::Resetting, State::Ending] {
        assert!(met.contains(&state), "{state:?} in {met:?}");
    }
}

/// A checker that finds nothing wrong in a wrong machine checks nothing.
#[test]
fn wrong_machines_are_found_out() {
    for (name, wrong) in [
        ("looks at the first acknowledgement only", Machines { looks: |vcpu| vcpu == 0, ..REAL }),
        ("lets one vCPU go on only", Machines { wakes: |vcpu| vcpu == 0, ..REAL }),
        ("calls one vCPU off only", Machines { calls_off: |vcpu| vcpu == 0, ..REAL }),
        ("acknowledges before the registers are off", Machines { acknowledges_after: false, ..REAL }),
        (
            "does not look again once the gate is open",
            Machines {
                entering: |at, found| match at {
                    Entering::Open => Entering::Done(Entry::Run),
                    _ => at.next(found),
                },
                ..REAL
            },
        ),
    ] {
        let (why, world) = explore(wrong).expect_err(name);
        println!("{name}: {why}: {world:?}");
    }
}
