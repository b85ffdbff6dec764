//! Whether a CPU that comes up counts as CPU 0 does, and TSC_ADJUST where it does not: sockets that were reset at different
//! moments, or firmware that wrote to the TSC, make guests' clocks jump. CPU 0 leads and asks; the other CPU answers with its
//! TSC, round by round.

use core::hint;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bring_up::tsc::{Ahead, adjusted};

use super::cpu::{self, PerCpu};
use super::{msr, tsc};

const IA32_TSC_ADJUST: u32 = 0x3b;
/// Rounds of one measurement, the time that they may take together, and one alone, in microseconds.
const ROUNDS: u32 = 32;
const LEAST_ROUNDS: u32 = 3;
const TIME_US: u64 = 2_000;
const ROUND_US: u64 = 100_000;
/// Questions that are no round's number.
const ADJUST: u32 = 1 << 30;
const OVER: u32 = 1 << 31;

static ASKED: AtomicU32 = AtomicU32::new(0);
static ANSWERED: AtomicU32 = AtomicU32::new(0);
static THEIRS: AtomicU64 = AtomicU64::new(0);
static CORRECTION: AtomicU64 = AtomicU64::new(0);

/// Whether the CPUs have IA32_TSC_ADJUST.
pub fn has_adjust() -> bool {
    cpu::id().get_extended_feature_info().is_some_and(|f| f.has_tsc_adjust_msr())
}

/// The calling CPU's IA32_TSC_ADJUST; it must have it.
pub fn adjust() -> u64 {
    msr::read(IA32_TSC_ADJUST)
}

/// On CPU 0: measures the CPU that has just come up, and sets it right if it can be.
pub fn lead(other: &PerCpu) {
    ANSWERED.store(0, Ordering::SeqCst);
    let mut ahead = measure();
    if let Some(ticks) = ahead.ticks().filter(|&ticks| ticks != 0)
        && has_adjust()
    {
        log::warn!(target: "cpu", "CPU {}: its TSC is {ticks} ticks ahead of CPU 0's: IA32_TSC_ADJUST set", other.index);
        CORRECTION.store(ticks.cast_unsigned(), Ordering::SeqCst);
        if ask(ADJUST).is_some() {
            ahead = measure();
        }
    }
    ASKED.store(OVER, Ordering::SeqCst);
    if ahead == Ahead::default() {
        return log::warn!(target: "cpu", "CPU {}: its TSC could not be compared: no answer", other.index);
    }
    match ahead.ticks() {
        Some(0) => {}
        Some(ticks) => {
            log::error!(target: "cpu", "CPU {}: its TSC is {ticks} ticks ahead of CPU 0's", other.index);
        }
        None => {
            log::error!(target: "cpu", "CPU {}: its TSC counts at another rate than CPU 0's", other.index);
        }
    }
    other.note_ahead(ahead);
}

fn measure() -> Ahead {
    let mut ahead = Ahead::default();
    let began = tsc::read();
    for round in 1..=ROUNDS {
        let Some((before, theirs, after)) = ask(round) else { break };
        ahead.reading(before, theirs, after);
        if round >= LEAST_ROUNDS && tsc::read() - began > tsc::ticks(TIME_US) {
            break;
        }
    }
    ahead
}

/// Asks, and waits for the answer: our TSC before, theirs, ours afterwards. None where none comes.
fn ask(question: u32) -> Option<(u64, u64, u64)> {
    // A question that was asked before must look new.
    ANSWERED.store(0, Ordering::SeqCst);
    let before = tsc::read_in_order();
    ASKED.store(question, Ordering::SeqCst);
    while ANSWERED.load(Ordering::SeqCst) != question {
        if tsc::read().wrapping_sub(before) > tsc::ticks(ROUND_US) {
            return None;
        }
        hint::spin_loop();
    }
    let after = tsc::read_in_order();
    ASKED.store(0, Ordering::SeqCst);
    Some((before, THEIRS.load(Ordering::SeqCst), after))
}

/// On a CPU that has just come up: answers until it is over.
pub fn follow() {
    let began = tsc::read();
    let mut last = 0;
    // CPU 0 may have given this CPU up just now: then it never asks.
    while tsc::read().wrapping_sub(began) < tsc::ticks(10 * ROUND_US) {
        let asked = ASKED.load(Ordering::SeqCst);
        match asked {
            OVER => break,
            question if question == last || question == 0 => {}
            ADJUST => {
                let ahead = CORRECTION.load(Ordering::SeqCst).cast_signed();
                msr::write_safe(IA32_TSC_ADJUST, adjusted(msr::read(IA32_TSC_ADJUST), ahead));
                ANSWERED.store(ADJUST, Ordering::SeqCst);
            }
            round => {
                THEIRS.store(tsc::read_in_order(), Ordering::SeqCst);
                ANSWERED.store(round, Ordering::SeqCst);
            }
        }
        last = asked;
        hint::spin_loop();
    }
}

/// Before a CPU is started: it must not see the end of the talk with the one before.
pub fn expect() {
    ASKED.store(0, Ordering::SeqCst);
}

/// What [`lead`] found of the CPU with that index.
pub fn ahead(index: usize) -> Option<Ahead> {
    cpu::get(index)?.ahead()
}
