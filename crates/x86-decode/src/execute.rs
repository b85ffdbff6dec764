//! Performs a decoded instruction.

use vm_types::Gpa;
use x86::PAGE_SIZE as PAGE;

use crate::access::{self, Located, is_canonical, locate};
use crate::alu::{self, DF, ZF};
use crate::code::CodeSize;
use crate::insn::{Insn, Lanes, Op, Operand, Reg, Rest, Segment, mask, sign_extend};
use crate::machine::{Cpu, Fault, Machine};
use crate::{multiply, shift};

/// Access rights of SS: the stack pointer has 32 bits.
const BIG: u32 = 1 << 14;

const RAX: Reg = Reg { index: 0, high: false };
const AH: Reg = Reg { index: 0, high: true };
const RCX: Reg = Reg { index: 1, high: false };
const RDX: Reg = Reg { index: 2, high: false };
const RSP: Reg = Reg { index: x86::RSP, high: false };
const RSI: Reg = Reg { index: 6, high: false };
const RDI: Reg = Reg { index: 7, high: false };

/// Performs `insn`, which lies at RIP, or one iteration of it where it repeats, and moves RIP unless another iteration
/// is due. `faulted` is where the CPU met something that is not RAM.
///
/// # Errors
/// What the CPU would raise; registers and memory are unchanged then.
pub fn execute<M: Machine>(
    insn: &Insn,
    cpu: &mut Cpu,
    machine: &mut M,
    faulted: Option<Gpa>,
) -> Result<(), Fault> {
    let next = next_rip(cpu, insn);
    let mut run = Run { insn, next, cpu, machine, faulted };
    match insn.op {
        op if op.is_string() => run.string(),
        Op::Push | Op::Pop | Op::Call | Op::Jmp => run.stack(),
        _ => run.plain(),
    }
}

/// Where the instruction behind this one begins.
fn next_rip(cpu: &Cpu, insn: &Insn) -> u64 {
    let next = cpu.rip.wrapping_add(insn.len.into());
    if cpu.code == CodeSize::Bits64 { next } else { next & 0xFFFF_FFFF }
}

struct Run<'a, M> {
    insn: &'a Insn,
    next: u64,
    /// Changed only once nothing can fault any more.
    cpu: &'a mut Cpu,
    machine: &'a mut M,
    faulted: Option<Gpa>,
}

impl<M: Machine> Run<'_, M> {
    /// Looks up the only memory operand. The CPU has checked and translated it before it met what is not RAM, so that its
    /// address is known, unless it reaches into a second page.
    fn operand(&mut self) -> Result<Located, Fault> {
        let (segment, offset) = (self.insn.mem.segment, self.offset());
        if let Some(gpa) = self.faulted {
            let linear = access::unchecked_linear(self.cpu, self.machine, segment, offset);
            if linear % PAGE == gpa.0 % PAGE && linear % PAGE + u64::from(self.insn.size) <= PAGE {
                return Ok(Located::Device(gpa));
            }
        }
        self.locate((segment, offset), self.insn.writes())
    }

    /// Offset of the memory operand in its segment.
    fn offset(&self) -> u64 {
        let Insn { op, size, src, mem, .. } = *self.insn;
        let offset = mem.offset(&self.cpu.gprs, self.next);
        // BT and its kind with a register reach beyond the operand, in both directions (SDM 2A 3.3, BT).
        let (Op::Bt | Op::Bts | Op::Btr | Op::Btc, Operand::Reg(reg)) = (op, src) else { return offset };
        let bit = sign_extend(self.reg(reg, size), size) as i64;
        let units = bit.div_euclid(i64::from(size) * 8);
        offset.wrapping_add((units * i64::from(size)) as u64) & mask(mem.addr_size)
    }

    fn locate(&mut self, place: (Segment, u64), write: bool) -> Result<Located, Fault> {
        locate(self.cpu, self.machine, place, self.insn.size, write)
    }

    fn read(&mut self, at: Located) -> u64 {
        access::read(self.machine, at, self.insn.size)
    }

    fn write(&mut self, at: Located, value: u64) {
        access::write(self.machine, at, self.insn.size, value);
    }

    fn reg(&self, reg: Reg, size: u8) -> u64 {
        read_reg(&self.cpu.gprs, reg, size)
    }

    fn set_reg(&mut self, reg: Reg, size: u8, value: u64) {
        write_reg(&mut self.cpu.gprs, reg, size, value);
    }

    /// Everything with one memory operand and without an address register that moves.
    fn plain(&mut self) -> Result<(), Fault> {
        let insn = self.insn;
        let (size, flags) = (insn.size, self.cpu.rflags);
        let at = self.operand()?;
        match insn.op {
            Op::LoadVector(lanes) => {
                self.load_vector(at, lanes);
                self.cpu.rip = self.next;
                return Ok(());
            }
            Op::StoreVector(lanes) => {
                let register = self.machine.vector(vector(insn.src));
                let from = usize::from(lanes.at);
                let bytes = register.get(from..from + usize::from(size)).unwrap_or_default();
                access::write_bytes(self.machine, at, bytes);
                self.cpu.rip = self.next;
                return Ok(());
            }
            _ => {}
        }
        let memory = if insn.reads() { self.read(at) } else { 0 };
        let value = |operand| match operand {
            Operand::Mem | Operand::None => memory,
            Operand::Reg(reg) => read_reg(&self.cpu.gprs, reg, insn.reg_size),
            Operand::Imm(value) => value & mask(size),
            Operand::Vector(_) => 0,
        };
        let (d, s) = (value(insn.dst), value(insn.src));
        let count = match insn.extra {
            Operand::Imm(value) => value,
            _ => self.reg(RCX, 1),
        };
        let (result, new_flags) = match insn.op {
            Op::Mov | Op::Movzx | Op::Xchg => (s, flags),
            Op::Movsx => (sign_extend(s, size), flags),
            Op::Cmov(cc) => (if alu::condition(cc, flags) { s } else { d }, flags),
            Op::Set(cc) => (alu::condition(cc, flags).into(), flags),
            Op::Inc | Op::Dec | Op::Not | Op::Neg => alu::unary(insn.op, d, size, flags),
            Op::Bt | Op::Bts | Op::Btr | Op::Btc => {
                alu::bit(insn.op, d, (s % (u64::from(size) * 8)) as u32, flags)
            }
            Op::Bsf | Op::Bsr => {
                let (found, flags) = alu::scan(insn.op, s, flags);
                (found.unwrap_or(d), flags)
            }
            Op::Rol | Op::Ror | Op::Rcl | Op::Rcr | Op::Shl | Op::Shr | Op::Sar => {
                shift::shift(insn.op, d, s, size, flags)
            }
            Op::Shld | Op::Shrd => shift::double(insn.op, d, s, count, size, flags),
            Op::Imul if insn.dst != Operand::Mem => {
                let factor = if insn.extra == Operand::None { d } else { count };
                let (low, _, flags) = multiply::product(Op::Imul, factor, s, size, flags);
                (low, flags)
            }
            Op::Mul | Op::Imul => {
                let (low, high, flags) = multiply::product(insn.op, self.reg(RAX, size), d, size, flags);
                self.set_wide(low, high);
                (0, flags)
            }
            Op::Div | Op::Idiv => {
                let (quotient, rest) =
                    multiply::quotient(insn.op, self.wide(), d, size).ok_or(Fault::DIVIDE)?;
                self.set_wide(quotient, rest);
                (0, flags)
            }
            Op::Lmsw => {
                self.machine.lmsw(d as u16);
                (0, flags)
            }
            Op::Smsw => (self.cpu.paging.cr0, flags),
            Op::Touch => (0, flags),
            Op::Cmpxchg => {
                let flags = alu::binary(Op::Cmp, self.reg(RAX, size), d, size, flags).1;
                // Memory is written either way, as the CPU does it.
                (if flags & ZF != 0 { s } else { d }, flags)
            }
            op => alu::binary(op, d, s, size, flags),
        };
        if insn.writes() {
            self.write(at, result);
        }
        self.cpu.rflags = new_flags;
        match (insn.op, insn.dst, insn.src) {
            (Op::Cmp | Op::Test | Op::Bt, ..) => {}
            (Op::Xchg | Op::Xadd, _, Operand::Reg(reg)) => self.set_reg(reg, insn.reg_size, d),
            (Op::Cmpxchg, ..) if new_flags & ZF == 0 => self.set_reg(RAX, insn.reg_size, d),
            // The SDM leaves the register open; CPUs leave it alone, its upper half too.
            (Op::Bsf | Op::Bsr, ..) if new_flags & ZF != 0 => {}
            (_, Operand::Reg(reg), _) => self.set_reg(reg, insn.reg_size, result),
            _ => {}
        }
        self.cpu.rip = self.next;
        Ok(())
    }

    fn load_vector(&mut self, at: Located, lanes: Lanes) {
        let register = vector(self.insn.dst);
        let mut value = match lanes.rest {
            Rest::Clear => [0; 64],
            Rest::From(other) => self.machine.vector(other),
            Rest::Keep | Rest::ClearLow => self.machine.vector(register),
        };
        match lanes.rest {
            Rest::ClearLow => value[..16].fill(0),
            Rest::From(_) => value[16..].fill(0),
            Rest::Keep | Rest::Clear => {}
        }
        let from = usize::from(lanes.at);
        let part = value.get_mut(from..from + usize::from(self.insn.size)).unwrap_or_default();
        access::read_bytes(self.machine, at, part);
        self.machine.set_vector(register, &value);
    }

    /// Low and high half of AX, DX:AX, EDX:EAX, RDX:RAX.
    fn wide(&self) -> (u64, u64) {
        let size = self.insn.size;
        (self.reg(RAX, size), self.reg(if size == 1 { AH } else { RDX }, size))
    }

    fn set_wide(&mut self, low: u64, high: u64) {
        let size = self.insn.size;
        self.set_reg(RAX, size, low);
        self.set_reg(if size == 1 { AH } else { RDX }, size, high);
    }

    /// PUSH, POP, CALL and JMP. With the stack there are two places, and either may be what is not RAM.
    fn stack(&mut self) -> Result<(), Fault> {
        let size = self.insn.size;
        let width = match self.cpu.code {
            CodeSize::Bits64 => 8,
            _ if self.machine.segment(Segment::Ss).rights & BIG != 0 => 4,
            _ => 2,
        };
        let top = self.reg(RSP, width);
        let below = top.wrapping_sub(size.into()) & mask(width);
        let operand = |run: &Self| (run.insn.mem.segment, run.offset());
        match self.insn.op {
            Op::Jmp => {
                let at = self.operand()?;
                self.cpu.rip = self.target(at)?;
                return Ok(());
            }
            Op::Pop => {
                let from = self.locate((Segment::Ss, top), false)?;
                // An operand that is based on rSP counts from the new one.
                let old = self.cpu.gprs;
                self.set_reg(RSP, width, top.wrapping_add(size.into()));
                let to = self.locate(operand(self), true).inspect_err(|_| self.cpu.gprs = old)?;
                let value = self.read(from);
                self.write(to, value);
            }
            op => {
                let from = self.locate(operand(self), false)?;
                let to = self.locate((Segment::Ss, below), true)?;
                if op == Op::Call {
                    let back = self.next;
                    self.next = self.target(from)?;
                    self.write(to, back);
                } else {
                    let value = self.read(from);
                    self.write(to, value);
                }
                self.set_reg(RSP, width, below);
            }
        }
        self.cpu.rip = self.next;
        Ok(())
    }

    /// Where a near branch through memory goes.
    fn target(&mut self, at: Located) -> Result<u64, Fault> {
        let target = self.read(at);
        let allowed = if self.cpu.code == CodeSize::Bits64 {
            is_canonical(self.cpu, target)
        } else {
            target <= self.machine.segment(Segment::Cs).limit.into()
        };
        if allowed { Ok(target) } else { Err(Fault::PROTECTION) }
    }

    fn string(&mut self) -> Result<(), Fault> {
        let Insn { op, size, mem, rep, repne, .. } = *self.insn;
        let width = mem.addr_size;
        let count = self.reg(RCX, width);
        if rep && count == 0 {
            self.cpu.rip = self.next;
            return Ok(());
        }
        let from = (mem.segment, self.reg(RSI, width));
        let to = (Segment::Es, self.reg(RDI, width));
        let mut rflags = self.cpu.rflags;
        match op {
            Op::Stos => {
                let at = self.operand()?;
                self.write(at, self.reg(RAX, size));
            }
            Op::Lods => {
                let at = self.operand()?;
                let value = self.read(at);
                self.set_reg(RAX, size, value);
            }
            Op::Scas => {
                let at = self.operand()?;
                let value = self.read(at);
                rflags = alu::binary(Op::Cmp, self.reg(RAX, size), value, size, rflags).1;
            }
            Op::Movs => {
                let (from, to) = (self.locate(from, false)?, self.locate(to, true)?);
                let value = self.read(from);
                self.write(to, value);
            }
            Op::Cmps => {
                let (from, to) = (self.locate(from, false)?, self.locate(to, false)?);
                let (d, s) = (self.read(from), self.read(to));
                rflags = alu::binary(Op::Cmp, d, s, size, rflags).1;
            }
            Op::Ins => {
                let to = self.locate(to, true)?;
                let value = self.machine.input(self.port(), size);
                self.write(to, value.into());
            }
            _ => {
                let from = self.locate(from, false)?;
                let value = self.read(from) as u32;
                self.machine.output(self.port(), size, value);
            }
        }
        self.cpu.rflags = rflags;
        let step = if rflags & DF == 0 { u64::from(size) } else { u64::from(size).wrapping_neg() };
        for (pointer, moves) in [(RSI, op.reads_rsi()), (RDI, op.uses_rdi())] {
            if moves {
                self.set_reg(pointer, width, self.reg(pointer, width).wrapping_add(step));
            }
        }
        if rep {
            self.set_reg(RCX, width, count - 1);
        }
        let ends = matches!(op, Op::Cmps | Op::Scas) && (rflags & ZF != 0) == repne;
        if !rep || count == 1 || ends {
            self.cpu.rip = self.next;
        }
        Ok(())
    }

    fn port(&self) -> u16 {
        self.reg(RDX, 2) as u16
    }
}

fn vector(operand: Operand) -> u8 {
    if let Operand::Vector(register) = operand { register } else { 0 }
}

fn read_reg(regs: &[u64; 16], reg: Reg, size: u8) -> u64 {
    let value = regs.get(usize::from(reg.index)).copied().unwrap_or(0);
    (if reg.high { value >> 8 } else { value }) & mask(size)
}

/// Writes as the CPU does: 4 bytes clear the upper half, 1 and 2 leave the rest alone.
fn write_reg(regs: &mut [u64; 16], reg: Reg, size: u8, value: u64) {
    let Some(place) = regs.get_mut(usize::from(reg.index)) else { return };
    let shift = if reg.high { 8 } else { 0 };
    let field = mask(size) << shift;
    let kept = if size >= 4 { 0 } else { *place & !field };
    *place = kept | (value << shift & field);
}
