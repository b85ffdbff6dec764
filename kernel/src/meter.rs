//! What CPU 0's loop works, its turns that found nothing to do left out: a stopped guest waits for that, on any CPU. And
//! its longest turn, which is how long anybody may have to wait for it (`crates/meter`).

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

pub(crate) use ::meter::Part;
use ::meter::{Longest, Turn};

use crate::lock::{self, Mutex};
use hw::arch::tsc;

/// Host TSC ticks of the turns in which something was found.
static WORKED: AtomicU64 = AtomicU64::new(0);
/// When this turn began.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicBool = AtomicBool::new(false);
/// Turns in which nothing was found, and their ticks.
static IDLE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

static LONGEST: Mutex<Longest> = Mutex::new(lock::METER, Longest::new());
/// What is done within a part has a name of its own: [`Part`] and one, 0 for none.
static DOING: AtomicU8 = AtomicU8::new(0);

/// A turn of the loop begins, the guest's part of the one before left out.
pub(crate) fn begin(now: u64) -> Turn {
    BEGAN.store(now, Ordering::Relaxed);
    FOUND.store(false, Ordering::Relaxed);
    Turn::new(now)
}

/// What was done since the last call, or since the turn began, was this, or what [`doing`] said.
pub(crate) fn did(turn: &mut Turn, part: Part) {
    // Only CPU 0's loop, and what it calls, says so.
    let finer = match DOING.load(Ordering::Relaxed) {
        0 => None,
        number => {
            DOING.store(0, Ordering::Relaxed);
            Part::from_number(number - 1)
        }
    };
    turn.did(finer.unwrap_or(part), tsc::read());
}

/// What the part of the turn is about to do.
pub(crate) fn doing(part: Part) {
    DOING.store(part as u8 + 1, Ordering::Relaxed);
}

/// The longest turn so far.
pub(crate) fn longest() -> Longest {
    *LONGEST.lock()
}

/// Looks for the longest turn from now on.
pub(crate) fn forget_longest() {
    *LONGEST.lock() = Longest::new();
}

/// There was something to do in this turn.
pub(crate) fn found() {
    FOUND.store(true, Ordering::Relaxed);
}

/// The turn is over but for the guests' part.
pub(crate) fn end(turn: &Turn, now: u64) {
    LONGEST.lock().ended(turn, now);
    let ticks = now.saturating_sub(BEGAN.load(Ordering::Relaxed));
    if FOUND.load(Ordering::Relaxed) {
        WORKED.fetch_add(ticks, Ordering::Relaxed);
    } else {
        IDLE[0].fetch_add(1, Ordering::Relaxed);
        IDLE[1].fetch_add(ticks, Ordering::Relaxed);
    }
}

/// Ticks of a turn in which nothing was found, on the average.
pub(crate) fn idle_turn() -> u64 {
    let [turns, ticks] = [0, 1].map(|at: usize| IDLE[at].load(Ordering::Relaxed));
    ticks / turns.max(1)
}

/// Ticks worked up to this turn.
pub(crate) fn before() -> u64 {
    WORKED.load(Ordering::Relaxed)
}

/// Ticks worked up to now; for a turn in which something was found.
pub(crate) fn now() -> u64 {
    before() + tsc::read().saturating_sub(BEGAN.load(Ordering::Relaxed))
}

/// Marks set while a guest is stopped. Their differences are what its stages took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stopped {
    /// The guest stopped; its pages were all queued or here; its state was loaded, as far as this host knows.
    pub(crate) stop: u64,
    pub(crate) pages: u64,
    pub(crate) state: u64,
}

impl Stopped {
    /// The line of the log, at the end.
    pub(crate) fn log(&self, name: &str) {
        let Self { stop, pages, state } = *self;
        let end = now();
        let step = |from: u64, to: u64| to.saturating_sub(from);
        log::info!(
            target: "migrate",
            "migrate {name}: stopped: {} ticks of work here (pages {}, state {}, resume {})",
            step(stop, end),
            step(stop, pages),
            step(pages, state),
            step(state, end)
        );
    }
}

#[cfg(test)]
mod tests;
