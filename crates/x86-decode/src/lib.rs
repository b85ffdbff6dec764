//! Decodes the x86 instructions that touch emulated MMIO, and walks guest page tables.
//!
//! The caller knows the guest-physical address that faulted. [`fetch`] reads the instruction through the guest's page
//! tables, [`decode`] makes an [`Insn`] of it, [`execute`] performs it against a [`MmioBus`] and updates registers
//! and flags. Guest bytes are arbitrary: every function answers with a value or an error.
#![no_std]
#![forbid(unsafe_code)]

mod alu;
mod decode;
mod execute;
mod insn;
mod operand;
mod paging;

pub use decode::{CodeSize, DecodeError, MAX_LEN, decode};
pub use execute::{ExecuteError, Gprs, MmioBus, Place, Progress, execute};
pub use insn::{Insn, Mem, Op, Operand, Reg, Segment};
pub use paging::{Access, AccessKind, PagingState, WalkError, fetch, walk};
