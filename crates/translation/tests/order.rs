//! No write of the guest is missed, whatever a CPU has cached, and wherever between the hypervisor's steps the guest
//! writes or its vCPU moves: every run is tried.

mod model;

use model::Unseen;
use model::choice::{Choices, explore};
use model::cpu::{Access, Reached};
use model::host::{FEATURES, Flaw, Host, NO_FLAGS, Vm};
use std::cell::Cell;
use std::task::Poll;
use translation::{Asked, Backing, Cause, Change, DirtyMethod, Fault, Features, Step, Tracked, View, poll};
use vmx_types::qualification::EptViolation;

const MIB: u64 = 1 << 20;
const RAM: u64 = 0x4000_0000;
/// The page that is written.
const GPA: u64 = 0x3000;
const PAGE: u64 = GPA >> 12;
/// Accesses between the hypervisor's steps, at most.
const ACCESSES: u32 = 3;
const WRITE_VIOLATION: u64 = 1 << 1 | 1 << 3;
/// The bit of an entry by which a harvest knows what the one before found accessed.
const RECENT: u64 = 1 << 55;

/// The vCPU reads or writes the page, in any way that its CPU can translate.
fn access(vm: &Vm<'_>, access: Access, choices: &Choices) {
    let on = &vm.host.cpus[vm.cpu()];
    loop {
        let ways = on.ways(vm.tags(), GPA, GPA, access);
        let way = ways[choices.pick(ways.len())];
        let reached = on.go(&vm.host.memory, vm.tags(), GPA, GPA, access, way);
        if reached == Reached::Violation {
            // The exit takes the lock that the hypervisor's steps take.
            let mut ept = vm.ept.borrow_mut();
            if !ept.first_write(GPA, vm.logged()) {
                let cause = Cause::violation(EptViolation::decode(WRITE_VIOLATION, GPA));
                assert_eq!(ept.view(0).fault(cause, &Unseen, vm.logged()), Ok(Fault::Resolved));
            }
            continue;
        }
        assert_eq!(reached, Reached::Page(RAM + GPA));
        return vm.content.set(vm.content.get() + u64::from(access == Access::Write));
    }
}

/// What runs.
fn harvest(vm: &Vm<'_>) {
    while poll(vm, Change::Harvest).is_pending() {}
}

/// Steps without the order of [`poll`], which leaves the flush to `flush`.
fn steps(vm: &Vm<'_>, flush: impl Fn()) {
    loop {
        let step = vm.with(|mmu| {
            mmu.begin(Change::Harvest);
            mmu.step(vm.logged(), vm.backlog())
        });
        match step {
            Step::Ask(Asked::Logs) => vm.with(|mmu| mmu.answered()),
            Step::Ask(Asked::Flush) => {
                flush();
                vm.with(|mmu| mmu.answered());
            }
            Step::Done(..) => return,
            Step::Working | Step::Wait(_) | Step::Idle => {}
        }
    }
}

/// Two harvests with a copy of the page after each where it was noticed, and a last one with the guest stopped: the
/// copy must be the page. True where a run was found for which it is not.
fn loses(method: DirtyMethod, features: Features, flaw: Flaw, harvest: fn(&Vm<'_>)) -> bool {
    loses_where(method, features, flaw, false, harvest)
}

/// The same where CPUs answer a moment after they were asked, if they are `late`.
fn loses_where(
    method: DirtyMethod,
    features: Features,
    flaw: Flaw,
    late: bool,
    harvest: fn(&Vm<'_>),
) -> bool {
    let (runs, lost) = explore(|choices| {
        let mut host = Host::new(8, 2, flaw);
        host.pml = method == DirtyMethod::Pml;
        let left = Cell::new(ACCESSES);
        let meanwhile = |vm: &Vm<'_>| {
            if left.get() == 0 {
                return;
            }
            let (moves, kind) = match choices.pick(4) {
                0 => return,
                1 => (false, Access::Read),
                2 => (false, Access::Write),
                _ => (true, Access::Write),
            };
            left.set(left.get() - 1);
            if moves {
                vm.load(1 - vm.cpu());
            }
            access(vm, kind, choices);
        };
        let mut vm = Vm::new(&host, features, RAM, 2 * MIB, 1);
        vm.load(0);
        access(&vm, Access::Write, choices);
        vm.track(method);
        vm.meanwhile = Some(&meanwhile);
        vm.late = late;
        let copy = Cell::new(0);
        let take = || {
            if vm.backlog().take(0) == Some(PAGE) {
                copy.set(vm.content.get());
            }
        };
        copy.set(vm.content.get()); // the first round takes all pages
        for _ in 0..2 {
            harvest(&vm);
            meanwhile(&vm);
            take();
        }
        left.set(0);
        harvest(&vm);
        take();
        copy.get() == vm.content.get()
    });
    println!("{method:?}: {runs} runs, a write is lost: {lost}");
    lost
}

const METHODS: [(DirtyMethod, Features); 3] = [
    (DirtyMethod::Pml, FEATURES),
    (DirtyMethod::AccessDirty, FEATURES),
    (DirtyMethod::WriteProtect, NO_FLAGS),
];

#[test]
fn no_write_is_missed() {
    for (method, features) in METHODS {
        assert!(!loses(method, features, Flaw::None, harvest), "{method:?}");
    }
}

/// Nobody waits for a CPU, and nothing goes on before it has answered.
#[test]
fn no_write_is_missed_where_cpus_answer_late() {
    for (method, features) in METHODS {
        assert!(!loses_where(method, features, Flaw::None, true, harvest), "{method:?}");
        assert!(loses_where(method, features, Flaw::NoFlush, true, harvest), "{method:?}");
    }
}

/// Fault 2.22: a CPU that does not answer holds nobody up. What was begun is ended without its answer to that.
#[test]
fn a_silent_cpu_keeps_a_change_pending() {
    let host = Host::new(40, 1, Flaw::None);
    let mut vm = Vm::new(&host, NO_FLAGS, RAM, 2 * MIB, 1);
    vm.load(0);
    vm.silent = true;
    for _ in 0..1000 {
        assert!(poll(&vm, Change::Track(DirtyMethod::WriteProtect)).is_pending());
    }
    assert_eq!(vm.asks.get(), 1, "it is asked once");
    assert!(poll(&vm, Change::Untrack).is_pending());
    while vm.asks.get() == 1 {
        assert!(poll(&vm, Change::Untrack).is_pending());
    }
    vm.silent = false;
    assert_eq!(vm.change(Change::Untrack), 1);
    assert_eq!(vm.asks.get(), 2, "its answer to the first question is none to the second");
}

#[test]
fn the_model_finds_out_that_nothing_is_flushed() {
    for (method, features) in METHODS {
        assert!(loses(method, features, Flaw::NoFlush, harvest), "{method:?}");
    }
}

#[test]
fn the_model_finds_out_that_the_flush_comes_first() {
    let flush_first: fn(&Vm<'_>) = |vm| {
        vm.ask(Asked::Logs);
        vm.ask(Asked::Flush);
        steps(vm, || ());
    };
    for (method, features) in METHODS {
        assert!(loses(method, features, Flaw::None, flush_first), "{method:?}");
    }
}

/// Fault 3.5: only the CPUs that ran the VM are flushed, those that it ran on when the tables had been changed.
#[test]
fn the_model_finds_out_that_the_set_of_cpus_is_read_too_early() {
    let early: fn(&Vm<'_>) = |vm| {
        vm.ask(Asked::Logs);
        let cpus: Vec<usize> = vm.ran_on.iter().collect();
        steps(vm, || {
            for cpu in &cpus {
                vm.host.cpus[*cpu].invept(vm.eptp());
            }
        });
    };
    for (method, features) in METHODS {
        assert!(loses(method, features, Flaw::None, early), "{method:?}");
    }
}

/// A region that was accessed before the last flush may be written without its flag.
#[test]
fn the_model_finds_out_that_the_accessed_flag_alone_is_trusted() {
    let trusting: fn(&Vm<'_>) = |vm| {
        harvest(vm);
        vm.host.memory.clear_everywhere(RECENT);
    };
    assert!(loses(DirtyMethod::AccessDirty, FEATURES, Flaw::None, trusting));
}

/// What an audit has not looked at is not executed: whatever was cached before it began.
#[test]
fn no_fetch_is_missed_by_the_audit() {
    for (flaw, missed) in [(Flaw::None, false), (Flaw::NoFlush, true)] {
        let host = Host::new(8, 1, flaw);
        let vm = Vm::new(&host, FEATURES, RAM, 2 * MIB, 1);
        vm.load(0);
        let fetch = EptViolation::decode(1 << 2 | 3 << 3, GPA);
        assert_eq!(vm.fault(fetch), Ok(Fault::Resolved));
        assert!(!vm.reaches(0, GPA, Access::Fetch).is_empty());
        vm.change(Change::Audit);
        assert_eq!(!vm.reaches(0, GPA, Access::Fetch).is_empty(), missed);
    }
}

/// The guest goes on while tables change: what it may not do yet, or not any more, is resolved at its first fault.
#[test]
fn a_guest_that_faults_between_two_steps_goes_on() {
    for change in [Change::Untrack, Change::Harvest, Change::Track(DirtyMethod::WriteProtect)] {
        let host = Host::new(40, 1, Flaw::None);
        let vm = Vm::new(&host, NO_FLAGS, RAM, 32 * MIB, 1);
        vm.load(0);
        vm.track(DirtyMethod::WriteProtect);
        let mut steps = 0;
        while poll(&vm, change) == Poll::Pending {
            steps += 1;
            for gpa in (0..32 * MIB).step_by(MIB as usize) {
                // by what it has cached first: the violation drops that
                for _ in 0..2 {
                    if vm.reaches(0, gpa, Access::Write).is_empty() {
                        let violation = EptViolation::decode(WRITE_VIOLATION, gpa);
                        assert_eq!(vm.fault(violation), Ok(Fault::Resolved));
                    }
                }
                assert!(!vm.reaches(0, gpa, Access::Write).is_empty(), "{change:?}: {gpa:#x} after {steps}");
            }
        }
    }
}
