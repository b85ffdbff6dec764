//! Hand-made hand-overs, and the same broken in every way.

use bootinfo::{BootError, BootInfo, MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, PVH_MAGIC, RegionKind, Via};
use proptest::prelude::*;

const BASE: u64 = 0x9000;

/// Memory that is `bytes` at [`BASE`] and nothing else.
fn parse(magic: u32, bytes: &[u8]) -> Result<BootInfo, BootError> {
    BootInfo::parse(magic, BASE, &|address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(BASE)?).ok()?;
        bytes.get(at..at.checked_add(len)?)
    })
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
}

fn mb1() -> Vec<u8> {
    let base = BASE as u32;
    let mut b = Vec::new();
    let (map, mods, text) = (base + 88, base + 88 + 72, base + 88 + 72 + 32);
    put(
        &mut b,
        &[1 << 2 | 1 << 3 | 1 << 6 | 1 << 9, 0, 0, 0, text, 2, mods, 0, 0, 0, 0, 72, map, 0, 0, 0, text + 64],
    );
    b.resize(88, 0);
    put(
        &mut b,
        &[20, 0, 0, 0x9_fc00, 0, 1, 20, 0x10_0000, 0, 0x0ff0_0000, 0, 1, 20, 0xfffc_0000, 0, 0x4_0000, 0, 2],
    );
    put(&mut b, &[0x40_0000, 0x50_0000, text + 32, 0, 0x60_0000, 0x60_0010, 0, 0]);
    for s in ["boot/flexvisor console=com2", "/vmlinux vm=demo -- a=b ", "GRUB 2.06"] {
        let at = b.len();
        b.extend_from_slice(s.as_bytes());
        b.resize(at + 32, 0);
    }
    b
}

fn tag(b: &mut Vec<u8>, kind: u32, body: &[u8]) {
    put(b, &[kind, 8 + body.len() as u32]);
    b.extend_from_slice(body);
    b.resize(b.len().next_multiple_of(8), 0);
}

fn mb2() -> Vec<u8> {
    let mut b = vec![0; 8];
    tag(&mut b, 1, b"console=com1 ip=dhcp\0");
    tag(&mut b, 2, b"GRUB\0");
    let mut module = Vec::new();
    put(&mut module, &[0x40_0000, 0x50_0000]);
    module.extend_from_slice(b"vm=demo mem=256 -- quiet\0");
    tag(&mut b, 3, &module);
    let mut map = Vec::new();
    put(&mut map, &[24, 0, 0, 0, 0x9_fc00, 0, 1, 0, 0x10_0000, 0, 0x0ff0_0000, 0, 1, 0, 0, 1, 0, 1, 1, 0]);
    tag(&mut b, 6, &map);
    tag(&mut b, 14, b"RSD PTR old");
    tag(&mut b, 15, b"RSD PTR new");
    tag(&mut b, 14, b"RSD PTR old");
    tag(&mut b, 0, b"");
    let len = (b.len() as u32).to_le_bytes();
    b[..4].copy_from_slice(&len);
    b
}

#[test]
fn multiboot1() {
    let info = parse(MULTIBOOT1_MAGIC, &mb1()).unwrap();
    assert_eq!(info.via, Via::Multiboot1);
    assert_eq!(info.command_line, "console=com2");
    assert_eq!(info.loader, "GRUB 2.06");
    assert_eq!(info.memory.len(), 3);
    assert_eq!((info.memory[1].start, info.memory[1].end), (0x10_0000, 0x1000_0000));
    assert_eq!(info.memory[2].kind, RegionKind::Reserved);
    assert_eq!(info.modules.len(), 2);
    assert_eq!((info.modules[0].start, info.modules[0].end), (0x40_0000, 0x50_0000));
    assert_eq!(info.modules[0].command_line, "vm=demo -- a=b");
    assert_eq!(info.modules[1].command_line, "");
}

/// PXELINUX begins every line with the file's name, which need not look like one.
#[test]
fn multiboot1_from_pxelinux() {
    let mut bytes = mb1();
    for (at, text) in [(192, "flexvisor console=com1"), (224, "vmlinuz vm=demo"), (256, "PXELINUX 6.04")] {
        bytes[at..at + 32].fill(0);
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let info = parse(MULTIBOOT1_MAGIC, &bytes).unwrap();
    assert_eq!(info.loader, "PXELINUX 6.04");
    assert_eq!(info.command_line, "console=com1");
    assert_eq!(info.modules[0].command_line, "vm=demo");
}

#[test]
fn multiboot2() {
    let info = parse(MULTIBOOT2_MAGIC, &mb2()).unwrap();
    assert_eq!(info.via, Via::Multiboot2);
    assert_eq!(info.command_line, "console=com1 ip=dhcp");
    assert_eq!(info.loader, "GRUB");
    assert_eq!(info.modules[0].command_line, "vm=demo mem=256 -- quiet");
    assert_eq!(info.memory[2].start, 0x1_0000_0000);
    assert_eq!(info.rsdp.as_deref(), Some(&b"RSD PTR new"[..]));
}

/// A machine with UEFI hands over its system table or its memory map too.
#[test]
fn multiboot2_after_uefi() {
    let mut b = mb2();
    let end = b.len() - 8;
    b.truncate(end);
    tag(&mut b, 12, &[0; 8]);
    tag(&mut b, 0, b"");
    let len = (b.len() as u32).to_le_bytes();
    b[..4].copy_from_slice(&len);
    assert_eq!(parse(MULTIBOOT2_MAGIC, &b).unwrap().via.to_string(), "multiboot2 (efi)");
}

/// Start info at the front, then its tables.
fn pvh() -> Vec<u8> {
    let at = |offset: u64| BASE + offset;
    let mut b = Vec::new();
    let long = |b: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| b.extend(v.to_le_bytes()));
    put(&mut b, &[PVH_MAGIC, 1, 0, 1]);
    long(&mut b, &[at(64), at(200), at(240), at(96), 2]);
    b.resize(64, 0);
    long(&mut b, &[0x40_0000, 0x1000, at(220), 0]);
    long(&mut b, &[0, 0x9_fc00, 1, 0x10_0000, 0x700_0000, 1]);
    b.resize(200, 0);
    b.extend(b"console=com1\0");
    b.resize(220, 0);
    b.extend(b"vm=demo\0");
    b.resize(240, 0);
    b.extend(b"RSD PTR ");
    b.resize(300, 0);
    b
}

#[test]
fn pvh_start_info() {
    let info = parse(PVH_MAGIC, &pvh()).unwrap();
    assert_eq!((info.via, info.command_line.as_str()), (Via::Pvh, "console=com1"));
    let [module] = info.modules.as_slice() else { panic!("{:?}", info.modules) };
    assert_eq!((module.start, module.end, module.command_line.as_str()), (0x40_0000, 0x40_1000, "vm=demo"));
    assert_eq!(info.memory.len(), 2);
    assert_eq!((info.memory[1].start, info.memory[1].end), (0x10_0000, 0x710_0000));
    assert_eq!(info.rsdp.map(|rsdp| rsdp.len()), Some(36));
    let mut old = pvh();
    old[4] = 0;
    assert_eq!(parse(PVH_MAGIC, &old), Err(BootError::NoMemoryMap), "version 0 has none");
    let mut other = pvh();
    other[0] = 0;
    assert_eq!(parse(PVH_MAGIC, &other), Err(BootError::Unreadable(BASE)));
    for len in 0..pvh().len() {
        let _ = parse(PVH_MAGIC, &pvh()[..len]);
    }
}

#[test]
fn names_what_is_wrong() {
    assert_eq!(parse(7, &[]), Err(BootError::Magic(7)));
    assert_eq!(parse(MULTIBOOT1_MAGIC, &[0; 20]), Err(BootError::Unreadable(BASE)));
    assert_eq!(parse(MULTIBOOT1_MAGIC, &[0; 88]), Err(BootError::NoMemoryMap));
    assert_eq!(parse(MULTIBOOT2_MAGIC, &[0; 64]), Err(BootError::Unreadable(BASE)));
    assert_eq!(parse(MULTIBOOT2_MAGIC, &[64, 0, 0, 0, 0, 0, 0, 0]), Err(BootError::Unreadable(BASE)));
}

#[test]
fn usable_memory_is_whole_pages_that_nobody_else_claims() {
    let mut b = vec![0; 8];
    let mut map = Vec::new();
    put(&mut map, &[24, 0]);
    for (start, end, kind) in [(0x800, 0x9_fc00, 1), (0x10_0000, 0x20_0000, 1), (0x17_f800, 0x18_0001, 2)] {
        put(&mut map, &[start, 0, end - start, 0, kind, 0]);
    }
    tag(&mut b, 6, &map);
    b[0] = b.len() as u8;
    let usable = parse(MULTIBOOT2_MAGIC, &b).unwrap().usable(4096);
    assert_eq!(usable.ranges(), [(0x1000, 0x9_f000), (0x10_0000, 0x17_f000), (0x18_1000, 0x20_0000)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes(magic in prop_oneof![Just(MULTIBOOT1_MAGIC), Just(MULTIBOOT2_MAGIC)],
                       bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(magic, &bytes).map(|info| info.usable(4096));
    }

    #[test]
    fn broken_seeds(first in any::<bool>(), at in any::<prop::sample::Index>(), value in any::<u32>(),
                    cut in any::<prop::sample::Index>()) {
        let (magic, mut bytes) = if first { (MULTIBOOT1_MAGIC, mb1()) } else { (MULTIBOOT2_MAGIC, mb2()) };
        let at = at.index(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(info) = parse(magic, bytes) {
                prop_assert!(info.memory.iter().all(|r| r.start < r.end));
                prop_assert!(info.modules.iter().all(|m| m.start <= m.end));
                let _ = info.usable(4096);
            }
        }
    }
}
