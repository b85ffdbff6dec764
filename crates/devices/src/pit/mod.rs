//! The 8254 interval timer and port 0x61: channel 0 drives IRQ 0, channel 2 the speaker.

mod counter;
#[cfg(test)]
mod tests;

use crate::clock::MIN_PERIOD_HZ;
use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::state::{decode, encode, ensure};
use counter::Counter;
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

/// The rate of the PIT's clock in ticks a second.
pub const PIT_HZ: u64 = 1_193_182;

const KIND: &str = Pit::KIND;
const VERSION: u16 = 1;
/// Times in a record lie below this, so that sums cannot overflow.
const MAX_TICKS: u64 = 1 << 60;
/// Rises of OUT that follow closer than this are merged into one interrupt.
const MIN_RISE: u64 = PIT_HZ / MIN_PERIOD_HZ;
/// Port 0x61 bit 4 toggles with each DRAM refresh of an AT: every 15.085 us.
const REFRESH_NS: u64 = 15_085;

fn ticks(now: Now) -> u64 {
    now.ticks_at(PIT_HZ).min(MAX_TICKS)
}

#[derive(Clone, Encode, Decode)]
pub(crate) struct Pit {
    #[n(0)]
    counters: [Counter; 3],
    /// Bits 1 to 3 of port 0x61: speaker data and the two check enables.
    #[n(1)]
    port61: u8,
    /// The next rise of OUT0 that is not delivered yet, in PIT ticks.
    #[n(2)]
    rise: Option<u64>,
    /// The same in guest TSC.
    #[cbor(skip)]
    deadline: u64,
}

impl Pit {
    pub(crate) fn new() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            port61: 0,
            rise: None,
            deadline: u64::MAX,
        }
    }

    fn arm(&mut self, t: u64, gap: u64) {
        let next = self.counters[0].next_rise(t);
        let next = if next < t + gap { self.counters[0].next_rise(t + gap) } else { next };
        self.rise = (next != u64::MAX).then_some(next);
    }

    fn set_deadline(&mut self, now: Now) {
        self.deadline = self.rise.map_or(u64::MAX, |rise| now.tsc_at(rise, PIT_HZ));
    }

    pub(crate) fn read(&mut self, port: u16, now: Now) -> u8 {
        let t = ticks(now);
        match port {
            0x61 => {
                let refresh = (now.ns() / REFRESH_NS) as u8 & 1;
                let speaker = &self.counters[2];
                u8::from(speaker.gate()) | self.port61 | refresh << 4 | u8::from(speaker.out(t)) << 5
            }
            0x43 => 0xFF,
            _ => self.counters[usize::from(port - 0x40) % 3].read(t),
        }
    }

    pub(crate) fn write(&mut self, port: u16, value: u8, now: Now) {
        let t = ticks(now);
        match port {
            0x61 => {
                self.port61 = value & 0x0E;
                self.counters[2].set_gate(value & 1 != 0, t);
                return;
            }
            0x43 => self.command(value, t),
            _ => self.counters[usize::from(port - 0x40) % 3].write(value, t),
        }
        self.arm(t, 0);
        self.set_deadline(now);
    }

    fn command(&mut self, word: u8, t: u64) {
        let select = usize::from(word >> 6);
        if select == 3 {
            for (i, counter) in self.counters.iter_mut().enumerate() {
                if word & 2 << i != 0 {
                    if word & 0x20 == 0 {
                        counter.latch_count(t);
                    }
                    if word & 0x10 == 0 {
                        counter.latch_status(t);
                    }
                }
            }
        } else if word & 0x30 == 0 {
            self.counters[select].latch_count(t);
        } else {
            self.counters[select].control(word);
        }
    }
}

impl Device for Pit {
    const KIND: &'static str = "pit";
    const PORTS: &'static [(u16, u16)] = &[(0x40, 0x43), (0x61, 0x61)];
    const IRQ: Option<u8> = Some(0);

    fn build(_: &PlatformConfig) -> Self {
        Self::new()
    }

    fn input(&mut self, port: u16, _: u8, now: Now) -> (u32, Touched) {
        (self.read(port, now).into(), Touched::NOTHING)
    }

    fn output(&mut self, port: u16, _: u8, value: u32, now: Now) -> (Option<Effect>, Touched) {
        self.write(port, value as u8, now);
        (None, Touched::TIMER)
    }

    fn deadline(&self) -> u64 {
        self.deadline
    }

    /// True when OUT0 rose since the last call.
    fn run(&mut self, now: Now) -> bool {
        if now.tsc < self.deadline {
            return false;
        }
        let t = ticks(now);
        let rose = self.rise.is_some_and(|rise| rise <= t);
        if rose {
            self.arm(t, MIN_RISE);
        }
        self.set_deadline(now);
        rose
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    /// The first `run` computes the deadline.
    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let pit: Self = decode(record, VERSION)?;
        for counter in &pit.counters {
            counter.check()?;
        }
        ensure(pit.counters[0].gate() && pit.counters[1].gate(), KIND, "gate", 0u8)?;
        ensure(pit.port61 & !0x0E == 0, KIND, "port 0x61", pit.port61)?;
        let rise = pit.rise.unwrap_or(0);
        ensure(rise <= MAX_TICKS + (1 << 32), KIND, "rise", rise)?;
        Ok(Self { deadline: 0, ..pit })
    }
}
