//! Port I/O. The functions are safe to call because a port access touches no memory of ours by itself; what a device
//! does with DMA is its driver's concern (bus mastering is off until a driver turns it on).

use x86_64::instructions::port::Port;

/// Reads a byte from `port`.
pub(crate) fn inb(port: u16) -> u8 {
    // SAFETY: see the module's comment.
    unsafe { Port::<u8>::new(port).read() }
}

/// Writes a byte to `port`.
pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: see the module's comment.
    unsafe { Port::<u8>::new(port).write(value) }
}

/// Reads 16 bits from `port`.
pub(crate) fn inw(port: u16) -> u16 {
    // SAFETY: see the module's comment.
    unsafe { Port::<u16>::new(port).read() }
}

/// Writes 16 bits to `port`.
pub(crate) fn outw(port: u16, value: u16) {
    // SAFETY: see the module's comment.
    unsafe { Port::<u16>::new(port).write(value) }
}

/// Reads 32 bits from `port`.
pub(crate) fn inl(port: u16) -> u32 {
    // SAFETY: see the module's comment.
    unsafe { Port::<u32>::new(port).read() }
}

/// Writes 32 bits to `port`.
pub(crate) fn outl(port: u16, value: u32) {
    // SAFETY: see the module's comment.
    unsafe { Port::<u32>::new(port).write(value) }
}
