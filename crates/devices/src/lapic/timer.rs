//! The local APIC's timer (SDM vol. 3, 11.5.4).

use super::{LVT_MASKED, LVT_TIMER, Lapic};
use crate::clock::{APIC_BUS_HZ, MIN_PERIOD_HZ};
use vm_types::Now;

/// Times in a record lie below this, so that sums cannot overflow.
pub(super) const MAX_TICKS: i64 = 1 << 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
}

#[derive(Clone, Copy)]
pub(super) struct Timer {
    pub(super) initial: u32,
    /// The divide configuration register.
    pub(super) divide: u32,
    /// Bus ticks since guest TSC 0 at which the running count began; `None` when stopped. A change of the
    /// divider moves it, even before 0.
    pub(super) start: Option<i64>,
    /// IA32_TSC_DEADLINE as the guest wrote it, 0 when disarmed.
    pub(super) tsc_deadline: u64,
    /// What the vCPU's TSC, by which it goes, shows beyond the VM's time line.
    pub(super) tsc_adjust: u64,
    /// The TSC from which `run_timer` has something to look at.
    pub(super) deadline: u64,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self { initial: 0, divide: 0, start: None, tsc_deadline: 0, tsc_adjust: 0, deadline: u64::MAX }
    }

    /// Bus ticks a count.
    fn divisor(&self) -> u64 {
        let code = self.divide & 3 | (self.divide & 8) >> 1;
        1 << ((code + 1) & 7)
    }

    fn span(&self) -> u64 {
        u64::from(self.initial.max(1)) * self.divisor()
    }

    /// Ticks until the TSC reaches the deadline; `None` where there is none.
    fn left(&self, now: Now) -> Option<u64> {
        let shown = now.tsc.wrapping_add(self.tsc_adjust);
        (self.tsc_deadline != 0).then(|| self.tsc_deadline.saturating_sub(shown))
    }

    fn count(&self, mode: Mode, now: Now) -> u32 {
        let Some(start) = self.start else { return 0 };
        let initial = u64::from(self.initial.max(1));
        let counted = since(start, now) / self.divisor();
        let left = match mode {
            Mode::OneShot => initial.saturating_sub(counted),
            Mode::Periodic => initial - counted % initial,
            Mode::TscDeadline => 0,
        };
        left as u32
    }
}

fn bus(now: Now) -> i64 {
    i64::try_from(now.ticks_at(APIC_BUS_HZ)).unwrap_or(MAX_TICKS).min(MAX_TICKS)
}

/// Bus ticks from `start` to `now`.
fn since(start: i64, now: Now) -> u64 {
    u64::try_from(bus(now) - start).unwrap_or(0)
}

impl Lapic {
    pub(super) fn timer_mode(&self) -> Mode {
        match self.lvt[LVT_TIMER] >> 17 & 3 {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            _ => Mode::TscDeadline,
        }
    }

    /// The TSC at which the timer may interrupt; `u64::MAX` for never.
    pub(crate) fn timer_deadline(&self) -> u64 {
        if self.lvt[LVT_TIMER] & LVT_MASKED != 0 { u64::MAX } else { self.timer.deadline }
    }

    /// Lets the timer expire where it is due; true when that made a new request.
    #[inline(always)]
    pub(crate) fn run_timer(&mut self, now: Now) -> bool {
        now.tsc >= self.timer.deadline && self.expire(now)
    }

    #[inline(never)]
    fn expire(&mut self, now: Now) -> bool {
        let fired = match self.timer_mode() {
            Mode::TscDeadline => self.timer.left(now) == Some(0),
            _ => self.timer.start.is_some_and(|start| since(start, now) >= self.timer.span()),
        };
        if fired {
            match (self.timer_mode(), self.timer.start) {
                (Mode::TscDeadline, _) => self.timer.tsc_deadline = 0,
                (Mode::Periodic, Some(start)) => {
                    let span = self.timer.span();
                    self.timer.start = Some(start + (since(start, now) / span * span).cast_signed());
                }
                _ => self.timer.start = None,
            }
        }
        self.arm_timer(now);
        if fired && self.timer_mode() == Mode::Periodic {
            self.timer.deadline = self.timer.deadline.max(now.tsc.saturating_add(now.hz / MIN_PERIOD_HZ));
        }
        let lvt = self.lvt[LVT_TIMER];
        fired && lvt & LVT_MASKED == 0 && self.request(lvt as u8, false)
    }

    fn arm_timer(&mut self, now: Now) {
        self.timer.deadline = match (self.timer_mode(), self.timer.start) {
            (Mode::TscDeadline, _) => {
                self.timer.left(now).map_or(u64::MAX, |left| now.tsc.saturating_add(left))
            }
            (Mode::OneShot | Mode::Periodic, Some(start)) => {
                let end = start + self.timer.span().cast_signed();
                now.tsc_at(u64::try_from(end).unwrap_or(0), APIC_BUS_HZ)
            }
            _ => u64::MAX,
        };
    }

    pub(super) fn timer_count(&self, now: Now) -> u32 {
        self.timer.count(self.timer_mode(), now)
    }

    pub(super) fn write_timer_initial(&mut self, value: u32, now: Now) {
        if self.timer_mode() != Mode::TscDeadline {
            self.timer.initial = value;
            self.timer.start = (value != 0).then(|| bus(now));
            self.arm_timer(now);
        }
    }

    /// The count goes on from where it stands, at the new rate.
    pub(super) fn write_timer_divide(&mut self, value: u32, now: Now) {
        self.run_timer(now);
        let counted = self.timer.initial - self.timer_count(now).min(self.timer.initial);
        self.timer.divide = value & 0xB;
        if self.timer.start.is_some() {
            let before = u64::from(counted) * self.timer.divisor();
            self.timer.start = Some(bus(now) - before.cast_signed());
        }
        self.arm_timer(now);
    }

    /// Changing to or from TSC-deadline mode disarms the timer (SDM vol. 3, 11.5.4.1).
    pub(super) fn write_timer_lvt(&mut self, value: u32, now: Now) {
        self.run_timer(now);
        let before = self.timer_mode();
        self.lvt[LVT_TIMER] = value;
        let after = self.timer_mode();
        if before != after && (before == Mode::TscDeadline || after == Mode::TscDeadline) {
            self.timer.start = None;
            self.timer.initial = 0;
            self.timer.tsc_deadline = 0;
        }
        self.arm_timer(now);
    }

    pub(crate) fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline
    }

    /// Ignored outside TSC-deadline mode; 0 disarms.
    pub(crate) fn write_tsc_deadline(&mut self, value: u64, now: Now) {
        if self.timer_mode() == Mode::TscDeadline {
            self.timer.tsc_deadline = value;
            self.arm_timer(now);
        }
    }

    /// The guest set its TSC: the deadline stays, and comes when the TSC passes it (SDM vol. 3, 11.5.4.1, 18.17.3).
    pub(crate) fn set_tsc_adjust(&mut self, adjust: u64, now: Now) {
        self.timer.tsc_adjust = adjust;
        self.arm_timer(now);
    }

    /// After an import: a record has the deadline on the VM's time line.
    pub(crate) fn load_tsc_adjust(&mut self, adjust: u64) {
        self.timer.tsc_adjust = adjust;
        if self.timer.tsc_deadline != 0 {
            self.timer.tsc_deadline = self.timer.tsc_deadline.wrapping_add(adjust).max(1);
        }
    }

    /// IA32_TSC_DEADLINE on the VM's time line, where 0 is still "disarmed".
    pub(super) fn deadline_on_time_line(&self) -> u64 {
        let timer = &self.timer;
        if timer.tsc_deadline == 0 { 0 } else { timer.tsc_deadline.wrapping_sub(timer.tsc_adjust).max(1) }
    }
}
