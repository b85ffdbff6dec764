//! Numbers of a local APIC's registers: the offset in the page / 16, the MSR - 800H (SDM vol. 3, tables 11-1 and 11-6).

/// Local APIC ID.
pub const ID: u8 = 0x02;
/// Version.
pub const VERSION: u8 = 0x03;
/// Task priority.
pub const TPR: u8 = 0x08;
/// Arbitration priority.
pub const APR: u8 = 0x09;
/// Processor priority.
pub const PPR: u8 = 0x0A;
/// End of interrupt.
pub const EOI: u8 = 0x0B;
/// Remote read.
pub const RRD: u8 = 0x0C;
/// Logical destination.
pub const LDR: u8 = 0x0D;
/// Destination format.
pub const DFR: u8 = 0x0E;
/// Spurious-interrupt vector.
pub const SVR: u8 = 0x0F;
/// In service: the first of eight, as the next two.
pub const ISR: u8 = 0x10;
/// Trigger mode.
pub const TMR: u8 = 0x18;
/// Interrupt request.
pub const IRR: u8 = 0x20;
/// The last register of IRR.
pub const IRR_LAST: u8 = 0x27;
/// Error status.
pub const ESR: u8 = 0x28;
/// Interrupt command, bits 31:0.
pub const ICR_LOW: u8 = 0x30;
/// The same, bits 63:32; none of its own in x2APIC mode.
pub const ICR_HIGH: u8 = 0x31;
/// The first of the local vector table.
pub const LVT: u8 = 0x32;
/// The timer's initial count.
pub const TIMER_INITIAL: u8 = 0x38;
/// Its current count.
pub const TIMER_CURRENT: u8 = 0x39;
/// Its divide configuration.
pub const TIMER_DIVIDE: u8 = 0x3E;
/// SELF IPI; x2APIC mode alone.
pub const SELF_IPI: u8 = 0x3F;
