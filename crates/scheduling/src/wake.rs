//! How a vCPU falls asleep, and how other CPUs wake it.
//!
//! Whoever has something for a vCPU marks that as asked for, and looks then whether the vCPU is asleep. The vCPU's CPU marks it
//! as asleep, and looks then whether something is asked for. Between mark and look either has a fence: a store may wait in
//! its CPU's store buffer while a later load is over already (SDM 3A 9.2.3.4), and of the two one at least has to see what
//! the other wrote. Else a vCPU with work would count as asleep, and whoever has its CPU would keep that for a slice of its own.
//!
//! A CPU with nothing to run halts. It looks for work with interrupts off and lets them in with HLT alone, so that a kick that
//! comes after the look stays pending and ends the HLT. The same goes for entry to the guest. So who asks for something kicks,
//! unless the vCPU is in the queue of a CPU that has others to run, and looks by itself when its turn begins ([`tell`]). Leaving
//! the queue is a mark as well, and the look comes after it.
//!
//! The functions here are all that the kernel does; `tests/wake.rs` explores them over every order of their accesses.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A [`Words::wake`] that is long past: something has been asked of a vCPU that was asleep.
pub const WOKEN: u64 = 1;

/// Where a vCPU is, for those who have something for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    /// On no CPU. Its own may be idle, or run another one.
    Away,
    /// It would run, and waits for its turn: its CPU gives it that without being kicked.
    Queued,
    /// It has its turn.
    OnCpu,
}

/// What the CPUs have in common about a vCPU. Loads and stores may pass each other, unless it is said otherwise.
pub trait Words {
    /// Adds bits to what is asked of the vCPU.
    fn ask(&self, bits: u32);
    /// What is asked of it.
    fn asked(&self) -> u32;
    /// Host TSC before which it need not run: it is asleep. 0 while it is not, [`WOKEN`] once it has been woken and has not
    /// run since.
    fn wake(&self) -> u64;
    /// Sets that.
    fn set_wake(&self, at: u64);
    /// Sets it to [`WOKEN`] where it is `from`, as one step. Whether it was.
    fn set_woken(&self, from: u64) -> bool;
    /// Where it is.
    fn place(&self) -> Place;
    /// Sets that.
    fn set_place(&self, place: Place);
    /// The CPU that schedules it.
    fn home(&self) -> usize;
    /// Sets that.
    fn set_home(&self, cpu: usize);
    /// What the calling CPU wrote is seen by all before it reads on.
    fn fence(&self);
}

/// Asks something of a vCPU, and has its CPU look by `kick`: that makes a CPU leave its guest, or wake, and look for work. True
/// where the vCPU was asleep and this woke it: of several who ask at a time that is one.
#[inline]
pub fn post(words: &impl Words, bits: u32, kick: impl FnOnce(usize)) -> bool {
    let woken = asks(words, bits);
    kick(words.home());
    woken
}

/// The same for what a vCPU has to see before it enters the guest, and nobody waits for: one that waits for its turn sees it then, and
/// whoever has the CPU meanwhile is left alone. With true, `kick` is for one that has its turn: what reaches that vCPU alone is
/// enough then, as one that leaves the CPU looks after it has said so.
#[inline]
pub fn tell(words: &impl Words, bits: u32, kick: impl FnOnce(usize, bool)) -> bool {
    let woken = asks(words, bits);
    match words.place() {
        Place::Queued => {}
        place => kick(words.home(), place == Place::OnCpu),
    }
    woken
}

fn asks(words: &impl Words, bits: u32) -> bool {
    words.ask(bits);
    words.fence();
    let wake = words.wake();
    wake > WOKEN && words.set_woken(wake)
}

/// The vCPU's turn begins. What was asked before is looked at in that turn; what is asked from now on comes with a kick.
#[inline]
pub fn begin(words: &impl Words) {
    words.set_wake(0);
    words.set_place(Place::OnCpu);
    words.fence();
}

/// Its turn is over, and it wants another one.
#[inline]
pub fn queue(words: &impl Words) {
    words.set_place(Place::Queued);
}

/// The vCPU sleeps until host TSC `deadline`, unless something is asked of it.
#[inline]
pub fn doze(words: &impl Words, deadline: u64) {
    words.set_wake(deadline);
    words.set_place(Place::Away);
    words.fence();
    if words.asked() != 0 {
        words.set_wake(WOKEN);
    }
}

/// The host TSC, after `now`, from which on the vCPU wants a turn; none where it wants one. It does not run before `held`, unless
/// something is asked of it: with a `held` that is not 0, its CPU alone asks this, which may halt then.
#[inline]
pub fn waits_until(words: &impl Words, now: u64, held: u64) -> Option<u64> {
    let due = words.wake().max(held);
    if due <= now {
        return None;
    }
    if held > now {
        words.set_place(Place::Away);
        words.fence();
    }
    (words.asked() == 0).then_some(due)
}

/// The vCPU's CPU has let go of it: `cpu` schedules it from now on, and looks what it was asked for meanwhile. Whoever still
/// kicks the old one has asked before, and the kick here comes after that. It comes last of all: a CPU that it wakes has to
/// find that something `changed`, for which each CPU looks again which vCPUs are its own.
pub fn move_to(words: &impl Words, cpu: usize, changed: impl FnOnce(), kick: impl FnOnce(usize)) {
    words.set_home(cpu);
    changed();
    words.fence();
    kick(cpu);
}

/// The words of a vCPU, where every CPU can reach them.
#[derive(Debug)]
pub struct Bell {
    /// What is asked of the vCPU, a bit each: set by [`post`], cleared by the CPU that runs it.
    pub requests: AtomicU32,
    /// [`Words::wake`].
    pub wake: AtomicU64,
    /// [`Place`].
    place: AtomicU8,
    home: AtomicUsize,
}

impl Bell {
    /// Of a vCPU that `cpu` schedules, and of which nothing is asked.
    #[must_use]
    pub const fn new(cpu: usize) -> Self {
        let (requests, wake, place) =
            (AtomicU32::new(0), AtomicU64::new(0), AtomicU8::new(Place::Away as u8));
        Self { requests, wake, place, home: AtomicUsize::new(cpu) }
    }
}

impl Words for Bell {
    #[inline]
    fn ask(&self, bits: u32) {
        self.requests.fetch_or(bits, Ordering::Release);
    }

    #[inline]
    fn asked(&self) -> u32 {
        self.requests.load(Ordering::Acquire)
    }

    #[inline]
    fn wake(&self) -> u64 {
        self.wake.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_wake(&self, at: u64) {
        self.wake.store(at, Ordering::Relaxed);
    }

    #[inline]
    fn set_woken(&self, from: u64) -> bool {
        self.wake.compare_exchange(from, WOKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn place(&self) -> Place {
        match self.place.load(Ordering::Relaxed) {
            1 => Place::Queued,
            2 => Place::OnCpu,
            _ => Place::Away,
        }
    }

    #[inline]
    fn set_place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Relaxed);
    }

    #[inline]
    fn home(&self) -> usize {
        self.home.load(Ordering::Acquire)
    }

    #[inline]
    fn set_home(&self, cpu: usize) {
        self.home.store(cpu, Ordering::Release);
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
