//! How other CPUs reach a vCPU while it runs.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::exits::{self, Exits};
use hw::vmx::flush;

/// What another CPU asks of a running vCPU: bits of [`Mailbox::requests`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Request {
    /// Look at interrupts and timers again.
    Interrupt = 1 << 0,
    /// Move the page-modification log into the VM's set.
    DrainPml = 1 << 1,
    /// Look at the VM's state: it may not let the vCPU run any more.
    Pause = 1 << 2,
    /// The clock's offset changed.
    Clock = 1 << 3,
}

/// A [`Mailbox::wake`] that is long past: something has been sent to a vCPU that was halted.
pub(crate) const WOKEN: u64 = 1;

impl Request {
    /// What the one who asks waits for; Pause is acknowledged by the gate of its slot.
    pub(crate) const WAITED_FOR: u32 = Self::DrainPml as u32;
}

/// What other CPUs may touch of a vCPU while it runs.
pub(crate) struct Mailbox {
    /// [`Request`] bits. Those of [`Request::WAITED_FOR`] are cleared once they are served, the others before.
    pub(crate) requests: AtomicU32,
    /// The host CPU that schedules it, and the one that is to: they differ until the first has let go of it.
    home: AtomicUsize,
    wanted: AtomicUsize,
    /// Host TSC before which it need not be scheduled: it is halted. 0 while it is not, [`WOKEN`] once it has been woken and
    /// has not run since. A hint alone: a vCPU with a request is scheduled whatever this says.
    pub(crate) wake: AtomicU64,
    /// Pages that it was the first to write to, where that is noticed by its log or its faults. Only the CPU that has it writes this.
    pub(crate) dirtied: AtomicU64,
    /// Its VM exits.
    pub(crate) exits: Exits,
}

impl Mailbox {
    /// That of a new vCPU, which `cpu` is to schedule.
    pub(crate) const fn new(cpu: usize) -> Self {
        let (home, wanted) = (AtomicUsize::new(cpu), AtomicUsize::new(cpu));
        Self {
            requests: AtomicU32::new(0),
            home,
            wanted,
            wake: AtomicU64::new(0),
            dirtied: AtomicU64::new(0),
            exits: Exits::new(),
        }
    }

    /// It has written to so many pages before anybody else.
    #[inline(always)]
    pub(crate) fn has_dirtied(&self, pages: u64) {
        exits::add(&self.dirtied, pages);
    }

    /// The host CPU that schedules it.
    #[inline]
    pub(crate) fn cpu(&self) -> usize {
        self.home.load(Ordering::SeqCst)
    }

    /// Another CPU is to schedule it, once its own has let go of it.
    pub(crate) fn pin(&self, cpu: usize) {
        self.wanted.store(cpu, Ordering::SeqCst);
    }

    /// The CPU that is to schedule it from now on, where that is another one.
    pub(crate) fn leaves_for(&self) -> Option<usize> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        (wanted != self.cpu()).then_some(wanted)
    }

    /// Its CPU has let go of it: `cpu` schedules it, and looks what it was asked for meanwhile. Whoever has found the old CPU
    /// here has set its request before, and this kick comes after: none is lost between the two.
    pub(crate) fn moves_to(&self, cpu: usize) {
        self.home.store(cpu, Ordering::SeqCst);
        flush::kick(cpu);
    }

    /// Sets a request bit and makes the vCPU's CPU look. True where the vCPU was asleep.
    pub(crate) fn post(&self, request: Request) -> bool {
        self.requests.fetch_or(request as u32, Ordering::SeqCst);
        let asleep = self.wake.load(Ordering::Relaxed) > WOKEN;
        if asleep {
            self.wake.store(WOKEN, Ordering::Relaxed);
        }
        flush::kick(self.cpu());
        asleep
    }
}
