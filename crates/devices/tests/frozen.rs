//! A machine as every host has made it so far: what a guest reads, what it is asked for and the records that travel stay
//! the same to the byte. A change here is one that the other host of a migration meets: it wants a new record version.

use devices::acpi::{AcpiShape, DEFAULT_BASE, build};
use devices::{IOAPIC_BASE, LAPIC_BASE, PlatformConfig, Whole};
use std::fmt::{Debug, Write};
use vm_types::{Gpa, Now};

/// FNV-1a of all that was seen.
struct Seen(u64);

impl Seen {
    fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    fn note(&mut self, what: impl Debug) {
        let mut text = String::new();
        write!(text, "{what:?};").unwrap();
        self.bytes(text.as_bytes());
    }
}

/// Knuth's generator; its upper bits are the good ones.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }
}

const PORTS: [u16; 44] = [
    0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, 0xCF8,
    0xCFC, 0xCF9, 0xF4, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x600, 0x602, 0x604, 0x606,
    0x608, 0x609, 0x60B, 0xFFFF, 0xFFFE, 0x3F7, 0x5FF, 0x1F, 0x3F, 0x4CF, 0xCF7, 0x60C,
];
const LAPIC: [u64; 16] =
    [0x20, 0x80, 0xB0, 0xD0, 0xE0, 0xF0, 0x280, 0x300, 0x310, 0x320, 0x350, 0x370, 0x380, 0x390, 0x3E0, 0x40];

fn config() -> PlatformConfig {
    PlatformConfig {
        vcpus: 2,
        debug_exit: true,
        rtc_base_unix_secs: 1_795_375_858,
        low_ram: 256 << 20,
        high_ram: 1 << 30,
        x2apic: true,
        tsc_deadline: true,
        pci: false,
        rng: false,
    }
}

fn life_of_a_board(seed: u64) -> u64 {
    let (mut dice, mut seen) = (Dice(seed), Seen::new());
    let mut board = Whole::new(&config());
    let mut now = Now { tsc: 0, hz: 20_000_000 };
    for _ in 0..20_000 {
        now.tsc += 500;
        let (vcpu, size, value) = (dice.next() as usize % 2, dice.of(&[1, 2, 4]), dice.next() as u32);
        match dice.next() % 20 {
            0..=4 => {
                let port = dice.of(&PORTS);
                seen.note(board.io_read(port, size, now));
            }
            5..=11 => {
                let port = dice.of(&PORTS);
                let value = if dice.next() & 1 == 0 { value } else { value & 0x3F };
                seen.note(board.io_write(port, size, value, now));
            }
            12 => {
                let at = Gpa(dice.of(&[LAPIC_BASE, IOAPIC_BASE, 0xFEB0_0000]) + dice.of(&LAPIC));
                seen.note(board.mmio_read(vcpu, at, size, now));
            }
            13 | 14 => {
                let at = Gpa(LAPIC_BASE + dice.of(&LAPIC));
                let value = dice.of(&[value & 0xFF, 0x1FF, 0x2_0031, 0x4_0030, 0x700, value]);
                seen.note(board.mmio_write(vcpu, at, 4, value.into(), now));
            }
            15 => {
                for (at, value) in [(0, 0x10 + dice.next() % 48), (0x10, u64::from(value & 0xA7FF))] {
                    seen.note(board.mmio_write(vcpu, Gpa(IOAPIC_BASE + at), 4, value, now));
                }
            }
            16 => {
                let msr = dice.of(&[0x1B, 0x6E0, 0x808, 0x80B, 0x830, 0x838, 0x83E, 0x83F, 0x832]);
                seen.note(board.msr_read(vcpu, msr, now));
                let value =
                    dice.of(&[0, value.into(), now.tsc + u64::from(value & 0xFFFF), LAPIC_BASE | 0x900]);
                seen.note(board.msr_write(vcpu, msr, value, now));
            }
            17 => {
                now.tsc += dice.next() % dice.of(&[1000, 100_000, 40_000_000]);
                board.advance(now);
                seen.note(board.next_event());
            }
            18 => {
                seen.note(board.uart_input(&value.to_le_bytes(), now));
                let mut out = [0; 64];
                let n = board.uart_output(&mut out);
                seen.bytes(&out[..n]);
                if dice.next().is_multiple_of(16) {
                    board.press_power_button();
                    board.raise_nmi();
                }
            }
            _ => {
                board.advance(now);
                board.with_apic(vcpu, |apic| {
                    apic.set_tsc_adjust(u64::from(value & 0xFFF), now);
                    apic.set_cr8(value as u8 & 3);
                });
            }
        }
        for vcpu in 0..2 {
            // As it was asked for when this was frozen.
            let class = |vector: u8| (vector != 0).then_some(vector >> 4);
            let apic =
                board.with_apic(vcpu, |apic| (apic.nmi(), class(apic.interrupt_status().0), apic.base()));
            seen.note(apic.expect("there are two"));
            board.take_nmi(vcpu);
            let vector = board.pending_interrupt(vcpu);
            seen.note(vector);
            if let (Some(vector), true) = (vector, dice.next() & 1 == 0) {
                board.accept(vcpu, vector);
            }
        }
        if dice.next().is_multiple_of(1024) {
            board.advance(now);
            let records = board.export();
            seen.note(&records);
            board = Whole::new(&config());
            board.import(&records).unwrap();
        }
    }
    seen.0
}

#[test]
fn a_board_lives_as_it_always_did() {
    let lives: Vec<String> = (1..=6).map(|seed| format!("{:016x}", life_of_a_board(seed))).collect();
    assert_eq!(lives, LIVES);
}

#[test]
fn the_tables_are_what_they_were() {
    let tables = [1, 2, 64].map(|vcpus| {
        let mut seen = Seen::new();
        seen.note(build(&AcpiShape { vcpus, base: DEFAULT_BASE, pci: None }));
        format!("{:016x}", seen.0)
    });
    assert_eq!(tables, TABLES);
}

const LIVES: [&str; 6] = [
    "1f5cc6ac9106dda8",
    "9a663ff8b8faa688",
    "086b840537cb7b1b",
    "1043225bc7379142",
    "3eeeaca8b5c65717",
    "93f99bfd07da2041",
];
const TABLES: [&str; 3] = ["8a65d0ce4d5b613d", "7edd2c9719fbcdee", "87ac3a94c54fc37d"];
