//! Register offsets and bits of a remapping unit, named as in the specification's chapter 11.
#![allow(missing_docs)]

pub const VER: u32 = 0x00;
pub const CAP: u32 = 0x08;
pub const ECAP: u32 = 0x10;
pub const GCMD: u32 = 0x18;
pub const GSTS: u32 = 0x1c;
pub const RTADDR: u32 = 0x20;
pub const CCMD: u32 = 0x28;
pub const FSTS: u32 = 0x34;
pub const FECTL: u32 = 0x38;
pub const PMEN: u32 = 0x64;

/// Bits of GCMD, and of GSTS.
pub const TRANSLATION: u32 = 1 << 31;
pub const ROOT_POINTER: u32 = 1 << 30;
pub const WRITE_BUFFER: u32 = 1 << 27;
pub const QUEUED: u32 = 1 << 26;
/// What GCMD must repeat of GSTS: all but the commands that act once.
pub const LASTING: u32 = 0x96ff_ffff;

/// Upper half of CCMD: invalidate, all domains; reads as set until it is done.
pub const CCMD_GLOBAL: u32 = 1 << 31 | 1 << 29;
pub const CCMD_BUSY: u32 = 1 << 31;
/// Upper half of IOTLB: invalidate, all domains, reads and writes drained.
pub const IOTLB_GLOBAL: u32 = 1 << 31 | 1 << 28 | 1 << 17 | 1 << 16;
pub const IOTLB_BUSY: u32 = 1 << 31;

pub const FSTS_OVERFLOW: u32 = 1 << 0;
pub const FSTS_PENDING: u32 = 1 << 1;
pub const FECTL_MASK: u32 = 1 << 31;
pub const PMEN_ENABLE: u32 = 1 << 31;
pub const PMEN_ON: u32 = 1 << 0;
/// In the last quarter of a fault record: it holds a fault.
pub const FAULT: u32 = 1 << 31;
/// The same: it was a read.
pub const FAULT_READ: u32 = 1 << 30;
