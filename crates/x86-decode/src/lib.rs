//! Carries out the x86 instructions that touch emulated devices, and walks guest page tables.
//!
//! [`emulate`] reads the instruction at RIP through the guest's page tables ([`fetch`]), makes an [`Insn`] of it
//! ([`decode`]) and performs it on a [`Cpu`] and a [`Machine`] ([`execute`]). Memory is reached through one helper, which
//! makes every check of the CPU before the first byte. Guest bytes are arbitrary: every function answers with a value or
//! an error.
#![no_std]
#![forbid(unsafe_code)]

mod access;
mod alu;
mod code;
mod decode;
mod emulate;
mod execute;
mod insn;
mod machine;
mod multiply;
mod operand;
mod paging;
mod shift;
mod vector;

pub use code::{CodeSize, DecodeError, MAX_LEN};
pub use decode::decode;
pub use emulate::{Refused, emulate};
pub use execute::execute;
pub use insn::{Insn, Lanes, Mem, Op, Operand, Reg, Rest, Segment};
pub use machine::{Cpu, Fault, Gprs, Machine, SegmentRegister, Vector};
pub use paging::{Access, AccessKind, PagingState, Translation, WalkError, fetch, translate, walk};
