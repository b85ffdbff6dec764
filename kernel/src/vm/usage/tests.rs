//! What a VM takes of its CPU.

use core::sync::atomic::Ordering;

use super::Meter;
use crate::testing::host;
use hw::arch::tsc;

#[test]
fn usage_is_what_was_taken_in_the_last_whole_second() {
    let host = host();
    let (half, idle) = (host.vm("half"), host.vm("idle"));
    let mut meter = Meter::default();
    // Microseconds are rounded down: which second is over by a tick depends on what other tests have let pass.
    let second = tsc::hz() + 2 * tsc::ticks(1);
    host.pass(second);
    meter.poll();
    half.vcpus[0].ran.fetch_add(second / 2, Ordering::Relaxed);
    host.pass(second / 2);
    meter.poll();
    assert_eq!(half.usage.permille(), 0, "the second is not over");
    host.pass(second / 2);
    meter.poll();
    assert!((499..=500).contains(&half.usage.permille()), "{}", half.usage.permille());
    assert_eq!(idle.usage.permille(), 0);
    host.pass(second);
    meter.poll();
    assert_eq!(half.usage.permille(), 0, "nothing since");
}
