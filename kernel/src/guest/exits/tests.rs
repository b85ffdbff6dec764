//! Counters of exits.

use alloc::vec::Vec;

use super::{Counted, Exits};
use crate::testing::host;

const CPUID: u32 = 10;
const HLT: u32 = 12;

#[test]
fn reasons_are_counted_apart() {
    let exits = Exits::new();
    // Bit 31 says that the entry failed, and is no part of the reason.
    for reason in [CPUID, HLT, CPUID, 1 << 31 | 33, 79] {
        exits.count(reason);
    }
    let all: Vec<_> = exits.all().map(|counted| (counted.number, counted.count)).collect();
    assert_eq!(all, [(10, 2), (12, 1), (33, 1), (79, 1)]);
    assert_eq!(exits.total(), 5);
    assert_eq!(exits.all().next().unwrap().text(), "CPUID");
    let unknown = Counted { number: 127, count: 1, timed: 0, ticks: 0 };
    assert_eq!(unknown.text(), "unknown");
}

#[test]
fn time_is_taken_only_while_somebody_wants_it() {
    let host = host();
    let vm = host.running("a");
    let exits = &vm.mailboxes[0].exits;
    let cpuid = || exits.all().find(|counted| counted.number == CPUID as u16).unwrap();
    let run = || {
        host.guest_does(|guest| guest.exits(CPUID, 2));
        host.guest_does(|guest| guest.exits(1, 0));
        host.run(&vm);
    };
    run();
    assert_eq!((cpuid().count, cpuid().timed, cpuid().ticks), (1, 0, 0));
    exits.set_timed(true);
    run();
    assert_eq!((cpuid().count, cpuid().timed), (2, 1));
    let ticks = cpuid().ticks;
    assert!(ticks > 0);
    exits.set_timed(false);
    run();
    assert_eq!((cpuid().count, cpuid().timed, cpuid().ticks), (3, 1, ticks));
    assert_eq!(vm.exits(), exits.total());
}
