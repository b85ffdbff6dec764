//! Numbers of the architecture that more than one crate goes by. Names are the SDM's.
#![no_std]
#![forbid(unsafe_code)]

pub mod msr;

/// Bytes in the smallest page.
pub const PAGE_SIZE: u64 = 4096;

/// RSP among the general-purpose registers, by its ModRM number.
pub const RSP: u8 = 4;

/// IA32_EFER.LME: long mode is asked for.
pub const EFER_LME: u64 = 1 << 8;
/// IA32_EFER.LMA: long mode is on.
pub const EFER_LMA: u64 = 1 << 10;
/// IA32_EFER.NXE: page tables may forbid execution.
pub const EFER_NXE: u64 = 1 << 11;
