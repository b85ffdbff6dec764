//! The MC146818 real-time clock and CMOS RAM (Motorola data sheet) behind ports 0x70 and 0x71.

mod calendar;
#[cfg(test)]
mod tests;

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::state::{decode, encode, ensure};
use calendar::Civil;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

const KIND: &str = Rtc::KIND;
const VERSION: u16 = 1;
/// The crystal, in ticks a second; every time in here is such ticks since guest TSC 0.
const CRYSTAL_HZ: u64 = 32_768;
const MAX_TICKS: u64 = 1 << 60;
/// The last second of the year 9999.
const MAX_SECS: i64 = 253_402_300_799;
/// UIP is raised 244 us, eight ticks, before an update.
const UIP_TICKS: u64 = 8;

const REG_A: u8 = 0x0A;
const REG_B: u8 = 0x0B;
const REG_C: u8 = 0x0C;
const REG_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;
const CENTURY_PS2: u8 = 0x37;

const B_SET: u8 = 0x80;
const B_BINARY: u8 = 0x04;
const B_24H: u8 = 0x02;
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;

/// Whether register A holds the divider chain in reset.
const fn in_reset(a: u8) -> bool {
    a & 0x60 == 0x60
}

/// Second, minute, hour, weekday, day, month, year, century as the registers show them.
type Face = [u8; 8];

#[derive(Clone, Encode, Decode)]
pub(crate) struct Rtc {
    #[n(0)]
    index: u8,
    #[n(1)]
    a: u8,
    #[n(2)]
    b: u8,
    #[n(3)]
    c: u8,
    /// Wall clock minus guest time in seconds.
    #[n(4)]
    offset: i64,
    /// The time registers while SET stops their update.
    #[n(5)]
    held: Option<Face>,
    /// Up to here the flags in register C are known.
    #[n(6)]
    checked: u64,
    #[n(7)]
    ram: ByteArray<128>,
    /// The divider chain is this many ticks ahead of guest time, less than a second; `None` where it never was reset.
    #[n(8)]
    phase: Option<u16>,
    #[cbor(skip)]
    deadline: u64,
}

impl Rtc {
    /// `low` and `high` are the bytes of RAM below and above 4 GiB.
    pub(crate) fn new(base_unix_secs: u64, low: u64, high: u64) -> Self {
        let mut ram = [0; 128];
        ram[0x14] = 0x02; // equipment: a coprocessor
        let mut word = |at: usize, value: u64| {
            let value = value.min(0xFFFF) as u16;
            [ram[at], ram[at + 1]] = value.to_le_bytes();
        };
        let extended = low.saturating_sub(1 << 20) >> 10;
        word(0x15, 640);
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, low.saturating_sub(16 << 20) >> 16);
        let above = (high >> 16).min(0xFF_FFFF);
        word(0x5B, above & 0xFFFF);
        ram[0x5D] = (above >> 16) as u8;
        Self {
            index: 0,
            a: 0x26,
            b: B_24H,
            c: 0,
            offset: i64::try_from(base_unix_secs).unwrap_or(MAX_SECS).min(MAX_SECS),
            held: None,
            checked: 0,
            ram: ram.into(),
            phase: None,
            deadline: u64::MAX,
        }
    }

    pub(crate) fn read(&mut self, port: u16, now: Now) -> u8 {
        if port & 1 == 0 {
            return 0xFF;
        }
        match self.index {
            REG_A => self.a | self.uip(now),
            REG_B => self.b,
            REG_C => {
                self.evaluate(now);
                let flags = self.c | u8::from(self.line()) << 7;
                self.c = 0;
                self.arm(now);
                flags
            }
            REG_D => 0x80,
            reg => match time_field(reg) {
                Some(field) => self.face(now)[field],
                None => self.ram[usize::from(reg & 0x7F)],
            },
        }
    }

    pub(crate) fn write(&mut self, port: u16, value: u8, now: Now) {
        if port & 1 == 0 {
            // Bit 7 gates the NMI of a PC; there is none to gate.
            self.index = value & 0x7F;
            return;
        }
        self.evaluate(now);
        match self.index {
            REG_A => self.write_a(value & 0x7F, now),
            REG_B => self.write_b(value, now),
            REG_C | REG_D => {}
            reg => match time_field(reg) {
                Some(field) => self.write_time(field, value, now),
                None => self.ram[usize::from(reg & 0x7F)] = value,
            },
        }
        self.arm(now);
    }

    fn write_a(&mut self, value: u8, now: Now) {
        let face = self.face(now);
        let restarts = in_reset(self.a) && !in_reset(value);
        self.a = value;
        if restarts {
            // The first update comes half a second after the chain is let go (data sheet, register A): whoever sets the
            // clock hits the second by that.
            let ahead = (CRYSTAL_HZ + CRYSTAL_HZ / 2 - ticks(now) % CRYSTAL_HZ) % CRYSTAL_HZ;
            self.phase = Some(ahead as u16);
            self.checked = self.chain(now);
        }
        self.hold(face, now);
    }

    fn write_b(&mut self, value: u8, now: Now) {
        let face = self.face(now);
        // SET clears UIE (data sheet, register B).
        self.b = if value & B_SET != 0 { value & !UPDATE } else { value };
        self.hold(face, now);
    }

    /// The time registers stand while SET or the divider's reset stops them, and go on from what they are then.
    fn hold(&mut self, face: Face, now: Now) {
        match (self.b & B_SET != 0 || in_reset(self.a), self.held) {
            (true, None) => self.held = Some(face),
            (false, Some(held)) => {
                self.set_clock(&held, now);
                self.held = None;
            }
            _ => {}
        }
    }

    fn write_time(&mut self, field: usize, value: u8, now: Now) {
        let mut face = self.face(now);
        face[field] = value;
        match &mut self.held {
            Some(held) => *held = face,
            None => self.set_clock(&face, now),
        }
    }

    fn set_clock(&mut self, face: &Face, now: Now) {
        let secs = calendar::to_unix(&self.civil(face)).cast_signed();
        self.offset = secs.min(MAX_SECS) - (self.chain(now) / CRYSTAL_HZ).cast_signed();
    }

    fn ahead(&self) -> u64 {
        self.phase.unwrap_or(0).into()
    }

    /// What the divider chain has counted. Seconds, and periods of the interrupt, are its carries.
    fn chain(&self, now: Now) -> u64 {
        (ticks(now) + self.ahead()).min(MAX_TICKS)
    }

    fn seconds(&self, t: u64) -> u64 {
        let secs = (t / CRYSTAL_HZ).cast_signed() + self.offset;
        secs.clamp(0, MAX_SECS).cast_unsigned()
    }

    fn face(&self, now: Now) -> Face {
        if let Some(held) = self.held {
            return held;
        }
        let civil = calendar::from_unix(self.seconds(self.chain(now)));
        let code = |value| self.code(value);
        [
            code(civil.second),
            code(civil.minute),
            self.code_hour(civil.hour),
            code(civil.weekday),
            code(civil.day),
            code(civil.month),
            code(civil.year % 100),
            bcd(civil.year / 100),
        ]
    }

    fn civil(&self, face: &Face) -> Civil {
        let value = |byte: u8| u64::from(if self.b & B_BINARY != 0 { byte } else { from_bcd(byte) });
        let hour = if self.b & B_24H != 0 {
            value(face[2])
        } else {
            value(face[2] & 0x7F) % 12 + if face[2] & 0x80 != 0 { 12 } else { 0 }
        };
        Civil {
            second: value(face[0]),
            minute: value(face[1]),
            hour,
            weekday: 1,
            day: value(face[4]),
            month: value(face[5]),
            year: u64::from(from_bcd(face[7])) * 100 + value(face[6]),
        }
    }

    fn code(&self, value: u64) -> u8 {
        if self.b & B_BINARY != 0 { value as u8 } else { bcd(value) }
    }

    fn code_hour(&self, hour: u64) -> u8 {
        if self.b & B_24H != 0 {
            return self.code(hour);
        }
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        self.code(twelve) | if hour >= 12 { 0x80 } else { 0 }
    }

    /// The divider counts the crystal and updates are not stopped.
    fn updating(&self) -> bool {
        self.a & 0x70 == 0x20 && self.b & B_SET == 0
    }

    fn uip(&self, now: Now) -> u8 {
        let left = CRYSTAL_HZ - self.chain(now) % CRYSTAL_HZ;
        if self.updating() && left <= UIP_TICKS { 0x80 } else { 0 }
    }

    /// log2 of the periodic interrupt's period in ticks.
    fn period(&self) -> Option<u8> {
        match self.a & 0x7F {
            rate @ (0x21 | 0x22) => Some((rate & 0x0F) + 6),
            rate @ 0x23..=0x2F => Some((rate & 0x0F) - 1),
            _ => None,
        }
    }

    /// Sets the flags of everything that happened since the last look.
    fn evaluate(&mut self, now: Now) {
        let t = self.chain(now);
        if t <= self.checked {
            return;
        }
        if self.period().is_some_and(|log2| t >> log2 != self.checked >> log2) {
            self.c |= PERIODIC;
        }
        if self.updating() && t / CRYSTAL_HZ != self.checked / CRYSTAL_HZ {
            self.c |= UPDATE;
            if self.next_alarm(self.seconds(self.checked)).is_some_and(|at| at <= self.seconds(t)) {
                self.c |= ALARM;
            }
        }
        self.checked = t;
    }

    /// The first wall-clock second behind `after` that the alarm registers match.
    fn next_alarm(&self, after: u64) -> Option<u64> {
        let hit = |at: usize, code: u8| self.ram[at] >= 0xC0 || self.ram[at] == code;
        let second = |s: u64| hit(1, self.code(s));
        let minute = |m: u64| hit(3, self.code(m));
        let hour = |h: u64| hit(5, self.code_hour(h));
        if !((0..60).any(second) && (0..60).any(minute) && (0..24).any(hour)) {
            return None;
        }
        let start = after + 1;
        for ahead in 0..=24 {
            let hour_at = (start / 3600 + ahead) * 3600;
            if !hour(hour_at / 3600 % 24) {
                continue;
            }
            let from = start.max(hour_at);
            for m in (from - hour_at) / 60..60 {
                let minute_at = hour_at + m * 60;
                let from = from.max(minute_at) - minute_at;
                if let Some(s) = (from..60).find(|&s| minute(m) && second(s)) {
                    return Some(minute_at + s);
                }
            }
        }
        None
    }

    fn arm(&mut self, now: Now) {
        let mut at = u64::MAX;
        let wanted = self.b & !self.c;
        if self.line() {
            // The line stays up until register C is read.
        } else {
            if let (true, Some(log2)) = (wanted & PERIODIC != 0, self.period()) {
                at = at.min(((self.checked >> log2) + 1) << log2);
            }
            if wanted & UPDATE != 0 && self.updating() {
                at = at.min((self.checked / CRYSTAL_HZ + 1) * CRYSTAL_HZ);
            }
            if wanted & ALARM != 0 && self.updating() {
                let wall = self.next_alarm(self.seconds(self.checked));
                let guest = wall.map(|wall| wall.cast_signed() - self.offset);
                if let Some(guest) = guest.and_then(|secs| u64::try_from(secs).ok()) {
                    at = at.min(guest.saturating_mul(CRYSTAL_HZ));
                }
            }
        }
        let at = if at == u64::MAX { at } else { at.saturating_sub(self.ahead()) };
        self.deadline = if at == u64::MAX { at } else { now.tsc_at(at, CRYSTAL_HZ) };
    }
}

impl Device for Rtc {
    const KIND: &'static str = "rtc";
    const PORTS: &'static [(u16, u16)] = &[(0x70, 0x71)];
    const IRQ: Option<u8> = Some(8);

    fn build(config: &PlatformConfig) -> Self {
        Self::new(config.rtc_base_unix_secs, config.low_ram, config.high_ram)
    }

    fn input(&mut self, port: u16, _: u8, now: Now) -> (u32, Touched) {
        (self.read(port, now).into(), Touched::BOTH)
    }

    fn output(&mut self, port: u16, _: u8, value: u32, now: Now) -> (Option<Effect>, Touched) {
        self.write(port, value as u8, now);
        (None, Touched::BOTH)
    }

    fn line(&self) -> bool {
        self.b & self.c & (PERIODIC | ALARM | UPDATE) != 0
    }

    fn deadline(&self) -> u64 {
        self.deadline
    }

    fn run(&mut self, now: Now) -> bool {
        if now.tsc >= self.deadline {
            self.evaluate(now);
            self.arm(now);
        }
        false
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    /// The first `run` computes the deadline.
    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let rtc: Self = decode(record, VERSION)?;
        ensure(rtc.index <= 0x7F, KIND, "index", rtc.index)?;
        ensure(rtc.a <= 0x7F, KIND, "register A", rtc.a)?;
        ensure(rtc.c & !(PERIODIC | ALARM | UPDATE) == 0, KIND, "register C", rtc.c)?;
        let (set, reset) = (rtc.b & B_SET != 0, in_reset(rtc.a));
        // Hosts of 1.0 let the clock run while the divider is in reset.
        ensure(if rtc.held.is_some() { set || reset } else { !set }, KIND, "register B", rtc.b)?;
        ensure(rtc.ahead() < CRYSTAL_HZ, KIND, "phase", rtc.ahead())?;
        let offset = rtc.offset.unsigned_abs();
        ensure(offset <= MAX_TICKS / CRYSTAL_HZ + MAX_SECS.unsigned_abs(), KIND, "offset", offset)?;
        ensure(rtc.checked <= MAX_TICKS, KIND, "checked", rtc.checked)?;
        Ok(Self { deadline: 0, ..rtc })
    }
}

fn ticks(now: Now) -> u64 {
    now.ticks_at(CRYSTAL_HZ).min(MAX_TICKS)
}

/// Where a time register stands in a [`Face`].
fn time_field(reg: u8) -> Option<usize> {
    match reg {
        0 | 2 | 4 => Some(usize::from(reg / 2)),
        6..=9 => Some(usize::from(reg) - 3),
        CENTURY | CENTURY_PS2 => Some(7),
        _ => None,
    }
}

fn bcd(value: u64) -> u8 {
    (value / 10 % 10 * 16 + value % 10) as u8
}

fn from_bcd(byte: u8) -> u8 {
    (byte >> 4) * 10 + (byte & 0xF)
}
