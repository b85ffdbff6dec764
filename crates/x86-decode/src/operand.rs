//! Bytes of the instruction in order, and ModRM with what follows it (SDM 2A 2.1).

use x86::RSP;

use crate::code::{CodeSize, DecodeError, MAX_LEN};
use crate::insn::{Mem, Reg, Segment, sign_extend};

/// Prefixes in effect at the opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prefixes {
    pub(crate) operand_size: bool,
    pub(crate) address_size: bool,
    pub(crate) lock: bool,
    /// 0xF2 or 0xF3, the last one.
    pub(crate) rep: Option<u8>,
    pub(crate) segment: Option<Segment>,
    /// The REX byte, 0 for none.
    pub(crate) rex: u8,
}

/// The instruction's bytes behind a position.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn peek(&self) -> Result<u8, DecodeError> {
        if self.at >= MAX_LEN {
            return Err(DecodeError::TooLong);
        }
        self.bytes.get(self.at).copied().ok_or(DecodeError::Incomplete)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// The next `size` bytes as a number.
    pub(crate) fn number(&mut self, size: u8) -> Result<u64, DecodeError> {
        let mut value = 0;
        for index in 0..u32::from(size) {
            value |= u64::from(self.u8()?) << (8 * index);
        }
        Ok(value)
    }

    /// The next `size` bytes, sign-extended.
    pub(crate) fn signed(&mut self, size: u8) -> Result<u64, DecodeError> {
        Ok(sign_extend(self.number(size)?, size))
    }
}

/// ModRM of an instruction whose r/m operand is memory.
pub(crate) struct ModRm {
    /// The reg field with REX.R: a register.
    pub(crate) reg: u8,
    /// The reg field alone: part of the opcode.
    pub(crate) extension: u8,
    pub(crate) mem: Mem,
}

impl Prefixes {
    fn rex_bit(&self, bit: u8) -> u8 {
        (self.rex >> bit & 1) << 3
    }

    pub(crate) fn rex_w(&self) -> bool {
        self.rex & 8 != 0
    }

    /// The register that the reg field names in an operand of `size` bytes.
    pub(crate) fn reg(&self, index: u8, size: u8) -> Reg {
        // Without REX, byte registers 4 to 7 are AH, CH, DH, BH.
        let high = size == 1 && self.rex == 0 && (4..8).contains(&index);
        Reg { index: if high { index - 4 } else { index }, high }
    }

    pub(crate) fn addr_size(&self, code: CodeSize) -> u8 {
        match (code, self.address_size) {
            (CodeSize::Bits64, false) => 8,
            (CodeSize::Bits16, false) | (CodeSize::Bits32, true) => 2,
            _ => 4,
        }
    }

    /// Reads ModRM, SIB and displacement.
    ///
    /// # Errors
    /// [`DecodeError::NoMemory`] when r/m is a register.
    pub(crate) fn mod_rm(&self, cursor: &mut Cursor<'_>, code: CodeSize) -> Result<ModRm, DecodeError> {
        let byte = cursor.u8()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        if mode == 3 {
            return Err(DecodeError::NoMemory);
        }
        let addr_size = self.addr_size(code);
        let mut mem =
            Mem { segment: Segment::Ds, base: None, index: None, disp: 0, rip_relative: false, addr_size };
        let disp = if addr_size == 2 {
            form16(mode, rm, &mut mem)
        } else {
            self.form32(mode, rm, cursor, code, &mut mem)?
        };
        mem.disp = cursor.signed(disp)?;
        let on_stack = matches!(mem.base, Some(RSP | RBP));
        mem.segment = self.segment.unwrap_or(if on_stack { Segment::Ss } else { Segment::Ds });
        Ok(ModRm { reg: reg | self.rex_bit(2), extension: reg, mem })
    }

    /// Base and index of 32- and 64-bit addressing; returns the displacement's size.
    fn form32(
        &self,
        mode: u8,
        rm: u8,
        cursor: &mut Cursor<'_>,
        code: CodeSize,
        mem: &mut Mem,
    ) -> Result<u8, DecodeError> {
        let disp = match mode {
            0 => 0,
            1 => 1,
            _ => 4,
        };
        if rm == 4 {
            let sib = cursor.u8()?;
            let (scale, index, base) = (1 << (sib >> 6), sib >> 3 & 7 | self.rex_bit(1), sib & 7);
            mem.index = (index != 4).then_some((index, scale));
            if base == 5 && mode == 0 {
                return Ok(4);
            }
            mem.base = Some(base | self.rex_bit(0));
        } else if rm == 5 && mode == 0 {
            mem.rip_relative = code == CodeSize::Bits64;
            return Ok(4);
        } else {
            mem.base = Some(rm | self.rex_bit(0));
        }
        Ok(disp)
    }
}

const RBX: u8 = 3;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// Base and index of 16-bit addressing; returns the displacement's size.
fn form16(mode: u8, rm: u8, mem: &mut Mem) -> u8 {
    let (base, index) = match rm {
        0 => (Some(RBX), Some(RSI)),
        1 => (Some(RBX), Some(RDI)),
        2 => (Some(RBP), Some(RSI)),
        3 => (Some(RBP), Some(RDI)),
        4 => (Some(RSI), None),
        5 => (Some(RDI), None),
        6 if mode == 0 => return 2,
        6 => (Some(RBP), None),
        _ => (Some(RBX), None),
    };
    mem.base = base;
    mem.index = index.map(|index| (index, 1));
    mode
}
