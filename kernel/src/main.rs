//! Flexvisor: the table of contents of the kernel.
//!
//! Way in: `loader/src/start.s` -> [`entry`] (`kernel_main`) -> [`main`] -> [`init::stages`] -> [`start::bsp`]; the
//! other CPUs come in by `platform/trampoline.s` and [`entry`] (`ap_main`), and end in [`start::ap`].
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod boot;
mod console;
mod ended;
mod entropy;
mod entry;
mod events;
mod exit;
mod fetch;
mod guest;
mod init;
mod iommu;
mod link;
mod log;
mod machine;
mod meter;
mod migration;
mod mm;
mod net;
mod panic;
mod platform;
mod policy;
mod pool;
mod power;
mod restart;
mod run;
mod selftest;
mod sessions;
mod shutdown;
mod stages;
mod start;
mod vcpu;
mod version;
mod vm;
mod vmx;
mod wall_clock;

/// The bootstrap CPU, in long mode on the boot stack: `magic` and `info` are what the boot loader handed over.
fn main(magic: u32, info: u32) -> ! {
    let boot = init::stages(magic, info);
    #[cfg(feature = "faults")]
    arch::faults::run(&boot.info.command_line, log::with_lock);
    start::bsp(boot)
}
