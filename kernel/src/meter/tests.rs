//! What is measured of CPU 0's loop.

use super::{Part, before, begin, did, doing, end, forget_longest, found, longest, now};
use crate::testing::host;
use hw::arch::tsc;

#[test]
fn only_turns_that_found_something_count_as_work() {
    let host = host();
    let worked = before();
    let turn = begin(tsc::read());
    host.pass(5000);
    end(&turn, tsc::read());
    assert_eq!(before(), worked);
    let turn = begin(tsc::read());
    found();
    host.pass(5000);
    assert!(now() >= worked + 5000);
    end(&turn, tsc::read());
    assert!((worked + 5000..worked + 5200).contains(&before()));
}

#[test]
fn the_longest_turn_is_told_with_the_part_that_took_it() {
    let host = host();
    forget_longest();
    let mut turn = begin(tsc::read());
    host.pass(100);
    did(&mut turn, Part::Net);
    // What is done within a part has a name of its own, once.
    doing(Part::Tracking);
    host.pass(900_000);
    did(&mut turn, Part::Migration);
    did(&mut turn, Part::Pool);
    end(&turn, tsc::read());
    let told = alloc::format!("{:?}", longest());
    assert!(told.contains("Tracking"), "{told}");
    forget_longest();
}
