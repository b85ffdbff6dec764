//! Multiplication and division by the accumulator and rDX (SDM 2A 3.3, 2B 4.3).

use crate::alu::{CF, OF};
use crate::insn::{Op, mask, sign_extend};

/// The low and the high half of a product, and the new RFLAGS: CF and OF say that the high half counts.
pub(crate) fn product(op: Op, a: u64, b: u64, size: u8, rflags: u64) -> (u64, u64, u64) {
    let bits = u32::from(size) * 8;
    let signed = |value| i128::from(sign_extend(value, size) as i64);
    let (product, over) = if op == Op::Mul {
        let product = u128::from(a & mask(size)) * u128::from(b & mask(size));
        (product, product >> bits != 0)
    } else {
        let product = signed(a).wrapping_mul(signed(b));
        (product as u128, product != signed(product as u64 & mask(size)))
    };
    let flags = rflags & !(CF | OF) | if over { CF | OF } else { 0 };
    (product as u64 & mask(size), (product >> bits) as u64 & mask(size), flags)
}

/// Quotient and remainder of `high:low` by `divisor`; `None` is #DE.
pub(crate) fn quotient(op: Op, (low, high): (u64, u64), divisor: u64, size: u8) -> Option<(u64, u64)> {
    let bits = u32::from(size) * 8;
    let dividend = u128::from(high & mask(size)) << bits | u128::from(low & mask(size));
    if op == Op::Div {
        let divisor = u128::from(divisor & mask(size));
        let quotient = dividend.checked_div(divisor)?;
        let fits = quotient <= u128::from(mask(size));
        return fits.then(|| (quotient as u64, (dividend % divisor) as u64));
    }
    let unused = 128 - 2 * bits;
    let dividend = (dividend << unused) as i128 >> unused;
    let divisor = i128::from(sign_extend(divisor, size) as i64);
    let quotient = dividend.checked_div(divisor)?;
    let fits = quotient == i128::from(sign_extend(quotient as u64 & mask(size), size) as i64);
    fits.then(|| (quotient as u64 & mask(size), (dividend % divisor) as u64 & mask(size)))
}
