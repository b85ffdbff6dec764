//! Whatever vCPUs on several CPUs write and execute, whatever these have cached and however late they answer: no code is
//! executed that was not decoded, no write is missed, and each vCPU gets ahead.

mod model;

use model::Unseen;
use model::choice::{Choices, explore};
use model::cpu::{Access, Reached, Way};
use model::host::{FEATURES, Flaw, Host, NO_FLAGS, Vm};
use std::cell::{Cell, RefCell};
use translation::{
    Answer, Audited, Backing, Cause, Change, CodePages, DirtyMethod, Ept, Fault, Features, Permission, Point,
    Tracked, View,
};
use vm_types::{Gpa, PageSet};
use vmx_types::qualification::EptViolation;

const MIB: u64 = 1 << 20;
const RAM: u64 = 0x4000_0000;
/// The page that all want.
const GPA: u64 = 0x3000;
const PAGE: u64 = GPA >> 12;
/// A fetch, and a write, that the tables do not allow (SDM table 27-7).
const FETCH: u64 = 1 << 2 | 1 << 3 | 3 << 7;
const WRITE: u64 = 1 << 1 | 1 << 3 | 3 << 7;
/// CPUs of the host: vCPU 0 has two of them, vCPU 1 has one.
const CPUS: usize = 3;
/// vCPUs and CPUs, one each but where a test says so.
const FIRST: usize = 0;
const SECOND: usize = 1;
const ELSEWHERE: usize = 2;

/// When a flush is taken to be over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// When every CPU that ran the VM has done it.
    All,
    /// When the CPU has that asks.
    Here,
    /// At once.
    None,
}

/// A VM under audit.
struct Audit<'h> {
    vm: Vm<'h>,
    patience: Patience,
    /// Flushes that were asked for, and up to which each CPU has done them.
    asked: Cell<u32>,
    done: [Cell<u32>; CPUS],
    /// The CPU that runs the hypervisor's code.
    here: Cell<usize>,
    /// What is in the page, and what was when it was decoded.
    content: Cell<u64>,
    decoded: Cell<u64>,
    times: Cell<u32>,
}

impl<'h> Audited for Audit<'h> {
    type Tables = Ept<'h, &'h model::Memory>;
    type Flush = u32;

    fn with<R>(&self, f: impl FnOnce(&mut Self::Tables) -> R) -> R {
        f(&mut self.vm.ept.borrow_mut())
    }

    fn logged(&self) -> &PageSet {
        self.vm.logged()
    }

    fn flush(&self) -> u32 {
        self.asked.set(self.asked.get() + 1);
        self.asked.get()
    }

    fn is_over(&self, flush: &u32) -> bool {
        let here = self.here.get();
        match self.patience {
            Patience::All => {
                self.serves(here);
                self.vm.ran_on.iter().all(|cpu| self.done[cpu].get() >= *flush)
            }
            Patience::Here => {
                self.serves(here);
                true
            }
            Patience::None => true,
        }
    }
}

/// What is known of its pages.
type Pages = RefCell<CodePages<u32>>;

impl<'h> Audit<'h> {
    /// The audit is on, and the VM has run on all CPUs.
    fn new(host: &'h Host, features: Features, patience: Patience) -> (Self, Pages) {
        let vm = Vm::new(host, features, RAM, 2 * MIB, 1);
        for cpu in (0..CPUS).rev() {
            vm.load(cpu);
        }
        vm.change(Change::Audit);
        let audit = Self {
            vm,
            patience,
            asked: Cell::new(0),
            done: [const { Cell::new(0) }; CPUS],
            here: Cell::new(0),
            content: Cell::new(1),
            decoded: Cell::new(0),
            times: Cell::new(0),
        };
        (audit, RefCell::new(CodePages::new(CPUS, 512)))
    }

    /// A CPU is between two exits.
    fn serves(&self, cpu: usize) {
        if self.done[cpu].replace(self.asked.get()) != self.asked.get() {
            self.vm.host.cpus[cpu].invept(self.vm.eptp());
        }
    }

    /// An exit of a vCPU, on the CPU `here`, for an access that its CPU found no permission for.
    fn exits(&self, pages: &Pages, vcpu: usize, here: usize, at: Point, wanted: Permission) -> Answer {
        self.here.set(here);
        let access = if wanted == Permission::Execute { FETCH } else { WRITE };
        let fault = self.with(|tables| {
            let cause = Cause::violation(EptViolation::decode(access, GPA));
            tables.view(vcpu as u32).fault(cause, &Unseen, self.vm.logged())
        });
        let expected = match fault {
            Ok(Fault::FirstFetch(_)) => Permission::Execute,
            Ok(Fault::CodeWrite(_)) => Permission::Write,
            other => {
                assert_eq!(other, Ok(Fault::Resolved));
                return Answer::GoesOn;
            }
        };
        assert_eq!(wanted, expected);
        let decode = |again: bool| {
            assert_eq!(again, self.times.get() > 0);
            self.times.set(self.times.get() + 1);
            self.decoded.set(self.content.get());
        };
        pages.borrow_mut().fault(self, vcpu, at, Gpa(GPA), wanted, decode).expect("memory for tables")
    }

    /// The vCPU tries an access, by anything that its CPU can translate by. False where code was executed that had not
    /// been decoded.
    fn tries(
        &self,
        pages: &Pages,
        vcpu: usize,
        here: usize,
        wanted: Permission,
        pick: impl Fn(usize) -> usize,
    ) -> bool {
        let access = if wanted == Permission::Execute { Access::Fetch } else { Access::Write };
        let on = &self.vm.host.cpus[here];
        let mut ways: Vec<Way> = Vec::new();
        for way in on.ways(self.vm.tags(), GPA, GPA, access) {
            // No table goes or comes: all walks come to the same.
            let walk = matches!(way, Way::Walk { .. });
            if !ways.contains(&way) && (!walk || ways.is_empty()) {
                ways.push(way);
            }
        }
        let way = ways[pick(ways.len())];
        if on.go(&self.vm.host.memory, self.vm.tags(), GPA, GPA, access, way) == Reached::Violation {
            // Each of its instructions, and what it has in its registers, is another one.
            self.exits(pages, vcpu, here, point(self.content.get()), wanted);
            return true;
        }
        if wanted == Permission::Write {
            self.content.set(self.content.get() + 1);
        }
        wanted == Permission::Write || self.decoded.get() == self.content.get() || pages.borrow().open() != 0
    }
}

fn point(rip: u64) -> Point {
    Point { rip, regs: rip }
}

/// Whether code is executed in any run that nobody has decoded.
fn misses(patience: Patience) -> bool {
    const STEPS: u32 = 6;
    let (runs, missed) = explore(|choices: &Choices| {
        let host = Host::new(8, CPUS, Flaw::None);
        let (audit, pages) = Audit::new(&host, FEATURES, patience);
        let first = |_: usize| 0;
        // vCPU 0 has written on either of its CPUs.
        audit.tries(&pages, FIRST, ELSEWHERE, Permission::Write, first);
        audit.tries(&pages, FIRST, FIRST, Permission::Write, first);
        let mut of_first = FIRST;
        (0..STEPS).all(|_| {
            let pick = |of: usize| choices.pick(of);
            match choices.pick(6) {
                0 => audit.tries(&pages, FIRST, of_first, Permission::Write, pick),
                1 => audit.tries(&pages, SECOND, SECOND, Permission::Execute, pick),
                2 => audit.tries(&pages, FIRST, of_first, Permission::Execute, pick),
                3 => {
                    of_first = FIRST + ELSEWHERE - of_first;
                    audit.vm.load(of_first);
                    true
                }
                4 => {
                    audit.serves(of_first);
                    true
                }
                _ => {
                    (0..CPUS).filter(|cpu| *cpu != of_first).for_each(|cpu| audit.serves(cpu));
                    true
                }
            }
        })
    });
    println!("{patience:?}: {runs} runs, code is missed: {missed}");
    missed
}

#[test]
fn no_code_is_executed_that_was_not_decoded() {
    assert!(!misses(Patience::All));
}

#[test]
fn the_model_finds_out_that_other_cpus_are_not_waited_for() {
    assert!(misses(Patience::Here));
    assert!(misses(Patience::None));
}

/// Write protection takes permissions as well, and gives them back: a write is noticed all the same.
#[test]
fn no_write_is_missed_beside_the_audit() {
    const STEPS: u32 = 6;
    for (method, features) in [
        (DirtyMethod::WriteProtect, NO_FLAGS),
        (DirtyMethod::AccessDirty, FEATURES),
        (DirtyMethod::Pml, FEATURES),
    ] {
        let (runs, missed) = explore(|choices: &Choices| {
            let mut host = Host::new(8, CPUS, Flaw::None);
            host.pml = method == DirtyMethod::Pml;
            let (audit, pages) = Audit::new(&host, features, Patience::All);
            audit.vm.track(method);
            let copy = Cell::new(audit.content.get());
            let harvest = || {
                audit.vm.change(Change::Harvest);
                if audit.vm.backlog().take(0) == Some(PAGE) {
                    copy.set(audit.content.get());
                }
            };
            let seen = (0..STEPS).all(|_| {
                let pick = |of: usize| choices.pick(of);
                match choices.pick(5) {
                    0 => audit.tries(&pages, FIRST, FIRST, Permission::Write, pick),
                    1 => audit.tries(&pages, SECOND, SECOND, Permission::Write, pick),
                    2 => audit.tries(&pages, SECOND, SECOND, Permission::Execute, pick),
                    3 => {
                        (0..CPUS).for_each(|cpu| audit.serves(cpu));
                        true
                    }
                    _ => {
                        harvest();
                        true
                    }
                }
            });
            harvest();
            seen && copy.get() == audit.content.get()
        });
        println!("{method:?}: {runs} runs");
        assert!(!missed, "{method:?}");
    }
}

/// A page that is kept when it is tracked no more, or the audit is over, is nobody's to keep.
#[test]
fn what_is_kept_is_given_back_when_the_audit_ends() {
    let host = Host::new(8, CPUS, Flaw::None);
    let features = Features { executable_large_pages: true, ..FEATURES };
    let (audit, pages) = Audit::new(&host, features, Patience::All);
    let mapped = host.memory.free_pages();
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::Waits);
    audit.vm.track(DirtyMethod::WriteProtect);
    audit.vm.change(Change::Untrack);
    assert!(audit.vm.reaches(SECOND, GPA, Access::Write).is_empty(), "it is kept all the same");
    assert!(audit.vm.reaches(SECOND, GPA, Access::Fetch).is_empty());
    assert_eq!(audit.vm.reaches(SECOND, GPA, Access::Read).len(), 1);
    // The end has begun, and has not come to the page yet.
    audit.with(|tables| tables.begin(Change::EndAudit));
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Write), Answer::GoesOn);
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::GoesOn);
    audit.vm.change(Change::EndAudit);
    assert!(!audit.vm.reaches(SECOND, GPA, Access::Write).is_empty());
    assert_eq!(host.memory.free_pages(), mapped, "the large page is back");
}

/// An audit that is started again before the one before has ended: what it asked CPUs for was for other tables.
#[test]
fn a_flush_is_for_what_was_taken_before_it() {
    let host = Host::new(8, CPUS, Flaw::None);
    let (audit, pages) = Audit::new(&host, FEATURES, Patience::All);
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::Waits);
    audit.vm.change(Change::EndAudit);
    audit.vm.change(Change::Audit);
    assert!(!audit.vm.reaches(SECOND, GPA, Access::Write).is_empty());
    (0..CPUS).filter(|cpu| *cpu != SECOND).for_each(|cpu| audit.serves(cpu));
    audit.done[SECOND].set(1);
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::Waits);
    audit.serves(SECOND);
    audit.serves(ELSEWHERE);
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::GoesOn);
    assert!(audit.vm.reaches(SECOND, GPA, Access::Write).is_empty());
}

/// Who asks for another page meanwhile, and does not come back, holds nobody up.
#[test]
fn a_page_that_nobody_asks_for_any_more_is_asked_for_again() {
    let host = Host::new(8, CPUS, Flaw::None);
    let (audit, pages) = Audit::new(&host, FEATURES, Patience::All);
    assert_eq!(audit.exits(&pages, FIRST, FIRST, point(1), Permission::Execute), Answer::Waits);
    assert_eq!(audit.exits(&pages, SECOND, SECOND, point(1), Permission::Execute), Answer::Waits);
    assert_eq!(audit.asked.get(), 1, "one flush is for both");
    let other = |pages: &Pages| {
        let answer =
            pages.borrow_mut().fault(&audit, FIRST, point(2), Gpa(0x9000), Permission::Execute, |_| ());
        answer.unwrap()
    };
    assert_eq!(other(&pages), Answer::Waits);
    (0..CPUS).for_each(|cpu| audit.serves(cpu));
    assert_eq!(other(&pages), Answer::GoesOn);
    assert_eq!(audit.exits(&pages, SECOND, SECOND, point(1), Permission::Execute), Answer::Waits);
    (0..CPUS).for_each(|cpu| audit.serves(cpu));
    assert_eq!(audit.exits(&pages, SECOND, SECOND, point(1), Permission::Execute), Answer::GoesOn);
}

/// vCPUs that take a page from each other before any of them has executed an instruction, for as long as the host lets
/// them. How often the page was on its way before it was opened.
fn contend(seed: u64, wants: &[Permission]) -> u32 {
    let host = Host::new(8, CPUS, Flaw::None);
    let (audit, pages) = Audit::new(&host, FEATURES, Patience::All);
    let mut state = seed;
    let mut random = |of: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % of
    };
    loop {
        let vcpu = random(wants.len() as u64) as usize;
        if random(3) == 0 {
            audit.serves(random(CPUS as u64) as usize);
        }
        if audit.exits(&pages, vcpu, vcpu, point(vcpu as u64), wants[vcpu]) == Answer::Opened {
            return audit.asked.get();
        }
    }
}

#[test]
fn each_vcpu_gets_ahead_after_a_bounded_number_of_exits() {
    use Permission::{Execute, Write};
    for seed in 0..500 {
        for wants in [&[Write, Execute][..], &[Execute, Write, Write], &[Write, Execute, Execute]] {
            let turns = contend(seed, wants);
            assert!((8..=8 * wants.len() as u32 + 1).contains(&turns), "{wants:?} by {seed}: {turns}");
        }
    }
}

/// Alone on all CPUs that ran it, a vCPU waits for nobody.
fn alone(pages: &Pages, audit: &Audit<'_>, at: Point, wanted: Permission) -> Answer {
    (1..CPUS).for_each(|cpu| audit.done[cpu].set(u32::MAX));
    audit.exits(pages, FIRST, FIRST, at, wanted)
}

#[test]
fn an_instruction_that_writes_to_its_own_page_gets_both() {
    let host = Host::new(8, CPUS, Flaw::None);
    let (audit, pages) = Audit::new(&host, FEATURES, Patience::All);
    assert_eq!(alone(&pages, &audit, point(1), Permission::Execute), Answer::GoesOn);
    assert_eq!(alone(&pages, &audit, point(2), Permission::Write), Answer::GoesOn, "another instruction");
    assert_eq!(alone(&pages, &audit, point(2), Permission::Execute), Answer::GoesOn);
    assert_eq!(alone(&pages, &audit, point(2), Permission::Write), Answer::Opened);
    assert_eq!(pages.borrow().open(), 1);
    for access in [Access::Write, Access::Fetch] {
        assert!(!audit.vm.reaches(FIRST, GPA, access).is_empty(), "{access:?}");
    }
    assert_eq!(pages.borrow_mut().close(&audit), 1);
    assert_eq!(pages.borrow().open(), 0);
    assert_eq!(pages.borrow_mut().close(&audit), 0);
    audit.vm.host.cpus[FIRST].invept(audit.vm.eptp());
    assert!(audit.vm.reaches(FIRST, GPA, Access::Fetch).is_empty(), "it is decoded again");
    assert!(!audit.vm.reaches(FIRST, GPA, Access::Write).is_empty());
}

/// vCPUs that hand a page to each other get ahead, and nothing of it is missed; nor is what many instructions write.
#[test]
fn who_gets_ahead_has_nothing_opened() {
    let host = Host::new(8, CPUS, Flaw::None);
    let (audit, pages) = Audit::new(&host, FEATURES, Patience::All);
    for round in 0..100 {
        // The same instruction of a loop: a register counts.
        let at = Point { rip: 1, regs: round };
        assert_eq!(alone(&pages, &audit, at, Permission::Execute), Answer::GoesOn);
        let by = Point { rip: 2, regs: round };
        assert_eq!(alone(&pages, &audit, by, Permission::Write), Answer::GoesOn);
    }
    assert_eq!((audit.times.get(), pages.borrow().open()), (100, 0));
}
