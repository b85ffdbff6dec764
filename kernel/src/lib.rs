//! Flexvisor: the table of contents of the kernel.
//!
//! Way in: `loader/src/start.s` -> `hw` (`hooks.rs`, `kernel_main`) -> [`boot`](fn@boot_cpu) -> [`init::stages`] ->
//! [`start::bsp`]; the other CPUs come in by `hw`'s trampoline and end in [`start::ap`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod boot;
mod console;
mod ended;
mod entropy;
mod events;
mod exit;
mod fetch;
mod guest;
mod init;
mod iommu;
mod link;
mod lock;
mod log;
mod machine;
mod meter;
mod migration;
mod net;
mod panic;
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
#[cfg(test)]
mod testing;
mod vcpu;
mod version;
mod vm;
mod wall_clock;

/// What the machine calls the kernel for.
pub const HOOKS: hw::Hooks = hw::Hooks {
    boot: boot_cpu,
    another_cpu: start::ap,
    nmi: panic::nmi,
    machine_check: panic::machine_check,
    exception: panic::exception,
    panic: panic::panic,
};

/// The bootstrap CPU, in long mode on the boot stack: `magic` and `info` are what the boot loader handed over.
fn boot_cpu(magic: u32, info: u32) -> ! {
    let boot = init::stages(magic, info);
    #[cfg(feature = "faults")]
    hw::arch::faults::run(&boot.info.command_line, log::with_lock);
    start::bsp(boot)
}
