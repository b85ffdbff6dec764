//! Every decoded instruction agrees with iced-x86, and everything iced-x86 knows of our subset is decoded.

use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use x86_decode::{CodeSize, DecodeError, Insn, Lanes, MAX_LEN, Op, Operand, Reg, Rest, Segment, decode};

const RIP: u64 = 0x7FFF_0000;
const CODES: [(CodeSize, u32); 3] = [(CodeSize::Bits16, 16), (CodeSize::Bits32, 32), (CodeSize::Bits64, 64)];

fn iced(bytes: &[u8], bits: u32) -> Instruction {
    let mut decoder = Decoder::with_ip(bits, bytes, RIP, DecoderOptions::NONE);
    decoder.decode()
}

/// The operation of an instruction that belongs to our subset.
fn subset(instruction: &Instruction) -> Option<Op> {
    use Mnemonic as M;
    if has_memory(instruction)
        && let Some(op) = vector_move(instruction)
    {
        return Some(op);
    }
    let segment =
        |index| instruction.op_kind(index) == OpKind::Register && !instruction.op_register(index).is_gpr();
    if (0..instruction.op_count()).any(segment) || !has_memory(instruction) {
        return None;
    }
    Some(match instruction.mnemonic() {
        M::Mov | M::Movnti => Op::Mov,
        M::Movzx => Op::Movzx,
        M::Movsx | M::Movsxd => Op::Movsx,
        M::Cmovo => Op::Cmov(0),
        M::Cmovno => Op::Cmov(1),
        M::Cmovb => Op::Cmov(2),
        M::Cmovae => Op::Cmov(3),
        M::Cmove => Op::Cmov(4),
        M::Cmovne => Op::Cmov(5),
        M::Cmovbe => Op::Cmov(6),
        M::Cmova => Op::Cmov(7),
        M::Cmovs => Op::Cmov(8),
        M::Cmovns => Op::Cmov(9),
        M::Cmovp => Op::Cmov(10),
        M::Cmovnp => Op::Cmov(11),
        M::Cmovl => Op::Cmov(12),
        M::Cmovge => Op::Cmov(13),
        M::Cmovle => Op::Cmov(14),
        M::Cmovg => Op::Cmov(15),
        M::Add => Op::Add,
        M::Or => Op::Or,
        M::Adc => Op::Adc,
        M::Sbb => Op::Sbb,
        M::And => Op::And,
        M::Sub => Op::Sub,
        M::Xor => Op::Xor,
        M::Cmp => Op::Cmp,
        M::Test => Op::Test,
        M::Inc => Op::Inc,
        M::Dec => Op::Dec,
        M::Not => Op::Not,
        M::Neg => Op::Neg,
        M::Xchg => Op::Xchg,
        M::Xadd => Op::Xadd,
        M::Cmpxchg => Op::Cmpxchg,
        M::Bt => Op::Bt,
        M::Bts => Op::Bts,
        M::Btr => Op::Btr,
        M::Btc => Op::Btc,
        M::Mul => Op::Mul,
        M::Imul => Op::Imul,
        M::Div => Op::Div,
        M::Idiv => Op::Idiv,
        M::Bsf => Op::Bsf,
        M::Bsr => Op::Bsr,
        M::Shld => Op::Shld,
        M::Shrd => Op::Shrd,
        M::Rol => Op::Rol,
        M::Ror => Op::Ror,
        M::Rcl => Op::Rcl,
        M::Rcr => Op::Rcr,
        M::Shl | M::Sal => Op::Shl,
        M::Shr => Op::Shr,
        M::Sar => Op::Sar,
        M::Seto => Op::Set(0),
        M::Setno => Op::Set(1),
        M::Setb => Op::Set(2),
        M::Setae => Op::Set(3),
        M::Sete => Op::Set(4),
        M::Setne => Op::Set(5),
        M::Setbe => Op::Set(6),
        M::Seta => Op::Set(7),
        M::Sets => Op::Set(8),
        M::Setns => Op::Set(9),
        M::Setp => Op::Set(10),
        M::Setnp => Op::Set(11),
        M::Setl => Op::Set(12),
        M::Setge => Op::Set(13),
        M::Setle => Op::Set(14),
        M::Setg => Op::Set(15),
        M::Push => Op::Push,
        M::Pop => Op::Pop,
        M::Call if !far(instruction) => Op::Call,
        M::Jmp if !far(instruction) => Op::Jmp,
        M::Lmsw => Op::Lmsw,
        M::Smsw => Op::Smsw,
        M::Clflush | M::Clflushopt | M::Clwb => Op::Touch,
        M::Cmpsb | M::Cmpsw | M::Cmpsq => Op::Cmps,
        M::Cmpsd if instruction.is_string_instruction() => Op::Cmps,
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => Op::Scas,
        M::Insb | M::Insw | M::Insd => Op::Ins,
        M::Outsb | M::Outsw | M::Outsd => Op::Outs,
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => Op::Stos,
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => Op::Lods,
        M::Movsb | M::Movsw | M::Movsq => Op::Movs,
        M::Movsd if instruction.is_string_instruction() => Op::Movs,
        _ => return None,
    })
}

/// A move between memory and a vector register: which bytes move, and what becomes of the rest.
fn vector_move(instruction: &Instruction) -> Option<Op> {
    use Mnemonic as M;
    let vex = instruction.encoding() == EncodingKind::VEX;
    let store = instruction.op_kind(0) == OpKind::Memory;
    let register = instruction.op_register(if store { instruction.op_count() - 1 } else { 0 });
    if !(register.is_xmm() || register.is_ymm())
        || !matches!(instruction.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
    {
        return None;
    }
    let (at, legacy) = match instruction.mnemonic() {
        M::Movups | M::Movupd | M::Movaps | M::Movapd | M::Movdqa | M::Movdqu | M::Movntps | M::Movntpd => {
            (0, Rest::Keep)
        }
        M::Movntdq | M::Movntdqa | M::Lddqu => (0, Rest::Keep),
        M::Vmovups | M::Vmovupd | M::Vmovaps | M::Vmovapd | M::Vmovdqa | M::Vmovdqu | M::Vmovntps => {
            (0, Rest::Keep)
        }
        M::Vmovntpd | M::Vmovntdq | M::Vmovntdqa | M::Vlddqu => (0, Rest::Keep),
        M::Movss | M::Movsd | M::Movd | M::Movq => (0, Rest::ClearLow),
        M::Vmovss | M::Vmovsd | M::Vmovd | M::Vmovq => (0, Rest::ClearLow),
        M::Movlps | M::Movlpd | M::Vmovlps | M::Vmovlpd => (0, Rest::Keep),
        M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd => (8, Rest::Keep),
        _ => return None,
    };
    let half = matches!(instruction.mnemonic(), M::Vmovlps | M::Vmovlpd | M::Vmovhps | M::Vmovhpd);
    let rest = match (store, vex, half) {
        (true, ..) => Rest::Keep,
        (_, true, true) => Rest::From(instruction.op_register(1).number() as u8),
        (_, true, false) => Rest::Clear,
        _ => legacy,
    };
    let lanes = Lanes { at, rest };
    Some(if store { Op::StoreVector(lanes) } else { Op::LoadVector(lanes) })
}

/// Through memory, with a selector.
fn far(instruction: &Instruction) -> bool {
    instruction.is_call_far_indirect() || instruction.is_jmp_far_indirect()
}

fn has_memory(instruction: &Instruction) -> bool {
    let register_or_number = |index| {
        matches!(
            instruction.op_kind(index),
            OpKind::Register
                | OpKind::Immediate8
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
                | OpKind::NearBranch16
                | OpKind::NearBranch32
                | OpKind::NearBranch64
                | OpKind::FarBranch16
                | OpKind::FarBranch32
        )
    };
    (0..instruction.op_count()).any(|index| !register_or_number(index))
}

fn segment(register: Register) -> Segment {
    match register {
        Register::ES => Segment::Es,
        Register::CS => Segment::Cs,
        Register::SS => Segment::Ss,
        Register::DS => Segment::Ds,
        Register::FS => Segment::Fs,
        Register::GS => Segment::Gs,
        other => panic!("{other:?}"),
    }
}

/// 64-bit mode ignores overrides other than FS and GS, which iced-x86 reports all the same.
fn check_segment(instruction: &Instruction, insn: &Insn, bits: u32) {
    let theirs = segment(instruction.memory_segment());
    let counts = |segment| bits != 64 || matches!(segment, Segment::Fs | Segment::Gs);
    if counts(theirs) || counts(insn.mem.segment) {
        assert_eq!(theirs, insn.mem.segment);
    }
}

fn check_operand(instruction: &Instruction, index: u32, operand: Operand, size: u8) {
    match operand {
        Operand::None => assert!(instruction.op_count() <= index),
        Operand::Mem => assert!(has_memory(instruction)),
        Operand::Vector(register) => {
            assert_eq!(instruction.op_register(index).number(), usize::from(register));
        }
        Operand::Reg(reg) => {
            let register = instruction.op_register(index);
            assert_eq!(register.size(), usize::from(size));
            let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
            assert_eq!(register.full_register().number(), usize::from(reg.index));
            assert_eq!(high, reg.high);
        }
        Operand::Imm(value) => {
            let bit_number = instruction.op_kind(index) == OpKind::Immediate8;
            let mask = match size {
                _ if bit_number => 0xFF,
                8 => u64::MAX,
                _ => (1 << (size * 8)) - 1,
            };
            assert_eq!(instruction.immediate(index) & mask, value & mask);
        }
    }
}

fn check_memory(instruction: &Instruction, insn: &Insn, bits: u32) {
    let mem = insn.mem;
    let register = |register: Register| (register != Register::None).then(|| register.number() as u8);
    if instruction.is_string_instruction() {
        if !matches!(insn.op, Op::Stos | Op::Scas | Op::Ins) {
            check_segment(instruction, insn, bits);
        }
        let width = |kind| match kind {
            OpKind::MemoryESDI | OpKind::MemorySegSI => Some(2),
            OpKind::MemoryESEDI | OpKind::MemorySegESI => Some(4),
            OpKind::MemoryESRDI | OpKind::MemorySegRSI => Some(8),
            _ => None,
        };
        let widths: Vec<u8> = (0..2).filter_map(|index| width(instruction.op_kind(index))).collect();
        assert!(widths.iter().all(|width| *width == mem.addr_size) && !widths.is_empty());
        assert_eq!(instruction.has_rep_prefix() || instruction.has_repne_prefix(), insn.rep);
        assert_eq!(instruction.has_repne_prefix(), insn.repne);
        return;
    }
    check_segment(instruction, insn, bits);
    let mask = if mem.addr_size == 8 { u64::MAX } else { (1 << (mem.addr_size * 8)) - 1 };
    let next = RIP + u64::from(insn.len);
    if instruction.is_ip_rel_memory_operand() {
        assert!(mem.rip_relative && mem.base.is_none() && mem.index.is_none());
        assert_eq!(mem.offset(&[0; 16], next), instruction.memory_displacement64());
        return;
    }
    assert!(!mem.rip_relative);
    assert_eq!(register(instruction.memory_base()), mem.base);
    let index =
        register(instruction.memory_index()).map(|index| (index, instruction.memory_index_scale() as u8));
    assert_eq!(index, mem.index);
    assert_eq!(instruction.memory_displacement64() & mask, mem.disp & mask);
    if let Some(base) = mem.base {
        let size = if mem.addr_size == 8 { 8 } else { usize::from(mem.addr_size) };
        assert_eq!(instruction.memory_base().size(), size, "address size of base {base}");
    }
}

/// Decodes both ways; whatever differs fails.
fn check(bytes: &[u8], code: CodeSize, bits: u32) {
    let theirs = iced(bytes, bits);
    let ours = decode(bytes, code);
    let context = || format!("{bits} bits: {bytes:02x?}: {:?} against {ours:?}", theirs.code());
    match (subset(&theirs), &ours) {
        (Some(op), Ok(insn)) => {
            assert_eq!(insn.op, op, "{}", context());
            assert_eq!(usize::from(insn.len), theirs.len(), "{}", context());
            assert_eq!(usize::from(insn.size), theirs.memory_size().size(), "{}", context());
            assert_eq!(theirs.has_lock_prefix(), insn.lock, "{}", context());
            let result = std::panic::catch_unwind(|| {
                let merges = matches!(insn.op, Op::LoadVector(Lanes { rest: Rest::From(_), .. }));
                if merges {
                    check_operand(&theirs, 0, insn.dst, insn.reg_size);
                } else if !theirs.is_string_instruction() {
                    check_operand(&theirs, 0, insn.dst, insn.reg_size);
                    check_operand(&theirs, 1, insn.src, insn.reg_size);
                    let by_cl = insn.extra == Operand::Reg(Reg { index: 1, high: false });
                    check_operand(&theirs, 2, insn.extra, if by_cl { 1 } else { insn.reg_size });
                }
                check_memory(&theirs, insn, bits);
            });
            assert!(result.is_ok(), "{}", context());
        }
        (None, Err(_)) => {}
        _ => panic!("{}", context()),
    }
}

const PREFIXES: [&[u8]; 20] = [
    &[],
    &[0x66],
    &[0x67],
    &[0x66, 0x67],
    &[0xF0],
    &[0xF2],
    &[0xF3],
    &[0xF3, 0x66],
    &[0x2E],
    &[0x36],
    &[0x26],
    &[0x64],
    &[0x65, 0x67],
    &[0x41],
    &[0x48],
    &[0x66, 0x4F],
    &[0x48, 0x66],
    &[0xF0, 0x47],
    &[0x67, 0x42],
    &[0xF0, 0xF3],
];

#[test]
fn every_opcode_and_modrm_as_iced_has_it() {
    // Displacement and immediate bytes that differ from each other and have their top bits set.
    const TAIL: [u8; 12] = [0x85, 0x96, 0xA7, 0xB8, 0xC9, 0xDA, 0xEB, 0x8C, 0x9D, 0xAE, 0xBF, 0xC1];
    for (code, bits) in CODES {
        for prefix in PREFIXES {
            for opcode in 0..0x200u32 {
                // An SIB byte that varies with the ModRM byte.
                for modrm in 0..=255u8 {
                    let mut bytes = prefix.to_vec();
                    if opcode >= 0x100 {
                        bytes.push(0x0F);
                    }
                    bytes.extend([opcode as u8, modrm, modrm.wrapping_mul(37).wrapping_add(opcode as u8)]);
                    bytes.extend(TAIL);
                    check(&bytes, code, bits);
                }
            }
        }
    }
}

#[test]
fn every_sib_as_iced_has_it() {
    for (code, bits) in CODES {
        for prefix in PREFIXES {
            for sib in 0..=255 {
                for modrm in [0x04, 0x4C, 0x94] {
                    let mut bytes = prefix.to_vec();
                    bytes.extend([0x8B, modrm, sib, 0x81, 0x92, 0xA3, 0xB4, 0xC5]);
                    check(&bytes, code, bits);
                }
            }
        }
    }
}

#[test]
fn length_limits() {
    let long = |prefixes: usize| {
        let mut bytes = vec![0x3E; prefixes];
        bytes.extend([0xC7, 0x05, 1, 2, 3, 4, 5, 6, 7, 8]);
        decode(&bytes, CodeSize::Bits32)
    };
    assert_eq!(long(5).map(|insn| insn.len), Ok(15));
    assert_eq!(long(6), Err(DecodeError::TooLong));
    assert_eq!(decode(&[0x66; 20], CodeSize::Bits64), Err(DecodeError::TooLong));
    for len in 0..10 {
        assert_eq!(
            decode(&[0xC7, 0x05, 1, 2, 3, 4, 5, 6, 7, 8][..len], CodeSize::Bits32),
            Err(DecodeError::Incomplete)
        );
    }
}

#[test]
fn errors_say_what_was_found() {
    let text = |bytes: &[u8]| decode(bytes, CodeSize::Bits64).unwrap_err().to_string();
    assert_eq!(text(&[0x90]), "unsupported opcode 0x90");
    assert_eq!(text(&[0x0F, 0x14, 0]), "unsupported opcode 0xf14");
    assert_eq!(text(&[0xFF, 0x28]), "unsupported opcode 0xff /5");
    assert_eq!(text(&[0x89, 0xC0]), "instruction without memory operand");
    assert_eq!(text(&[0xF0, 0x89, 0]), "LOCK prefix on an instruction that cannot have it");
}

/// Every VEX move, and everything around it.
#[test]
fn every_vex_opcode_as_iced_has_it() {
    const TAIL: [u8; 10] = [0x85, 0x96, 0xA7, 0xB8, 0xC9, 0xDA, 0xEB, 0x8C, 0x9D, 0xAE];
    for (code, bits) in CODES {
        for opcode in 0..=255u8 {
            for second in 0..=255u8 {
                let modrm = second.wrapping_mul(37).wrapping_add(opcode);
                let short = [&[0xC5, second, opcode, modrm, 0x65][..], &TAIL].concat();
                check(&short, code, bits);
                for map in [1, 2, 3] {
                    let flags = second & 0xE0 | map;
                    for last in [0x78u8, 0x79, 0x7A, 0x7B, 0x7D, 0xF9, 0xFD, 0x41, 0x00] {
                        let long = [&[0xC4, flags, last, opcode, modrm, 0x65][..], &TAIL].concat();
                        check(&long, code, bits);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_as_iced_has_them(
        prefix in prop::collection::vec(prop::sample::select(&[0x66u8, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x3E, 0x64, 0x48, 0x41, 0x4D][..]), 0..5),
        body in prop::collection::vec(any::<u8>(), MAX_LEN),
        mode in 0usize..3,
    ) {
        let bytes: Vec<u8> = prefix.into_iter().chain(body).collect();
        let (code, bits) = CODES[mode];
        check(&bytes, code, bits);
    }

    #[test]
    fn short_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..MAX_LEN), mode in 0usize..3) {
        if let Ok(insn) = decode(&bytes, CODES[mode].0) {
            prop_assert!(usize::from(insn.len) <= bytes.len());
            // What follows an instruction does not change it.
            prop_assert_eq!(decode(&bytes[..usize::from(insn.len)], CODES[mode].0), Ok(insn));
        }
    }
}
