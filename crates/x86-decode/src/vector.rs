//! Moves between memory and vector registers: SSE and AVX (SDM 2A 2.3, opcode maps in 2D appendix A). What else works on
//! vectors is not decoded.

use crate::code::{CodeSize, DecodeError};
use crate::decode::{Decoder, insn};
use crate::insn::{Insn, Lanes, Op, Operand, Rest};

/// The mandatory prefix, by VEX.pp.
const NONE: u8 = 0;
const P66: u8 = 1;
const PF3: u8 = 2;
const PF2: u8 = 3;

/// What moves.
#[derive(Clone, Copy)]
enum Part {
    /// The whole register.
    Whole,
    /// The low bytes; a load clears the rest.
    Scalar(u8),
    /// 4 bytes, or 8 with W.
    Gpr,
    /// One half of 16 bytes; a load leaves the other alone.
    Half(u8),
}

/// The move that an opcode of map 0F (1) or 0F38 (2) with this prefix is: what moves, and whether to memory.
const fn row(map: u8, opcode: u8, prefix: u8) -> Option<(Part, bool)> {
    let store = opcode & 1 == 1;
    Some(match (map, opcode, prefix) {
        (1, 0x10 | 0x11, NONE | P66) | (1, 0x28 | 0x29, NONE | P66) => (Part::Whole, store),
        (1, 0x10 | 0x11, PF3) => (Part::Scalar(4), store),
        (1, 0x10 | 0x11, PF2) => (Part::Scalar(8), store),
        (1, 0x12 | 0x13, NONE | P66) => (Part::Half(0), store),
        (1, 0x16 | 0x17, NONE | P66) => (Part::Half(8), store),
        (1, 0x2B, NONE | P66) | (1, 0x7F, P66 | PF3) | (1, 0xE7, P66) => (Part::Whole, true),
        (1, 0x6F, P66 | PF3) | (1, 0xF0, PF2) | (2, 0x2A, P66) => (Part::Whole, false),
        (1, 0x6E, P66) => (Part::Gpr, false),
        (1, 0x7E, P66) => (Part::Gpr, true),
        (1, 0x7E, PF3) => (Part::Scalar(8), false),
        (1, 0xD6, P66) => (Part::Scalar(8), true),
        _ => return None,
    })
}

struct Vex {
    /// The register in vvvv.
    other: u8,
    /// 256 bits.
    long: bool,
}

impl Decoder<'_> {
    /// An SSE move whose opcode, after 0F, has been read; `None` for other instructions.
    pub(crate) fn sse(&mut self, opcode: u8) -> Option<Result<Insn, DecodeError>> {
        let prefix = match self.prefixes.rep {
            Some(0xF2) => PF2,
            Some(_) => PF3,
            None if self.prefixes.operand_size => P66,
            None => NONE,
        };
        if opcode == 0x38 {
            let next = self.cursor.peek();
            let (part, store) = row(2, next.ok()?, prefix)?;
            self.cursor.at += 1;
            return Some(self.moved(part, store, None));
        }
        let (part, store) = row(1, opcode, prefix)?;
        Some(self.moved(part, store, None))
    }

    /// An AVX move after C4 or C5.
    pub(crate) fn vex(&mut self, first: u8) -> Result<Insn, DecodeError> {
        let unsupported = DecodeError::Unsupported { opcode: first.into(), extension: None };
        let prefixes = &self.prefixes;
        if prefixes.rex != 0 || prefixes.operand_size || prefixes.rep.is_some() || prefixes.lock {
            return Err(unsupported);
        }
        let byte = self.cursor.u8()?;
        // R, X, B and vvvv are inverted.
        let (high, map, last) = if first == 0xC4 {
            (!byte >> 5 & 7, byte & 0x1F, self.cursor.u8()?)
        } else {
            (!byte >> 7 << 2, 1, byte & 0x7F)
        };
        if self.code == CodeSize::Bits64 {
            self.prefixes.rex = 0x40 | high | if last & 0x80 != 0 { 8 } else { 0 };
        }
        let opcode = self.cursor.u8()?;
        let (part, store) = row(map, opcode, last & 3).ok_or(unsupported)?;
        // Other modes have eight registers.
        let registers = if self.code == CodeSize::Bits64 { 15 } else { 7 };
        let vex = Vex { other: !last >> 3 & registers, long: last & 4 != 0 };
        let merges = matches!(part, Part::Half(_)) && !store;
        let narrow = match part {
            Part::Half(_) | Part::Gpr => true,
            Part::Scalar(_) => matches!(opcode, 0x7E | 0xD6),
            Part::Whole => false,
        };
        if (!merges && vex.other != 0) || (narrow && vex.long) {
            return Err(unsupported);
        }
        self.moved(part, store, Some(vex))
    }

    fn moved(&mut self, part: Part, store: bool, vex: Option<Vex>) -> Result<Insn, DecodeError> {
        let long = vex.as_ref().is_some_and(|vex| vex.long);
        let (size, at) = match part {
            Part::Whole => (if long { 32 } else { 16 }, 0),
            Part::Scalar(size) => (size, 0),
            Part::Gpr => (if self.code == CodeSize::Bits64 && self.prefixes.rex_w() { 8 } else { 4 }, 0),
            Part::Half(at) => (8, at),
        };
        let rest = match (part, vex) {
            (Part::Half(_) | Part::Whole, None) => Rest::Keep,
            (_, None) => Rest::ClearLow,
            (Part::Half(_), Some(vex)) => Rest::From(vex.other),
            (_, Some(_)) => Rest::Clear,
        };
        let rest = if store { Rest::Keep } else { rest };
        let rm = self.mod_rm()?;
        let (lanes, register) = (Lanes { at, rest }, Operand::Vector(rm.reg));
        Ok(if store {
            insn(Op::StoreVector(lanes), size, Operand::Mem, register, rm.mem)
        } else {
            insn(Op::LoadVector(lanes), size, register, Operand::Mem, rm.mem)
        })
    }
}
