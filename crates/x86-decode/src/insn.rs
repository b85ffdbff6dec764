//! A decoded instruction.

/// What the instruction does. `d` is the destination operand, `s` the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Op {
    /// d = s; MOVNTI too.
    Mov,
    /// d = s, zero-extended to the register.
    Movzx,
    /// d = s, sign-extended to the register; MOVSXD too.
    Movsx,
    /// d = s where the condition (low four bits of the opcode) holds.
    Cmov(u8),
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    /// Flags of d - s.
    Cmp,
    /// Flags of d & s.
    Test,
    Inc,
    Dec,
    Not,
    Neg,
    Xchg,
    Xadd,
    Cmpxchg,
    Bt,
    Bts,
    Btr,
    Btc,
    /// AL, AX, EAX or RAX times d, into the accumulator and rDX.
    Mul,
    /// The same with signs; with two or three operands d = s * the last one.
    Imul,
    /// The accumulator and rDX by d.
    Div,
    Idiv,
    Bsf,
    Bsr,
    /// d, with bits of s coming in, by [`Insn::extra`].
    Shld,
    Shrd,
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
    /// d = 1 where the condition (low four bits of the opcode) holds, else 0.
    Set(u8),
    /// To the stack.
    Push,
    /// From the stack.
    Pop,
    /// Near, to the address in memory.
    Call,
    /// Near, to the address in memory.
    Jmp,
    /// Low word of CR0 = d.
    Lmsw,
    /// d = low word of CR0.
    Smsw,
    /// Flushes of a cache line: an access that takes nothing and changes nothing.
    Touch,
    /// \[rDI\] = accumulator.
    Stos,
    /// Accumulator = \[rSI\].
    Lods,
    /// \[rDI\] = \[rSI\].
    Movs,
    /// Flags of \[rSI\] - \[rDI\].
    Cmps,
    /// Flags of accumulator - \[rDI\].
    Scas,
    /// \[rDI\] = port DX.
    Ins,
    /// Port DX = \[rSI\].
    Outs,
    /// Vector register = memory; d is a [`Operand::Vector`].
    LoadVector(Lanes),
    /// Memory = vector register.
    StoreVector(Lanes),
}

/// Which part of a vector register moves, and what becomes of the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    /// First byte of the register that moves; [`Insn::size`] says how many do.
    pub at: u8,
    /// Of a load: what the other bytes become.
    pub rest: Rest,
}

/// What a load makes of the bytes of a vector register that it does not bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// They stay.
    Keep,
    /// Up to 16 they are 0, beyond they stay: SSE's scalar loads.
    ClearLow,
    /// They are 0.
    Clear,
    /// Up to 16 they are those of this register, beyond they are 0.
    From(u8),
}

impl Op {
    /// What moves rSI or rDI, and may repeat.
    #[must_use]
    pub const fn is_string(self) -> bool {
        self.reads_rsi() || self.uses_rdi()
    }

    pub(crate) const fn reads_rsi(self) -> bool {
        matches!(self, Self::Lods | Self::Movs | Self::Cmps | Self::Outs)
    }

    pub(crate) const fn uses_rdi(self) -> bool {
        matches!(self, Self::Stos | Self::Movs | Self::Cmps | Self::Scas | Self::Ins)
    }
}

/// A general-purpose register, by encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reg {
    /// 0 (rAX) to 15 (R15).
    pub index: u8,
    /// Bits 15:8: AH, CH, DH or BH (`index` 0 to 3).
    pub high: bool,
}

/// An operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// Not there.
    None,
    /// The memory operand, [`Insn::mem`].
    Mem,
    /// A register.
    Reg(Reg),
    /// An XMM, YMM or ZMM register.
    Vector(u8),
    /// A constant, sign-extended to 64 bits.
    Imm(u64),
}

/// A segment register, by encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// How the memory operand's address is formed. For string instructions it is the one that is not fixed to
/// `ES:rDI`, where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    /// The segment, overrides applied.
    pub segment: Segment,
    /// Register by encoding.
    pub base: Option<u8>,
    /// Register by encoding, and the factor 1, 2, 4 or 8.
    pub index: Option<(u8, u8)>,
    /// Displacement, sign-extended.
    pub disp: u64,
    /// The next instruction's address is added.
    pub rip_relative: bool,
    /// Address size in bytes: 2, 4 or 8.
    pub addr_size: u8,
}

impl Mem {
    /// The offset within the segment; `next_rip` is the address behind the instruction.
    #[must_use]
    pub fn offset(&self, regs: &[u64; 16], next_rip: u64) -> u64 {
        let reg = |index: u8| regs.get(usize::from(index)).copied().unwrap_or(0);
        let mut sum = self.disp;
        if self.rip_relative {
            sum = sum.wrapping_add(next_rip);
        }
        if let Some(base) = self.base {
            sum = sum.wrapping_add(reg(base));
        }
        if let Some((index, scale)) = self.index {
            sum = sum.wrapping_add(reg(index).wrapping_mul(u64::from(scale)));
        }
        sum & mask(self.addr_size)
    }
}

/// A decoded instruction with one memory operand (two for MOVS and CMPS, and for what uses the stack).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    /// Length in bytes.
    pub len: u8,
    /// The operation.
    pub op: Op,
    /// Bytes of memory accessed: 1, 2, 4 or 8; of vectors 16 and 32, too.
    pub size: u8,
    /// Size of the register operand in bytes; differs from `size` for MOVZX, MOVSX, and shifts by CL.
    pub reg_size: u8,
    /// The destination.
    pub dst: Operand,
    /// The source.
    pub src: Operand,
    /// A third operand: a number, or CL.
    pub extra: Operand,
    /// The memory operand.
    pub mem: Mem,
    /// LOCK prefix.
    pub lock: bool,
    /// REP or REPNE before a string instruction.
    pub rep: bool,
    /// It is REPNE: CMPS and SCAS end at equality.
    pub repne: bool,
}

impl Insn {
    /// Whether it reads its memory operand.
    #[must_use]
    pub fn reads(&self) -> bool {
        !matches!(
            (self.op, self.dst),
            (Op::Stos | Op::Ins | Op::Set(_) | Op::Pop | Op::Smsw | Op::StoreVector(_), _)
                | (Op::Mov, Operand::Mem)
        )
    }

    /// Whether it writes its memory operand.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self.op {
            Op::Cmp | Op::Test | Op::Bt | Op::Lods | Op::Cmps | Op::Scas | Op::Outs => false,
            Op::Mul | Op::Div | Op::Idiv | Op::Push | Op::Call | Op::Jmp | Op::Lmsw | Op::Touch => false,
            Op::Imul => false,
            Op::Stos | Op::Movs | Op::Ins | Op::Xchg => true,
            _ => self.dst == Operand::Mem,
        }
    }
}

/// All bits of a value of `size` bytes.
pub(crate) const fn mask(size: u8) -> u64 {
    match size {
        1 => 0xFF,
        2 => 0xFFFF,
        4 => 0xFFFF_FFFF,
        _ => u64::MAX,
    }
}

/// The lowest `size` bytes of `value`, sign-extended.
pub(crate) const fn sign_extend(value: u64, size: u8) -> u64 {
    match size {
        1 => value as u8 as i8 as u64,
        2 => value as u16 as i16 as u64,
        4 => value as u32 as i32 as u64,
        _ => value,
    }
}
