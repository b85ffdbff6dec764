//! Runs a few threads over shared words in every order that a machine may show, and says what is so in the end.
//!
//! A thread is code that does each access by [`Cpu`]. It has a store buffer: what it stores, or adds to a word, waits there
//! and reaches memory at any later time, past later loads and in whatever order among other words, which is more than x86 does
//! (SDM 3A 9.2.2) and what Rust allows to relaxed accesses. A fence and an exchange wait until the buffer is empty. Interrupts
//! wait for nothing: they may come before stores that were made earlier.
//!
//! A thread is a piece of code that is done over and over, with what it knows from the time before, until it is over. To go one
//! access on, the piece is run again with what its accesses have given so far; the first that it has not done yet ends the run. So
//! these, what it knows, memory and buffers are the whole state, and each is visited once.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Shared words by their number.
pub(crate) type Address = usize;

/// One access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Op {
    Load(Address),
    /// Through the buffer.
    Store(Address, u64),
    /// Adds bits, through the buffer.
    Or(Address, u64),
    /// Adds one, through the buffer, after all that is in it.
    Count(Address),
    /// Sets the second where the first is there, as one step; 1 where it was.
    Exchange(Address, u64, u64),
    /// Takes all bits away, as one step; them. The second word notes for the judge which there were.
    Take(Address, Address),
    Fence,
    /// An interrupt for a CPU.
    Kick(usize),
    /// Takes the interrupt of this CPU, if there is one.
    Drain(usize),
    /// Waits for one, and takes it.
    Halt(usize),
    /// Notes something for the judge alone.
    Note(Address, u64),
}

/// What a thread does its accesses by.
pub(crate) struct Cpu<'a> {
    log: &'a [u64],
    at: Cell<usize>,
    next: RefCell<Option<Op>>,
}

/// Ends a run.
struct Ends;

impl Cpu<'_> {
    pub(crate) fn does(&self, op: Op) -> u64 {
        let at = self.at.replace(self.at.get() + 1);
        self.log.get(at).copied().unwrap_or_else(|| {
            *self.next.borrow_mut() = Some(op);
            resume_unwind(Box::new(Ends))
        })
    }
}

/// What a thread knows when its piece of code begins.
pub(crate) type Known = [u64; 3];

/// A thread's piece of code: what it knows then, or none where it is over.
pub(crate) type Code<'a> = &'a dyn Fn(&Cpu<'_>, Known) -> Option<Known>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Thread {
    known: Known,
    log: Vec<u64>,
    /// What it does next; none where it is over.
    next: Option<Op>,
    /// Stores on their way to memory, the oldest first.
    buffer: Vec<Op>,
}

/// All there is at one moment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) memory: Vec<u64>,
    /// Interrupts on their way, one for each CPU.
    pub(crate) pending: Vec<bool>,
    threads: Vec<Thread>,
}

/// What [`explore`] has visited.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Of these, states in which nothing can happen any more.
    pub(crate) ends: usize,
    /// What the judge finds wrong of one of these.
    pub(crate) wrong: Option<String>,
}

/// Visits every state that threads come to from this memory, and has each judged in which none of them can go on.
pub(crate) fn explore(
    codes: &[(Code<'_>, Known)],
    memory: &[u64],
    cpus: usize,
    judge: impl Fn(&World) -> Result<(), String>,
) -> Explored {
    let threads = codes.iter().map(|(code, known)| Thread::begins(*code, *known)).collect();
    let first = World { memory: memory.into(), pending: vec![false; cpus], threads };
    let (mut seen, mut left) = (HashSet::from([first.clone()]), vec![first]);
    let mut explored = Explored { states: 0, ends: 0, wrong: None };
    while let Some(world) = left.pop() {
        explored.states += 1;
        let after = world.successors(codes);
        if after.is_empty() {
            explored.ends += 1;
            if let Err(wrong) = judge(&world) {
                explored.wrong.get_or_insert(wrong);
            }
        }
        left.extend(after.into_iter().filter(|world| seen.insert(world.clone())));
    }
    explored
}

impl Thread {
    fn begins(code: Code<'_>, known: Known) -> Self {
        let mut thread = Self { known, log: Vec::new(), next: None, buffer: Vec::new() };
        thread.goes_on(code);
        thread
    }

    /// Finds out what it does next.
    fn goes_on(&mut self, code: Code<'_>) {
        loop {
            let cpu = Cpu { log: &self.log, at: Cell::new(0), next: RefCell::new(None) };
            match catch_unwind(AssertUnwindSafe(|| code(&cpu, self.known))) {
                Ok(None) => self.next = None,
                Ok(Some(known)) => {
                    self.known = known;
                    self.log.clear();
                    continue;
                }
                Err(ends) if ends.is::<Ends>() => self.next = cpu.next.take(),
                Err(other) => resume_unwind(other),
            }
            return;
        }
    }
}

impl World {
    fn successors(&self, codes: &[(Code<'_>, Known)]) -> Vec<Self> {
        let mut after = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            after.extend((0..thread.buffer.len()).filter_map(|at| self.stored(number, at)));
            after.extend(thread.next.and_then(|op| self.done(number, op, codes[number].0)));
        }
        after
    }

    /// A store has reached memory; none where another one comes first.
    fn stored(&self, number: usize, at: usize) -> Option<Self> {
        let mut world = self.clone();
        let buffer = &mut world.threads[number].buffer;
        let op = buffer.remove(at);
        let earlier = &buffer[..at];
        match op {
            Op::Count(_) if !earlier.is_empty() => return None,
            _ if earlier.iter().any(|other| address(*other) == address(op)) => return None,
            _ => world.memory[address(op)] = stores(op, world.memory[address(op)]),
        }
        Some(world)
    }

    /// A thread has done this; none where it cannot yet.
    fn done(&self, number: usize, op: Op, code: Code<'_>) -> Option<Self> {
        let mut world = self.clone();
        let (memory, thread) = (&mut world.memory, &mut world.threads[number]);
        let orders = matches!(op, Op::Fence | Op::Exchange(..) | Op::Take(..));
        if orders && !thread.buffer.is_empty() {
            return None;
        }
        let gives = match op {
            Op::Load(at) => thread
                .buffer
                .iter()
                .filter(|op| address(**op) == at)
                .fold(memory[at], |value, op| stores(*op, value)),
            Op::Store(..) | Op::Or(..) | Op::Count(_) => {
                thread.buffer.push(op);
                0
            }
            Op::Exchange(at, from, to) => {
                let was = memory[at] == from;
                memory[at] = if was { to } else { memory[at] };
                was.into()
            }
            Op::Take(at, note) => {
                memory[note] |= memory[at];
                core::mem::take(&mut memory[at])
            }
            Op::Note(at, value) => {
                memory[at] |= value;
                0
            }
            Op::Fence => 0,
            Op::Kick(cpu) => {
                world.pending[cpu] = true;
                0
            }
            Op::Drain(cpu) => core::mem::take(&mut world.pending[cpu]).into(),
            Op::Halt(cpu) if world.pending[cpu] => {
                world.pending[cpu] = false;
                0
            }
            Op::Halt(_) => return None,
        };
        thread.log.push(gives);
        thread.goes_on(code);
        Some(world)
    }
}

/// What a word is after a store.
fn stores(op: Op, before: u64) -> u64 {
    match op {
        Op::Store(_, value) => value,
        Op::Or(_, bits) => before | bits,
        Op::Count(_) => before + 1,
        other => panic!("{other:?} stores nothing"),
    }
}

fn address(op: Op) -> Address {
    match op {
        Op::Store(at, _) | Op::Or(at, _) | Op::Count(at) => at,
        other => panic!("{other:?} stores nothing"),
    }
}
