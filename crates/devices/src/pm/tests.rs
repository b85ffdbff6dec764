use super::*;

const HZ: u64 = 20_000_000;

fn at(tsc: u64) -> Now {
    Now { tsc, hz: HZ }
}

#[test]
fn timer_follows_guest_time_and_never_steps_back() {
    let mut pm = Pm::new();
    assert_eq!(pm.read(PM_TMR, 4, at(HZ)), 3_579_545);
    let mut last = 0;
    for tsc in (0..HZ).step_by(4999) {
        let ticks = pm.read(PM_TMR, 4, at(tsc));
        assert!(ticks >= last);
        last = ticks;
    }
    assert_eq!(pm.read(PM_TMR + 1, 1, at(HZ)), 3_579_545 >> 8 & 0xFF);
}

#[test]
fn timer_overflow_interrupts_where_enabled() {
    let mut pm = Pm::new();
    pm.write(PM1A_EVT + 2, 2, 1, at(0));
    let overflow = pm.deadline();
    assert_eq!(overflow, ((1u128 << 31) * u128::from(HZ)).div_ceil(PM_TIMER_HZ.into()) as u64);
    pm.run(at(overflow - 1));
    assert!(!pm.line());
    pm.run(at(overflow));
    assert!(pm.line());
    pm.write(PM1A_EVT, 2, 1, at(overflow));
    assert!(!pm.line());
    assert!(pm.deadline() > overflow);
}

#[test]
fn power_button_is_an_event_until_cleared() {
    let mut pm = Pm::new();
    pm.press_power_button();
    assert!(!pm.line(), "not enabled");
    pm.write(PM1A_EVT + 2, 2, 0x100, at(0));
    assert!(pm.line());
    assert_eq!(pm.read(PM1A_EVT, 4, at(0)), 0x0100_0100);
    pm.write(PM1A_EVT, 2, 0x100, at(0));
    assert!(!pm.line());
}

#[test]
fn only_sleep_type_5_with_slp_en_powers_off() {
    let mut pm = Pm::new();
    assert!(!pm.write(PM1A_CNT, 2, 5 << 10, at(0)));
    assert_eq!(pm.read(PM1A_CNT, 2, at(0)), 5 << 10 | 1);
    assert!(pm.write(PM1A_CNT + 1, 1, 0x34, at(0)), "by bytes");
    assert!(!pm.write(PM1A_CNT, 2, 1 << 10 | u32::from(SLP_EN), at(0)));
}
