//! One counter of the 8254 (Intel 8254 data sheet), as a function of the tick it is looked at.

use crate::pit::KIND;
use crate::state::ensure;
use minicbor::{Decode, Encode};
use vm_types::StateError;

/// Times are ticks of the 1.193182 MHz clock since guest TSC 0.
#[derive(Clone, Copy, PartialEq, Debug, Encode, Decode)]
pub(crate) struct Counter {
    #[n(0)]
    mode: u8,
    /// 1 low byte, 2 high byte, 3 low then high.
    #[n(1)]
    access: u8,
    #[n(2)]
    bcd: bool,
    /// The value as written.
    #[n(3)]
    reload: u16,
    /// A count is loaded and, in modes 1 and 5, was triggered.
    #[n(4)]
    counting: bool,
    #[n(5)]
    start: u64,
    #[n(6)]
    gate: bool,
    /// Ticks counted when the gate went low, or when mode 0 got half a count.
    #[n(7)]
    frozen: u64,
    #[n(8)]
    low_byte: Option<u8>,
    #[n(9)]
    read_high: bool,
    #[n(10)]
    latched: Option<u16>,
    #[n(11)]
    status: Option<u8>,
    /// No count was written since the control word.
    #[n(12)]
    null: bool,
}

impl Counter {
    pub(crate) const fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: 3,
            bcd: false,
            reload: 0,
            counting: false,
            start: 0,
            gate,
            frozen: 0,
            low_byte: None,
            read_high: false,
            latched: None,
            status: None,
            null: true,
        }
    }

    pub(crate) fn gate(&self) -> bool {
        self.gate
    }

    /// A control word other than a latch command.
    pub(crate) fn control(&mut self, word: u8) {
        let mode = word >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode & 3 } else { mode },
            access: word >> 4 & 3,
            bcd: word & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    pub(crate) fn latch_count(&mut self, t: u64) {
        if self.latched.is_none() {
            self.latched = Some(self.count(t));
        }
    }

    pub(crate) fn latch_status(&mut self, t: u64) {
        if self.status.is_none() {
            let out = u8::from(self.out(t)) << 7;
            let null = u8::from(self.null) << 6;
            self.status = Some(out | null | self.access << 4 | self.mode << 1 | u8::from(self.bcd));
        }
    }

    pub(crate) fn read(&mut self, t: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let count = self.latched.unwrap_or_else(|| self.count(t));
        let high = match self.access {
            1 => false,
            2 => true,
            _ => {
                self.read_high = !self.read_high;
                !self.read_high
            }
        };
        if self.access != 3 || high {
            self.latched = None;
        }
        if high { (count >> 8) as u8 } else { count as u8 }
    }

    pub(crate) fn write(&mut self, value: u8, t: u64) {
        let value16 = u16::from(value);
        let reload = match (self.access, self.low_byte.take()) {
            (1, _) => value16,
            (2, _) => value16 << 8,
            (_, Some(low)) => value16 << 8 | u16::from(low),
            (_, None) => {
                // In mode 0 the first of two bytes stops the count where it is, and drops OUT.
                self.frozen = self.elapsed(t);
                self.low_byte = Some(value);
                return;
            }
        };
        self.reload = reload;
        self.null = false;
        self.start = t;
        self.frozen = 0;
        // In modes 1 and 5 a rising gate starts the count; the others start by themselves.
        self.counting = !matches!(self.mode, 1 | 5);
    }

    pub(crate) fn set_gate(&mut self, gate: bool, t: u64) {
        if gate == self.gate {
            return;
        }
        let counted = self.elapsed(t);
        self.gate = gate;
        match (self.mode, gate) {
            (1 | 5, true) => {
                self.counting = !self.null;
                self.start = t;
            }
            (2 | 3, true) => self.start = t,
            (0 | 4, true) => self.start = t.saturating_sub(counted),
            (0 | 2..=4, false) => self.frozen = counted,
            _ => {}
        }
    }

    fn period(&self) -> u64 {
        let n = if self.bcd { from_bcd(self.reload) } else { u64::from(self.reload) };
        match n {
            0 => self.modulus(),
            n => n,
        }
    }

    fn modulus(&self) -> u64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    fn stopped(&self) -> bool {
        self.half_written() || (!self.gate && !matches!(self.mode, 1 | 5))
    }

    /// Mode 0 waits for the second byte.
    fn half_written(&self) -> bool {
        self.mode == 0 && self.low_byte.is_some()
    }

    fn elapsed(&self, t: u64) -> u64 {
        if self.stopped() { self.frozen } else { t.saturating_sub(self.start) }
    }

    fn count(&self, t: u64) -> u16 {
        let n = self.period();
        if !self.counting {
            return self.reload;
        }
        let d = self.elapsed(t);
        let value = match self.mode {
            2 => n - d % n,
            3 => {
                let (half, at) = (n.div_ceil(2), d % n);
                (n & !1) - 2 * if at < half { at } else { at - half }
            }
            _ => (n + self.modulus() - d % self.modulus()) % self.modulus(),
        };
        if self.bcd { to_bcd(value % 10_000) } else { value as u16 }
    }

    /// The level of OUT.
    pub(crate) fn out(&self, t: u64) -> bool {
        if !self.counting {
            return self.mode != 0;
        }
        let (n, d) = (self.period(), self.elapsed(t));
        match self.mode {
            0 if self.half_written() => false,
            0 | 1 => d >= n,
            2 => self.stopped() || d % n != n - 1,
            3 => self.stopped() || d % n < n.div_ceil(2),
            _ => d != n,
        }
    }

    /// The first tick behind `t` at which OUT rises; `u64::MAX` for never.
    pub(crate) fn next_rise(&self, t: u64) -> u64 {
        if !self.counting || self.stopped() {
            return u64::MAX;
        }
        let n = self.period();
        let once = |at: u64| if at > t { at } else { u64::MAX };
        match self.mode {
            0 | 1 => once(self.start.saturating_add(n)),
            2 | 3 => self.start.saturating_add((self.elapsed(t) / n + 1) * n),
            _ => once(self.start.saturating_add(n + 1)),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StateError> {
        ensure(self.mode <= 5, KIND, "mode", self.mode)?;
        ensure(matches!(self.access, 1..=3), KIND, "access", self.access)?;
        ensure(self.start <= super::MAX_TICKS, KIND, "start", self.start)?;
        ensure(self.frozen <= super::MAX_TICKS, KIND, "frozen", self.frozen)
    }
}

fn from_bcd(value: u16) -> u64 {
    (0..4).rev().fold(0, |n, digit| n * 10 + u64::from(value >> (4 * digit) & 0xF))
}

fn to_bcd(value: u64) -> u16 {
    [1000, 100, 10, 1].into_iter().fold(0, |bcd, unit| bcd << 4 | (value / unit % 10) as u16)
}
