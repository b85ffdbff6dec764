//! Instruction bytes to length, flow and what the instruction needs.

use core::fmt;

use x86_decode::{CodeSize, MAX_LEN};

use crate::length::{self, Imm, Shape, Sizes};
use crate::table::{self, Class, Space};

/// Where execution goes on. Distances are from the end of the instruction, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Behind the instruction.
    Next,
    /// There only.
    Jump(i32),
    /// There or behind: a condition, or a call.
    Branch(i32),
    /// Elsewhere, where the bytes do not tell: returns, indirect and far jumps, UD2.
    End,
}

/// An instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// What it needs.
    pub class: Class,
    /// Where it leads.
    pub flow: Flow,
}

/// Why bytes are no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undecodable {
    /// They end within the instruction.
    Incomplete,
    /// No Intel CPU has it, or it is longer than 15 bytes.
    Invalid,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "the bytes end within the instruction",
            Self::Invalid => "no instruction of an Intel CPU",
        })
    }
}

impl core::error::Error for Undecodable {}

/// Bytes of the instruction, at most 15.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Result<u8, Undecodable> {
        let at = self.at + ahead;
        if at >= MAX_LEN {
            return Err(Undecodable::Invalid);
        }
        self.bytes.get(at).copied().ok_or(Undecodable::Incomplete)
    }

    fn next(&mut self) -> Result<u8, Undecodable> {
        let byte = self.peek(0)?;
        self.at += 1;
        Ok(byte)
    }

    /// Goes over `count` bytes and answers with them as a signed number (of the last four at most).
    fn skip(&mut self, count: usize) -> Result<i32, Undecodable> {
        let mut value: u32 = 0;
        for shift in 0..count {
            let byte = u32::from(self.next()?);
            value |= byte.checked_shl(8 * shift as u32).unwrap_or(0);
        }
        let unused = 32_u32.saturating_sub(8 * count as u32);
        Ok((value.checked_shl(unused).unwrap_or(0) as i32).checked_shr(unused).unwrap_or(0))
    }
}

#[derive(Default)]
struct Prefixes {
    operand: bool,
    address: bool,
    lock: bool,
    /// F2 or F3, the last of them.
    repeat: u8,
    /// 40 to 4F, or 0.
    rex: u8,
}

/// True for bytes that are prefixes in some mode.
fn is_prefix(byte: u8) -> bool {
    const BITS: [u64; 4] = {
        let prefixes = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
        let mut bits = [0, 0xffff, 0, 0];
        let mut at = 0;
        while at < prefixes.len() {
            bits[prefixes[at] / 64] |= 1 << (prefixes[at] % 64);
            at += 1;
        }
        bits
    };
    BITS[usize::from(byte / 64)] >> (byte % 64) & 1 != 0
}

impl Prefixes {
    fn read(cursor: &mut Cursor<'_>, mode: CodeSize) -> Result<Self, Undecodable> {
        let mut prefixes = Self::default();
        loop {
            let byte = cursor.peek(0)?;
            if !is_prefix(byte) {
                return Ok(prefixes);
            }
            match byte {
                0x66 => prefixes.operand = true,
                0x67 => prefixes.address = true,
                0xf0 => prefixes.lock = true,
                0xf2 | 0xf3 => prefixes.repeat = byte,
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
                0x40..=0x4f if mode == CodeSize::Bits64 => {
                    prefixes.rex = byte;
                    cursor.at += 1;
                    continue;
                }
                _ => return Ok(prefixes),
            }
            prefixes.rex = 0; // counts only right before the opcode
            cursor.at += 1;
        }
    }

    fn wide(&self) -> bool {
        self.rex & 8 != 0
    }

    /// The mandatory prefix, as VEX encodes it.
    fn pp(&self) -> u8 {
        match self.repeat {
            0xf3 => 2,
            0xf2 => 3,
            _ => u8::from(self.operand),
        }
    }

    fn any_before_vex(&self) -> bool {
        self.operand || self.lock || self.repeat != 0 || self.rex != 0
    }
}

/// Decodes the instruction at the start of `bytes`; more than it needs may follow.
///
/// # Errors
/// [`Undecodable`].
pub fn decode(bytes: &[u8], mode: CodeSize) -> Result<Insn, Undecodable> {
    let mut cursor = Cursor { bytes, at: 0 };
    let prefixes = Prefixes::read(&mut cursor, mode)?;
    let opcode = cursor.next()?;
    // Outside 64-bit mode, VEX and EVEX are the register forms of LES, LDS and BOUND, which do not exist.
    if matches!(opcode, 0xc4 | 0xc5 | 0x62) && (mode == CodeSize::Bits64 || cursor.peek(0)? >= 0xc0) {
        if prefixes.any_before_vex() {
            return Err(Undecodable::Invalid);
        }
        return vector(cursor, opcode, mode, &prefixes);
    }
    if opcode != 0x0f {
        return one_byte(cursor, opcode, mode, &prefixes);
    }
    let opcode = cursor.next()?;
    let (map, opcode, shape) = match opcode {
        0x38 => (2, cursor.next()?, Shape { modrm: true, imm: Imm::None }),
        0x3a => (3, cursor.next()?, Shape { modrm: true, imm: Imm::Byte }),
        _ => (1, opcode, length::two_byte(opcode)),
    };
    let sizes = Sizes::new(mode, prefixes.operand, prefixes.address, prefixes.wide());
    // MOV to and from CR and DR takes its ModRM byte for registers, whatever it says.
    let registers = map == 1 && matches!(opcode, 0x20..=0x23);
    let (modrm, value) = operands(&mut cursor, shape, sizes, registers)?;
    let modrm = if registers { modrm | 0xc0 } else { modrm };
    if prefixes.lock && (!shape.modrm || modrm >= 0xc0) && !registers {
        return Err(Undecodable::Invalid);
    }
    let class = table::class(Space::Legacy, map, prefixes.pp(), opcode, prefixes.wide(), 0, modrm)
        .ok_or(Undecodable::Invalid)?;
    let flow = match (map, opcode) {
        (1, 0x80..=0x8f) => Flow::Branch(value),
        (1, 0x07 | 0x0b | 0x35 | 0xaa | 0xb9 | 0xff) => Flow::End,
        // ERETS, ERETU, UIRET
        (1, 0x01) if prefixes.repeat != 0 && modrm == 0xca => Flow::End,
        (1, 0x01) if prefixes.repeat == 0xf3 && modrm == 0xec => Flow::End,
        _ => Flow::Next,
    };
    Ok(Insn { len: cursor.at as u8, class, flow })
}

/// Reads ModRM, SIB, displacement and immediate; answers with ModRM and immediate, 0 where there is none.
fn operands(
    cursor: &mut Cursor<'_>,
    shape: Shape,
    sizes: Sizes,
    registers: bool,
) -> Result<(u8, i32), Undecodable> {
    let mut modrm = 0;
    if shape.modrm {
        modrm = cursor.next()?;
        if !registers {
            let sib = if modrm & 7 == 4 && modrm < 0xc0 && sizes.address != 2 { cursor.peek(0)? } else { 0 };
            cursor.skip(sizes.memory(modrm, sib))?;
        }
    }
    let value = cursor.skip(sizes.immediate(shape.imm, modrm >> 3 & 7))?;
    Ok((modrm, value))
}

fn vector(
    mut cursor: Cursor<'_>,
    escape: u8,
    mode: CodeSize,
    prefixes: &Prefixes,
) -> Result<Insn, Undecodable> {
    let first = cursor.next()?;
    let (space, map, last, length) = match escape {
        0xc5 => (Space::Vex, 1, first & 0x7f, first >> 2 & 1),
        0xc4 => {
            let second = cursor.next()?;
            (Space::Vex, first & 0x1f, second, second >> 2 & 1)
        }
        _ => {
            let (second, third) = (cursor.next()?, cursor.next()?);
            if first & 8 != 0 || second & 4 == 0 {
                return Err(Undecodable::Invalid);
            }
            (Space::Evex, first & 7, second, third >> 5 & 3 | (third >> 4 & 1) << 7)
        }
    };
    let opcode = cursor.next()?;
    let shape = length::vector(map, opcode, space == Space::Evex);
    let sizes = Sizes::new(mode, false, prefixes.address, false);
    let (modrm, _) = operands(&mut cursor, shape, sizes, false)?;
    // With registers, EVEX.b makes L'L a rounding mode, and the operands are whole registers.
    let length = if length & 0x80 != 0 && modrm >= 0xc0 { 2 } else { length & 3 };
    let class = table::class(space, map, last & 3, opcode, last & 0x80 != 0, length, modrm)
        .ok_or(Undecodable::Invalid)?;
    Ok(Insn { len: cursor.at as u8, class, flow: Flow::Next })
}

fn one_byte(
    mut cursor: Cursor<'_>,
    opcode: u8,
    mode: CodeSize,
    prefixes: &Prefixes,
) -> Result<Insn, Undecodable> {
    let long = mode == CodeSize::Bits64;
    let gone = matches!(
        opcode,
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x60..=0x62 | 0x82 | 0x9a
            | 0xc4 | 0xc5 | 0xce | 0xd4..=0xd6 | 0xea
    );
    if long && gone {
        return Err(Undecodable::Invalid);
    }
    let shape = length::ONE_BYTE[usize::from(opcode)];
    let mut class = Class::BASE;
    // XABORT and XBEGIN are the register form of MOV's seventh row.
    let transaction = matches!(opcode, 0xc6 | 0xc7) && cursor.peek(0)? == 0xf8;
    let sizes = Sizes::new(mode, prefixes.operand, prefixes.address, prefixes.wide());
    let (modrm, value) = operands(&mut cursor, shape, sizes, false)?;
    let (row, registers) = (modrm >> 3 & 7, modrm >= 0xc0);
    if prefixes.lock && (!shape.modrm || registers) {
        return Err(Undecodable::Invalid);
    }
    match (opcode, row) {
        (0xc6 | 0xc7, 7) if transaction => class = Class::RTM,
        // FISTTP
        (0xdb | 0xdd | 0xdf, 1) if !registers => class = Class::SSE3,
        (0xc6 | 0xc7 | 0x8f, 1..) | (0xfe, 2..) | (0xff, 7) => return Err(Undecodable::Invalid),
        (0xff, 3 | 5) | (0x62 | 0x8d | 0xc4 | 0xc5, _) if registers => return Err(Undecodable::Invalid),
        _ => {}
    }
    let flow = match opcode {
        0x70..=0x7f | 0xe0..=0xe3 | 0xe8 => Flow::Branch(value),
        0xc7 if transaction => Flow::Branch(value),
        0xe9 | 0xeb => Flow::Jump(value),
        0xc2 | 0xc3 | 0xca..=0xcc | 0xcf | 0xea => Flow::End,
        0xff if matches!(row, 4 | 5) => Flow::End,
        _ => Flow::Next,
    };
    Ok(Insn { len: cursor.at as u8, class, flow })
}
