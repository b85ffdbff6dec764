//! How a machine is brought up: what is written to which register, in which order, on which CPU.
//!
//! An emulator leaves out much of what silicon checks, and starts with registers that firmware would have set. So the
//! order of accesses is a function over a trait here, and tests run it over models that start with the SDM's reset values.
#![no_std]
#![forbid(unsafe_code)]

pub mod apic;
pub mod cmos;
pub mod ioapic;
pub mod mce;
pub mod mtrr;
pub mod nmi;
pub mod pci;
pub mod trampoline;
pub mod tsc;
