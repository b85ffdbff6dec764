//! The clock of a machine whose index port also holds the mask of NMIs.

use bring_up::cmos::{Ports, unix_seconds};
use proptest::prelude::*;

struct Cmos {
    registers: [u8; 128],
    index: u8,
}

impl Ports for Cmos {
    fn inb(&mut self, port: u16) -> u8 {
        assert_eq!(port, 0x71, "port 0x70 cannot be read back on most machines");
        self.registers[usize::from(self.index & 0x7f)]
    }

    fn outb(&mut self, port: u16, value: u8) {
        assert_eq!(port, 0x70, "nothing is changed");
        self.index = value;
    }
}

impl Cmos {
    fn at([second, minute, hour, day, month, year]: [u8; 6], status_b: u8) -> Self {
        let mut registers = [0xff; 128];
        for (number, value) in [
            (0, second),
            (2, minute),
            (4, hour),
            (7, day),
            (8, month),
            (9, year),
            (0xa, 0x26),
            (0xb, status_b),
        ] {
            registers[number] = value;
        }
        Self { registers, index: 0x80 }
    }

    fn nmi_is_masked(&self) -> bool {
        self.index & 0x80 != 0
    }
}

/// Fault 2.19: after the first look at the clock external NMIs were off for good.
#[test]
fn nmis_are_let_in_after_the_clock_was_read() {
    let mut cmos = Cmos::at([0x56, 0x34, 0x12, 0x29, 0x11, 0x26], 2);
    assert!(cmos.nmi_is_masked(), "as some firmware leaves it");
    assert_eq!(unix_seconds(&mut cmos), Some(1_795_955_696));
    assert!(!cmos.nmi_is_masked());
    assert_eq!(cmos.index, 0x0d);
}

#[test]
fn binary_and_bcd_say_the_same() {
    let mut cmos = Cmos::at([56, 34, 12, 29, 11, 26], 6);
    assert_eq!(unix_seconds(&mut cmos), Some(1_795_955_696));
}

#[test]
fn clocks_of_12_hours_have_an_afternoon() {
    const MIDNIGHT: u64 = 1_795_910_400;
    for (hour, hours) in [(0x12, 0), (0x01, 1), (0x11, 11), (0x92, 12), (0x81, 13), (0x91, 23)] {
        let mut cmos = Cmos::at([0, 0, hour, 0x29, 0x11, 0x26], 0);
        assert_eq!(unix_seconds(&mut cmos), Some(MIDNIGHT + hours * 3600), "{hour:#x}");
    }
    assert_eq!(unix_seconds(&mut Cmos::at([0, 0, 0x13, 0x29, 0x11, 0x26], 0)), None);
}

/// Issue 12, fault 6.8: a wall clock is shown where there is one. Nothing answers at these ports of a machine without it,
/// and a clock whose battery was out holds zeros or anything.
#[test]
fn what_is_no_date_is_none() {
    for (fields, status_b) in [
        ([0xff; 6], 0xff),
        ([0; 6], 2),
        ([0x60, 0, 0, 1, 1, 0x26], 2),
        ([0, 0, 0x24, 1, 1, 0x26], 2),
        ([0, 0, 0, 0x32, 1, 0x26], 2),
        ([0, 0, 0, 1, 0x13, 0x26], 2),
        ([0, 0, 0, 0x0a, 1, 0x26], 2),
    ] {
        assert_eq!(unix_seconds(&mut Cmos::at(fields, status_b)), None, "{fields:x?}");
    }
}

proptest! {
    /// A clock without a battery holds anything.
    #[test]
    fn no_clock_is_a_panic(fields in any::<[u8; 6]>(), status_b in any::<u8>()) {
        let mut cmos = Cmos::at(fields, status_b);
        unix_seconds(&mut cmos);
        prop_assert!(!cmos.nmi_is_masked());
    }
}
