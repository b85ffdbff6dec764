//! Results and flags of the arithmetic instructions.

use crate::insn::{Op, mask, sign_extend};

pub(crate) const CF: u64 = 1 << 0;
pub(crate) const PF: u64 = 1 << 2;
pub(crate) const AF: u64 = 1 << 4;
pub(crate) const ZF: u64 = 1 << 6;
pub(crate) const SF: u64 = 1 << 7;
pub(crate) const DF: u64 = 1 << 10;
pub(crate) const OF: u64 = 1 << 11;
const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// The result of `d op s` in `size` bytes, and the new RFLAGS. AF after a logical instruction, which the SDM leaves
/// open, is clear.
pub(crate) fn binary(op: Op, d: u64, s: u64, size: u8, rflags: u64) -> (u64, u64) {
    let (d, s) = (d & mask(size), s & mask(size));
    let carry = rflags & CF;
    match op {
        Op::Add | Op::Xadd => add(d, s, 0, size, rflags),
        Op::Adc => add(d, s, carry, size, rflags),
        Op::Sbb => sub(d, s, carry, size, rflags),
        Op::Or => logical(d | s, size, rflags),
        Op::And | Op::Test => logical(d & s, size, rflags),
        Op::Xor => logical(d ^ s, size, rflags),
        // CMP, SUB and the comparisons of CMPXCHG, CMPS and SCAS.
        _ => sub(d, s, 0, size, rflags),
    }
}

/// The result of a one-operand instruction, and the new RFLAGS.
pub(crate) fn unary(op: Op, d: u64, size: u8, rflags: u64) -> (u64, u64) {
    // INC and DEC leave the carry flag alone.
    let keep_carry = |(value, flags): (u64, u64)| (value, flags & !CF | rflags & CF);
    match op {
        Op::Inc => keep_carry(binary(Op::Add, d, 1, size, rflags)),
        Op::Dec => keep_carry(binary(Op::Sub, d, 1, size, rflags)),
        Op::Neg => binary(Op::Sub, 0, d, size, rflags),
        _ => (!d & mask(size), rflags),
    }
}

/// The result of BT, BTS, BTR, BTC on bit `bit` of `d`, and the new RFLAGS; the caller keeps `bit` below 64.
pub(crate) fn bit(op: Op, d: u64, bit: u32, rflags: u64) -> (u64, u64) {
    let one = 1u64.checked_shl(bit).unwrap_or(0);
    let value = match op {
        Op::Bts => d | one,
        Op::Btr => d & !one,
        Op::Btc => d ^ one,
        _ => d,
    };
    (value, if d & one == 0 { rflags & !CF } else { rflags | CF })
}

/// BSF, BSR: the number of the lowest or highest bit that is set, `None` where none is, and the new RFLAGS.
pub(crate) fn scan(op: Op, s: u64, rflags: u64) -> (Option<u64>, u64) {
    let found = if op == Op::Bsf { s.trailing_zeros() } else { 63 ^ s.leading_zeros() };
    if s == 0 { (None, rflags | ZF) } else { (Some(found.into()), rflags & !ZF) }
}

/// Whether condition `cc` (the low four bits of Jcc, SETcc, CMOVcc) holds.
pub(crate) fn condition(cc: u8, rflags: u64) -> bool {
    let set = |flags: u64| rflags & flags != 0;
    let less = set(SF) != set(OF);
    let holds = match cc >> 1 & 7 {
        0 => set(OF),
        1 => set(CF),
        2 => set(ZF),
        3 => set(CF | ZF),
        4 => set(SF),
        5 => set(PF),
        6 => less,
        _ => less || set(ZF),
    };
    holds != (cc & 1 == 1)
}

fn add(d: u64, s: u64, carry: u64, size: u8, rflags: u64) -> (u64, u64) {
    let sum = u128::from(d) + u128::from(s) + u128::from(carry);
    let value = sum as u64 & mask(size);
    let over = sum > u128::from(mask(size));
    let signed_over = negative((d ^ value) & (s ^ value), size);
    (value, flags(value, size, rflags, d ^ s ^ value, over, signed_over))
}

fn sub(d: u64, s: u64, borrow: u64, size: u8, rflags: u64) -> (u64, u64) {
    let value = d.wrapping_sub(s).wrapping_sub(borrow) & mask(size);
    let under = u128::from(d) < u128::from(s) + u128::from(borrow);
    let signed_over = negative((d ^ s) & (d ^ value), size);
    (value, flags(value, size, rflags, d ^ s ^ value, under, signed_over))
}

fn logical(value: u64, size: u8, rflags: u64) -> (u64, u64) {
    (value, flags(value, size, rflags, 0, false, false))
}

pub(crate) fn negative(value: u64, size: u8) -> bool {
    sign_extend(value, size) >> 63 != 0
}

pub(crate) fn flags(value: u64, size: u8, rflags: u64, carries: u64, carry: bool, over: bool) -> u64 {
    let bit = |set: bool, flag: u64| if set { flag } else { 0 };
    rflags & !ARITHMETIC
        | bit(carry, CF)
        | bit((value as u8).count_ones().is_multiple_of(2), PF)
        | carries & AF
        | bit(value == 0, ZF)
        | bit(negative(value, size), SF)
        | bit(over, OF)
}
