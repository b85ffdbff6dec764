use super::*;

fn set(ioapic: &mut IoApic, pin: u8, entry: u64) -> Option<Message> {
    let mut sent = None;
    for (select, value) in [(0x11 + 2 * pin, (entry >> 32) as u32), (0x10 + 2 * pin, entry as u32)] {
        ioapic.write(0, select.into());
        ioapic.write(0x10, value);
        sent = ioapic.take_sent();
    }
    sent
}

fn get(ioapic: &mut IoApic, select: u32) -> u32 {
    ioapic.write(0, select);
    ioapic.read(0x10)
}

#[test]
fn registers() {
    let mut ioapic = IoApic::new(3);
    assert_eq!((get(&mut ioapic, 0), get(&mut ioapic, 1)), (0x0300_0000, 0x0017_0020));
    set(&mut ioapic, 23, u64::MAX);
    assert_eq!((get(&mut ioapic, 0x3E), get(&mut ioapic, 0x3F)), (0x0001_AFFF, 0xFF00_0000));
    assert_eq!(get(&mut ioapic, 0x40), 0);
}

#[test]
fn edges_send_once_and_are_lost_while_masked() {
    let mut ioapic = IoApic::new(0);
    set(&mut ioapic, 4, 0x0100_0000_0000_0034);
    let message = ioapic.set_line(4, true).unwrap();
    assert_eq!((message.vector, message.dest, message.level), (0x34, 1, false));
    assert_eq!(ioapic.set_line(4, true), None);
    ioapic.set_line(4, false);
    set(&mut ioapic, 4, MASKED | 0x34);
    assert_eq!(ioapic.set_line(4, true), None);
    assert_eq!(set(&mut ioapic, 4, 0x34), None);
}

#[test]
fn levels_wait_for_eoi() {
    let mut ioapic = IoApic::new(0);
    set(&mut ioapic, 9, MASKED | LEVEL | 0x39);
    assert_eq!(ioapic.set_line(9, true), None);
    assert!(set(&mut ioapic, 9, LEVEL | 0x39).is_some(), "sent on unmask");
    assert_eq!(get(&mut ioapic, 0x22), 0xC039, "remote IRR");
    assert_eq!(ioapic.set_line(9, false), None);
    assert_eq!(ioapic.set_line(9, true), None);
    ioapic.eoi(0x38);
    assert_eq!(ioapic.take_sent(), None, "another vector");
    ioapic.eoi(0x39);
    assert_eq!(ioapic.take_sent().map(|message| message.vector), Some(0x39), "still asserted");
    assert_eq!(ioapic.take_sent(), None, "once");
    ioapic.write(0x40, 0x39);
    assert!(ioapic.take_sent().is_some(), "the same by its own register");
    set(&mut ioapic, 9, 0x39);
    assert_eq!(get(&mut ioapic, 0x22), 0x0039, "edge mode clears remote IRR");
}
