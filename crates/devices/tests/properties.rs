//! Whatever a guest or a migration stream does to the board: no panic, and the invariants hold.

use devices::{IOAPIC_BASE, LAPIC_BASE, PlatformConfig, Whole};
use proptest::prelude::*;
use vm_types::{Gpa, Now, StateRecord};

const PORTS: [u16; 30] = [
    0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, 0x3F8,
    0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x600, 0x602, 0x604, 0x608, 0xCF8, 0xCF9, 0xF4,
];

#[derive(Clone, Debug)]
enum Op {
    In(u16, u8),
    Out(u16, u8, u32),
    Load(u8, u64, u8),
    Store(u8, u64, u8, u64),
    Rdmsr(u8, u32),
    Wrmsr(u8, u32, u64),
    Advance(u64),
    Take(u8),
    Input(Vec<u8>),
    Drain(u16),
    Cr8(u8, u8),
    PowerButton,
    Nmi,
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![8 => prop::sample::select(&PORTS[..]), 1 => any::<u16>()]
}

fn size() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(1u8), 1 => Just(2u8), 2 => Just(4u8)]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..0x40).prop_map(|reg| LAPIC_BASE + reg * 16),
        1 => (0u64..0x1000).prop_map(|offset| LAPIC_BASE + offset),
        3 => prop::sample::select(vec![0u64, 0x10, 0x40]).prop_map(|offset| IOAPIC_BASE + offset),
        1 => any::<u64>(),
    ]
}

fn msr() -> impl Strategy<Value = u32> {
    prop_oneof![0x800u32..0x840, Just(0x1Bu32), Just(0x6E0u32), any::<u32>()]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..0x100,
        Just(0x4_0030),
        Just(0x2_0031),
        (8u64..16).prop_map(|mode| LAPIC_BASE | mode << 8),
        any::<u64>()
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (port(), size()).prop_map(|(p, s)| Op::In(p, s)),
        8 => (port(), size(), any::<u32>()).prop_map(|(p, s, v)| Op::Out(p, s, v)),
        2 => (0u8..3, address(), size()).prop_map(|(c, a, s)| Op::Load(c, a, s)),
        6 => (0u8..3, address(), size(), value()).prop_map(|(c, a, s, v)| Op::Store(c, a, s, v)),
        1 => (0u8..3, msr()).prop_map(|(c, m)| Op::Rdmsr(c, m)),
        3 => (0u8..3, msr(), value()).prop_map(|(c, m, v)| Op::Wrmsr(c, m, v)),
        5 => prop_oneof![0u64..5000, 0u64..40_000_000, 0u64..1 << 44].prop_map(Op::Advance),
        4 => (0u8..3).prop_map(Op::Take),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Op::Input),
        1 => (0u16..5000).prop_map(Op::Drain),
        1 => (0u8..3, any::<u8>()).prop_map(|(c, v)| Op::Cr8(c, v)),
        1 => Just(Op::PowerButton),
        1 => Just(Op::Nmi),
    ]
}

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

fn apply(p: &mut Whole, op: &Op, now: &mut Now) {
    // Each access costs guest time, as an exit does.
    now.tsc += 500;
    let now_ = *now;
    match op.clone() {
        Op::In(port, size) => {
            let value = p.io_read(port, size, now_);
            assert!(size == 4 || value >> (8 * size) == 0);
        }
        Op::Out(port, size, value) => {
            p.io_write(port, size, value, now_);
        }
        Op::Load(vcpu, gpa, size) => {
            let value = p.mmio_read(vcpu.into(), Gpa(gpa), size, now_);
            assert!(value >> (8 * size) == 0);
        }
        Op::Store(vcpu, gpa, size, value) => {
            p.mmio_write(vcpu.into(), Gpa(gpa), size, value, now_);
        }
        Op::Rdmsr(vcpu, msr) => {
            let _ = p.msr_read(vcpu.into(), msr, now_);
        }
        Op::Wrmsr(vcpu, msr, value) => {
            let _ = p.msr_write(vcpu.into(), msr, value, now_);
        }
        Op::Advance(ticks) => {
            now.tsc += ticks;
            p.advance(*now);
            assert!(p.next_event().is_none_or(|next| next > now.tsc), "nothing stays overdue");
        }
        Op::Take(vcpu) => {
            let vcpu = usize::from(vcpu);
            if let Some(vector) = p.pending_interrupt(vcpu) {
                p.accept(vcpu, vector);
            }
        }
        Op::Input(bytes) => assert!(p.uart_input(&bytes, now_) <= bytes.len()),
        Op::Drain(len) => {
            let before = p.board.uart_output_len();
            let n = p.uart_output(&mut vec![0; len.into()]);
            assert_eq!(p.board.uart_output_len(), before - n);
        }
        Op::Cr8(vcpu, class) => _ = p.with_apic(vcpu.into(), |apic| apic.set_cr8(class)),
        Op::PowerButton => p.press_power_button(),
        Op::Nmi => p.raise_nmi(),
    }
}

/// A machine in some state that a guest can bring about.
fn exercised(ops: &[Op], hz: u64) -> (Whole, Now) {
    let mut p = Whole::new(&config());
    let mut now = Now { tsc: 0, hz };
    for op in ops {
        apply(&mut p, op, &mut now);
    }
    p.advance(now);
    (p, now)
}

fn settled(p: &Whole, now: Now) -> Vec<StateRecord> {
    let mut copy = Whole::new(&config());
    copy.import(&p.export()).unwrap();
    copy.advance(now);
    copy.export()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_guest(ops in prop::collection::vec(op(), 0..200), hz in 20_000_000u64..4_000_000_000) {
        exercised(&ops, hz);
    }

    /// The copy is the original: the same records, and the same behaviour from there on.
    #[test]
    fn migrated_machine_goes_on_alike(
        before in prop::collection::vec(op(), 0..120),
        after in prop::collection::vec(op(), 0..60),
        hz in 20_000_000u64..4_000_000_000,
    ) {
        let (mut a, now) = exercised(&before, hz);
        let records = a.export();
        let mut b = Whole::new(&config());
        b.import(&records).unwrap();
        prop_assert_eq!(&b.export(), &records);
        b.advance(now);
        prop_assert_eq!(a.next_event(), b.next_event());
        let (mut t, mut u) = (now, now);
        for op in &after {
            apply(&mut a, op, &mut t);
            apply(&mut b, op, &mut u);
            for vcpu in 0..2 {
                prop_assert_eq!(a.pending_interrupt(vcpu), b.pending_interrupt(vcpu));
                prop_assert_eq!(a.apics[vcpu].nmi(), b.apics[vcpu].nmi());
            }
        }
        // Flags that nobody looked at yet are worked out late: bring both to the same point.
        prop_assert_eq!(settled(&a, t), settled(&b, u));
    }

    /// A damaged record is refused whole or gives a machine that keeps its promises.
    #[test]
    fn damaged_records(
        before in prop::collection::vec(op(), 0..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        after in prop::collection::vec(op(), 0..40),
    ) {
        let (a, mut now) = exercised(&before, 20_000_000);
        let mut records = a.export();
        for (which, at, byte) in damage {
            let record = &mut records[which.index(9)];
            let at = at.index(record.body.len());
            record.body[at] = byte;
        }
        let mut b = Whole::new(&config());
        let blank = b.export();
        if b.import(&records).is_ok() {
            let again = b.export();
            let mut c = Whole::new(&config());
            c.import(&again).unwrap();
            prop_assert_eq!(c.export(), again);
            for op in &after {
                apply(&mut b, op, &mut now);
            }
        } else {
            prop_assert_eq!(b.export(), blank);
        }
    }

    #[test]
    fn arbitrary_records(body in prop::collection::vec(any::<u8>(), 0..200), which in 0usize..9) {
        let mut b = Whole::new(&config());
        let mut records: Vec<StateRecord> = b.export();
        records[which].body = body;
        let _ = b.import(&records);
    }
}
