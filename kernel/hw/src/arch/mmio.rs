//! Device registers in memory. Safe to call for addresses that [`crate::mm::map::map_mmio`] mapped: no Rust object
//! lives there. An address that is not mapped faults and panics.

use vm_types::Hpa;

/// Reads a 32-bit register.
pub fn read32(at: Hpa) -> u32 {
    // SAFETY: see the module's comment.
    unsafe { (at.0 as *const u32).read_volatile() }
}

/// Writes a 32-bit register.
pub fn write32(at: Hpa, value: u32) {
    // SAFETY: see the module's comment.
    unsafe { (at.0 as *mut u32).write_volatile(value) }
}

/// Reads an 8-bit register.
pub fn read8(at: Hpa) -> u8 {
    // SAFETY: see the module's comment.
    unsafe { (at.0 as *const u8).read_volatile() }
}

/// Writes an 8-bit register.
pub fn write8(at: Hpa, value: u8) {
    // SAFETY: see the module's comment.
    unsafe { (at.0 as *mut u8).write_volatile(value) }
}
