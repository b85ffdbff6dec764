//! What is taken out of kernel files on the host.

mod support;

use guest_load::extract::{Format, lean_elf, payload};
use guest_load::load;
use proptest::prelude::*;
use support::*;

#[test]
fn payload_without_the_appended_length() {
    let mut image = bzimage();
    let found = payload(&image).unwrap();
    assert_eq!((found.format, found.unpacked_len, found.bytes.len()), (Format::Xz, 0x1234_5678, 0x100));
    assert!(found.bytes == &image[0xA00..0xB00]);
    let at = 0x600 + 0x400;
    for (magic, format, len) in [
        (&b"\x1f\x8b"[..], Format::Gzip, 0x104),
        (b"\x28\xb5\x2f\xfd", Format::Zstd, 0x100),
        (b"\x7fELF", Format::Elf, 0x104),
    ] {
        put(&mut image, at, magic);
        let found = payload(&image).unwrap();
        assert_eq!((found.format, found.bytes.len()), (format, len));
    }
    put(&mut image, at, b"????");
    let text = "bzImage payload 0x3f3f3f3f: the payload's first bytes are of no known compression";
    assert_eq!(payload(&image).unwrap_err().to_string(), text);
    p32(&mut image, 0x24C, 0xC01);
    assert_eq!(
        payload(&image).unwrap_err().to_string(),
        "bzImage payload: bytes 0x400 to 0x1001 of a file of 0x1000 bytes"
    );
    p32(&mut image, 0x24C, 2);
    assert!(payload(&image).is_err());
}

/// A kernel with long runs of zeros at the start, in the middle and at the end of its segment.
fn sparse() -> Vec<u8> {
    let mut data = vec![0; 0x6_0000];
    data[0x2_0010..0x2_1800].copy_from_slice(&pattern(0x17F0));
    data[0x4_2345] = 7;
    let text = Segment { kind: 1, vaddr: 0xFFFF_FFFF_8100_0123, paddr: 0x100_0123, data, mem_len: 0x8_0000 };
    let notes = pvh_notes(&0x102_0200u64.to_le_bytes());
    let note = Segment { kind: 4, vaddr: 0, paddr: 0, mem_len: notes.len() as u64, data: notes };
    let mut file = elf64(0x100_0123, &[text, note]);
    // A section table and symbols that nobody loads.
    let end = file.len() as u64;
    p64(&mut file, 40, end);
    p16(&mut file, 58, 64);
    p16(&mut file, 60, 100);
    file.extend(vec![0xEE; 100_000]);
    file
}

fn loaded(image: &[u8]) -> (Vec<u8>, guest_load::Entry) {
    let ram = Ram::mib(20);
    let entry = load(&ram, image, "x", &[], None).unwrap();
    (ram.bytes(0, 20 << 20), entry)
}

#[test]
fn lean_file_loads_to_the_same_memory() {
    let file = sparse();
    let lean = lean_elf(&file).unwrap();
    assert!(lean.len() < 0x7000, "{:#x} of {:#x} bytes are left", lean.len(), file.len());
    assert!(loaded(&file) == loaded(&lean));
    assert_eq!(&lean[40..48], &[0; 8], "no section table");
    assert_eq!(&lean[60..62], &[0; 2]);
    assert!(lean_elf(&lean).unwrap().len() <= lean.len());
    assert!(lean_elf(&bzimage()).is_err());
    assert!(loaded(&pvh()) == loaded(&lean_elf(&pvh()).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_zero_pattern_survives(
        spots in prop::collection::vec((0usize..0x8_0000, 1usize..0x3000), 0..6),
        bss in 0u64..0x3_0000,
    ) {
        let mut data = vec![0; 0x8_4000];
        for (at, len) in spots {
            data[at..at + len].fill(0x5A);
        }
        let mem_len = data.len() as u64 + bss;
        let text = Segment { kind: 1, vaddr: 0x10_0000, paddr: 0x10_0000, data, mem_len };
        let notes = pvh_notes(&0x10_0000u32.to_le_bytes());
        let note = Segment { kind: 4, vaddr: 0, paddr: 0, mem_len: 0, data: notes };
        let file = elf64(0x10_0000, &[text, note]);
        prop_assert!(loaded(&file).0 == loaded(&lean_elf(&file).unwrap()).0);
    }
}
