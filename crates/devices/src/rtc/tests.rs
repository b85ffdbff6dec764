use super::*;

const HZ: u64 = 20_000_000;
/// 2026-11-22 19:30:58 UTC, a Sunday.
const BASE: u64 = 1_795_375_858;

fn at(ms: u64) -> Now {
    Now { tsc: ms * HZ / 1000, hz: HZ }
}

fn get(rtc: &mut Rtc, reg: u8, now: Now) -> u8 {
    rtc.write(0x70, reg, now);
    rtc.read(0x71, now)
}

fn put(rtc: &mut Rtc, reg: u8, value: u8, now: Now) {
    rtc.write(0x70, reg, now);
    rtc.write(0x71, value, now);
}

fn clock(rtc: &mut Rtc, now: Now) -> [u8; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|reg| get(rtc, reg, now))
}

#[test]
fn shows_base_plus_guest_time_in_bcd() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    assert_eq!(clock(&mut rtc, at(999)), [0x20, 0x26, 0x11, 0x22, 1, 0x19, 0x30, 0x58]);
    assert_eq!(clock(&mut rtc, at(2000)), [0x20, 0x26, 0x11, 0x22, 1, 0x19, 0x31, 0x00]);
}

#[test]
fn binary_and_twelve_hours() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    put(&mut rtc, 0x0B, 0x04, at(0));
    assert_eq!((get(&mut rtc, 4, at(0)), get(&mut rtc, 2, at(0))), (0x87, 30), "19 h is 7 pm");
    put(&mut rtc, 4, 0x0C, at(0));
    put(&mut rtc, 0x0B, 0x06, at(0));
    assert_eq!(get(&mut rtc, 4, at(0)), 0, "12 am is midnight");
}

#[test]
fn set_holds_the_clock_and_writes_it() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    put(&mut rtc, 0x0B, 0x82, at(100));
    assert_eq!(get(&mut rtc, 0, at(5000)), 0x58, "held");
    for (reg, value) in [(0, 0x59), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x99), (0x32, 0x19)] {
        put(&mut rtc, reg, value, at(5000));
    }
    put(&mut rtc, 0x0B, 0x02, at(5500));
    assert_eq!(clock(&mut rtc, at(5500)), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
    assert_eq!(clock(&mut rtc, at(6000)), [0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00]);
}

#[test]
fn uip_warns_244_us_ahead() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    assert_eq!(get(&mut rtc, 0x0A, at(999)), 0x26);
    let soon = Now { tsc: HZ - HZ / 5000, hz: HZ };
    assert_eq!(get(&mut rtc, 0x0A, soon), 0xA6);
    assert_eq!(get(&mut rtc, 0x0A, at(1000)), 0x26);
}

#[test]
fn periodic_interrupt_waits_for_register_c() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    put(&mut rtc, 0x0B, 0x42, at(0));
    let tick = Now { tsc: rtc.deadline(), hz: HZ };
    assert_eq!(tick.tsc, HZ.div_ceil(1024));
    rtc.run(Now { tsc: tick.tsc - 1, ..tick });
    assert!(!rtc.line());
    rtc.run(tick);
    assert!(rtc.line());
    assert_eq!(rtc.deadline(), u64::MAX, "nothing more until C is read");
    assert_eq!(get(&mut rtc, 0x0C, tick), 0xC0);
    assert!(!rtc.line());
    assert_eq!(rtc.deadline(), (2 * HZ).div_ceil(1024));
}

#[test]
fn update_and_alarm() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    for (reg, value) in [(1, 0x05), (3, 0x31), (5, 0xC0)] {
        put(&mut rtc, reg, value, at(0));
    }
    put(&mut rtc, 0x0B, 0x22, at(0));
    assert_eq!(rtc.deadline(), 7 * HZ, "19:31:05 is seven seconds away");
    rtc.run(at(7000));
    assert_eq!(get(&mut rtc, 0x0C, at(7000)), 0x80 | 0x20 | 0x10 | 0x40);
    put(&mut rtc, 1, 0x77, at(7000));
    assert_eq!(rtc.deadline(), u64::MAX, "no such second");
    put(&mut rtc, 0x0B, 0x12, at(7001));
    assert_eq!(rtc.deadline(), 8 * HZ);
}

#[test]
fn memory_size_for_firmware_and_old_guests() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 1 << 32);
    let word = |rtc: &mut Rtc, reg| u16::from_le_bytes([get(rtc, reg, at(0)), get(rtc, reg + 1, at(0))]);
    assert_eq!(word(&mut rtc, 0x15), 640);
    assert_eq!(word(&mut rtc, 0x30), 0xFFFF);
    assert_eq!(word(&mut rtc, 0x34), (240 << 20 >> 16) as u16);
    assert_eq!((word(&mut rtc, 0x5B), get(&mut rtc, 0x5D, at(0))), (0, 1));
    put(&mut rtc, 0x40, 0xA5, at(0));
    assert_eq!(get(&mut rtc, 0x40, at(0)), 0xA5);
    assert_eq!(get(&mut rtc, 0x0D, at(0)), 0x80);
}

/// Fault 5.8: the second began where it always had, up to half a second off what `hwclock -w` had set.
#[test]
fn the_divider_chain_starts_half_a_second_before_an_update() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    // As Linux' mc146818_set_time: SET, divider in reset, the time, SET off, divider on.
    put(&mut rtc, 0x0B, 0x82, at(1700));
    put(&mut rtc, 0x0A, 0x76, at(1700));
    put(&mut rtc, 0, 0x10, at(1700));
    put(&mut rtc, 0x0B, 0x02, at(1701));
    assert_eq!(get(&mut rtc, 0, at(1900)), 0x10, "it stands while the divider is in reset");
    let rtc_moved = Rtc::import(&rtc.export(), &crate::config::for_tests()).unwrap();
    for mut rtc in [rtc, rtc_moved] {
        put(&mut rtc, 0x0A, 0x26, at(2000));
        assert_eq!((get(&mut rtc, 0, at(2499)), get(&mut rtc, 0, at(2501))), (0x10, 0x11));
        assert_eq!((get(&mut rtc, 0, at(3499)), get(&mut rtc, 0, at(3501))), (0x11, 0x12));
        let mut rtc = Rtc::import(&rtc.export(), &crate::config::for_tests()).unwrap();
        assert_eq!(get(&mut rtc, 0x0A, Now { tsc: HZ * 9 / 2 - HZ / 5000, hz: HZ }), 0xA6, "UIP goes along");
        // The update interrupt comes with the update.
        put(&mut rtc, 0x0B, 0x12, at(4600));
        rtc.read(0x71, at(4600));
        rtc.write(0x70, 0x0C, at(4600));
        rtc.read(0x71, at(4600));
        let due = rtc.deadline();
        assert!(due.abs_diff(HZ * 11 / 2) < HZ / 1000, "{due}");
    }
}

/// A host that knows nothing of the phase sent no such field, and let the clock run in reset.
#[test]
fn records_without_a_phase_are_taken() {
    let mut rtc = Rtc::new(BASE, 256 << 20, 0);
    let plain = rtc.export();
    assert_eq!(plain.body[0], 0x88, "eight fields as before");
    put(&mut rtc, 0x0A, 0x76, at(100));
    rtc.held = None;
    assert!(Rtc::import(&rtc.export(), &crate::config::for_tests()).is_ok());
    rtc.phase = Some(0x8000);
    assert!(Rtc::import(&rtc.export(), &crate::config::for_tests()).is_err());
}
