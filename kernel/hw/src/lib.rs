//! The hypervisor's hold on the machine: instructions, registers and tables of the CPU, physical memory, the devices around
//! the CPUs, and VMX.
//!
//! All `unsafe` of the kernel is in this crate. What it offers is safe to call, for code that runs in root mode of a CPU
//! that is the hypervisor's alone. It calls up to the kernel by [`Hooks`] only.
#![no_std]

extern crate alloc;

pub mod arch;
mod hooks;
pub mod lock;
pub mod mm;
#[cfg(not(target_os = "none"))]
pub mod mock;
pub mod platform;
pub mod vmx;

pub use hooks::Hooks;

/// Makes an image of a kernel's hooks: once, in the program that is linked.
#[macro_export]
macro_rules! image {
    ($hooks:expr) => {
        // SAFETY: the only definition of this symbol, of the type that `hw` declares.
        #[unsafe(no_mangle)]
        static FLEXVISOR_HOOKS: $crate::Hooks = $hooks;
    };
}
