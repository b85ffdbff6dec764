use super::*;

fn ready() -> Pic {
    let mut pic = Pic::new();
    for (port, value) in [
        (0x20, 0x11),
        (0xA0, 0x11),
        (0x21, 0x30),
        (0xA1, 0x38),
        (0x21, 4),
        (0xA1, 2),
        (0x21, 1),
        (0xA1, 1),
        (0x21, 0),
        (0xA1, 0),
    ] {
        pic.write(port, value);
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_irq(irq, true);
    pic.set_irq(irq, false);
}

#[test]
fn the_mask_reads_back_as_linux_probes_it() {
    let mut pic = Pic::new();
    assert_eq!(pic.read(0x21), 0xFF);
    pic.write(0x21, 0xFB);
    assert_eq!(pic.read(0x21), 0xFB);
}

#[test]
fn higher_priority_interrupts_lower_and_eoi_lets_it_go_on() {
    let mut pic = ready();
    pulse(&mut pic, 4);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x34);
    assert_eq!(pic.peek(), None, "6 waits for 4");
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.write(0x20, 0x0B);
    assert_eq!(pic.read(0x20), 0x12, "both in service");
    pic.write(0x20, 0x20);
    assert_eq!(pic.peek(), None);
    pic.write(0x20, 0x64);
    assert_eq!(pic.acknowledge(), 0x36, "specific EOI of 4");
}

#[test]
fn the_slave_comes_through_input_2() {
    let mut pic = ready();
    pulse(&mut pic, 12);
    pulse(&mut pic, 8);
    assert_eq!((pic.peek(), pic.acknowledge()), (Some(0x38), 0x38));
    assert_eq!(pic.peek(), None);
    pic.write(0xA0, 0x20);
    pic.write(0x20, 0x20);
    assert_eq!(pic.acknowledge(), 0x3C);
    pic.write(0xA0, 0x0B);
    assert_eq!(pic.read(0xA0), 0x10);
}

#[test]
fn special_fully_nested_mode_lets_a_higher_slave_input_in() {
    let mut pic = ready();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 0x11), (0x21, 0)] {
        pic.write(port, value);
    }
    pulse(&mut pic, 12);
    assert_eq!(pic.acknowledge(), 0x3C);
    pulse(&mut pic, 10);
    assert_eq!(pic.peek(), Some(0x3A));
}

#[test]
fn a_request_that_went_away_is_spurious() {
    let mut pic = ready();
    pic.write(0x4D1, 0x04);
    pic.set_irq(10, true);
    assert_eq!(pic.peek(), Some(0x3A));
    pic.set_irq(10, false);
    assert_eq!((pic.peek(), pic.acknowledge()), (None, 0x37));
}

#[test]
fn level_requests_stay_until_the_line_falls() {
    let mut pic = ready();
    pic.write(0x4D0, 0xFF);
    assert_eq!(pic.read(0x4D0), 0xF8, "timer, keyboard and cascade stay edge-triggered");
    pic.set_irq(5, true);
    assert_eq!(pic.acknowledge(), 0x35);
    pic.write(0x20, 0x20);
    assert_eq!(pic.peek(), Some(0x35));
    pic.set_irq(5, false);
    assert_eq!(pic.peek(), None);
}

#[test]
fn masked_edges_are_kept() {
    let mut pic = ready();
    pic.write(0x21, 0xFF);
    pulse(&mut pic, 3);
    assert_eq!(pic.peek(), None);
    pic.write(0x21, 0);
    assert_eq!(pic.peek(), Some(0x33));
}

#[test]
fn rotation_poll_and_special_mask() {
    let mut pic = ready();
    pic.write(0x20, 0xC3);
    pulse(&mut pic, 3);
    pulse(&mut pic, 4);
    assert_eq!(pic.peek(), Some(0x34), "3 is lowest now");
    pic.write(0x20, 0x0C);
    assert_eq!(pic.read(0x20), 0x84);
    assert_eq!(pic.peek(), None);
    pic.write(0x21, 0x10);
    pic.write(0x20, 0x68);
    assert_eq!(pic.peek(), Some(0x33), "special mask: what is masked blocks nobody");
}

#[test]
fn automatic_eoi() {
    let mut pic = ready();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 3), (0x21, 0)] {
        pic.write(port, value);
    }
    for _ in 0..2 {
        pulse(&mut pic, 7);
        assert_eq!(pic.acknowledge(), 0x37);
    }
}
