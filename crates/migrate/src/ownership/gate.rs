//! How the CPU that runs a vCPU and the CPU that changes the VM's state agree, without a lock.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::{Change, Misfit, State};

/// Set beside the state once the guest has run since the VM was made or reset.
const BEGUN: u8 = 1 << 7;

/// The state of a VM where every CPU can read it.
#[derive(Debug)]
pub struct StateCell(AtomicU8);

impl StateCell {
    /// A VM that was just made.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(State::Paused as u8))
    }

    /// As it is now.
    #[must_use]
    pub fn get(&self) -> State {
        state_of(self.0.load(Ordering::SeqCst))
    }

    /// Whether the guest has run since it was made or reset: a pause is something else than a start that is to come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::SeqCst) & BEGUN != 0
    }

    /// Carries out a change, as one step that no other CPU can come between; the state before and after.
    ///
    /// # Errors
    /// The change does not fit; the state stays.
    pub fn change(&self, change: Change) -> Result<(State, State), Misfit> {
        let mut before = self.0.load(Ordering::SeqCst);
        loop {
            let state = state_of(before);
            let next = state.step(change).ok_or(Misfit { state, change })?;
            let begun = next.may_run() || before & BEGUN != 0 && change != Change::Reset;
            let after = next as u8 | if begun { BEGUN } else { 0 };
            match self.0.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok((state, next)),
                Err(now) => before = now,
            }
        }
    }
}

const fn state_of(number: u8) -> State {
    State::from_number(number & !BEGUN)
}

impl Default for StateCell {
    fn default() -> Self {
        Self::new()
    }
}

/// What a CPU does with a vCPU whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// Runs it.
    Run,
    /// Takes its registers off the CPU, then says [`Gate::close`].
    TakeOff,
    /// Nothing: it is off and stays off.
    Off,
}

/// How far a vCPU's CPU is with [`Gate::enter`]: what it reads or writes next. Between two of these other CPUs may do
/// anything; `tests/gates.rs` explores every order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entering {
    /// Reads the gate.
    Gate,
    /// Reads the state, of a vCPU that was off.
    Off,
    /// Reads the state, of a vCPU that is on this CPU.
    On,
    /// Opens the gate.
    Open,
    /// Reads the state again: it may have changed before the gate was seen open.
    Again,
    /// Closes the gate again: nothing of the vCPU was loaded.
    Close,
    /// It knows.
    Done(Entry),
}

impl Entering {
    /// What follows. `yes` is what a read found: that the gate is closed, or that the state lets the vCPU run.
    #[must_use]
    pub const fn next(self, yes: bool) -> Self {
        match (self, yes) {
            (Self::Gate, true) => Self::Off,
            (Self::Gate, false) => Self::On,
            (Self::Off, true) => Self::Open,
            (Self::Open, _) => Self::Again,
            (Self::On | Self::Again, true) => Self::Done(Entry::Run),
            (Self::On, false) => Self::Done(Entry::TakeOff),
            (Self::Again, false) => Self::Close,
            (Self::Off, false) | (Self::Close, _) => Self::Done(Entry::Off),
            (Self::Done(_), _) => self,
        }
    }
}

/// Whether a vCPU is off every CPU, and stays off until the VM's state says that it may run.
///
/// Only the vCPU's own CPU writes it. Whoever changes the state writes that first and reads the gate then; the vCPU's CPU
/// writes the gate first and reads the state then. Of two CPUs that do so at the same time one at least sees what the
/// other wrote (all four accesses are sequentially consistent): either the vCPU is not entered, or the other CPU waits.
#[derive(Debug)]
pub struct Gate(AtomicBool);

impl Gate {
    /// Of a vCPU that no CPU has run.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    /// The vCPU's CPU asks before each turn.
    pub fn enter(&self, state: &StateCell) -> Entry {
        let mut at = Entering::Gate;
        loop {
            let found = match at {
                Entering::Gate => self.0.load(Ordering::Relaxed),
                Entering::Off | Entering::On | Entering::Again => state.get().may_run(),
                Entering::Open => {
                    self.0.store(false, Ordering::SeqCst);
                    false
                }
                Entering::Close => {
                    self.close();
                    false
                }
                Entering::Done(entry) => return entry,
            };
            at = at.next(found);
        }
    }

    /// The vCPU's CPU has taken it off: all of it is in memory.
    pub fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is off. It stays off for as long as the state says that it may not run.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_vcpu_is_taken_off_before_it_counts_as_off() {
        let (state, gate) = (StateCell::new(), Gate::new());
        assert_eq!((gate.enter(&state), gate.is_off()), (Entry::Off, true));
        state.change(Change::Run).unwrap();
        assert!(gate.is_off(), "its CPU has not had a turn");
        assert_eq!((gate.enter(&state), gate.is_off()), (Entry::Run, false));
        state.change(Change::Still).unwrap();
        assert!(!gate.is_off(), "its registers are on the CPU");
        assert_eq!((gate.enter(&state), gate.is_off()), (Entry::TakeOff, false));
        gate.close();
        assert_eq!((gate.enter(&state), gate.is_off()), (Entry::Off, true));
        // Paused, resumed or started by an operator in that moment: fault 1.1.
        for change in [Change::Pause, Change::Run, Change::Reset] {
            assert_eq!(state.change(change), Err(Misfit { state: State::Leaving, change }));
            assert_eq!(gate.enter(&state), Entry::Off);
        }
        assert_eq!(state.change(Change::GiveUp), Ok((State::Leaving, State::Given)));
        assert_eq!(gate.enter(&state), Entry::Off);
    }

    /// `vm start` is for a guest that has not run, `vm resume` for one that has.
    #[test]
    fn what_has_run_is_known_until_it_is_reset() {
        let state = StateCell::new();
        assert!(!state.has_begun());
        for (change, now, begun) in [
            (Change::Run, State::Running, true),
            (Change::Pause, State::Paused, true),
            (Change::Reset, State::Resetting, false),
            (Change::Anew, State::Paused, false),
            (Change::Run, State::Running, true),
            (Change::End, State::Stopped, true),
            (Change::Reset, State::Resetting, false),
            (Change::Anew, State::Paused, false),
            (Change::Arrive, State::Incoming, false),
            (Change::Take, State::Running, true),
            (Change::Pause, State::Paused, true),
        ] {
            assert_eq!(state.change(change).map(|(_, now)| now), Ok(now), "{change:?}");
            assert_eq!((state.get(), state.has_begun()), (now, begun), "{change:?}");
        }
    }

    /// One thread runs the vCPU, another one stops it and lets it go: while the latter holds it, it does not execute.
    #[test]
    fn two_cpus_agree() {
        const TIMES: u64 = 200;
        let (state, gate) = (Arc::new(StateCell::new()), Arc::new(Gate::new()));
        let (held, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let turns = Arc::new(AtomicU64::new(0));
        let cpu = {
            let (state, gate) = (Arc::clone(&state), Arc::clone(&gate));
            let (held, over, turns) = (Arc::clone(&held), Arc::clone(&over), Arc::clone(&turns));
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    match gate.enter(&state) {
                        Entry::Run => {
                            assert!(!held.load(Ordering::SeqCst), "it executes while it is held");
                            turns.fetch_add(1, Ordering::SeqCst);
                        }
                        Entry::TakeOff => gate.close(),
                        Entry::Off => thread::yield_now(),
                    }
                }
            })
        };
        for time in 0..TIMES {
            held.store(false, Ordering::SeqCst);
            state.change(if time == 0 { Change::Run } else { Change::Back }).unwrap();
            if time % 20 == 0 {
                let before = turns.load(Ordering::SeqCst);
                while turns.load(Ordering::SeqCst) == before && !cpu.is_finished() {
                    thread::yield_now();
                }
            }
            state.change(Change::Still).unwrap();
            while !gate.is_off() && !cpu.is_finished() {
                thread::yield_now();
            }
            held.store(true, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        cpu.join().unwrap();
    }
}
