//! Making a VM, and putting one back to where it booted: what comes after what, how much of it at a time, and how long a
//! CPU is waited for.
//!
//! A terabyte takes minutes to clear, and the CPU that does it is everybody's. So both are machines that are polled, each
//! step bounded by [`CLEARED`], [`COPIED`] and [`ENTRIES`]; between two steps no lock is held. Whatever touches memory is
//! behind [`Site`] and [`Subject`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod make;
mod patience;
mod reset;

pub use make::{Make, Site};
pub use patience::{PATIENCE_US, Patience, Silent};
pub use reset::{End, Reset, Subject, Turn};

/// Most bytes that a step clears.
pub const CLEARED: u64 = 256 << 10;
/// Most bytes of kernel and modules that a step copies.
pub const COPIED: usize = 64 << 10;
/// Most table entries, or words of a set of pages, that a step touches.
pub const ENTRIES: usize = 4096;
