use super::*;

/// One guest tick is one PIT tick.
fn at(tsc: u64) -> Now {
    Now { tsc, hz: PIT_HZ }
}

fn program(pit: &mut Pit, channel: u8, mode: u8, count: u16, now: Now) {
    pit.write(0x43, channel << 6 | 0x30 | mode << 1, now);
    let [low, high] = count.to_le_bytes();
    pit.write(0x40 + u16::from(channel), low, now);
    pit.write(0x40 + u16::from(channel), high, now);
}

fn count(pit: &mut Pit, channel: u8, now: Now) -> u16 {
    pit.write(0x43, channel << 6, now);
    let port = 0x40 + u16::from(channel);
    u16::from_le_bytes([pit.read(port, at(u64::MAX >> 8)), pit.read(port, at(u64::MAX >> 8))])
}

/// The ticks of the first rises of OUT0 from `now` on, by asking for each deadline.
fn rises(pit: &mut Pit, n: usize) -> [u64; 4] {
    let mut found = [0; 4];
    for slot in found.iter_mut().take(n) {
        let tsc = pit.deadline();
        if tsc == u64::MAX {
            break;
        }
        assert!(!pit.run(at(tsc - 1)));
        assert!(pit.run(at(tsc)));
        *slot = tsc;
    }
    found
}

#[test]
fn when_channel_0_interrupts() {
    for (mode, expected) in [
        (0, [1100, 0, 0, 0]),
        (2, [1100, 2100, 3100, 4100]),
        (3, [1100, 2100, 3100, 4100]),
        (4, [1101, 0, 0, 0]),
    ] {
        let mut pit = Pit::new();
        program(&mut pit, 0, mode, 1000, at(100));
        assert_eq!(rises(&mut pit, 4), expected, "mode {mode}");
    }
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 0, at(0));
    assert_eq!(rises(&mut pit, 1)[0], 65_536);
}

#[test]
fn counts_in_every_mode() {
    for (mode, at_10, at_999, at_1001) in
        [(0, 990, 1, 0xFFFF), (2, 990, 1, 999), (3, 980, 2, 998), (4, 990, 1, 0xFFFF), (1, 1000, 1000, 1000)]
    {
        let mut pit = Pit::new();
        program(&mut pit, 0, mode, 1000, at(0));
        let seen = [10, 999, 1001].map(|t| count(&mut pit, 0, at(t)));
        assert_eq!(seen, [at_10, at_999, at_1001], "mode {mode}");
    }
}

#[test]
fn an_odd_square_wave_is_high_for_the_longer_half() {
    let mut pit = Pit::new();
    program(&mut pit, 2, 3, 5, at(0));
    pit.write(0x61, 1, at(0));
    let high = (0..10).filter(|&t| pit.read(0x61, at(t)) & 0x20 != 0).count();
    assert_eq!(high, 6);
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = Pit::new();
    pit.write(0x43, 0x35, at(0));
    pit.write(0x40, 0x00, at(0));
    pit.write(0x40, 0x10, at(0));
    assert_eq!(count(&mut pit, 0, at(1)), 0x0999);
    assert_eq!(pit.deadline(), 1000);
}

#[test]
fn the_gate_of_channel_2() {
    let mut pit = Pit::new();
    program(&mut pit, 2, 0, 1000, at(0));
    assert_eq!(count(&mut pit, 2, at(500)), 1000, "gate low: no count");
    pit.write(0x61, 1, at(500));
    assert_eq!(count(&mut pit, 2, at(600)), 900);
    pit.write(0x61, 0, at(700));
    assert_eq!(count(&mut pit, 2, at(5000)), 800);
    pit.write(0x61, 1, at(5000));
    assert_eq!(pit.read(0x61, at(5799)) & 0x21, 0x01);
    assert_eq!(pit.read(0x61, at(5800)) & 0x21, 0x21);
}

#[test]
fn read_back_and_latches() {
    let mut pit = Pit::new();
    pit.write(0x43, 0x34, at(0));
    pit.write(0x43, 0xE2, at(0));
    assert_eq!(pit.read(0x40, at(0)), 0xF4, "status: OUT high, null count, mode 2");
    program(&mut pit, 0, 2, 1000, at(0));
    pit.write(0x43, 0xC2, at(10));
    pit.write(0x43, 0xC2, at(20));
    assert_eq!(pit.read(0x40, at(30)), 0xB4);
    assert_eq!(
        [pit.read(0x40, at(40)), pit.read(0x40, at(50))],
        990u16.to_le_bytes(),
        "the first latch holds"
    );
    pit.write(0x43, 0x14, at(60));
    pit.write(0x40, 200, at(60));
    assert_eq!([pit.read(0x40, at(61)), pit.read(0x40, at(62))], [199, 198], "low byte only");
}

#[test]
fn mode_0_waits_for_the_second_byte() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 0, 1000, at(0));
    pit.write(0x40, 0x10, at(500));
    assert_eq!(pit.deadline(), u64::MAX);
    pit.write(0x40, 0, at(600));
    assert_eq!(pit.deadline(), 616);
}

#[test]
fn tiny_periods_are_merged() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 2, at(0));
    let seen = rises(&mut pit, 4);
    assert!(seen.windows(2).all(|pair| pair[1] - pair[0] >= MIN_RISE && pair[1] % 2 == 0), "{seen:?}");
}

#[test]
fn refresh_bit_toggles() {
    let mut pit = Pit::new();
    let hz = 1_000_000_000;
    let mut bit = |tsc| pit.read(0x61, Now { tsc, hz }) & 0x10;
    assert_ne!(bit(10_000), bit(20_000));
    assert_eq!(bit(10_000), bit(40_000));
}

/// Fault 5.8: the count jumped to the old reload value.
#[test]
fn half_a_count_stops_mode_0_where_it_is() {
    let mut pit = Pit::new();
    program(&mut pit, 2, 0, 1000, at(0));
    pit.write(0x61, 1, at(100));
    let before = count(&mut pit, 2, at(300));
    pit.write(0x42, 0x34, at(300));
    assert_eq!(count(&mut pit, 2, at(700)), before, "it stands, on its way");
    assert_eq!(pit.read(0x61, at(5000)) & 0x20, 0, "and OUT is low");
    let mut pit = Pit::import(&pit.export(), &crate::config::for_tests()).unwrap();
    assert_eq!(count(&mut pit, 2, at(800)), before, "after a move too");
    pit.write(0x42, 0x12, at(900));
    assert_eq!(count(&mut pit, 2, at(910)), 0x1234 - 10);
    // Channel 0 does not interrupt meanwhile.
    program(&mut pit, 0, 0, 1000, at(1000));
    pit.write(0x40, 0x34, at(1500));
    assert_eq!(pit.deadline(), u64::MAX);
}
