//! What a board is, another one takes: whatever the guest did, at whatever instant, and after any state it was given.

use devices::{IOAPIC_BASE, LAPIC_BASE, PlatformConfig, Whole};
use proptest::prelude::*;
use vm_types::{Gpa, Now};

const PORTS: [u16; 40] = [
    0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, 0xCF8,
    0xCFC, 0xCF9, 0xF4, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x600, 0x602, 0x604, 0x606,
    0x608, 0x609, 0x60A, 0x60B, 0xFFFF, 0xFFFE, 0x3F7, 0x5FF,
];

fn board() -> Whole {
    Whole::new(&PlatformConfig {
        vcpus: 1,
        debug_exit: true,
        rtc_base_unix_secs: 1_700_000_000,
        low_ram: 256 << 20,
        high_ram: 0,
        x2apic: true,
        tsc_deadline: true,
        pci: false,
        rng: false,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    In(u16, u8),
    Out(u16, u8, u32),
    LapicRead(u64),
    LapicWrite(u64, u64),
    IoApic(u64, u64),
    Msr(u32, u64),
    Input(u64),
    Interrupt,
}

/// Numbers of every magnitude.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1 << bit) - 1),
        0u64..256,
        any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let port = || prop::sample::select(PORTS.to_vec());
    let size = || prop::sample::select(vec![1u8, 2, 4]);
    prop_oneof![
        2 => prop_oneof![0u64..100, 0u64..1 << 20, 0u64..1 << 40].prop_map(Step::Wait),
        1 => (port(), size()).prop_map(|(port, size)| Step::In(port, size)),
        4 => (port(), size(), number()).prop_map(|(port, size, value)| Step::Out(port, size, value as u32)),
        1 => (0u64..0x40).prop_map(|register| Step::LapicRead(register << 4)),
        2 => (0u64..0x40, number()).prop_map(|(register, value)| Step::LapicWrite(register << 4, value)),
        1 => (prop::sample::select(vec![0u64, 0x10, 0x40]), number()).prop_map(|(at, value)| Step::IoApic(at, value)),
        2 => (prop_oneof![Just(0x1B), Just(0x6E0), 0x800u32..0x840], number()).prop_map(|(msr, value)| Step::Msr(msr, value)),
        1 => number().prop_map(Step::Input),
        1 => Just(Step::Interrupt),
    ]
}

fn perform(board: &mut Whole, step: &Step, now: &mut Now) {
    match *step {
        Step::Wait(ticks) => now.tsc = now.tsc.saturating_add(ticks),
        Step::In(port, size) => _ = board.io_read(port, size, *now),
        Step::Out(port, size, value) => _ = board.io_write(port, size, value, *now),
        Step::LapicRead(at) => _ = board.mmio_read(0, Gpa(LAPIC_BASE + at), 4, *now),
        Step::LapicWrite(at, value) => _ = board.mmio_write(0, Gpa(LAPIC_BASE + at), 4, value, *now),
        Step::IoApic(at, value) => _ = board.mmio_write(0, Gpa(IOAPIC_BASE + at), 4, value, *now),
        Step::Msr(msr, value) => {
            let _ = board.msr_write(0, msr, value, *now);
            let _ = board.msr_read(0, msr, *now);
        }
        Step::Input(bytes) => {
            board.uart_input(&bytes.to_le_bytes(), *now);
            board.uart_output(&mut [0; 64]);
        }
        Step::Interrupt => {
            board.advance(*now);
            if let Some(vector) = board.pending_interrupt(0) {
                board.accept(0, vector);
            }
            board.press_power_button();
            board.raise_nmi();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Fault 1.7: after a TSC that a peer had named, the board refused its own state, and the VM could never leave.
    #[test]
    fn its_own_state_is_taken(
        hz in prop::sample::select(vec![1_000_000u64, 20_000_000, 2_500_000_000, 100_000_000_000]),
        instants in prop::collection::vec(number(), 1..4),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut board = board();
        for tsc in instants {
            let mut now = Now { tsc, hz };
            for step in &steps {
                perform(&mut board, step, &mut now);
            }
            board.advance(now);
            let records = board.export();
            let mut other = self::board();
            prop_assert_eq!(other.import(&records), Ok(()), "at {:?}", now);
            prop_assert_eq!(other.export(), records, "and it is the same state");
            board = other;
        }
    }
}
