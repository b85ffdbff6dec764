//! What the board asks of each of its members.

use crate::config::PlatformConfig;
use crate::effect::Effect;
use core::ops::BitOr;
use vm_types::{Now, StateError, StateRecord};

/// A device with a fixed place on the board. It names its regions and its line, and keeps its own state; the board
/// decodes addresses, carries lines to the interrupt controllers, and gathers the records.
///
/// All but what a device has of its own may be left to the defaults.
pub(crate) trait Device: Sized {
    /// What its state record is called, and its entry in the shape of a VM.
    const KIND: &'static str;
    /// The ports that are its own, as first and last of each run.
    const PORTS: &'static [(u16, u16)] = &[];
    /// The page of its registers in memory.
    const PAGE: Option<u64> = None;
    /// The ISA interrupt at the end of its line.
    const IRQ: Option<u8> = None;

    /// As firmware would hand it to an operating system, at guest TSC 0.
    fn build(config: &PlatformConfig) -> Self;

    /// Whether it answers an access of this width that begins at one of its ports. What it does not answer is split into
    /// bytes, as on an ISA bus.
    #[inline(always)]
    fn takes(port: u16, size: u8) -> bool {
        let _ = port;
        size == 1
    }

    /// IN from one of its ports, of a size that it takes.
    #[inline(always)]
    fn input(&mut self, port: u16, size: u8, now: Now) -> (u32, Touched) {
        let _ = (port, size, now);
        (u32::MAX, Touched::NOTHING)
    }

    /// OUT to one of its ports, of a size that it takes.
    #[inline(always)]
    fn output(&mut self, port: u16, size: u8, value: u32, now: Now) -> (Option<Effect>, Touched) {
        let _ = (port, size, value, now);
        (None, Touched::NOTHING)
    }

    /// A load of up to 8 bytes from its page.
    #[inline(always)]
    fn load(&mut self, offset: u64) -> u64 {
        let _ = offset;
        u64::MAX
    }

    /// A store to its page.
    #[inline(always)]
    fn store(&mut self, offset: u64, value: u64) -> Touched {
        let _ = (offset, value);
        Touched::NOTHING
    }

    /// The level of its line.
    #[inline(always)]
    fn line(&self) -> bool {
        false
    }

    /// The guest TSC from which [`Device::run`] has something to do.
    #[inline(always)]
    fn deadline(&self) -> u64 {
        u64::MAX
    }

    /// Brings its timers up to `now`. True where that pulsed its line.
    #[inline(always)]
    fn run(&mut self, now: Now) -> bool {
        let _ = now;
        false
    }

    /// Its state.
    fn export(&self) -> StateRecord;

    /// A device with the state of `record`, on a board made by `config`. The record may be anything that another host
    /// sent.
    ///
    /// # Errors
    /// The field that this device cannot have.
    fn import(record: &StateRecord, config: &PlatformConfig) -> Result<Self, StateError>;
}

/// What an access may have changed for the rest of the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Touched(u8);

impl Touched {
    /// The device alone.
    pub(crate) const NOTHING: Self = Self(0);
    /// The level of a line.
    pub(crate) const LINE: Self = Self(1);
    /// A deadline.
    pub(crate) const TIMER: Self = Self(1 << 1);
    /// Both, which is what most devices say.
    pub(crate) const BOTH: Self = Self(Self::LINE.0 | Self::TIMER.0);
    /// The 8259A pair's INTR, or who takes it.
    pub(crate) const INTR: Self = Self(1 << 2);
    /// There are interrupt messages to deliver.
    pub(crate) const MESSAGES: Self = Self(1 << 3);

    #[inline(always)]
    pub(crate) fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }
}

impl BitOr for Touched {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
