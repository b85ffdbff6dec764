//! How long an instruction is (SDM 2A chapter 2, opcode maps in 2D appendix A).

use x86_decode::CodeSize;

/// Size of an immediate operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Imm {
    None,
    Byte,
    Word,
    /// 2 or 4 bytes by the operand size.
    Full,
    /// 2, 4 or 8 bytes by the operand size.
    Wide,
    /// A byte and a word: ENTER.
    WordByte,
    /// An address by the address size.
    Offset,
    /// Selector and offset by the operand size.
    Far,
    /// 2 or 4 bytes by the operand size, always 4 in 64-bit mode.
    Relative,
    /// A byte, relative to the next instruction.
    RelativeByte,
    /// As `Byte` and `Full`, for TEST alone of a group: /0 and /1.
    TestByte,
    TestFull,
}

/// What follows an opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) modrm: bool,
    pub(crate) imm: Imm,
}

const fn shape(modrm: bool, imm: Imm) -> Shape {
    Shape { modrm, imm }
}

/// One-byte opcodes; prefixes and escapes are not asked for. A table: comparisons in a row are slow.
pub(crate) static ONE_BYTE: [Shape; 256] = {
    let mut table = [shape(false, Imm::None); 256];
    let mut opcode = 0;
    while opcode < 256 {
        table[opcode] = one_byte(opcode as u8);
        opcode += 1;
    }
    table
};

const fn one_byte(opcode: u8) -> Shape {
    match opcode {
        0x00..=0x3f => match opcode & 7 {
            0..=3 => shape(true, Imm::None),
            4 => shape(false, Imm::Byte),
            5 => shape(false, Imm::Full),
            _ => shape(false, Imm::None),
        },
        0x62 | 0x63 | 0x84..=0x8f | 0xc4 | 0xc5 | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => {
            shape(true, Imm::None)
        }
        0x68 | 0xa9 => shape(false, Imm::Full),
        0x69 | 0x81 | 0xc7 => shape(true, Imm::Full),
        0x6b | 0x80 | 0x82 | 0x83 | 0xc0 | 0xc1 | 0xc6 => shape(true, Imm::Byte),
        0x6a | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xd4 | 0xd5 | 0xe4..=0xe7 => shape(false, Imm::Byte),
        0x70..=0x7f | 0xe0..=0xe3 | 0xeb => shape(false, Imm::RelativeByte),
        0x9a | 0xea => shape(false, Imm::Far),
        0xa0..=0xa3 => shape(false, Imm::Offset),
        0xb8..=0xbf => shape(false, Imm::Wide),
        0xc2 | 0xca => shape(false, Imm::Word),
        0xc8 => shape(false, Imm::WordByte),
        0xe8 | 0xe9 => shape(false, Imm::Relative),
        0xf6 => shape(true, Imm::TestByte),
        0xf7 => shape(true, Imm::TestFull),
        _ => shape(false, Imm::None),
    }
}

/// Opcodes of the map behind 0F.
pub(crate) const fn two_byte(opcode: u8) -> Shape {
    match opcode {
        0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {
            shape(false, Imm::None)
        }
        0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => shape(true, Imm::Byte),
        0x80..=0x8f => shape(false, Imm::Relative),
        _ => shape(true, Imm::None),
    }
}

/// Opcodes behind VEX and EVEX.
pub(crate) const fn vector(map: u8, opcode: u8, evex: bool) -> Shape {
    match (map, opcode) {
        (1, 0x77) if !evex => shape(false, Imm::None),
        (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) | (3, _) => shape(true, Imm::Byte),
        _ => shape(true, Imm::None),
    }
}

/// Sizes in bytes that prefixes and mode decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) mode: CodeSize,
    /// Operand size: 2, 4 or 8.
    pub(crate) operand: u8,
    /// Address size: 2, 4 or 8.
    pub(crate) address: u8,
}

impl Sizes {
    /// Of an instruction with these prefixes.
    pub(crate) const fn new(mode: CodeSize, operand: bool, address: bool, wide: bool) -> Self {
        let (small, large) = match mode {
            CodeSize::Bits16 => (operand, address),
            CodeSize::Bits32 => (!operand, !address),
            CodeSize::Bits64 => (!operand, true),
        };
        let address = match mode {
            CodeSize::Bits64 if !address => 8,
            _ if large => 4,
            _ => 2,
        };
        let operand = if wide {
            8
        } else if small {
            4
        } else {
            2
        };
        Self { mode, operand, address }
    }

    const fn full(self) -> usize {
        if self.operand == 2 { 2 } else { 4 }
    }

    /// Bytes of an immediate; `reg` is the reg field of ModRM.
    pub(crate) const fn immediate(self, imm: Imm, reg: u8) -> usize {
        match imm {
            Imm::None => 0,
            Imm::Byte | Imm::RelativeByte => 1,
            Imm::Word => 2,
            Imm::Full => self.full(),
            Imm::Wide => self.operand as usize,
            Imm::WordByte => 3,
            Imm::Offset => self.address as usize,
            Imm::Far => self.full() + 2,
            Imm::Relative => match self.mode {
                CodeSize::Bits64 => 4,
                _ => self.full(),
            },
            Imm::TestByte => (reg < 2) as usize,
            Imm::TestFull => (reg < 2) as usize * self.full(),
        }
    }

    /// Bytes of SIB and displacement behind a ModRM byte; `sib` is the byte behind it.
    pub(crate) const fn memory(self, modrm: u8, sib: u8) -> usize {
        let (form, rm) = (modrm >> 6, modrm & 7);
        if form == 3 {
            return 0;
        }
        if self.address == 2 {
            return match form {
                0 => (rm == 6) as usize * 2,
                1 => 1,
                _ => 2,
            };
        }
        let base = if rm == 4 { sib & 7 } else { rm };
        let displacement = match form {
            0 => (base == 5) as usize * 4,
            1 => 1,
            _ => 4,
        };
        (rm == 4) as usize + displacement
    }
}
