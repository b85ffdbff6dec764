//! Which host CPU runs a vCPU, and how a vCPU that sleeps is woken.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod balance;
pub mod place;
pub mod wake;
