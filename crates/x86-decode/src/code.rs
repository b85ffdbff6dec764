//! What bytes are decoded as, and why they may be no instruction of ours.

use core::fmt;

/// Longest instruction in bytes.
pub const MAX_LEN: usize = 15;

/// The default operand and address size of the code segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSize {
    /// Real mode, virtual-8086 mode, and segments with D = 0.
    Bits16,
    /// Segments with D = 1.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// Why bytes are no instruction that this crate can perform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes end within the instruction.
    Incomplete,
    /// Longer than 15 bytes: #GP on hardware.
    TooLong,
    /// LOCK where it is not allowed: #UD on hardware.
    BadLock,
    /// It has no memory operand.
    NoMemory,
    /// Another instruction.
    Unsupported {
        /// The opcode: one byte, or 0x0Fxx, or 0x0F38xx and so on for longer ones (first byte of these only).
        opcode: u16,
        /// The ModRM reg field where it is part of the opcode.
        extension: Option<u8>,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => f.write_str("instruction bytes are missing"),
            Self::TooLong => f.write_str("instruction longer than 15 bytes"),
            Self::BadLock => f.write_str("LOCK prefix on an instruction that cannot have it"),
            Self::NoMemory => f.write_str("instruction without memory operand"),
            Self::Unsupported { opcode, extension: None } => write!(f, "unsupported opcode {opcode:#x}"),
            Self::Unsupported { opcode, extension: Some(extension) } => {
                write!(f, "unsupported opcode {opcode:#x} /{extension}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}
