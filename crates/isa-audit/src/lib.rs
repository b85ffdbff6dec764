//! Looks through the code of a guest for instructions that its CPU policy hides.
//!
//! Most features that CPUID hides still work where the hardware has them: VMX has no control for POPCNT. Such a hole is
//! found only by reading the code. [`decode`] gives the length of an instruction, where it leads and what it needs;
//! [`scan`] does so for a page, from the address that was about to be executed on, and keeps what lies outside a set
//! of features in [`Findings`], which is bounded and travels with the VM.
//!
//! It is a heuristic: data that lies between instructions is decoded as if it were code, and code that is not executed
//! while the audit runs is not seen.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod block;
mod data;
mod decode;
mod findings;
mod length;
mod report;
mod scan;
mod table;
mod wire;

pub use decode::{Flow, Insn, Undecodable, decode};
pub use findings::{Bounds, Findings, MAX_ROWS, Row, Without};
pub use report::Heading;
pub use scan::{Page, scan};
pub use table::Class;
pub use wire::{DecodeError, MAX_ENCODED};
pub use x86_decode::{CodeSize, MAX_LEN};
