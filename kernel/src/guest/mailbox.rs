//! How other CPUs reach a vCPU while it runs.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use scheduling::wake::{self, Bell, Words};

use super::exits::{self, Exits};
use hw::platform::{apic, irq};
use hw::vmx::flush;
use vm_types::PostedInterrupts;

/// What another CPU asks of a running vCPU: bits of [`Bell::requests`].
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
    /// Devices have work left on the guest's memory.
    Devices = 1 << 4,
}

impl Request {
    /// What the one who asks waits for; Pause is acknowledged by the gate of its slot.
    pub(crate) const WAITED_FOR: u32 = Self::DrainPml as u32;
}

/// What other CPUs may touch of a vCPU while it runs.
pub(crate) struct Mailbox {
    /// [`Request`] bits, whether it sleeps, and the host CPU that schedules it. Bits of [`Request::WAITED_FOR`] are cleared once they
    /// are served, the others before.
    bell: Bell,
    /// The host CPU that is to schedule it: another one until its own has let go of it.
    wanted: AtomicUsize,
    /// An operator wants it where it is.
    pinned: AtomicBool,
    /// The CPU takes what is posted for it while it is in the guest. Only the CPU that has it writes this.
    takes_posted: AtomicBool,
    /// Where CPUs leave interrupts for it by themselves, on a host whose CPUs do that: they have to know whom to notify.
    posted: Option<Arc<PostedInterrupts>>,
    /// Pages that it was the first to write to, where that is noticed by its log or its faults. Only the CPU that has it writes this.
    pub(crate) dirtied: AtomicU64,
    /// Its VM exits.
    pub(crate) exits: Exits,
}

impl Deref for Mailbox {
    type Target = Bell;

    fn deref(&self) -> &Bell {
        &self.bell
    }
}

impl Mailbox {
    /// That of a new vCPU, which `cpu` is to schedule. `posted`: where CPUs leave interrupts for it, if they do.
    pub(crate) fn new(cpu: usize, posted: Option<Arc<PostedInterrupts>>) -> Self {
        posted.iter().for_each(|posted| posted.suppress());
        Self {
            bell: Bell::new(cpu),
            wanted: AtomicUsize::new(cpu),
            pinned: AtomicBool::new(false),
            takes_posted: AtomicBool::new(false),
            posted,
            dirtied: AtomicU64::new(0),
            exits: Exits::new(),
        }
    }

    /// It has written to so many pages before anybody else.
    #[inline(always)]
    pub(crate) fn has_dirtied(&self, pages: u64) {
        exits::add(&self.dirtied, pages);
    }

    /// Whether the CPU takes what is posted for it while it is in the guest.
    #[inline]
    pub(crate) fn takes_posted(&self) -> bool {
        self.takes_posted.load(Ordering::Relaxed)
    }

    /// It does from now on, or does not.
    pub(crate) fn take_posted(&self, takes: bool) {
        self.takes_posted.store(takes, Ordering::Relaxed);
    }

    /// The host CPU that schedules it.
    #[inline]
    pub(crate) fn cpu(&self) -> usize {
        self.bell.home()
    }

    /// Another CPU is to schedule it, once its own has let go of it.
    pub(crate) fn want_on(&self, cpu: usize) {
        self.wanted.store(cpu, Ordering::Release);
    }

    /// An operator says where it is to be: nothing else moves it from there.
    pub(crate) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    /// Nobody minds where it is any more. Whether somebody did.
    pub(crate) fn unpin(&self) -> bool {
        self.pinned.swap(false, Ordering::Relaxed)
    }

    /// Whether an operator has said where it is to be.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// The host CPU that is to schedule it.
    pub(crate) fn to_be_on(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
    }

    /// The same, where that is another one than now.
    pub(crate) fn leaves_for(&self) -> Option<usize> {
        let wanted = self.to_be_on();
        (wanted != self.cpu()).then_some(wanted)
    }

    /// Its CPU has let go of it: `cpu` schedules it.
    pub(crate) fn moves_to(&self, cpu: usize, changed: impl FnOnce()) {
        self.notifies(irq::WAKE, cpu);
        wake::move_to(&self.bell, cpu, changed, flush::kick);
    }

    /// Sets a request bit and makes the vCPU's CPU look; the calling CPU does so by itself. True where the vCPU was asleep.
    pub(crate) fn post(&self, request: Request) -> bool {
        wake::post(&self.bell, request as u32, flush::kick)
    }

    /// The same for what it looks at before each entry, so that one that waits for its turn is not kicked. Where `posted`, the CPU
    /// takes what there is for it without leaving the guest, if it is in the guest.
    pub(crate) fn tell(&self, request: Request, posted: impl FnOnce() -> bool) -> bool {
        wake::tell(&self.bell, request as u32, |cpu, has_turn| {
            if has_turn && self.takes_posted() && posted() { flush::notify(cpu) } else { flush::kick(cpu) }
        })
    }

    /// Its turn is over, and it wants another one.
    pub(crate) fn queue(&self) {
        if let Some(posted) = &self.posted {
            posted.suppress();
        }
        wake::queue(&self.bell);
    }

    /// It has no turn and waits for none. What CPUs leave for it from now on, and have left where nobody was told, is noticed.
    pub(crate) fn rest(&self) {
        self.notifies(irq::WAKE, self.cpu());
    }

    /// Its turn begins.
    pub(crate) fn begin(&self) {
        wake::begin(&self.bell);
        self.notifies(irq::POSTED, self.cpu());
    }

    /// It is halted until that host TSC.
    pub(crate) fn doze(&self, deadline: u64) {
        self.rest();
        wake::doze(&self.bell, deadline);
    }

    /// When it wants a turn, where that is after `now`; not before `held`, unless something is asked of it.
    pub(crate) fn waits_until(&self, now: u64, held: u64) -> Option<u64> {
        if held > now {
            self.rest();
        }
        wake::waits_until(&self.bell, now, held)
    }

    /// A CPU that leaves an interrupt for it from now on tells `cpu` so by this vector. What was left before is asked of it.
    #[inline]
    fn notifies(&self, vector: u8, cpu: usize) {
        if let Some(posted) = &self.posted
            && posted.notify(vector, apic::destination(cpu))
        {
            self.bell.ask(Request::Interrupt as u32);
        }
    }

    /// A CPU has left something for a vCPU of this CPU, and nobody knows for which: this one looks, and wakes.
    pub(crate) fn hear(&self) {
        if self.posted.as_ref().is_some_and(|posted| posted.any()) {
            self.tell(Request::Interrupt, || false);
        }
    }
}
