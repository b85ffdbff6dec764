//! Port I/O. Safe to call: a port access touches no memory of ours by itself; what a device does with DMA is its driver's
//! concern (bus mastering is off until a driver turns it on).

use super::insn;

/// Reads a byte from `port`.
pub fn inb(port: u16) -> u8 {
    insn::inb(port)
}

/// Writes a byte to `port`.
pub fn outb(port: u16, value: u8) {
    insn::outb(port, value);
}

/// Reads 16 bits from `port`.
pub fn inw(port: u16) -> u16 {
    insn::inw(port)
}

/// Writes 16 bits to `port`.
pub fn outw(port: u16, value: u16) {
    insn::outw(port, value);
}

/// Reads 32 bits from `port`.
pub fn inl(port: u16) -> u32 {
    insn::inl(port)
}

/// Writes 32 bits to `port`.
pub fn outl(port: u16, value: u32) {
    insn::outl(port, value);
}
