//! Numbers of the registers: the offset in the page / 16, the MSR - 800H.

pub(super) const ID: u8 = 0x02;
pub(super) const VERSION: u8 = 0x03;
pub(super) const TPR: u8 = 0x08;
pub(super) const APR: u8 = 0x09;
pub(super) const PPR: u8 = 0x0A;
pub(super) const EOI: u8 = 0x0B;
pub(super) const RRD: u8 = 0x0C;
pub(super) const LDR: u8 = 0x0D;
pub(super) const DFR: u8 = 0x0E;
pub(super) const SVR: u8 = 0x0F;
/// The first of eight, as the next two.
pub(super) const ISR: u8 = 0x10;
pub(super) const TMR: u8 = 0x18;
pub(super) const IRR: u8 = 0x20;
/// The last register of the last of them.
pub(super) const IRR_LAST: u8 = 0x27;
pub(super) const ESR: u8 = 0x28;
pub(super) const ICR_LOW: u8 = 0x30;
pub(super) const ICR_HIGH: u8 = 0x31;
/// The first of the local vector table.
pub(super) const LVT: u8 = 0x32;
pub(super) const TIMER_INITIAL: u8 = 0x38;
pub(super) const TIMER_CURRENT: u8 = 0x39;
pub(super) const TIMER_DIVIDE: u8 = 0x3E;
pub(super) const SELF_IPI: u8 = 0x3F;
