//! Instruction bytes to [`Insn`] (SDM 2A-2D, opcode maps in 2D appendix A).

use crate::code::{CodeSize, DecodeError};
use crate::insn::{Insn, Mem, Op, Operand, Reg, Segment};
use crate::operand::{Cursor, ModRm, Prefixes};

/// Decodes the instruction at the start of `bytes`; more than it needs may follow.
///
/// # Errors
/// [`DecodeError`] for every instruction outside the supported set, and for bytes that are none.
pub fn decode(bytes: &[u8], code: CodeSize) -> Result<Insn, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let prefixes = prefixes(&mut cursor, code)?;
    let mut decoder = Decoder { cursor, prefixes, code };
    let mut insn = decoder.opcode()?;
    insn.lock = prefixes.lock;
    if insn.lock && !lockable(&insn) {
        return Err(DecodeError::BadLock);
    }
    insn.len = decoder.cursor.at as u8;
    Ok(insn)
}

fn prefixes(cursor: &mut Cursor<'_>, code: CodeSize) -> Result<Prefixes, DecodeError> {
    let mut found =
        Prefixes { operand_size: false, address_size: false, lock: false, rep: None, segment: None, rex: 0 };
    loop {
        let byte = cursor.peek()?;
        if code == CodeSize::Bits64 && byte & 0xF0 == 0x40 {
            found.rex = byte;
            cursor.at += 1;
            continue;
        }
        match byte {
            // 64-bit mode ignores these, even as the last of several.
            0x26 | 0x2E | 0x36 | 0x3E if code == CodeSize::Bits64 => {}
            0x26 => found.segment = Some(Segment::Es),
            0x2E => found.segment = Some(Segment::Cs),
            0x36 => found.segment = Some(Segment::Ss),
            0x3E => found.segment = Some(Segment::Ds),
            0x64 => found.segment = Some(Segment::Fs),
            0x65 => found.segment = Some(Segment::Gs),
            0x66 => found.operand_size = true,
            0x67 => found.address_size = true,
            0xF0 => found.lock = true,
            0xF2 | 0xF3 => found.rep = Some(byte),
            _ => return Ok(found),
        }
        // REX counts only right before the opcode.
        found.rex = 0;
        cursor.at += 1;
    }
}

fn lockable(insn: &Insn) -> bool {
    use Op::{Adc, Add, And, Btc, Btr, Bts, Cmpxchg, Dec, Inc, Neg, Not, Or, Sbb, Sub, Xadd, Xchg, Xor};
    let op = matches!(
        insn.op,
        Add | Or
            | Adc
            | Sbb
            | And
            | Sub
            | Xor
            | Inc
            | Dec
            | Not
            | Neg
            | Xchg
            | Xadd
            | Cmpxchg
            | Bts
            | Btr
            | Btc
    );
    op && insn.dst == Operand::Mem
}

pub(crate) struct Decoder<'a> {
    pub(crate) cursor: Cursor<'a>,
    pub(crate) prefixes: Prefixes,
    pub(crate) code: CodeSize,
}

impl Decoder<'_> {
    /// Operand size of opcodes that have no byte form.
    fn full_size(&self) -> u8 {
        match (self.code, self.prefixes.operand_size) {
            (CodeSize::Bits64, _) if self.prefixes.rex_w() => 8,
            (CodeSize::Bits16, false) | (CodeSize::Bits32 | CodeSize::Bits64, true) => 2,
            _ => 4,
        }
    }

    /// Bit 0 of most opcodes chooses between byte and full size.
    fn size(&self, opcode: u8) -> u8 {
        if opcode & 1 == 0 { 1 } else { self.full_size() }
    }

    fn opcode(&mut self) -> Result<Insn, DecodeError> {
        let opcode = self.cursor.u8()?;
        let size = self.size(opcode);
        match opcode {
            0x0F => self.two_byte(),
            0x00..=0x3F if opcode & 7 < 4 => self.rm_and_reg(alu(opcode >> 3), size, opcode & 2 != 0),
            0x63 if self.code == CodeSize::Bits64 => self.extend(Op::Movsx, self.full_size().min(4)),
            0x80 | 0x81 | 0x83 => self.alu_immediate(opcode, size),
            0x82 if self.code != CodeSize::Bits64 => self.alu_immediate(opcode, size),
            0x84 | 0x85 => self.rm_and_reg(Op::Test, size, false),
            0x86 | 0x87 => self.rm_and_reg(Op::Xchg, size, false),
            0x88..=0x8B => self.rm_and_reg(Op::Mov, size, opcode & 2 != 0),
            0xA0..=0xA3 => self.moffs(size, opcode & 2 == 0),
            0x69 | 0x6B => self.imul_immediate(if opcode == 0x69 { size.min(4) } else { 1 }),
            // There is no 64-bit port access.
            0x6C | 0x6D => Ok(self.string(Op::Ins, size.min(4))),
            0x6E | 0x6F => Ok(self.string(Op::Outs, size.min(4))),
            0x8F => {
                let rm = self.mod_rm()?;
                let op = self.group(opcode.into(), &rm, &[(0, Op::Pop)])?;
                Ok(insn(op, self.stack_size(), Operand::Mem, Operand::None, rm.mem))
            }
            0xA4 | 0xA5 => Ok(self.string(Op::Movs, size)),
            0xA6 | 0xA7 => Ok(self.string(Op::Cmps, size)),
            0xAE | 0xAF => Ok(self.string(Op::Scas, size)),
            0xC0 | 0xC1 | 0xD0..=0xD3 => self.shift(opcode, size),
            0xAA | 0xAB => Ok(self.string(Op::Stos, size)),
            0xAC | 0xAD => Ok(self.string(Op::Lods, size)),
            // LDS and LES where the next byte is a ModRM byte of memory.
            0xC4 | 0xC5 if self.code == CodeSize::Bits64 || self.cursor.peek()? >= 0xC0 => self.vex(opcode),
            0xC6 | 0xC7 => {
                let rm = self.mod_rm()?;
                self.group(opcode.into(), &rm, &[(0, Op::Mov)])?;
                self.with_immediate(Op::Mov, size, size.min(4), &rm)
            }
            0xF6 | 0xF7 => {
                let rm = self.mod_rm()?;
                match self.group(
                    opcode.into(),
                    &rm,
                    &[
                        (0, Op::Test),
                        (1, Op::Test),
                        (2, Op::Not),
                        (3, Op::Neg),
                        (4, Op::Mul),
                        (5, Op::Imul),
                        (6, Op::Div),
                        (7, Op::Idiv),
                    ],
                )? {
                    Op::Test => self.with_immediate(Op::Test, size, size.min(4), &rm),
                    op => Ok(insn(op, size, Operand::Mem, Operand::None, rm.mem)),
                }
            }
            0xFE => {
                let rm = self.mod_rm()?;
                let op = self.group(opcode.into(), &rm, &[(0, Op::Inc), (1, Op::Dec)])?;
                Ok(insn(op, size, Operand::Mem, Operand::None, rm.mem))
            }
            0xFF => {
                let rm = self.mod_rm()?;
                let group = [(0, Op::Inc), (1, Op::Dec), (2, Op::Call), (4, Op::Jmp), (6, Op::Push)];
                let op = self.group(opcode.into(), &rm, &group)?;
                let size = match op {
                    // In 64-bit mode near branches have 64 bits, whatever the prefixes.
                    Op::Call | Op::Jmp if self.code == CodeSize::Bits64 => 8,
                    Op::Push => self.stack_size(),
                    _ => size,
                };
                Ok(insn(op, size, Operand::Mem, Operand::None, rm.mem))
            }
            _ => Err(DecodeError::Unsupported { opcode: opcode.into(), extension: None }),
        }
    }

    fn two_byte(&mut self) -> Result<Insn, DecodeError> {
        let opcode = self.cursor.u8()?;
        let (size, full) = (self.size(opcode), self.full_size());
        let plain = !self.prefixes.operand_size && self.prefixes.rep.is_none();
        if let Some(found) = self.sse(opcode) {
            return found;
        }
        match opcode {
            0x01 => {
                let rm = self.mod_rm()?;
                let op = self.group(0x0F01, &rm, &[(4, Op::Smsw), (6, Op::Lmsw)])?;
                Ok(insn(op, 2, Operand::Mem, Operand::None, rm.mem))
            }
            0x40..=0x4F => self.rm_and_reg(Op::Cmov(opcode & 15), full, true),
            0x90..=0x9F => {
                let rm = self.mod_rm()?;
                Ok(insn(Op::Set(opcode & 15), 1, Operand::Mem, Operand::None, rm.mem))
            }
            0xA4 | 0xA5 | 0xAC | 0xAD => {
                let op = if opcode < 0xA8 { Op::Shld } else { Op::Shrd };
                let mut insn = self.rm_and_reg(op, full, false)?;
                insn.extra = if opcode & 1 == 0 { Operand::Imm(self.cursor.signed(1)?) } else { CL };
                Ok(insn)
            }
            // CLFLUSH, CLFLUSHOPT, CLWB.
            0xAE if self.prefixes.rep.is_none() => {
                let rm = self.mod_rm()?;
                let group = [(7, Op::Touch), (6, Op::Touch)];
                let group = if self.prefixes.operand_size { &group[..] } else { &group[..1] };
                let op = self.group(0x0FAE, &rm, group)?;
                Ok(insn(op, 1, Operand::Mem, Operand::None, rm.mem))
            }
            0xAF => self.rm_and_reg(Op::Imul, full, true),
            // With F3 these are TZCNT and LZCNT, or not, by model.
            0xBC | 0xBD if self.prefixes.rep != Some(0xF3) => {
                self.rm_and_reg(if opcode == 0xBC { Op::Bsf } else { Op::Bsr }, full, true)
            }
            0xA3 => self.rm_and_reg(Op::Bt, full, false),
            0xAB => self.rm_and_reg(Op::Bts, full, false),
            0xB3 => self.rm_and_reg(Op::Btr, full, false),
            0xBB => self.rm_and_reg(Op::Btc, full, false),
            0xB0 | 0xB1 => self.rm_and_reg(Op::Cmpxchg, size, false),
            0xB6 => self.extend(Op::Movzx, 1),
            0xB7 => self.extend(Op::Movzx, 2),
            0xBE => self.extend(Op::Movsx, 1),
            0xBF => self.extend(Op::Movsx, 2),
            0xC0 | 0xC1 => self.rm_and_reg(Op::Xadd, size, false),
            // MOVNTI has no 16-bit form.
            0xC3 if plain => self.rm_and_reg(Op::Mov, if self.prefixes.rex_w() { 8 } else { 4 }, false),
            0xBA => {
                let rm = self.mod_rm()?;
                let group = [(4, Op::Bt), (5, Op::Bts), (6, Op::Btr), (7, Op::Btc)];
                let op = self.group(0x0FBA, &rm, &group)?;
                self.with_immediate(op, full, 1, &rm)
            }
            _ => Err(DecodeError::Unsupported { opcode: 0x0F00 | u16::from(opcode), extension: None }),
        }
    }

    pub(crate) fn mod_rm(&mut self) -> Result<ModRm, DecodeError> {
        self.prefixes.mod_rm(&mut self.cursor, self.code)
    }

    /// The operation that the reg field chooses.
    fn group(&self, opcode: u16, rm: &ModRm, group: &[(u8, Op)]) -> Result<Op, DecodeError> {
        let found = group.iter().find(|(extension, _)| *extension == rm.extension).map(|(_, op)| *op);
        found.ok_or(DecodeError::Unsupported { opcode, extension: Some(rm.extension) })
    }

    fn rm_and_reg(&mut self, op: Op, size: u8, to_reg: bool) -> Result<Insn, DecodeError> {
        let rm = self.mod_rm()?;
        let reg = Operand::Reg(self.prefixes.reg(rm.reg, size));
        let (dst, src) = if to_reg { (reg, Operand::Mem) } else { (Operand::Mem, reg) };
        Ok(insn(op, size, dst, src, rm.mem))
    }

    /// Memory of `size` bytes to a register of full size.
    fn extend(&mut self, op: Op, size: u8) -> Result<Insn, DecodeError> {
        let full = self.full_size();
        let mut insn = self.rm_and_reg(op, full, true)?;
        insn.size = size;
        Ok(insn)
    }

    /// Operand size of PUSH and POP, which have no 32-bit form in 64-bit mode.
    fn stack_size(&self) -> u8 {
        match (self.code, self.prefixes.operand_size) {
            (CodeSize::Bits64, false) => 8,
            (CodeSize::Bits64, true) if !self.prefixes.rex_w() => 2,
            (CodeSize::Bits64, true) => 8,
            _ => self.full_size(),
        }
    }

    fn imul_immediate(&mut self, immediate: u8) -> Result<Insn, DecodeError> {
        let mut insn = self.rm_and_reg(Op::Imul, self.full_size(), true)?;
        insn.extra = Operand::Imm(self.cursor.signed(immediate)?);
        Ok(insn)
    }

    /// Shifts and rotates by a number, by 1, by CL.
    fn shift(&mut self, opcode: u8, size: u8) -> Result<Insn, DecodeError> {
        let rm = self.mod_rm()?;
        let op = match rm.extension {
            0 => Op::Rol,
            1 => Op::Ror,
            2 => Op::Rcl,
            3 => Op::Rcr,
            5 => Op::Shr,
            7 => Op::Sar,
            // /6 is SHL once more.
            _ => Op::Shl,
        };
        let by = match opcode {
            0xC0 | 0xC1 => Operand::Imm(self.cursor.signed(1)?),
            0xD0 | 0xD1 => Operand::Imm(1),
            _ => CL,
        };
        let mut insn = insn(op, size, Operand::Mem, by, rm.mem);
        insn.reg_size = 1;
        Ok(insn)
    }

    fn alu_immediate(&mut self, opcode: u8, size: u8) -> Result<Insn, DecodeError> {
        let rm = self.mod_rm()?;
        let immediate = if opcode == 0x81 { size.min(4) } else { 1 };
        self.with_immediate(alu(rm.extension), size, immediate, &rm)
    }

    fn with_immediate(&mut self, op: Op, size: u8, immediate: u8, rm: &ModRm) -> Result<Insn, DecodeError> {
        let value = self.cursor.signed(immediate)?;
        Ok(insn(op, size, Operand::Mem, Operand::Imm(value), rm.mem))
    }

    /// MOV between the accumulator and an address within the instruction.
    fn moffs(&mut self, size: u8, to_reg: bool) -> Result<Insn, DecodeError> {
        let addr_size = self.prefixes.addr_size(self.code);
        let disp = self.cursor.number(addr_size)?;
        let segment = self.prefixes.segment.unwrap_or(Segment::Ds);
        let mem = Mem { segment, base: None, index: None, disp, rip_relative: false, addr_size };
        let (dst, src) = if to_reg { (ACCUMULATOR, Operand::Mem) } else { (Operand::Mem, ACCUMULATOR) };
        Ok(insn(Op::Mov, size, dst, src, mem))
    }

    fn string(&mut self, op: Op, size: u8) -> Insn {
        let addr_size = self.prefixes.addr_size(self.code);
        let from = self.prefixes.segment.unwrap_or(Segment::Ds);
        // ES:rDI is changed by no prefix.
        let (segment, base) = if op.reads_rsi() { (from, 6) } else { (Segment::Es, 7) };
        let mem = Mem { segment, base: Some(base), index: None, disp: 0, rip_relative: false, addr_size };
        let (dst, src) = match op {
            Op::Stos => (Operand::Mem, ACCUMULATOR),
            Op::Lods | Op::Scas => (ACCUMULATOR, Operand::Mem),
            _ => (Operand::Mem, Operand::Mem),
        };
        let rep = self.prefixes.rep;
        Insn { rep: rep.is_some(), repne: rep == Some(0xF2), ..insn(op, size, dst, src, mem) }
    }
}

const CL: Operand = Operand::Reg(Reg { index: 1, high: false });
const ACCUMULATOR: Operand = Operand::Reg(Reg { index: 0, high: false });

pub(crate) fn insn(op: Op, size: u8, dst: Operand, src: Operand, mem: Mem) -> Insn {
    Insn {
        len: 0,
        op,
        size,
        reg_size: size,
        dst,
        src,
        extra: Operand::None,
        mem,
        lock: false,
        rep: false,
        repne: false,
    }
}

/// The operation that three opcode bits choose in the arithmetic groups.
fn alu(bits: u8) -> Op {
    match bits & 7 {
        0 => Op::Add,
        1 => Op::Or,
        2 => Op::Adc,
        3 => Op::Sbb,
        4 => Op::And,
        5 => Op::Sub,
        6 => Op::Xor,
        _ => Op::Cmp,
    }
}
