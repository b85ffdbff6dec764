//! DMA remapping by Intel VT-d (Intel Virtualization Technology for Directed I/O, 4.1): a device reaches the memory it
//! was given, and nothing else.
//!
//! [`Tables`] builds root table, context tables and second-level page tables, all one to one, in pages that [`Memory`]
//! hands out; [`Unit`] programs one remapping unit through [`Registers`]. No access of its own to either. Only legacy
//! mode and invalidation by registers are used: every unit has them.
#![no_std]
#![forbid(unsafe_code)]

mod all;
mod capability;
pub mod regs;
mod tables;
mod unit;

pub use all::{Found, enable_all};
pub use capability::{Capability, Depth};
pub use tables::{Memory, PAGE, SourceId, Tables};
pub use unit::{Fault, Registers, Unit};

/// Why DMA is not remapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IommuError {
    /// Every register reads as ones, or the version as zero.
    #[error("no remapping unit answers")]
    NoAnswer,
    /// The unit walks neither 3 nor 4 levels, or no depth that the other units walk too.
    #[error("no page-table depth in common (SAGAW {0:#04x})")]
    NoDepth(u8),
    /// A command was not carried out within 100 ms.
    #[error("{0} does not end (register {1:#x} reads {2:#010x})")]
    Stuck(&'static str, u32, u32),
    /// Tables need memory.
    #[error("no memory for its tables")]
    NoMemory,
    /// Beyond what the tables can translate.
    #[error("{0:#x} is beyond the {1} bits of a device's addresses")]
    TooHigh(u64, u8),
    /// Last byte before the first.
    #[error("{0:#x}-{1:#x} is no range")]
    BadRange(u64, u64),
}
