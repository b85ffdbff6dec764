//! A reset, by the states that the kernel uses: of a VM of 1 TiB, of one whose CPU does not answer, of one that is destroyed.
#![allow(missing_docs)]

use making::{CLEARED, End, PATIENCE_US, Patience, Reset, Silent, Subject, Turn};
use migrate::ownership::{Change, Entry, Gate, State, StateCell};
use std::task::Poll;

struct Vm {
    state: StateCell,
    gate: Gate,
    /// Its CPU does nothing.
    dead: bool,
    watched: u32,
    bytes: u64,
    to_clear: u64,
    file: u64,
    /// A CPU acknowledges a flush so many looks later.
    flushes: u32,
    fails: bool,
    did: Vec<&'static str>,
}

impl Vm {
    /// Its vCPU is on a CPU.
    fn running(bytes: u64) -> Self {
        let (state, gate) = (StateCell::new(), Gate::new());
        state.change(Change::Run).unwrap();
        assert_eq!(gate.enter(&state), Entry::Run);
        Self {
            state,
            gate,
            dead: false,
            watched: 3,
            bytes,
            to_clear: bytes,
            file: 20 << 20,
            flushes: 2,
            fails: false,
            did: Vec::new(),
        }
    }

    /// The CPU that runs it has its turn.
    fn cpu(&self) {
        if !self.dead && self.gate.enter(&self.state) == Entry::TakeOff {
            self.gate.close();
        }
    }

    fn does(&mut self, what: &'static str) {
        assert!(what == "stop" || self.gate.is_off(), "{what} while a CPU has it");
        if self.did.last() != Some(&what) {
            self.did.push(what);
        }
    }
}

impl Subject for Vm {
    fn is_wanted(&self) -> bool {
        self.state.get() == State::Resetting
    }

    fn holder(&mut self) -> Option<usize> {
        self.does("stop");
        (!self.gate.is_off()).then_some(3)
    }

    fn unwatch(&mut self) -> Poll<()> {
        self.does("unwatch");
        self.watched = self.watched.saturating_sub(1);
        if self.watched > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    fn clear(&mut self, most: u64) -> bool {
        self.does("clear");
        assert!(most <= 2 << 20);
        self.to_clear = self.to_clear.saturating_sub(most);
        self.to_clear > 0
    }

    fn renew(&mut self) -> Result<(), String> {
        self.does("renew");
        Ok(())
    }

    fn load(&mut self) -> Result<(), String> {
        self.does("load");
        if self.fails { Err("not a kernel".into()) } else { Ok(()) }
    }

    fn copy(&mut self, most: usize) -> Result<bool, String> {
        self.does("copy");
        self.file = self.file.saturating_sub(most as u64);
        Ok(self.file > 0)
    }

    fn flush(&mut self) -> Poll<()> {
        self.does("flush");
        self.flushes = self.flushes.saturating_sub(1);
        if self.flushes > 0 { Poll::Pending } else { Poll::Ready(()) }
    }
}

fn ordered(vm: &Vm) -> Reset {
    vm.state.change(Change::Reset).unwrap();
    Reset::new(0)
}

/// Until it is over, the CPU having its turn in between.
fn run(reset: &mut Reset, vm: &mut Vm) -> (End, u64) {
    for steps in 1.. {
        if let Turn::Over(end) = reset.step(0, vm) {
            return (end, steps);
        }
        vm.cpu();
    }
    unreachable!()
}

#[test]
fn a_terabyte_is_cleared_in_steps() {
    let mut vm = Vm::running(1 << 40);
    let mut reset = ordered(&vm);
    let (end, steps) = run(&mut reset, &mut vm);
    println!("1 TiB: {steps} steps");
    assert!(end == End::Anew && steps > vm.bytes / CLEARED);
    assert_eq!(vm.did, ["stop", "unwatch", "clear", "renew", "load", "copy", "flush"]);
    vm.state.change(Change::Anew).unwrap();
    vm.state.change(Change::Run).unwrap();
}

/// Fault 2.22: CPU 0 waited for ever.
#[test]
fn a_cpu_that_does_not_answer_is_named_and_holds_nobody() {
    let mut vm = Vm { dead: true, ..Vm::running(1 << 20) };
    let mut reset = ordered(&vm);
    let mut late = Vec::new();
    for ms in 0..20_000 {
        match reset.step(ms * 1000, &mut vm) {
            Turn::Waiting => {}
            Turn::Late(cpu) => late.push((ms * 1000, cpu)),
            turn => panic!("{turn:?}"),
        }
    }
    assert_eq!(late, [(PATIENCE_US, 3)], "said once, and in time");
    assert_eq!(vm.did, ["stop"]);
    let said = Silent { vm: "web".into(), cpu: 3, then: "it is reset" }.to_string();
    assert!(
        said.starts_with("vm web: CPU 3 has not left its guest within 5 s: it is reset as soon as it does")
    );
    // The operator destroys it; or the CPU was only slow.
    vm.dead = false;
    vm.cpu();
    assert_eq!(run(&mut reset, &mut vm).0, End::Anew);
    let mut vm = Vm { dead: true, ..Vm::running(1 << 20) };
    let mut reset = ordered(&vm);
    assert_eq!(reset.step(0, &mut vm), Turn::Waiting);
    vm.state.change(Change::Destroy).unwrap();
    assert_eq!(reset.step(1, &mut vm), Turn::Over(End::Gone));
}

#[test]
fn it_is_destroyed_at_any_step() {
    let all = {
        let mut vm = Vm::running(4 << 20);
        let mut reset = ordered(&vm);
        run(&mut reset, &mut vm).1
    };
    for when in 0..all {
        let mut vm = Vm::running(4 << 20);
        let mut reset = ordered(&vm);
        for _ in 0..when {
            assert!(!matches!(reset.step(0, &mut vm), Turn::Over(_)));
            vm.cpu();
        }
        vm.state.change(Change::Destroy).unwrap();
        let did = vm.did.len();
        assert_eq!((reset.step(0, &mut vm), vm.did.len()), (Turn::Over(End::Gone), did));
    }
}

/// A guest may power off in the very moment in which it is told to stop.
#[test]
fn a_guest_that_ends_meanwhile_is_reset_all_the_same() {
    let mut vm = Vm::running(1 << 20);
    let mut reset = ordered(&vm);
    assert_eq!(reset.step(0, &mut vm), Turn::Waiting);
    vm.state.change(Change::End).unwrap();
    assert_eq!(run(&mut reset, &mut vm).0, End::Anew);
}

#[test]
fn a_kernel_that_cannot_be_loaded_is_an_end_too() {
    let mut vm = Vm { fails: true, ..Vm::running(1 << 20) };
    let mut reset = ordered(&vm);
    assert_eq!(run(&mut reset, &mut vm).0, End::Failed("not a kernel".into()));
    assert_eq!(vm.state.change(Change::Fail), Ok((State::Resetting, State::Stopped)));
}

#[test]
fn patience_ends_once() {
    let mut patience = Patience::new(7);
    assert!(!patience.ends(7 + PATIENCE_US - 1));
    assert!(patience.ends(7 + PATIENCE_US) && !patience.ends(u64::MAX));
}
