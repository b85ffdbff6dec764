//! No wake-up is lost, over every order in which the accesses of the CPUs can come: the functions that run.
//!
//! Two things are so in the end. A vCPU of which something is asked does not count as asleep, or whoever has its CPU keeps
//! that for long. And no CPU halts for good while something is asked of a vCPU that is its own.
#![allow(missing_docs)]

mod explorer;

use explorer::{Address, Code, Cpu, Explored, Known, Op, World, explore};
use scheduling::wake::{self, Place, WOKEN, Words};

const ASKED: Address = 0;
const WAKE: Address = 1;
const HOME: Address = 2;
const GENERATION: Address = 3;
/// Bits that the vCPU's CPU has seen, for the judge.
const SERVED: Address = 4;
/// Who has woken it, for the judge.
const WOKE: Address = 5;

/// Where it is.
const PLACE: Address = 6;

/// Memory before: the vCPU lives on CPU 0, whose row is not made yet.
const BEFORE: [u64; 7] = [0, 0, 0, 1, 0, 0, 0];
/// When the vCPU's timer is due: never.
const DEADLINE: u64 = u64::MAX;

/// What a CPU has of a vCPU, with a fence or without.
struct Of<'a> {
    cpu: &'a Cpu<'a>,
    fences: bool,
}

impl Words for Of<'_> {
    fn ask(&self, bits: u32) {
        self.cpu.does(Op::Or(ASKED, bits.into()));
    }
    fn asked(&self) -> u32 {
        self.cpu.does(Op::Load(ASKED)) as u32
    }
    fn wake(&self) -> u64 {
        self.cpu.does(Op::Load(WAKE))
    }
    fn set_wake(&self, at: u64) {
        self.cpu.does(Op::Store(WAKE, at));
    }
    fn set_woken(&self, from: u64) -> bool {
        self.cpu.does(Op::Exchange(WAKE, from, WOKEN)) != 0
    }
    fn place(&self) -> Place {
        let at = self.cpu.does(Op::Load(PLACE));
        [Place::Away, Place::Queued, Place::OnCpu][at as usize]
    }
    fn set_place(&self, place: Place) {
        self.cpu.does(Op::Store(PLACE, place as u64));
    }
    fn home(&self) -> usize {
        self.cpu.does(Op::Load(HOME)) as usize
    }
    fn set_home(&self, cpu: usize) {
        self.cpu.does(Op::Store(HOME, cpu as u64));
    }
    fn fence(&self) {
        if self.fences {
            self.cpu.does(Op::Fence);
        }
    }
}

impl Of<'_> {
    fn changed(&self) {
        self.cpu.does(Op::Count(GENERATION));
    }
    fn kick(&self, cpu: usize) {
        self.cpu.does(Op::Kick(cpu));
    }
    fn post(&self, bits: u32) -> bool {
        wake::post(self, bits, |cpu| self.kick(cpu))
    }
    fn tell(&self, bits: u32) -> bool {
        wake::tell(self, bits, |cpu, _| self.kick(cpu))
    }
}

/// Asks for a bit, as another CPU does.
fn asks(bit: u32) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    once(move |words| {
        if words.post(bit) {
            words.cpu.does(Op::Note(WOKE, bit.into()));
        }
    })
}

/// The same of what the vCPU sees by itself, if it waits for its turn.
fn tells(bit: u32) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    once(move |words| {
        if words.tell(bit) {
            words.cpu.does(Op::Note(WOKE, bit.into()));
        }
    })
}

/// Code that is done once.
fn once(code: impl Fn(&Of<'_>)) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    move |cpu, _| {
        code(&Of { cpu, fences: true });
        None
    }
}

/// The same, without fences.
fn unfenced(code: impl Fn(&Of<'_>)) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    move |cpu, _| {
        code(&Of { cpu, fences: false });
        None
    }
}

/// A turn in which the vCPU serves what is asked of it, and halts.
fn turn(words: &Of<'_>) {
    wake::begin(words);
    while words.asked() != 0 {
        words.cpu.does(Op::Take(ASKED, SERVED));
    }
    wake::doze(words, DEADLINE);
}

/// What the loop of a CPU does, as the scheduler has it: from one look to the next. It knows the generation that it looked at, whether
/// the vCPU is its own, and the CPU that is to have it from then on, plus one.
fn cpu_loop(here: usize) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    move |cpu, [mut generation, mut own, mut leaves_for]| {
        let words = &Of { cpu, fences: true };
        cpu.does(Op::Drain(here));
        let now = cpu.does(Op::Load(GENERATION));
        if now != generation {
            (generation, own) = (now, (words.home() == here).into());
        }
        if own != 0 && leaves_for != 0 {
            wake::move_to(words, leaves_for as usize - 1, || words.changed(), |cpu| words.kick(cpu));
            (own, leaves_for) = (0, 0);
        }
        if own != 0 && wake::waits_until(words, WOKEN, 0).is_none() {
            turn(words);
        } else {
            cpu.does(Op::Halt(here));
        }
        Some([generation, own, leaves_for])
    }
}

/// It has not looked yet, and keeps the vCPU.
const KEEPS: Known = [0, 0, 0];
/// CPU 1 is to have it.
const LEAVES: Known = [0, 0, 2];
/// Of code that is done once.
const NOTHING: Known = [0; 3];

fn is_marked_as_it_is(world: &World) -> Result<(), String> {
    let (asked, wake, woke) = (world.memory[ASKED], world.memory[WAKE], world.memory[WOKE]);
    if asked != 0 && wake > WOKEN {
        return Err(format!("bits {asked:#x} are asked of a vCPU that counts as asleep"));
    }
    if woke.count_ones() > 1 {
        return Err(format!("it sleeps once, and {woke:#b} have woken it"));
    }
    Ok(())
}

fn is_served(wanted: u64) -> impl Fn(&World) -> Result<(), String> {
    move |world| match (world.memory[SERVED], world.memory[ASKED]) {
        (served, 0) if served == wanted => Ok(()),
        (served, asked) => {
            Err(format!("every CPU halts, {served:#x} of {wanted:#x} is served, {asked:#x} asked"))
        }
    }
}

/// A vCPU that falls asleep once, and two who ask.
fn falls_asleep(sleeper: Code<'_>, second: Code<'_>) -> Explored {
    let threads = [(sleeper, NOTHING), (&asks(1), NOTHING), (second, NOTHING)];
    explore(&threads, &BEFORE, 1, is_marked_as_it_is)
}

fn check(explored: &Explored, least: usize) {
    assert_eq!(explored.wrong, None);
    assert!(explored.states >= least && explored.ends > 1, "{explored:?}");
}

#[test]
fn who_is_asked_for_something_does_not_count_as_asleep() {
    for bit in [1, 2] {
        check(&falls_asleep(&once(turn), &asks(bit)), 1000);
    }
}

/// The fence of either side is needed, and each has to mark before it looks.
#[test]
fn without_its_fence_either_side_misses_the_other() {
    let wrong = |sleeper: Code<'_>, second: Code<'_>| falls_asleep(sleeper, second).wrong;
    assert!(wrong(&unfenced(turn), &asks(2)).is_some(), "the sleeper's fence");
    let asks_unfenced = unfenced(|words| {
        words.post(2);
    });
    assert!(wrong(&once(turn), &asks_unfenced).is_some(), "the fence of who asks");
    let looks_first = once(|words| {
        let wake = words.wake();
        words.ask(2);
        words.fence();
        let _woken = wake > WOKEN && words.set_woken(wake);
    });
    assert!(wrong(&once(turn), &looks_first).is_some(), "who asks marks, then looks");
    let never_looks = once(|words| words.set_wake(DEADLINE));
    assert!(wrong(&never_looks, &asks(2)).is_some(), "the sleeper looks again");
}

#[test]
fn no_cpu_halts_for_good_while_something_is_asked() {
    for bit in [1, 2] {
        let threads: [(Code<'_>, Known); 3] =
            [(&cpu_loop(0), KEEPS), (&asks(1), NOTHING), (&asks(bit), NOTHING)];
        check(&explore(&threads, &BEFORE, 1, is_served(u64::from(1 | bit))), 1000);
    }
}

/// A kick that is taken between the look and HLT ends no HLT.
#[test]
fn a_cpu_that_takes_interrupts_before_it_halts_is_found_out() {
    let drains = |cpu: &Cpu<'_>, known: Known| {
        let words = &Of { cpu, fences: true };
        if wake::waits_until(words, WOKEN, 0).is_none() {
            turn(words);
        } else {
            cpu.does(Op::Drain(0));
            cpu.does(Op::Halt(0));
        }
        Some(known)
    };
    let threads: [(Code<'_>, Known); 2] = [(&drains, KEEPS), (&asks(1), NOTHING)];
    assert!(explore(&threads, &BEFORE, 1, is_served(1)).wrong.is_some());
}

#[test]
fn nothing_is_lost_while_a_vcpu_moves() {
    let threads: [(Code<'_>, Known); 3] =
        [(&cpu_loop(0), LEAVES), (&cpu_loop(1), KEEPS), (&asks(1), NOTHING)];
    check(&explore(&threads, &BEFORE, 2, is_served(1)), 1000);
}

/// As it was: the new CPU was kicked, found that nothing had changed, and halted.
#[test]
fn a_kick_that_comes_before_the_change_is_found_out() {
    let old = once(|words| {
        words.set_home(1);
        words.fence();
        words.kick(1);
        words.changed();
    });
    let threads: [(Code<'_>, Known); 3] = [(&old, NOTHING), (&cpu_loop(1), KEEPS), (&asks(1), NOTHING)];
    assert!(explore(&threads, &BEFORE, 2, is_served(1)).wrong.is_some());
}

/// What a vCPU of a CPU that has another one does, turn by turn: it serves what is asked of it and waits for its next turn; it is in
/// the guest until it is kicked, and leaves it for good where that was for nothing; or it is held for long, and the CPU halts.
fn takes_turns(held: bool, fences: bool) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    move |cpu, [turn, ..]| {
        let words = &Of { cpu, fences };
        if turn > 0 && held && wake::waits_until(words, WOKEN, DEADLINE).is_some() {
            cpu.does(Op::Halt(0));
            return Some([turn, 0, 0]);
        }
        wake::begin(words);
        while words.asked() != 0 {
            cpu.does(Op::Take(ASKED, SERVED));
        }
        if turn == 0 || held {
            wake::queue(words);
            return Some([1, 0, 0]);
        }
        loop {
            cpu.does(Op::Halt(0));
            while words.asked() != 0 {
                cpu.does(Op::Take(ASKED, SERVED));
            }
        }
    }
}

#[test]
fn who_waits_for_its_turn_is_not_kicked_and_misses_nothing() {
    for (held, bit) in [(false, 2), (true, 1)] {
        let run = |fences: bool| {
            let threads: [(Code<'_>, Known); 3] =
                [(&takes_turns(held, fences), NOTHING), (&tells(1), NOTHING), (&tells(bit), NOTHING)];
            explore(&threads, &BEFORE, 1, is_served(u64::from(1 | bit)))
        };
        check(&run(true), 500);
        assert!(run(false).wrong.is_some(), "the fence of who leaves the queue, {held}");
    }
    // One that is queued for good is kicked by nobody.
    let queued = [0, 0, 0, 1, 0, 0, 1];
    let told = explore(&[(&tells(1), NOTHING)], &queued, 1, |world| {
        if world.pending[0] { Err("it was kicked".into()) } else { Ok(()) }
    });
    assert_eq!(told.wrong, None);
}

/// The interrupt that reaches a vCPU in the guest and nobody else: whoever has its CPU instead does not notice it.
const NOTICE: usize = 1;

/// Tells it something, and notifies it where that may be enough.
fn notifies(bit: u32) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    once(move |words| {
        wake::tell(words, bit, |cpu, has_turn| words.kick(if has_turn { NOTICE } else { cpu }));
    })
}

/// A turn in the guest, where it is notified, or one that halts at once; then its CPU runs another one until it is kicked.
fn is_notified(halts: bool, fences: bool) -> impl Fn(&Cpu<'_>, Known) -> Option<Known> {
    move |cpu, [asleep, ..]| {
        let words = &Of { cpu, fences };
        let serve = || {
            while words.asked() != 0 {
                cpu.does(Op::Take(ASKED, SERVED));
            }
        };
        if asleep != 0 && wake::waits_until(words, WOKEN, 0).is_some() {
            cpu.does(Op::Halt(0));
            return Some([1, 0, 0]);
        }
        wake::begin(words);
        serve();
        if !halts {
            cpu.does(Op::Halt(NOTICE));
            serve();
        }
        wake::doze(words, DEADLINE);
        Some([1, 0, 0])
    }
}

#[test]
fn who_has_its_turn_is_notified_and_whoever_has_its_cpu_later_is_kicked() {
    // It was asleep before, so that the first who has something for it kicks it.
    let asleep = [0, 0, 0, 1, 0, 0, 0];
    let run = |fences: bool| {
        let threads: [(Code<'_>, Known); 2] =
            [(&is_notified(true, fences), NOTHING), (&notifies(1), NOTHING)];
        explore(&threads, &asleep, 2, is_served(1))
    };
    check(&run(true), 100);
    assert!(run(false).wrong.is_some(), "the fence of who leaves its turn");
    // In the guest since before: a notification is all that comes.
    let on_cpu = [0, 0, 0, 1, 0, 0, 2];
    let threads: [(Code<'_>, Known); 2] = [(&is_notified(false, true), NOTHING), (&notifies(1), NOTHING)];
    assert_eq!(explore(&threads, &on_cpu, 2, is_served(1)).wrong, None);
}

#[test]
fn nothing_that_is_told_is_lost_while_a_vcpu_falls_asleep_or_moves() {
    check(&falls_asleep(&once(turn), &tells(2)), 1000);
    let threads: [(Code<'_>, Known); 3] =
        [(&cpu_loop(0), LEAVES), (&cpu_loop(1), KEEPS), (&tells(1), NOTHING)];
    check(&explore(&threads, &BEFORE, 2, is_served(1)), 1000);
}
