//! `RangeSet` against a bit per address.

use bootinfo::RangeSet;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    Remove(u64, u64),
    Low(u64, u32),
    High(u64, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (0_u64..64, 0_u64..64);
    prop_oneof![
        range().prop_map(|(a, b)| Op::Insert(a, b)),
        range().prop_map(|(a, b)| Op::Remove(a, b)),
        (1_u64..20, 0_u32..4).prop_map(|(len, align)| Op::Low(len, align)),
        (1_u64..20, 0_u32..4).prop_map(|(len, align)| Op::High(len, align)),
    ]
}

fn fits(bits: u64, len: u64, align: u64) -> Vec<u64> {
    (0..64 - len).filter(|at| at % align == 0 && (*at..at + len).all(|i| bits >> i & 1 == 1)).collect()
}

proptest! {
    #[test]
    fn set_agrees_with_bits(ops in prop::collection::vec(op(), 0..60)) {
        let mut set = RangeSet::new();
        let mut bits = 0_u64;
        for op in ops {
            match op {
                Op::Insert(a, b) => { set.insert(a, b); (a..b).for_each(|i| bits |= 1 << i); }
                Op::Remove(a, b) => { set.remove(a, b); (a..b).for_each(|i| bits &= !(1 << i)); }
                Op::Low(len, shift) => {
                    let expected = fits(bits, len, 1 << shift).first().copied();
                    prop_assert_eq!(set.take_low(len, 1 << shift), expected);
                    if let Some(at) = expected { (at..at + len).for_each(|i| bits &= !(1 << i)); }
                }
                Op::High(len, shift) => {
                    let expected = fits(bits, len, 1 << shift).last().copied();
                    prop_assert_eq!(set.take_high(len, 1 << shift), expected);
                    if let Some(at) = expected { (at..at + len).for_each(|i| bits &= !(1 << i)); }
                }
            }
            for pair in set.ranges().windows(2) {
                prop_assert!(pair[0].1 < pair[1].0, "adjacent or overlapping: {:?}", set);
            }
            for i in 0..64_u64 {
                prop_assert_eq!(set.contains(i, i + 1), bits >> i & 1 == 1);
                prop_assert_eq!(set.overlaps(i, i + 1), bits >> i & 1 == 1);
            }
            prop_assert_eq!(set.total(), u64::from(bits.count_ones()));
        }
    }
}

#[test]
fn ends_of_the_address_space_do_not_overflow() {
    let mut set = RangeSet::new();
    set.insert(u64::MAX - 0x1800, u64::MAX);
    assert_eq!(set.take_low(0x2000, 0x1000), None);
    assert_eq!(set.take_low(0x4_0000_0000, 1 << 40), None);
    assert_eq!(set.take_high(0x800, 0x800), Some(0xffff_ffff_ffff_f000));
}
