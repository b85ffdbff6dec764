//! Performs a decoded instruction.

use crate::alu::{self, DF, ZF};
use crate::insn::{Insn, Op, Operand, Reg, Segment, mask, sign_extend};

/// The general-purpose registers by encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
pub type Gprs = [u64; 16];

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The instruction's one memory operand: the address that faulted.
    Operand,
    /// An address of MOVS, which has two. One of them faulted, the other may be RAM: the bus translates both.
    Logical {
        /// The segment.
        segment: Segment,
        /// The offset in it.
        offset: u64,
    },
}

/// What the instruction reads from and writes to.
pub trait MmioBus {
    /// Why an access cannot be done; the instruction has then changed no register.
    type Error;

    /// Reads `size` bytes (1, 2, 4 or 8), zero-extended.
    ///
    /// # Errors
    /// As the bus defines.
    fn read(&mut self, place: Place, size: u8) -> Result<u64, Self::Error>;

    /// Writes the low `size` bytes of `value`; the others are zero.
    ///
    /// # Errors
    /// As the bus defines.
    fn write(&mut self, place: Place, size: u8, value: u64) -> Result<(), Self::Error>;
}

/// What is to happen with RIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The instruction is complete: RIP moves behind it.
    Done,
    /// One iteration of a REP is done and more are due: RIP stays.
    Again,
}

/// Why an instruction was not performed. Registers and flags are unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExecuteError<E> {
    /// BT and its kind with a register that names a bit outside the operand: the access is elsewhere than the
    /// operand's address.
    BitOutside {
        /// The bit, as the register has it.
        bit: u64,
    },
    /// From the bus.
    Bus(E),
}

impl<E: core::fmt::Display> core::fmt::Display for ExecuteError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BitOutside { bit } => write!(f, "bit test of bit {bit}, outside its operand"),
            Self::Bus(error) => error.fmt(f),
        }
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for ExecuteError<E> {}

impl<E> From<E> for ExecuteError<E> {
    fn from(error: E) -> Self {
        Self::Bus(error)
    }
}

const RAX: Reg = Reg { index: 0, high: false };
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// Performs `insn`, or one iteration of it where it repeats.
///
/// # Errors
/// [`ExecuteError`]; registers and flags are then unchanged.
pub fn execute<B: MmioBus>(
    insn: &Insn,
    regs: &mut Gprs,
    rflags: &mut u64,
    bus: &mut B,
) -> Result<Progress, ExecuteError<B::Error>> {
    if matches!(insn.op, Op::Stos | Op::Lods | Op::Movs) {
        return string(insn, regs, *rflags, bus);
    }
    // A plain store is the one instruction that does not read first.
    let memory = if insn.reads() { bus.read(Place::Operand, insn.size)? & mask(insn.size) } else { 0 };
    let value = |operand| match operand {
        Operand::Mem | Operand::None => memory,
        Operand::Reg(reg) => read_reg(regs, reg, insn.reg_size),
        Operand::Imm(value) => value & mask(insn.size),
    };
    let (d, s) = (value(insn.dst), value(insn.src));
    let flags = *rflags;
    let (result, new_flags) = match insn.op {
        Op::Mov | Op::Movzx | Op::Xchg => (s, flags),
        Op::Movsx => (sign_extend(s, insn.size), flags),
        Op::Cmov(cc) => (if alu::condition(cc, flags) { s } else { d }, flags),
        Op::Inc | Op::Dec | Op::Not | Op::Neg => alu::unary(insn.op, d, insn.size, flags),
        Op::Bt | Op::Bts | Op::Btr | Op::Btc => alu::bit(insn.op, d, bit_number(insn, s)?, flags),
        Op::Cmpxchg => {
            let accumulator = read_reg(regs, RAX, insn.size);
            let flags = alu::binary(Op::Cmp, accumulator, d, insn.size, flags).1;
            // Memory is written either way, as the CPU does it.
            (if flags & ZF != 0 { s } else { d }, flags)
        }
        op => alu::binary(op, d, s, insn.size, flags),
    };
    if insn.writes() {
        bus.write(Place::Operand, insn.size, result & mask(insn.size))?;
    }
    *rflags = new_flags;
    match (insn.op, insn.dst, insn.src) {
        (Op::Cmp | Op::Test | Op::Bt, ..) => {}
        (Op::Xchg | Op::Xadd, _, Operand::Reg(reg)) => write_reg(regs, reg, insn.reg_size, d),
        (Op::Cmpxchg, ..) if new_flags & ZF == 0 => write_reg(regs, RAX, insn.reg_size, d),
        (_, Operand::Reg(reg), _) => write_reg(regs, reg, insn.reg_size, result),
        _ => {}
    }
    Ok(Progress::Done)
}

/// An immediate bit number wraps at the operand's size; one in a register reaches beyond the operand.
fn bit_number<E>(insn: &Insn, number: u64) -> Result<u32, ExecuteError<E>> {
    let bits = u64::from(insn.size) * 8;
    match insn.src {
        Operand::Imm(_) => Ok((number % bits) as u32),
        _ if number < bits => Ok(number as u32),
        _ => Err(ExecuteError::BitOutside { bit: number }),
    }
}

fn string<B: MmioBus>(
    insn: &Insn,
    regs: &mut Gprs,
    rflags: u64,
    bus: &mut B,
) -> Result<Progress, ExecuteError<B::Error>> {
    let width = insn.mem.addr_size;
    let pointer = |index| Reg { index, high: false };
    let count = read_reg(regs, pointer(RCX), width);
    if insn.rep && count == 0 {
        return Ok(Progress::Done);
    }
    let read = |index| read_reg(regs, pointer(index), width);
    match insn.op {
        Op::Stos => bus.write(Place::Operand, insn.size, read_reg(regs, RAX, insn.size))?,
        Op::Lods => {
            let value = bus.read(Place::Operand, insn.size)?;
            write_reg(regs, RAX, insn.size, value);
        }
        _ => {
            let from = Place::Logical { segment: insn.mem.segment, offset: read(RSI) };
            let to = Place::Logical { segment: Segment::Es, offset: read(RDI) };
            let value = bus.read(from, insn.size)? & mask(insn.size);
            bus.write(to, insn.size, value)?;
        }
    }
    let step = if rflags & DF == 0 { u64::from(insn.size) } else { u64::from(insn.size).wrapping_neg() };
    for (index, moves) in [(RSI, insn.op != Op::Stos), (RDI, insn.op != Op::Lods)] {
        if moves {
            let value = read_reg(regs, pointer(index), width).wrapping_add(step);
            write_reg(regs, pointer(index), width, value);
        }
    }
    if !insn.rep {
        return Ok(Progress::Done);
    }
    write_reg(regs, pointer(RCX), width, count - 1);
    Ok(if count == 1 { Progress::Done } else { Progress::Again })
}

fn read_reg(regs: &Gprs, reg: Reg, size: u8) -> u64 {
    let value = regs.get(usize::from(reg.index)).copied().unwrap_or(0);
    (if reg.high { value >> 8 } else { value }) & mask(size)
}

/// Writes as the CPU does: 4 bytes clear the upper half, 1 and 2 leave the rest alone.
fn write_reg(regs: &mut Gprs, reg: Reg, size: u8, value: u64) {
    let Some(place) = regs.get_mut(usize::from(reg.index)) else { return };
    let shift = if reg.high { 8 } else { 0 };
    let field = mask(size) << shift;
    let kept = if size >= 4 { 0 } else { *place & !field };
    *place = kept | (value << shift & field);
}
