//! A VM's time line, on hosts of its rate and of another.

use super::Clock;
use crate::testing::host;
use hw::arch::tsc;

const GHZ: u64 = 1_000_000_000;
/// A look at the host's TSC takes 10 ticks; a reading of the clock has one, setting it another.
const LOOK: u64 = 10;

#[test]
fn a_clock_goes_on_from_what_it_was_set_to() {
    let host = host();
    let clock = Clock::new(GHZ, false).unwrap();
    assert_eq!(clock.scaling(), None);
    clock.set(5_000);
    assert_eq!(clock.now().tsc, 5_000 + LOOK);
    host.pass(1_000);
    assert_eq!((clock.now().tsc, clock.now().hz), (6_000 + 2 * LOOK, GHZ));
}

#[test]
fn a_clock_can_be_set_back_before_the_start_of_its_host() {
    let host = host();
    host.pass(GHZ);
    let clock = Clock::new(GHZ, false).unwrap();
    clock.set(0);
    assert!(clock.offset() > 1 << 63, "an offset below zero");
    assert_eq!(clock.now().tsc, LOOK);
    clock.set(u64::MAX - 4);
    assert_eq!(clock.now().tsc, LOOK - 5, "the counter comes round");
}

#[test]
fn time_on_the_way_counts() {
    let _host = host();
    let clock = Clock::new(2 * GHZ, true).unwrap();
    clock.set_after(1_000, 3_500);
    assert_eq!(clock.now().tsc, 1_000 + 7_000 + 2 * LOOK, "nanoseconds at its own rate");
    clock.set_after(u64::MAX - 1, 1_000);
    assert_eq!(clock.now().tsc, 2 * LOOK - 1, "what cannot be counted stops at the end");
}

#[test]
fn a_rate_that_the_host_has_not_is_scaled_or_refused() {
    let host = host();
    let refusal = Clock::new(2 * GHZ, false).unwrap_err();
    assert!(alloc::format!("{refusal}").contains("lacks TSC scaling"), "{refusal}");
    let near = Clock::new(GHZ + GHZ / 10_000, false).unwrap();
    assert_eq!(near.scaling(), None, "100 ppm are no other rate");
    let clock = Clock::new(2 * GHZ, true).unwrap();
    assert_eq!(clock.scaling(), Some(2 << 48));
    clock.set(0);
    host.pass(100);
    assert_eq!(clock.now().tsc, 2 * (100 + LOOK));
}

#[test]
fn a_deadline_is_never_early() {
    let host = host();
    host.pass(12_345);
    for hz in [GHZ, 2 * GHZ, GHZ / 3, 2_712_345_678] {
        let clock = Clock::new(hz, true).unwrap();
        clock.set(1_000);
        for ahead in [0, 1, 2, 3, 999, 1_000_000_007] {
            let wanted = 1_000 + ahead;
            let at = clock.host_tsc(wanted);
            let shown = |host: u64| clock.scaled(host).wrapping_add(clock.offset());
            assert!(shown(at) >= wanted, "{hz}: {wanted} is not there at {at}");
            assert!(shown(at - 1) < wanted, "{hz}: {wanted} is there before {at}");
        }
    }
}

#[test]
fn what_is_past_is_due_and_what_never_comes_is_not() {
    let host = host();
    host.pass(GHZ);
    let clock = Clock::new(GHZ, false).unwrap();
    clock.set(10 * GHZ + 2 * tsc::read());
    assert!(clock.offset() < 1 << 63);
    assert_eq!(clock.host_tsc(5), 0, "before the host was on");
    assert_eq!(clock.host_tsc(u64::MAX), u64::MAX);
    clock.set(0);
    let at = clock.host_tsc(0);
    assert!(at < tsc::read() && at > 0, "just now");
}

#[test]
fn time_up_is_that_of_the_time_line() {
    let host = host();
    let clock = Clock::new(2 * GHZ, true).unwrap();
    clock.set(2 * GHZ * 3600);
    assert_eq!(clock.up_us(), 3600 * 1_000_000);
    host.pass(GHZ);
    assert_eq!(clock.up_us(), 3601 * 1_000_000);
}
