//! Indices that a guest chooses (Spectre v1, CVE-2017-5753).
//!
//! A bounds check alone does not hold: a CPU that guesses it wrongly reads past the table's end before it finds out, and
//! what it read shows in the cache. So the index itself is bounded, by a conditional move, on which nothing is guessed.

use core::hint::black_box;

/// `index` where it is below `len`, else 0, without a branch. It does not replace the check, it goes with it:
///
/// ```
/// # use vm_types::nospec;
/// # let (table, index) = ([1, 2, 3], 2);
/// let value = table.get(nospec::index(index, table.len()));
/// ```
///
/// reads the first element where the index is out of range; a caller that must refuse it checks before.
#[must_use]
#[inline(always)]
pub fn index(index: usize, len: usize) -> usize {
    offset(index as u64, len as u64) as usize
}

/// The same of 64 bits: an offset into memory.
#[must_use]
#[inline(always)]
pub fn offset(at: u64, len: u64) -> u64 {
    // The compiler must not learn from the check before this that the mask is all ones. Hiding the length costs least.
    at & mask(at, black_box(len))
}

/// `inside` where `at` is below `len`, else `outside`: the choice is the check, and no branch.
#[must_use]
#[inline(always)]
pub const fn select(at: u64, len: u64, inside: u64, outside: u64) -> u64 {
    let mask = mask(at, len);
    inside & mask | outside & !mask
}

/// All ones where `at` is below `len`, else 0.
#[inline(always)]
const fn mask(at: u64, len: u64) -> u64 {
    ((at < len) as u64).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::{index, offset, select};

    #[test]
    fn inside_it_is_the_index_and_outside_it_is_0() {
        let edges =
            [0, 1, 2, 23, 24, 25, 127, 128, u64::from(u32::MAX), 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX];
        for at in edges {
            for len in edges {
                let expected = if at < len { at } else { 0 };
                assert_eq!(offset(at, len), expected, "{at:#x} of {len:#x}");
                assert_eq!(index(at as usize, len as usize), expected as usize);
                assert_eq!(select(at, len, 5, 7), if at < len { 5 } else { 7 });
            }
        }
    }
}
