//! Flexvisor: the table of contents of the kernel.
//!
//! Way in: `loader/src/start.s` -> [`arch::entry`] -> [`main`] -> [`init::stages`] -> [`start::bsp`]; the other CPUs
//! come in by `arch/trampoline.s` and end in [`start::ap`].
#![no_std]
#![no_main]

mod arch;
mod init;
mod log;
mod panic;
mod start;

/// The bootstrap CPU, in long mode on the boot stack: `magic` and `info` are what the boot loader handed over.
fn main(magic: u32, info: u32) -> ! {
    init::stages(magic, info);
    start::bsp()
}
