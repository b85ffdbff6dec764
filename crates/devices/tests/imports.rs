//! State from another host: each field that a device cannot hold is refused by its name and value, and changes nothing.
#![allow(missing_docs)]

use devices::{PlatformConfig, Whole};
use minicbor::{Decoder, Encode};
use vm_types::{Now, StateRecord};

fn config() -> PlatformConfig {
    PlatformConfig {
        vcpus: 2,
        debug_exit: false,
        rtc_base_unix_secs: 1_795_375_858,
        low_ram: 256 << 20,
        high_ram: 0,
        x2apic: true,
        tsc_deadline: true,
        pci: false,
        rng: false,
    }
}

/// A board whose PIT runs: a record leaves out what is absent at its end.
fn board() -> Vec<StateRecord> {
    let mut platform = Whole::new(&config());
    for (port, value) in [(0x43, 0x34), (0x40, 0xE8), (0x40, 0x03)] {
        platform.io_write(port, 1, value, Now { tsc: 0, hz: 20_000_000 });
    }
    platform.export()
}

/// Where the item at `path` stands in `body`: the index into an array, and into an array in that, and so on.
fn item(body: &[u8], path: &[usize]) -> (usize, usize) {
    let mut decoder = Decoder::new(body);
    for &index in path {
        let len = decoder.array().unwrap().unwrap();
        assert!((index as u64) < len, "{path:?}: an array of {len}");
        for _ in 0..index {
            decoder.skip().unwrap();
        }
    }
    let from = decoder.position();
    decoder.skip().unwrap();
    (from, decoder.position())
}

fn replace(record: &mut StateRecord, path: &[usize], value: &[u8]) {
    let (from, to) = item(&record.body, path);
    record.body.splice(from..to, value.iter().copied());
}

fn cbor(value: impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).unwrap()
}

/// A value that fits the field's type, and not the field.
struct Wrong {
    kind: &'static str,
    path: &'static [usize],
    value: Vec<u8>,
    /// Its name and the value, as the operator reads them.
    says: &'static str,
}

fn wrong(kind: &'static str, path: &'static [usize], value: impl Encode<()>, says: &'static str) -> Wrong {
    Wrong { kind, path, value: cbor(value), says }
}

fn all() -> Vec<Wrong> {
    let bytes = |len: usize| minicbor::bytes::ByteVec::from(vec![0; len]);
    vec![
        wrong("uart", &[0], 0x10u8, "ier = 0x10"),
        wrong("uart", &[2], 0x20u8, "mcr = 0x20"),
        wrong("uart", &[3], 0x03u8, "fcr = 0x3"),
        wrong("uart", &[3], 0x40u8, "fcr = 0x40"),
        wrong("uart", &[6], 0x10u8, "msr_delta = 0x10"),
        wrong("uart", &[11], bytes(17), "fifo length = 0x11"),
        wrong("uart", &[12], bytes(1 << 20), "input length = 0x100000"),
        wrong("uart", &[13], bytes(1 << 20), "output length = 0x100000"),
        wrong("pic", &[0, 0, 5], 0x09u8, "vector base = 0x9"),
        wrong("pic", &[0, 1, 5], 0x71u8, "vector base = 0x71"),
        wrong("pic", &[0, 0, 6], 8u8, "lowest priority = 0x8"),
        wrong("pic", &[0, 1, 7], 1u8, "init = 0x1"),
        wrong("pic", &[0, 0, 7], 5u8, "init = 0x5"),
        wrong("pic", &[0, 0, 4], 0x01u8, "elcr = 0x1"),
        wrong("pic", &[0, 1, 4], 0x20u8, "elcr = 0x20"),
        wrong("pic", &[0, 0, 0], 0x04u8, "cascade = 0x4"),
        wrong("pit", &[0, 0, 0], 6u8, "mode = 0x6"),
        wrong("pit", &[0, 1, 1], 0u8, "access = 0x0"),
        wrong("pit", &[0, 2, 1], 4u8, "access = 0x4"),
        wrong("pit", &[0, 2, 5], u64::MAX, "start = 0xffffffffffffffff"),
        wrong("pit", &[0, 2, 7], u64::MAX, "frozen = 0xffffffffffffffff"),
        wrong("pit", &[0, 0, 6], false, "gate = 0x0"),
        wrong("pit", &[0, 1, 6], false, "gate = 0x0"),
        wrong("pit", &[1], 0x01u8, "port 0x61 = 0x1"),
        wrong("pit", &[1], 0x10u8, "port 0x61 = 0x10"),
        wrong("pit", &[2], u64::MAX, "rise = 0xffffffffffffffff"),
        wrong("rtc", &[0], 0x80u8, "index = 0x80"),
        wrong("rtc", &[1], 0x80u8, "register A = 0x80"),
        wrong("rtc", &[2], 0x82u8, "register B = 0x82"),
        wrong("rtc", &[3], 0x80u8, "register C = 0x80"),
        wrong("rtc", &[4], i64::MAX, "offset = 0x7fffffffffffffff"),
        wrong("rtc", &[4], i64::MIN, "offset = 0x8000000000000000"),
        wrong("rtc", &[6], u64::MAX, "checked = 0xffffffffffffffff"),
        wrong("pm", &[0], 0x0002u16, "status = 0x2"),
        wrong("pm", &[1], 0x8000u16, "enable = 0x8000"),
        wrong("pm", &[2], 0x0001u16, "control = 0x1"),
        wrong("pm", &[3], 1u64 << 33, "half_turns = 0x200000000"),
        wrong("chipset", &[0], 0x01u8, "status = 0x1"),
        wrong("chipset", &[3], 0x20u8, "command = 0x20"),
        wrong("chipset", &[4], 0x00u8, "port 0x92 = 0x0"),
        wrong("chipset", &[4], 0x03u8, "port 0x92 = 0x3"),
        wrong("chipset", &[5], 0x04u8, "reset control = 0x4"),
        wrong("chipset", &[6], 0x0100_0000u32, "PCI address = 0x1000000"),
        wrong("ioapic", &[0], 0x10u8, "id = 0x10"),
        wrong("ioapic", &[3], 1u32 << 24, "lines = 0x1000000"),
        wrong("ioapic", &[2, 5], 1u64 << 20, "entry = 0x100000"),
        wrong("ioapic", &[2, 23], 1u64 << 14, "entry = 0x4000"),
        wrong("lapic", &[0], 1u32, "id = 0x1"),
        wrong("lapic", &[1], 0xFEE0_0400u64, "base = 0xfee00400"),
        wrong("lapic", &[1], 0xFEE1_0900u64, "base = 0xfee10900"),
        wrong("lapic", &[3], 1u32, "ldr = 0x1"),
        wrong("lapic", &[4], 0u32, "dfr = 0x0"),
        wrong("lapic", &[5], 0x200u32, "svr = 0x200"),
        wrong("lapic", &[6, 0], 1u32, "isr = 0x1"),
        wrong("lapic", &[7, 0], 0x8000u32, "tmr = 0x8000"),
        wrong("lapic", &[8, 0], 2u32, "irr = 0x2"),
        wrong("lapic", &[9], 1u32, "esr = 0x1"),
        wrong("lapic", &[10], 1u32, "esr = 0x1"),
        wrong("lapic", &[12, 0], 1u32 << 20, "lvt = 0x100000"),
        wrong("lapic", &[12, 5], 0x100u32, "lvt = 0x100"),
        wrong("lapic", &[14], 0x4u32, "timer_divide = 0x4"),
        wrong("lapic", &[15], i64::MAX, "timer_start = 0x7fffffffffffffff"),
        wrong("lapic", &[15], i64::MIN, "timer_start = 0x8000000000000000"),
    ]
}

#[test]
fn each_field_out_of_range_is_refused_by_name() {
    let good = board();
    let mut target = Whole::new(&config());
    target.import(&good).unwrap();
    for case in all() {
        let mut records = good.clone();
        let record = records.iter_mut().find(|record| record.kind == case.kind).unwrap();
        replace(record, case.path, &case.value);
        let error = match target.import(&records) {
            Ok(()) => panic!("{} {:?}: {} is taken", case.kind, case.path, case.says),
            Err(error) => error,
        };
        assert_eq!(error.kind, case.kind, "{}: {error}", case.says);
        let says = format!("{} is out of range", case.says);
        assert_eq!(error.why, says, "{} {:?}", case.kind, case.path);
        assert_eq!(target.export(), good, "{says}: refused, and yet something is changed");
    }
    target.import(&good).unwrap();
}

/// A value too large for its field's type does not lose its upper bits on the way in.
#[test]
fn no_field_takes_more_than_its_type() {
    let good = board();
    let mut target = Whole::new(&config());
    target.import(&good).unwrap();
    let small: [(&str, &[usize], u64); 14] = [
        ("uart", &[0], 1 << 8),
        ("uart", &[5], 1 << 16),
        ("pic", &[0, 0, 2], 1 << 8),
        ("pic", &[0, 1, 3], 0x101),
        ("pit", &[0, 0, 3], 1 << 16),
        ("rtc", &[1], 0x126),
        ("pm", &[0], 1 << 16),
        ("pm", &[2], 1 << 16),
        ("chipset", &[2], 1 << 8),
        ("ioapic", &[1], 1 << 8),
        ("ioapic", &[3], 1 << 32),
        ("lapic", &[2], 1 << 8),
        ("lapic", &[8, 1], 1 << 32),
        ("lapic", &[13], 1 << 32),
    ];
    for (kind, path, value) in small {
        let mut records = good.clone();
        replace(records.iter_mut().find(|record| record.kind == kind).unwrap(), path, &cbor(value));
        let error = target.import(&records).expect_err("larger than its type");
        assert!(error.kind == kind && error.why.starts_with("body: "), "{kind} {path:?}: {error}");
        assert_eq!(target.export(), good);
    }
}
