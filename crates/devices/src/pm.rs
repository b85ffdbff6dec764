//! ACPI power management: the PM1a event and control blocks and the PM timer (ACPI 6.5, 4.8.3).

#[cfg(test)]
mod tests;

use crate::config::PlatformConfig;
use crate::device::{Device, Touched};
use crate::effect::Effect;
use crate::state::{decode, encode, ensure};
use minicbor::{Decode, Encode};
use vm_types::{Now, StateError, StateRecord};

/// First port of the PM1a event block (4 ports).
pub(crate) const PM1A_EVT: u16 = 0x600;
/// The PM1a control block (2 ports).
pub(crate) const PM1A_CNT: u16 = 0x604;
/// The PM timer (4 ports).
pub(crate) const PM_TMR: u16 = 0x608;
/// Its rate in ticks a second; the counter has 32 bits.
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// The SLP_TYP that `_S5` names.
pub(crate) const SLP_TYP_S5: u8 = 5;

const KIND: &str = Pm::KIND;
const VERSION: u16 = 1;
const TMR_STS: u16 = 1;
const PWRBTN_STS: u16 = 1 << 8;
/// Timer, global lock, power button, sleep button, RTC, wake.
const STS_BITS: u16 = 0x8731;
const EN_BITS: u16 = 0x0721;
const SCI_EN: u16 = 1;
const SLP_EN: u16 = 1 << 13;
/// SLP_TYP and BM_RLD.
const CNT_BITS: u16 = 0x1C02;

#[derive(Clone, Encode, Decode)]
pub(crate) struct Pm {
    #[n(0)]
    status: u16,
    #[n(1)]
    enable: u16,
    #[n(2)]
    control: u16,
    /// Half turns of the timer (bit 31 toggles) that are accounted for.
    #[n(3)]
    half_turns: u64,
    #[cbor(skip)]
    deadline: u64,
}

impl Pm {
    pub(crate) fn new() -> Self {
        Self { status: 0, enable: 0, control: 0, half_turns: 0, deadline: u64::MAX }
    }

    pub(crate) fn press_power_button(&mut self) {
        self.status |= PWRBTN_STS;
    }

    /// The whole aligned access; the timer must never be read in parts.
    pub(crate) fn read(&mut self, port: u16, size: u8, now: Now) -> u32 {
        let block = match port & !3 {
            PM1A_EVT => {
                self.evaluate(now);
                u32::from(self.status) | u32::from(self.enable) << 16
            }
            PM1A_CNT => u32::from(self.control | SCI_EN),
            _ => now.ticks_at(PM_TIMER_HZ) as u32,
        };
        let value = block >> (8 * (port & 3));
        match size {
            1 => value & 0xFF,
            2 => value & 0xFFFF,
            _ => value,
        }
    }

    /// True when the guest enters S5.
    pub(crate) fn write(&mut self, port: u16, size: u8, value: u32, now: Now) -> bool {
        let shift = 8 * (port & 3);
        let mask = (0xFFFF_FFFF >> (32 - 8 * u32::from(size.clamp(1, 4)))) << shift;
        let value = value << shift & mask;
        self.evaluate(now);
        match port & !3 {
            PM1A_EVT => {
                self.status &= !(value as u16);
                let mask = (mask >> 16) as u16 & EN_BITS;
                self.enable = self.enable & !mask | (value >> 16) as u16 & mask;
                self.evaluate(now);
                false
            }
            PM1A_CNT => {
                let (mask, value) = (mask as u16, value as u16);
                self.control = self.control & !(mask & CNT_BITS) | value & CNT_BITS;
                value & SLP_EN != 0 && self.control >> 10 & 7 == u16::from(SLP_TYP_S5)
            }
            _ => false,
        }
    }

    /// TMR_STS is set each time the timer's top bit toggles.
    fn evaluate(&mut self, now: Now) {
        let half_turns = now.ticks_at(PM_TIMER_HZ) >> 31;
        if half_turns > self.half_turns {
            self.half_turns = half_turns;
            self.status |= TMR_STS;
        }
        self.deadline = if self.enable & !self.status & TMR_STS != 0 {
            now.tsc_at((self.half_turns + 1).saturating_mul(1 << 31), PM_TIMER_HZ)
        } else {
            u64::MAX
        };
    }
}

impl Device for Pm {
    const KIND: &'static str = "pm";
    const PORTS: &'static [(u16, u16)] = &[(PM1A_EVT, PM_TMR + 3)];
    /// The SCI.
    const IRQ: Option<u8> = Some(9);

    fn build(_: &PlatformConfig) -> Self {
        Self::new()
    }

    #[inline(always)]
    fn takes(_: u16, _: u8) -> bool {
        true
    }

    fn input(&mut self, port: u16, size: u8, now: Now) -> (u32, Touched) {
        (self.read(port, size, now), Touched::NOTHING)
    }

    fn output(&mut self, port: u16, size: u8, value: u32, now: Now) -> (Option<Effect>, Touched) {
        let off = self.write(port, size, value, now);
        (off.then_some(Effect::PowerOff), Touched::BOTH)
    }

    fn line(&self) -> bool {
        self.status & self.enable != 0
    }

    fn deadline(&self) -> u64 {
        self.deadline
    }

    fn run(&mut self, now: Now) -> bool {
        if now.tsc >= self.deadline {
            self.evaluate(now);
        }
        false
    }

    fn export(&self) -> StateRecord {
        encode(KIND, 0, VERSION, self)
    }

    /// The first `run` computes the deadline.
    fn import(record: &StateRecord, _: &PlatformConfig) -> Result<Self, StateError> {
        let pm: Self = decode(record, VERSION)?;
        ensure(pm.status & !STS_BITS == 0, KIND, "status", pm.status)?;
        ensure(pm.enable & !EN_BITS == 0, KIND, "enable", pm.enable)?;
        ensure(pm.control & !CNT_BITS == 0, KIND, "control", pm.control)?;
        // What 64 bits of ticks hold, whatever a guest's TSC and rate.
        ensure(pm.half_turns < 1 << 33, KIND, "half_turns", pm.half_turns)?;
        Ok(Self { deadline: 0, ..pm })
    }
}
