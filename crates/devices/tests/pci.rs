//! The PCI bus: what a guest finds there, windows, MSI-X, pins, work on guest memory, and state that travels.
#![allow(missing_docs)]

mod copier;
mod machine;

use copier::{Copier, DEVICE, KIND, PENDING, TABLE, VECTORS, board};
use devices::{Effect, FUNCTIONS, LAPIC_BASE, Platform, PlatformConfig, Socket, Whole};
use machine::{NOW, Nobody, Ram, config, config_read, config_write};
use proptest::prelude::*;
use vm_types::{Gpa, GuestMemory, StateRecord};

const MEMORY: u64 = 0xE000_0000;
const PORTS: u16 = 0xC000;
const IO: u32 = 1;
const MEM: u32 = 2;
const MASTER: u32 = 4;
const MSIX_CAP: u8 = 0x40;

/// A board on which the copier's windows lie at [`MEMORY`] and [`PORTS`].
fn opened() -> Whole {
    let mut p = board();
    config_write(&mut p, DEVICE, 0, 0x10, 4, MEMORY as u32);
    config_write(&mut p, DEVICE, 0, 0x18, 4, PORTS.into());
    config_write(&mut p, DEVICE, 0, 0x04, 2, IO | MEM | MASTER);
    p
}

fn store(p: &mut Whole, offset: u64, size: u8, value: u64) -> Option<Effect> {
    p.mmio_write(0, Gpa(MEMORY + offset), size, value, NOW)
}

fn load(p: &mut Whole, offset: u64, size: u8) -> u64 {
    p.mmio_read(0, Gpa(MEMORY + offset), size, NOW)
}

/// Turns MSI-X on, and points an entry to a vector of the first vCPU.
fn route(p: &mut Whole, entry: u64, vector: u8, masked: bool) {
    config_write(p, DEVICE, 0, MSIX_CAP + 2, 2, 1 << 15);
    p.mmio_write(0, Gpa(LAPIC_BASE + 0xF0), 4, 0x1FF, NOW);
    store(p, TABLE + 16 * entry, 4, LAPIC_BASE);
    store(p, TABLE + 16 * entry + 4, 4, 0);
    store(p, TABLE + 16 * entry + 8, 8, u64::from(vector) | u64::from(masked) << 32);
}

#[test]
fn the_bus_of_a_pc() {
    let mut p = Whole::new(&config());
    for (device, function, id, class, header) in [
        (0, 0, 0x1237_8086, 0x0600_0002, 0),
        (1, 0, 0x7000_8086, 0x0601_0000, 0x80),
        (1, 3, 0x7113_8086, 0x0680_0003, 0x80),
    ] {
        assert_eq!(config_read(&mut p, device, function, 0, 4), id);
        assert_eq!(config_read(&mut p, device, function, 8, 4), class);
        assert_eq!(config_read(&mut p, device, function, 0x0E, 1), header);
        assert_eq!(config_read(&mut p, device, function, 0x2C, 4), 0x1100_1AF4);
        for bar in (0x10..0x34).step_by(4).filter(|at| *at != 0x2C) {
            config_write(&mut p, device, function, bar, 4, u32::MAX);
            assert_eq!(config_read(&mut p, device, function, bar, 4), 0, "no window at {bar:#x}");
        }
        // Identity is fixed.
        config_write(&mut p, device, function, 0, 4, 0);
        assert_eq!(config_read(&mut p, device, function, 0, 4), id);
        config_write(&mut p, device, function, 4, 4, u32::MAX);
        assert_eq!(config_read(&mut p, device, function, 4, 4), 0x0507);
    }
    let preset = [(0, 0, 0x3D, 0), (0, 0, 0x59, 0x10), (1, 3, 0x5B, 2), (1, 3, 0x80, 1), (1, 3, 0x3D, 1)];
    for (device, function, at, value) in preset {
        assert_eq!(config_read(&mut p, device, function, at, 1), value, "{device}.{function} {at:#x}");
    }
    assert_eq!(config_read(&mut p, 1, 3, 0x40, 4), 0x601);
    config_write(&mut p, 0, 0, 0x5A, 1, 0xFF);
    assert_eq!(config_read(&mut p, 0, 0, 0x58, 4), 0x0033_1000);
    for (device, function) in [(0, 1), (1, 1), (2, 0), (31, 7)] {
        assert_eq!(config_read(&mut p, device, function, 0, 4), u32::MAX);
        assert_eq!(config_read(&mut p, device, function, 0, 2), 0xFFFF);
    }
}

#[test]
fn only_an_enabled_address_of_bus_0_reaches_a_function() {
    let mut p = Whole::new(&config());
    // As Linux probes.
    p.io_write(0xCFB, 1, 1, NOW);
    for (address, id) in
        [(0x8000_0000u32, 0x1237_8086), (0, u32::MAX), (0x8001_0000, u32::MAX), (0x80FF_0000, u32::MAX)]
    {
        p.io_write(0xCF8, 4, address, NOW);
        assert_eq!(p.io_read(0xCF8, 4, NOW), address);
        assert_eq!(p.io_read(0xCFC, 4, NOW), id, "{address:#x}");
    }
    p.io_write(0xCF8, 4, 0x8000_0000, NOW);
    let bytes: Vec<u32> = (0..4).map(|i| p.io_read(0xCFC + i, 1, NOW)).collect();
    assert_eq!(bytes, [0x86, 0x80, 0x37, 0x12]);
    assert_eq!((p.io_read(0xCFE, 2, NOW), p.io_read(0xCFD, 2, NOW)), (0x1237, 0x3780));
    assert_eq!(p.io_read(0xCFE, 4, NOW), 0xFFFF_1237, "beyond the dword there is nothing");
    assert_eq!(p.io_read(0xCF9, 1, NOW), 0, "the reset control stays");
    assert_eq!(p.io_write(0xCF9, 1, 6, NOW), Some(Effect::Reset));
    let mut off = Whole::new(&PlatformConfig { pci: false, ..config() });
    assert_eq!(config_read(&mut off, 0, 0, 0, 4), u32::MAX);
}

#[test]
fn windows_are_sized_moved_and_closed() {
    let mut p = board();
    for (bar, size) in [(0x10, 0xFFFF_C000), (0x14, 0), (0x18, 0xFFFF_FFE1), (0x1C, 0)] {
        config_write(&mut p, DEVICE, 0, bar, 4, u32::MAX);
        assert_eq!(config_read(&mut p, DEVICE, 0, bar, 4), size, "{bar:#x}");
    }
    let mut p = opened();
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x18, 4), u32::from(PORTS) | 1);
    store(&mut p, 8, 8, 0x1234_5678_9ABC);
    assert_eq!((load(&mut p, 8, 8), load(&mut p, 8, 2)), (0x1234_5678_9ABC, 0x9ABC));
    assert_eq!(load(&mut p, 0x3FFE, 4), 0xFFFF_FFFF, "not all of it inside");
    assert_eq!(p.io_write(PORTS, 2, 77, NOW), Some(Effect::Service));
    assert_eq!(p.io_read(PORTS, 4, NOW), 77);
    // A byte at a time, since it does not all lie in the window.
    assert_eq!(p.io_read(PORTS + 30, 4, NOW), 0xFFFF_0000);
    // Another place.
    config_write(&mut p, DEVICE, 0, 0x13, 1, 0xF0);
    assert_eq!(load(&mut p, 8, 8), u64::MAX);
    assert_eq!(p.mmio_read(0, Gpa(0xF000_0008), 8, NOW), 0x1234_5678_9ABC);
    // The board's own come first, wherever a window is put.
    config_write(&mut p, DEVICE, 0, 0x10, 4, LAPIC_BASE as u32);
    assert_eq!(p.mmio_read(0, Gpa(LAPIC_BASE + 0x30), 4, NOW), 0x0005_0014);
    config_write(&mut p, DEVICE, 0, 0x18, 4, 0x60);
    assert_ne!(p.io_read(0x64, 1, NOW), 0, "the keyboard controller");
    config_write(&mut p, DEVICE, 0, 0x18, 4, PORTS.into());
    config_write(&mut p, DEVICE, 0, 0x04, 1, MEM);
    assert_eq!(p.io_read(PORTS, 4, NOW), u32::MAX, "closed");
}

#[test]
fn capabilities_are_a_list() {
    let mut p = board();
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x06, 2) & 0x10, 0x10);
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x34, 1), 0x40);
    let msix: Vec<u32> = [0x40, 0x44, 0x48].map(|at| config_read(&mut p, DEVICE, 0, at, 4)).into();
    assert_eq!(msix, [u32::from(VECTORS - 1) << 16 | 0x4C11, TABLE as u32, PENDING as u32]);
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x4C, 4), 0xAB05_0009);
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x50, 1), 0xCD);
    config_write(&mut p, DEVICE, 0, MSIX_CAP, 4, u32::MAX);
    assert_eq!(config_read(&mut p, DEVICE, 0, MSIX_CAP + 2, 2), 0xC000 | u32::from(VECTORS - 1));
    assert_eq!(config_read(&mut p, 0, 0, 0x06, 2), 0, "a function without any");
}

#[test]
fn msix_entries_send_and_wait() {
    let mut p = opened();
    assert_eq!(load(&mut p, TABLE + 12, 4), 1, "masked after reset");
    p.io_write(PORTS + 8, 2, 0, NOW);
    assert_eq!(load(&mut p, PENDING, 8), 0, "MSI-X is off: lost");
    route(&mut p, 0, 0x51, false);
    p.io_write(PORTS + 8, 2, 0, NOW);
    assert_eq!(p.pending_interrupt(0), Some(0x51));
    p.accept(0, 0x51);
    p.mmio_write(0, Gpa(LAPIC_BASE + 0xB0), 4, 0, NOW);
    // A masked one waits, in the second word of pending bits.
    let last = u64::from(VECTORS - 1);
    route(&mut p, last, 0x61, true);
    p.io_write(PORTS + 8, 2, last as u32, NOW);
    assert_eq!((p.pending_interrupt(0), load(&mut p, PENDING + 8, 8)), (None, 1 << (last - 64)));
    assert_eq!(load(&mut p, PENDING + 12, 4), 0);
    store(&mut p, TABLE + 16 * last + 12, 4, 0);
    assert_eq!((p.pending_interrupt(0), load(&mut p, PENDING + 8, 8)), (Some(0x61), 0));
    p.accept(0, 0x61);
    p.mmio_write(0, Gpa(LAPIC_BASE + 0xB0), 4, 0, NOW);
    // So does one of a function that is masked as a whole, or not bus master.
    for (at, closed, open) in [(MSIX_CAP + 2, 0xC000, 0x8000), (4, IO | MEM, IO | MEM | MASTER)] {
        config_write(&mut p, DEVICE, 0, at, 2, closed);
        p.io_write(PORTS + 8, 2, 0, NOW);
        assert_eq!((p.pending_interrupt(0), load(&mut p, PENDING, 4)), (None, 1));
        config_write(&mut p, DEVICE, 0, at, 2, open);
        assert_eq!((p.pending_interrupt(0), load(&mut p, PENDING, 4)), (Some(0x51), 0));
        p.accept(0, 0x51);
        p.mmio_write(0, Gpa(LAPIC_BASE + 0xB0), 4, 0, NOW);
    }
    // Nothing comes of entries that are not there, nor of a message to memory.
    p.io_write(PORTS + 8, 2, u32::from(VECTORS), NOW);
    store(&mut p, TABLE, 8, 0x1000);
    p.io_write(PORTS + 8, 2, 0, NOW);
    assert_eq!(p.pending_interrupt(0), None);
    // Narrow and unaligned writes of the table are none; all of its bits but the address's last two are kept.
    store(&mut p, TABLE, 2, 0xFFFF);
    assert_eq!(load(&mut p, TABLE, 8), 0x1000);
    store(&mut p, TABLE, 8, u64::MAX);
    store(&mut p, TABLE + 8, 8, u64::MAX);
    assert_eq!((load(&mut p, TABLE, 8), load(&mut p, TABLE + 8, 8)), (!3, 0x1_FFFF_FFFF));
    assert_eq!((load(&mut p, TABLE + 2, 2), load(&mut p, TABLE + 16 * last + 12, 8)), (0xFFFF, 0));
}

#[test]
fn a_function_works_on_guest_memory() {
    let (mut p, ram) = (opened(), Ram::new());
    ram.write(Gpa(0x1000), b"moved by a device").unwrap();
    route(&mut p, u64::from(VECTORS - 1), 0x71, false);
    store(&mut p, 0, 8, 0x1000);
    store(&mut p, 8, 8, 0x8_0000);
    assert_eq!(p.io_write(PORTS, 4, 17, NOW), Some(Effect::Service));
    p.service(&ram, &mut Nobody, NOW);
    let mut bytes = [0; 17];
    ram.read(Gpa(0x8_0000), &mut bytes).unwrap();
    assert_eq!((&bytes, p.pending_interrupt(0)), (b"moved by a device", Some(0x71)));
}

#[test]
fn a_pin_is_a_level_at_both_controllers() {
    let (mut p, ram) = (opened(), Ram::new());
    let level = |p: &mut Whole| {
        // IRR of the second 8259A.
        p.io_write(0xA0, 1, 0x0A, NOW);
        p.io_read(0xA0, 1, NOW) & 0x0C
    };
    assert_eq!(p.io_read(0x4D1, 1, NOW), 0x0E, "SCI, 10 and 11 are levels");
    assert_eq!(config_read(&mut p, DEVICE, 0, 0x3C, 2), 0x010A);
    assert_eq!(level(&mut p), 0);
    p.io_write(PORTS, 4, 1, NOW);
    p.service(&ram, &mut Nobody, NOW);
    assert_eq!((level(&mut p), config_read(&mut p, DEVICE, 0, 6, 2) & 8), (4, 8));
    config_write(&mut p, DEVICE, 0, 4, 2, IO | MEM | 0x400);
    assert_eq!((level(&mut p), config_read(&mut p, DEVICE, 0, 6, 2) & 8), (0, 8), "INTx disable");
    config_write(&mut p, DEVICE, 0, 4, 2, IO | MEM);
    assert_eq!(level(&mut p), 4);
    config_write(&mut p, DEVICE, 0, MSIX_CAP + 2, 2, 1 << 15);
    assert_eq!(level(&mut p), 0, "MSI-X takes its place");
    config_write(&mut p, DEVICE, 0, MSIX_CAP + 2, 2, 0);
    p.io_read(PORTS + 4, 4, NOW);
    assert_eq!((level(&mut p), config_read(&mut p, DEVICE, 0, 6, 2) & 8), (0, 0), "the cause is gone");
}

/// The pins take turns: _PRT, the line register and the wires agree by that.
#[test]
fn pins_lead_to_two_interrupts_in_turn() {
    for (device, line) in [(1, 10), (2, 10), (3, 11), (4, 11), (5, 10)] {
        let functions = [Socket::of::<Copier>(device, 0)];
        let mut p = Whole::with_functions(&config(), &functions);
        assert_eq!(config_read(&mut p, device.into(), 0, 0x3C, 1), line, "device {device}");
    }
}

#[test]
fn what_another_host_must_know_follows_from_the_board() {
    let old = ["uart", "pic", "pit", "rtc", "pm", "chipset", "ioapic", "lapic"];
    let off = Whole::new(&PlatformConfig { pci: false, ..config() });
    assert!(off.board.kinds().eq(old));
    let on = Whole::new(&config());
    let new = ["i440fx", "piix3", "piix4-pm"];
    assert!(on.board.kinds().eq(old.into_iter().chain(new)));
    assert!(on.board.kinds().all(Platform::knows) && new.into_iter().all(Platform::on_pci));
    assert!(!old.into_iter().any(Platform::on_pci) && !Platform::knows("virtio-net"));
    let mut kinds: Vec<String> = on.export().into_iter().map(|record| record.kind).collect();
    kinds.dedup();
    assert!(on.board.kinds().eq(kinds));
    // Only where it is asked for.
    let rng = Whole::new(&PlatformConfig { rng: true, ..config() });
    assert!(rng.board.kinds().eq(old.into_iter().chain(new).chain(["virtio-rng"])));
    assert!(Platform::knows("virtio-rng") && Platform::on_pci("virtio-rng"));
    let mut rng = rng;
    assert_eq!(config_read(&mut rng, 2, 0, 0, 4), 0x1044_1AF4);
    assert_eq!(config_read(&mut rng, 2, 0, 8, 4), 0x00FF_0001);
    let without = Whole::new(&PlatformConfig { pci: false, rng: true, ..config() });
    assert!(without.board.kinds().eq(old), "there is no bus for it");
    // Neither takes the other's records.
    let (mut off, mut on) = (off, on);
    assert_eq!(off.import(&on.export()).unwrap_err().kind, "i440fx");
    assert_eq!(
        on.import(&off.export()).unwrap_err().to_string(),
        "state record i440fx: instance 0 is missing"
    );
}

fn fields(record: &StateRecord) -> (Vec<u8>, Option<Msix>, Vec<u8>) {
    let mut decoder = minicbor::Decoder::new(&record.body);
    assert_eq!(decoder.array().unwrap(), Some(3));
    let config = decoder.bytes().unwrap().to_vec();
    let msix = decoder.decode().unwrap();
    (config, msix, decoder.bytes().unwrap().to_vec())
}

type Msix = (Vec<[u32; 4]>, Vec<u64>);

fn body(config: &[u8], msix: &Option<Msix>, state: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.array(3).unwrap().bytes(config).unwrap().encode(msix).unwrap().bytes(state).unwrap();
    encoder.into_writer()
}

#[test]
fn each_field_of_a_function_is_refused_by_name() {
    type Change = fn(&mut Vec<u8>, &mut Option<Msix>, &mut Vec<u8>);
    let wrong: [(Change, &str); 11] = [
        (|c, _, _| c[0] = 0x86, "configuration byte 0x0 = 0x86 is out of range"),
        (|c, _, _| c[0x10] = 8, "configuration byte 0x10 = 0x8 is out of range"),
        (|c, _, _| c[0x43] = 0x81, "configuration byte 0x43 = 0x81 is out of range"),
        (|c, _, _| c.truncate(255), "length of the configuration space = 0xff is out of range"),
        (|_, m, _| *m = None, "MSI-X is there on one side only"),
        (|_, m, _| m.as_mut().unwrap().0.truncate(69), "MSI-X entries = 0x45 is out of range"),
        (|_, m, _| m.as_mut().unwrap().0[3][0] = 2, "MSI-X address = 0x2 is out of range"),
        (|_, m, _| m.as_mut().unwrap().0[3][3] = 2, "MSI-X vector control = 0x2 is out of range"),
        (|_, m, _| m.as_mut().unwrap().1[1] = 1 << 6, "MSI-X pending bits = 0x40 is out of range"),
        (|_, m, _| m.as_mut().unwrap().1.clear(), "MSI-X pending words = 0x0 is out of range"),
        (|_, _, s| s[20] = 2, "len = 0x0, done = 2"),
    ];
    let mut source = opened();
    route(&mut source, 5, 0x51, true);
    let good = source.export();
    let at = good.iter().position(|record| record.kind == KIND).unwrap();
    let mut target = board();
    target.import(&good).unwrap();
    for (change, why) in wrong {
        let mut records = good.clone();
        let (mut config, mut msix, mut state) = fields(&good[at]);
        change(&mut config, &mut msix, &mut state);
        records[at].body = body(&config, &msix, &state);
        let error = target.import(&records).expect_err(why);
        assert_eq!((error.kind.as_str(), error.why.as_str()), (KIND, why));
        assert_eq!(target.export(), good, "{why}: refused, and yet something is changed");
    }
    let mut longer = good.clone();
    longer.push(good[at].clone());
    assert!(target.import(&longer).is_err(), "twice there");
    let mut elsewhere = good.clone();
    elsewhere[at].instance += 8;
    assert_eq!(target.import(&elsewhere).unwrap_err().kind, KIND);
    assert!(FUNCTIONS.iter().all(|socket| socket.kind() != KIND));
}

#[derive(Clone, Debug)]
enum Step {
    Config(u32, u32, u8, u8, u32),
    Load(u64, u8),
    Store(u64, u8, u64),
    In(u16, u8),
    Out(u16, u8, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop::sample::select(vec![1u8, 2, 4]);
    let wide = || prop::sample::select(vec![1u8, 2, 4, 8]);
    let offset = || prop_oneof![0u64..0x20, TABLE..TABLE + 0x480, PENDING..PENDING + 0x20, 0u64..0x5000];
    prop_oneof![
        3 => (0u32..4, 0u32..4, any::<u8>(), size(), any::<u32>()).prop_map(|(d, f, r, s, v)| Step::Config(d, f, r, s, v)),
        1 => Just(Step::Config(DEVICE, 0, 4, 2, IO | MEM | MASTER)),
        1 => Just(Step::Config(DEVICE, 0, 0x10, 4, MEMORY as u32)),
        1 => Just(Step::Config(DEVICE, 0, 0x18, 4, PORTS.into())),
        1 => Just(Step::Config(DEVICE, 0, MSIX_CAP, 4, 1 << 31)),
        2 => (offset(), wide()).prop_map(|(at, size)| Step::Load(at, size)),
        4 => (offset(), wide(), any::<u64>()).prop_map(|(at, size, value)| Step::Store(at, size, value)),
        1 => (0xCF0u16..0xD04, size()).prop_map(|(port, size)| Step::In(port, size)),
        1 => (PORTS - 4..PORTS + 36, size()).prop_map(|(port, size)| Step::In(port, size)),
        4 => (PORTS - 4..PORTS + 36, size(), any::<u32>()).prop_map(|(p, s, v)| Step::Out(p, s, v)),
    ]
}

fn perform(p: &mut Whole, ram: &Ram, step: &Step) {
    let effect = match *step {
        Step::Config(device, function, register, size, value) => {
            config_write(p, device, function, register & !(size - 1), size, value);
            config_read(p, device, function, register & !(size - 1), size);
            None
        }
        Step::Load(at, size) => {
            let value = load(p, at, size);
            assert!(size == 8 || value >> (8 * size) == 0);
            None
        }
        Step::Store(at, size, value) => store(p, at, size, value),
        Step::In(port, size) => {
            let value = p.io_read(port, size, NOW);
            assert!(size == 4 || value >> (8 * size) == 0);
            None
        }
        Step::Out(port, size, value) => p.io_write(port, size, value, NOW),
    };
    if effect == Some(Effect::Service) {
        p.service(ram, &mut Nobody, NOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a guest did to the bus: its state travels, and the copy goes on as the original does.
    #[test]
    fn its_own_state_is_taken_and_goes_on_alike(
        before in prop::collection::vec(step(), 0..80),
        after in prop::collection::vec(step(), 0..40),
    ) {
        let (mut p, ram) = (board(), Ram::new());
        before.iter().for_each(|step| perform(&mut p, &ram, step));
        let records = p.export();
        let mut copy = board();
        prop_assert_eq!(copy.import(&records), Ok(()));
        prop_assert_eq!(copy.export(), records);
        for step in &after {
            perform(&mut p, &ram, step);
            perform(&mut copy, &ram, step);
            prop_assert_eq!(p.pending_interrupt(0), copy.pending_interrupt(0));
        }
        // The board's own clocks look at the time at different instants, see `properties.rs`.
        prop_assert_eq!(&p.export()[8..], &copy.export()[8..]);
    }

    /// A damaged record is refused whole, or gives a bus that works.
    #[test]
    fn damaged_records(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        which in 8usize..12,
        after in prop::collection::vec(step(), 0..40),
    ) {
        let mut source = opened();
        route(&mut source, 5, 0x51, true);
        let mut records = source.export();
        for (at, byte) in damage {
            let at = at.index(records[which].body.len());
            records[which].body[at] = byte;
        }
        let mut p = board();
        let blank = p.export();
        if p.import(&records).is_ok() {
            let ram = Ram::new();
            after.iter().for_each(|step| perform(&mut p, &ram, step));
            let again = p.export();
            prop_assert_eq!(board().import(&again), Ok(()));
        } else {
            prop_assert_eq!(p.export(), blank);
        }
    }
}
