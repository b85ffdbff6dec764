//! Shifts and rotates (SDM 2B, 4.3). Flags that the SDM leaves open become what a shift by one would make them.

use crate::alu::{CF, OF, flags, negative};
use crate::insn::{Op, mask};

/// The result of shifting `d` of `size` bytes by `count`, and the new RFLAGS.
pub(crate) fn shift(op: Op, d: u64, count: u64, size: u8, rflags: u64) -> (u64, u64) {
    let bits = u32::from(size) * 8;
    let count = masked(count, size);
    let d = d & mask(size);
    if count == 0 {
        return (d, rflags);
    }
    // One bit more than the operand: the one that falls out.
    let wide = u128::from(d);
    let (value, carry) = match op {
        Op::Shl => {
            let shifted = wide << count;
            (shifted as u64, shifted >> bits & 1 != 0)
        }
        Op::Shr => (wide.checked_shr(count).unwrap_or(0) as u64, (wide << 1 >> count) & 1 != 0),
        Op::Sar => {
            let signed = i128::from(crate::insn::sign_extend(d, size) as i64);
            ((signed >> count) as u64, (signed << 1 >> count) & 1 != 0)
        }
        _ => return rotate(op, d, count, size, rflags),
    };
    let value = value & mask(size);
    let over = match op {
        Op::Shl => negative(value, size) != carry,
        Op::Shr => negative(d, size),
        _ => false,
    };
    (value, flags(value, size, rflags, 0, carry, over))
}

/// ROL, ROR, RCL, RCR: flags other than CF and OF stay.
fn rotate(op: Op, d: u64, count: u32, size: u8, rflags: u64) -> (u64, u64) {
    let bits = u32::from(size) * 8;
    let through_carry = matches!(op, Op::Rcl | Op::Rcr);
    let ring = if through_carry { bits + 1 } else { bits };
    let left = matches!(op, Op::Rol | Op::Rcl);
    let by = if left { count % ring } else { ring - count % ring };
    let old = u128::from(d) | if through_carry { u128::from(rflags & CF) << bits } else { 0 };
    let turned = (old << by | old >> (ring - by)) & ((1 << ring) - 1);
    let value = turned as u64 & mask(size);
    let carry = match (through_carry, left) {
        (true, _) => turned >> bits & 1 != 0,
        (false, true) => value & 1 != 0,
        (false, false) => negative(value, size),
    };
    let over = if left { negative(value, size) != carry } else { negative(value ^ value << 1, size) };
    let bit = |set: bool, flag: u64| if set { flag } else { 0 };
    (value, rflags & !(CF | OF) | bit(carry, CF) | bit(over, OF))
}

/// SHLD, SHRD: `d` moves, and bits of `s` come in.
pub(crate) fn double(op: Op, d: u64, s: u64, count: u64, size: u8, rflags: u64) -> (u64, u64) {
    let bits = u32::from(size) * 8;
    let count = masked(count, size);
    let (d, s) = (d & mask(size), s & mask(size));
    if count == 0 {
        return (d, rflags);
    }
    // A word by more than 16 is undefined; here `d` comes in again after `s`.
    let pair = |high: u64, low: u64| u128::from(high) << bits | u128::from(low);
    let (value, carry) = match (op, count > bits) {
        (Op::Shld, false) => ((pair(d, s) << count >> bits) as u64, d >> (bits - count) & 1 != 0),
        (Op::Shld, true) => ((pair(s, d) << (count - bits) >> bits) as u64, s >> (2 * bits - count) & 1 != 0),
        (_, false) => ((pair(s, d) >> count) as u64, d >> (count - 1) & 1 != 0),
        (_, true) => ((pair(d, s) >> (count - bits)) as u64, s >> (count - bits - 1) & 1 != 0),
    };
    let value = value & mask(size);
    (value, flags(value, size, rflags, 0, carry, negative(value ^ d, size)))
}

fn masked(count: u64, size: u8) -> u32 {
    count as u32 & if size == 8 { 63 } else { 31 }
}
