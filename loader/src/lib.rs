//! The first instructions: Multiboot 1 and 2 headers, and the way from 32-bit protected mode to the kernel in long
//! mode. Everything here is linked into the first page of the image; see `start.s`.
#![no_std]

core::arch::global_asm!(include_str!("start.s"), options(att_syntax));

/// What a Multiboot 1 boot loader leaves in EAX (Multiboot 0.6.96, 3.2).
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// What a Multiboot 2 boot loader leaves in EAX (Multiboot 2.0, 3.3).
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;

unsafe extern "C" {
    static loader_entry_tsc: u64;
}

/// The time-stamp counter as the first instructions of the loader read it.
pub fn entry_tsc() -> u64 {
    // SAFETY: written once by `_start` before any Rust code runs, and only read from then on.
    unsafe { core::ptr::addr_of!(loader_entry_tsc).read_volatile() }
}
