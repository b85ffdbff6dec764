//! The TSC's rate without a timer, and its agreement across CPUs.

use bring_up::tsc::{Ahead, Source, adjusted, by_cpuid, is_invariant};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ask(leaves: &[(u32, [u32; 4])]) -> Option<(u64, Source)> {
    let leaves: BTreeMap<u32, [u32; 4]> = leaves.iter().copied().collect();
    by_cpuid(|leaf| leaves.get(&leaf).copied().unwrap_or_default())
}

/// Fault 2.21: without PIT and PM timer 1 GHz was assumed.
#[test]
fn cpuid_is_asked_where_no_timer_is() {
    let (ice_lake, guest) = ((0x15, [2, 168, 25_000_000, 0]), (1, [0, 0, 1 << 31, 0]));
    assert_eq!(ask(&[(0, [0x1b, 0, 0, 0]), ice_lake]), Some((2_100_000_000, Source::Crystal)));
    // Skylake-SP does not tell its crystal's rate.
    let skylake = [(0, [0x16, 0, 0, 0]), (0x15, [2, 168, 0, 0]), (0x16, [2100, 3700, 100, 0])];
    assert_eq!(ask(&skylake), Some((2_100_000_000, Source::Base)));
    let vmware = [
        (0, [0x16, 0, 0, 0]),
        guest,
        (0x4000_0000, [0x4000_0010, 0, 0, 0]),
        (0x4000_0010, [2_099_998, 66_000, 0, 0]),
    ];
    assert_eq!(ask(&vmware), Some((2_099_998_000, Source::Hypervisor)));
}

#[test]
fn no_rate_is_made_up() {
    assert_eq!(ask(&[(0, [0xd, 0, 0, 0])]), None);
    // Leaves above the highest answer with another one's data.
    assert_eq!(ask(&[(0, [0xd, 0, 0, 0]), (0x15, [2, 168, 25_000_000, 0]), (0x16, [7, 7, 7, 7])]), None);
    // No hypervisor: what is up there is anything.
    assert_eq!(
        ask(&[(0, [0xd, 0, 0, 0]), (0x4000_0000, [0x4000_0010, 0, 0, 0]), (0x4000_0010, [7; 4])]),
        None
    );
    assert_eq!(ask(&[(0, [0x16, 0, 0, 0]), (0x15, [0, 168, 1, 0])]), None);
}

#[test]
fn invariance_is_one_bit_of_a_leaf_that_must_be_there() {
    let edx =
        |last: u32, edx: u32| move |leaf| if leaf == 0x8000_0000 { [last, 0, 0, 0] } else { [0, 0, 0, edx] };
    assert!(is_invariant(edx(0x8000_0008, 1 << 8)));
    assert!(!is_invariant(edx(0x8000_0008, !(1 << 8))));
    assert!(!is_invariant(edx(0x8000_0006, 1 << 8)));
}

#[test]
fn tscs_at_different_rates_contradict_themselves() {
    let mut ahead = Ahead::default();
    ahead.reading(1000, 1050, 1100);
    ahead.reading(2000, 3050, 2100);
    assert_eq!(ahead.ticks(), None);
}

proptest! {
    /// The truth is within the doubt, and writing it to TSC_ADJUST takes it away; 0 is said only of what nobody can see.
    #[test]
    fn an_offset_is_found_and_taken_away(
        offset in -1_000_000_000_i64..1_000_000_000,
        ways in prop::collection::vec((50_u64..2000, 50_u64..2000), 1..50),
        adjust in any::<u64>(),
    ) {
        let measure = |offset: i64| {
            let (mut ahead, mut now) = (Ahead::default(), 1_u64 << 40);
            for &(there, back) in &ways {
                ahead.reading(now, (now + there).wrapping_add_signed(offset), now + there + back);
                now += 10_000;
            }
            ahead
        };
        let ahead = measure(offset);
        let ticks = ahead.ticks().expect("one rate");
        prop_assert!(ticks.abs_diff(offset) <= 2 * ahead.doubt() + 1);
        let left = offset.wrapping_add(adjusted(adjust, ticks).wrapping_sub(adjust).cast_signed());
        prop_assert_eq!(measure(left).ticks(), Some(0));
    }
}
