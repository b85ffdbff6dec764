//! Kernels of each protocol, loaded into memory and read back as the guest would.

mod support;

use guest_load::{Entry, Kind, LoadError, Mode, Module, RAX, RBX, RSI, detect, load};
use proptest::prelude::*;
use support::*;
use vm_types::Gpa;

const RSDP: Option<Gpa> = Some(Gpa(0xE_0000));

fn module<'a>(bytes: &'a [u8], string: &'a str) -> Module<'a> {
    Module { bytes, string }
}

/// Follows the entry's page tables by hand.
fn translate(ram: &Ram, entry: &Entry, va: u64) -> u64 {
    let pml4e = ram.u64(entry.cr3 + (va >> 39 & 511) * 8);
    let pdpte = ram.u64((pml4e & !0xFFF) + (va >> 30 & 511) * 8);
    let pde = ram.u64((pdpte & !0xFFF) + (va >> 21 & 511) * 8);
    assert!(pml4e & pdpte & pde & 1 == 1 && pde & 0x80 != 0, "{va:#x} is not mapped");
    (pde & !0x1F_FFFF) + (va & 0x1F_FFFF)
}

#[test]
fn bzimage_by_the_64_bit_protocol() {
    let ram = Ram::new(&[(0, 32 << 20), (1 << 32, 1 << 20)]);
    let initrd = [module(&[1, 2, 3, 4, 5], ""), module(&[6], "")];
    let entry = load(&ram, &bzimage(), "console=ttyS0 x=\"a b\"", &initrd, RSDP).unwrap();
    assert_eq!((entry.mode, entry.rip), (Mode::Long64, 0x100_0200));
    assert_eq!((entry.cr0, entry.cr4, entry.efer, entry.rflags), (0x8000_0011, 0x20, 0x500, 2));
    assert_eq!(ram.bytes(0x100_0000, 0x400), pattern(0x400));
    for va in [0, 0x9000, entry.rip, entry.gprs[RSI], 0xFFFF_FFFF] {
        assert_eq!(translate(&ram, &entry, va), va);
    }
    let zero_page = entry.gprs[RSI];
    assert!(zero_page.is_multiple_of(4096) && zero_page < 0x9_FC00);
    assert_eq!(ram.bytes(zero_page + 0x1F1, 1), [2]);
    assert_eq!(ram.bytes(zero_page + 0x202, 4), *b"HdrS");
    assert_eq!(ram.u64(zero_page + 0x258), 0x100_0000);
    assert_eq!(ram.bytes(zero_page + 0x26C, 4), [0; 4], "only the header's own length is copied");
    assert_eq!(ram.bytes(zero_page + 0x1EF, 1), [0], "the sentinel says that a loader cleared the page");
    assert_eq!(ram.u64(zero_page + 0x70), 0xE_0000);
    assert_eq!(ram.bytes(zero_page + 0x210, 1), [0xFF]);
    assert_eq!(ram.string(ram.u32(zero_page + 0x228)), "console=ttyS0 x=\"a b\"");
    let at = ram.u32(zero_page + 0x218);
    assert_eq!((at, ram.u32(zero_page + 0x21C)), (0x1FF_F000, 12), "at the top of low RAM");
    assert_eq!(ram.bytes(at, 12), [1, 2, 3, 4, 5, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(ram.bytes(zero_page + 0x1E8, 1), [4]);
    let e820 = |i: u64| (ram.u64(zero_page + 0x2D0 + i * 20), ram.u64(zero_page + 0x2D8 + i * 20));
    assert_eq!(
        [0, 1, 2, 3].map(e820),
        [(0, 0x9_FC00), (0x9_FC00, 0x6_0400), (0x10_0000, 31 << 20), (1 << 32, 1 << 20)]
    );
    assert_eq!([0, 1, 2, 3].map(|i| ram.u32(zero_page + 0x2E0 + i * 20)), [1, 2, 1, 1]);
    // BIOS data area: RAM ends at 639 KiB.
    assert_eq!((ram.u16(0x40E), ram.u16(0x413)), (0x9FC0, 639));
}

#[test]
fn boot_gdt_describes_the_loaded_segments() {
    let ram = Ram::mib(32);
    let long = load(&ram, &bzimage(), "", &[], None).unwrap();
    assert_eq!((long.cs.selector, long.data.selector), (0x10, 0x18));
    assert_eq!(ram.u64(long.gdtr.base), 0);
    assert_eq!(ram.u64(long.gdtr.base + 0x10), 0x00AF_9B00_0000_FFFF);
    assert_eq!(ram.u64(long.gdtr.base + 0x18), 0x00CF_9300_0000_FFFF);
    let tss = ram.u64(long.gdtr.base + u64::from(long.tr.selector));
    assert_eq!(tss & 0xFFFF, 103);
    assert_eq!(tss >> 16 & 0xFF_FFFF, long.tr.base);
    assert_eq!(tss >> 40 & 0xFF, 0x8B);
    assert_eq!(long.gdtr.limit, 0x2F);
    assert_eq!(ram.bytes(long.tr.base, 104), [0; 104]);
    let flat = load(&ram, &pvh(), "", &[], None).unwrap();
    assert_eq!(ram.u64(flat.gdtr.base + 0x10), 0x00CF_9B00_0000_FFFF);
    assert_eq!((flat.cs.access, long.cs.access, flat.data.access), (0xC09B, 0xA09B, 0xC093));
}

#[test]
fn bzimage_moves_when_its_place_is_taken() {
    let ram = Ram::new(&[(0, 0x100_0000), (0x110_0000, 0x200_0000)]);
    let entry = load(&ram, &bzimage(), "", &[], None).unwrap();
    assert_eq!(entry.rip, 0x120_0200, "2 MiB aligned, above the preferred address");
    let mut fixed = bzimage();
    fixed[0x234] = 0;
    let error = load(&ram, &fixed, "", &[], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel at 0x1000000, 0x100000 bytes: not free RAM of this VM (it ends at 0x3100000)"
    );
}

#[test]
fn initrd_keeps_below_what_the_kernel_reaches() {
    let ram = Ram::mib(32);
    let mut image = bzimage();
    p32(&mut image, 0x22C, 0x17F_FFFF);
    let initrd = pattern(0x1234);
    let entry = load(&ram, &image, "", &[module(&initrd, "")], None).unwrap();
    let at = ram.u32(entry.gprs[RSI] + 0x218);
    assert_eq!(at, 0x17F_E000);
    assert_eq!(ram.bytes(at, 0x1234), initrd);
    // Just above the kernel's memory there is no room: it goes below the kernel.
    p32(&mut image, 0x22C, 0x110_0FFF);
    let entry = load(&ram, &image, "", &[module(&initrd, "")], None).unwrap();
    assert_eq!(ram.u32(entry.gprs[RSI] + 0x218), 0xFF_E000);
    let big = vec![0; 16 << 20];
    let error = load(&ram, &image, "", &[module(&big, "")], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no room for the initrd, 0x1000000 bytes below 0x1101000: the VM's RAM ends at 0x2000000"
    );
}

#[test]
fn broken_bzimage_headers_are_named() {
    let ram = Ram::mib(32);
    let try_with = |at: usize, bytes: &[u8]| {
        let mut image = bzimage();
        put(&mut image, at, bytes);
        load(&ram, &image, "", &[], None).unwrap_err().to_string()
    };
    assert_eq!(
        try_with(0x206, &[0x0B, 2]),
        "bzImage protocol version 0x20b: need 0x20c or newer (Linux 3.8)"
    );
    assert_eq!(
        try_with(0x211, &[0x80]),
        "bzImage loadflags 0x80: need LOADED_HIGH (bit 0): a zImage cannot start here"
    );
    assert_eq!(
        try_with(0x236, &[0x7E]),
        "bzImage xloadflags 0x7e: need XLF_KERNEL_64 (bit 0): not a 64-bit kernel"
    );
    assert_eq!(
        try_with(0x1F4, &[1, 1]),
        "bzImage protected-mode part (syssize): bytes 0x600 to 0x1601 of a file of 0x1600 bytes"
    );
    assert_eq!(try_with(0x1F4, &[0x20, 0]), "bzImage syssize 0x20: shorter than the way to its 64-bit entry");
    assert_eq!(try_with(0x230, &[1]), "bzImage kernel_alignment 0x200001: must be a power of two");
    assert_eq!(
        try_with(0x262, &[0, 4]),
        "no room for the kernel, 0x4000000 bytes below 0x100000000: the VM's RAM ends at 0x2000000"
    );
    let long = "x".repeat(2048);
    assert_eq!(
        load(&ram, &bzimage(), &long, &[], None),
        Err(LoadError::CommandLine { len: 2048, max: 2047 })
    );
    assert!(load(&ram, &bzimage(), &long[1..], &[], None).is_ok());
    assert_eq!(load(&ram, &bzimage(), "a\0b", &[], None), Err(LoadError::CommandLineNul));
}

/// Fault 5.1: a PVH guest with a longer command line was made, ran, and never printed a byte.
#[test]
fn limits_of_linux_are_refused_by_name() {
    let ram = Ram::mib(32);
    let long = "x".repeat(2048);
    let refused = load(&ram, &pvh(), &long, &[], None).unwrap_err();
    assert_eq!(refused.to_string(), "command line of 2048 bytes: this kernel takes 2047");
    assert!(load(&ram, &pvh(), &long[1..], &[], None).is_ok());
    // RAM in 200 pieces: one more entry than a zero page holds would end in memory behind it.
    let pieces: Vec<(u64, u64)> =
        core::iter::once((0, 32 << 20)).chain((1..200).map(|n| ((64 << 20) + n * 0x2000, 0x1000))).collect();
    let ram = Ram::new(&pieces);
    for (image, need) in [(pvh(), "Linux takes 127"), (bzimage(), "the zero page holds 128")] {
        let refused = load(&ram, &image, "", &[], None).unwrap_err().to_string();
        assert!(refused.starts_with("memory map entries 0x") && refused.ends_with(need), "{refused}");
    }
}

/// Fault 5.3: Debian's memtest86+ 6.10 ends in the middle of the last paragraph that its syssize counts.
#[test]
fn a_bzimage_goes_by_the_files_size() {
    let ram = Ram::mib(32);
    let mut image = bzimage();
    let whole = image.len();
    image.truncate(whole - 8);
    let entry = load(&ram, &image, "", &[], None).unwrap();
    let code = entry.rip - 0x200;
    let len = image.len() as u64 - 0x600;
    assert_eq!(ram.bytes(code, len as usize), image[0x600..]);
    image.truncate(whole - 16);
    let refused = load(&ram, &image, "", &[], None).unwrap_err().to_string();
    assert!(refused.starts_with("bzImage protected-mode part (syssize): bytes 0x600 to"), "{refused}");
    // What follows belongs to it.
    let mut image = bzimage();
    image.extend([0x77; 100]);
    load(&ram, &image, "", &[], None).unwrap();
    assert_eq!(ram.bytes(code + whole as u64 - 0x600, 100), [0x77; 100]);
}

#[test]
fn pvh_start_information() {
    let ram = Ram::new(&[(0, 32 << 20), (1 << 32, 1 << 20)]);
    let initrd = pattern(5000);
    let modules = [module(&initrd, "initrd string"), module(b"two", "")];
    let entry = load(&ram, &pvh(), "quiet", &modules, RSDP).unwrap();
    assert_eq!(
        (entry.mode, entry.rip, entry.cr0, entry.cr4, entry.efer),
        (Mode::Protected32, 0x100_0850, 0x11, 0, 0)
    );
    assert_eq!(ram.bytes(0x100_0000, 5000), pattern(5000));
    assert_eq!(ram.bytes(0x100_0000 + 5000, 4000), vec![0; 4000], "bss");
    assert_eq!(ram.bytes(0x100_0000 + 9000, 1), [0xA5], "behind it");
    assert_eq!(ram.bytes(0x110_0000, 3), pattern(3));
    let start = entry.gprs[RBX];
    assert_eq!(
        (ram.u32(start), ram.u32(start + 4), ram.u32(start + 8), ram.u32(start + 12)),
        (0x336E_C578, 1, 0, 2)
    );
    assert_eq!(ram.string(ram.u64(start + 24)), "quiet");
    assert_eq!(ram.u64(start + 32), 0xE_0000);
    let list = ram.u64(start + 16);
    assert_eq!((ram.u64(list), ram.u64(list + 8)), (0x1FF_E000, 5000));
    assert_eq!(ram.bytes(0x1FF_E000, 5000), initrd);
    assert_eq!(ram.string(ram.u64(list + 16)), "initrd string");
    assert_eq!(ram.u64(list + 40), 3);
    assert_eq!(ram.bytes(ram.u64(list + 32), 3), b"two");
    let (map, count) = (ram.u64(start + 40), ram.u32(start + 48));
    let lines: Vec<_> =
        (0..count).map(|i| map + i * 24).map(|at| (ram.u64(at), ram.u64(at + 8), ram.u64(at + 16))).collect();
    assert_eq!(
        lines,
        [(0, 0x9_FC00, 1), (0x9_FC00, 0x6_0400, 2), (0x10_0000, 31 << 20, 1), (1 << 32, 1 << 20, 1)]
    );
    let bare = load(&ram, &pvh(), "", &[], None).unwrap().gprs[RBX];
    assert_eq!((ram.u64(bare + 16), ram.u64(bare + 32)), (0, 0));
}

#[test]
fn pvh_note_of_four_bytes_and_eight_byte_alignment() {
    let text = || Segment { kind: 1, vaddr: 0, paddr: 0x20_0000, data: pattern(64), mem_len: 64 };
    let note = |notes: Vec<u8>| Segment { kind: 4, vaddr: 0, paddr: 0, mem_len: 0, data: notes };
    let ram = Ram::mib(4);
    let image = elf64(0, &[text(), note(pvh_notes(&0x20_0010u32.to_le_bytes()))]);
    assert_eq!(load(&ram, &image, "", &[], None).unwrap().rip, 0x20_0010);
    // Two notes 8-aligned, as linkers lay out p_align 8.
    let mut notes = Vec::new();
    p32(&mut notes, 0, 4);
    p32(&mut notes, 4, 4);
    p32(&mut notes, 8, 5);
    put(&mut notes, 12, b"GNU\0\x01\x02\x03\x04");
    p32(&mut notes, 24, 4);
    p32(&mut notes, 28, 8);
    p32(&mut notes, 32, 18);
    put(&mut notes, 36, b"Xen\0");
    p64(&mut notes, 40, 0x20_0020);
    let mut image = elf64(0, &[text(), note(notes)]);
    p64(&mut image, 64 + 56 + 48, 8);
    assert_eq!(load(&ram, &image, "", &[], None).unwrap().rip, 0x20_0020);
    let wrong =
        |desc: &[u8]| load(&ram, &elf64(0, &[text(), note(pvh_notes(desc))]), "", &[], None).unwrap_err();
    assert_eq!(wrong(&[0; 6]).to_string(), "length of the PVH note 0x6: must be 4 or 8");
    assert_eq!(
        wrong(&0x20_0040u32.to_le_bytes()).to_string(),
        "ELF entry point 0x200040: not inside a loaded segment"
    );
}

#[test]
fn segments_outside_free_ram_are_named() {
    let ram = Ram::mib(4);
    let image = |paddr, mem_len, data: usize| {
        let text = Segment { kind: 1, vaddr: 0, paddr, data: pattern(data), mem_len };
        let notes = pvh_notes(&0x20_0000u32.to_le_bytes());
        elf64(0, &[text, Segment { kind: 4, vaddr: 0, paddr: 0, mem_len: 0, data: notes }])
    };
    let error =
        |paddr, len, data| load(&ram, &image(paddr, len, data), "", &[], None).unwrap_err().to_string();
    for (paddr, len) in [(0, 16), (0x9_FC00 - 8, 16), (0xE_0000, 16), (0x3F_FFF8, 16), (u64::MAX - 7, 16)] {
        let want =
            format!("ELF segment at {paddr:#x}, 0x10 bytes: not free RAM of this VM (it ends at 0x400000)");
        assert_eq!(error(paddr, len, 16), want);
    }
    assert_eq!(error(0x20_0000, 4, 5), "ELF segment file size 0x5: longer than its memory");
    let mut cut = image(0x20_0000, 16, 16);
    p64(&mut cut, 64 + 32, 1 << 40);
    p64(&mut cut, 64 + 40, 1 << 41);
    assert!(
        load(&ram, &cut, "", &[], None).unwrap_err().to_string().starts_with("ELF segment: bytes 0xb0 to ")
    );
}

fn check_multiboot(ram: &Ram, entry: &Entry) {
    assert_eq!((entry.mode, entry.cr0, entry.gprs[RAX]), (Mode::Protected32, 0x11, 0x2BAD_B002));
    let info = entry.gprs[RBX];
    assert_eq!(ram.u32(info), 0b10_0100_1101);
    assert_eq!((ram.u32(info + 4), ram.u32(info + 8)), (639, 7 * 1024));
    assert_eq!(ram.string(ram.u32(info + 16)), "arg1 arg2");
    assert_eq!(ram.u32(info + 20), 2);
    let mods = ram.u32(info + 24);
    let (start, end) = (ram.u32(mods), ram.u32(mods + 4));
    assert_eq!((start % 4096, ram.bytes(start, (end - start) as usize)), (0, pattern(4097)));
    assert_eq!(ram.string(ram.u32(mods + 8)), "first -- string");
    let (start, end) = (ram.u32(mods + 16), ram.u32(mods + 20));
    assert_eq!((start % 4096, ram.bytes(start, (end - start) as usize)), (0, b"m2".to_vec()));
    let (mmap, len) = (ram.u32(info + 48), ram.u32(info + 44));
    let lines: Vec<_> = (0..len / 24)
        .map(|i| mmap + i * 24)
        .map(|at| (ram.u32(at), ram.u64(at + 4), ram.u64(at + 12), ram.u32(at + 20)))
        .collect();
    assert_eq!(lines, [(20, 0, 0x9_FC00, 1), (20, 0x9_FC00, 0x6_0400, 2), (20, 0x10_0000, 7 << 20, 1)]);
    assert_eq!(ram.string(ram.u32(info + 64)), "Flexvisor");
}

#[test]
fn multiboot_elf32_and_address_fields() {
    let first = pattern(4097);
    let modules = [module(&first, "first -- string"), module(b"m2", "")];
    let ram = Ram::mib(8);
    let entry = load(&ram, &multiboot_elf(), "arg1 arg2", &modules, None).unwrap();
    assert_eq!(entry.rip, 0x10_0010, "the entry's virtual address made physical");
    assert_eq!(
        ram.bytes(0x10_0010, 590),
        pattern(600)[16..600].iter().copied().chain([0; 6]).collect::<Vec<_>>()
    );
    assert_eq!(ram.bytes(0x10_0000 + 600, 4400), vec![0; 4400]);
    check_multiboot(&ram, &entry);

    let ram = Ram::mib(8);
    let entry = load(&ram, &multiboot_flat(), "arg1 arg2", &modules, None).unwrap();
    assert_eq!(entry.rip, 0x20_0040);
    assert_eq!(ram.bytes(0x20_0100, 0x100), pattern(1000)[16 + 0x100..16 + 0x200]);
    assert_eq!(ram.bytes(0x20_0200, 0xE00), vec![0; 0xE00]);
    check_multiboot(&ram, &entry);
    let mut open_ended = multiboot_flat();
    p32(&mut open_ended, 44 + 8, 0);
    p32(&mut open_ended, 44 + 12, 0);
    let ram = Ram::mib(8);
    load(&ram, &open_ended, "", &[], None).unwrap();
    assert_eq!(ram.bytes(0x20_0000 + 500, 484), pattern(1000)[516..]);
    assert_eq!(ram.bytes(0x20_0000 + 984, 1), [0xA5]);
}

#[test]
fn broken_multiboot_headers_are_named() {
    let ram = Ram::mib(8);
    let field = |index: usize, value: u32| {
        let mut image = multiboot_flat();
        p32(&mut image, 44 + index * 4, value);
        load(&ram, &image, "", &[], None).unwrap_err().to_string()
    };
    let far = "must lie from load_addr on, by no more than the header's place in the file";
    assert_eq!(field(0, 0x1F_FFFF), format!("Multiboot header_addr 0x1fffff: {far}"));
    assert_eq!(field(0, 0x20_0021), format!("Multiboot header_addr 0x200021: {far}"));
    assert_eq!(field(2, 0x1F_0000), "Multiboot load_end_addr 0x1f0000: must not be below load_addr");
    assert!(
        field(2, 0x20_0900)
            .starts_with("Multiboot load_addr to load_end_addr: bytes 0x10 to 0x910 of a file")
    );
    assert_eq!(field(3, 0x20_01FF), "Multiboot bss_end_addr 0x2001ff: must not be below load_end_addr");
    assert_eq!(field(4, 0x20_1000), "Multiboot entry_addr 0x201000: not inside what is loaded");
    let flags = |flags| {
        let mut image = pattern(200);
        multiboot_header(&mut image, 0, flags);
        load(&ram, &image, "", &[], None).unwrap_err().to_string()
    };
    assert_eq!(flags(8), "Multiboot flags 0x8: bits 3 to 15 ask for what no loader knows");
    assert_eq!(flags(3), "Multiboot flags 0x3: a file that is no ELF32 needs the address fields (bit 16)");
}

#[test]
fn detection() {
    assert_eq!(detect(&bzimage()), Ok(Kind::BzImage));
    assert_eq!(detect(&pvh()), Ok(Kind::PvhElf64));
    assert_eq!(detect(&multiboot_elf()), Ok(Kind::Multiboot1));
    assert_eq!(detect(&multiboot_flat()), Ok(Kind::Multiboot1));
    let mut late = vec![0; 8192 - 12];
    multiboot_header(&mut late, 8192 - 12, 0);
    assert_eq!(detect(&late), Ok(Kind::Multiboot1));
    let mut too_late = vec![0; 8192 - 8];
    multiboot_header(&mut too_late, 8192 - 8, 0);
    for image in [&too_late[..], &[], b"\x7fELF", b"hello", &elf64(0, &[])] {
        assert!(detect(image).is_err(), "{}", image.len());
    }
    let text = "no bzImage header, PVH note or Multiboot header: not a kernel Flexvisor can start";
    assert_eq!(detect(&elf64(0, &[])).unwrap_err().to_string(), text);
    let mut foreign = pvh();
    p16(&mut foreign, 18, 183);
    assert_eq!(
        detect(&foreign).unwrap_err().to_string(),
        "ELF machine 0xb7: need x86 (3 in ELF32, 0x3e in ELF64)"
    );
}

fn seeds() -> [Vec<u8>; 4] {
    [bzimage(), pvh(), multiboot_elf(), multiboot_flat()]
}

/// A loaded kernel's entry is in RAM, whatever the image said.
fn value_or_error(ram: &Ram, image: &[u8]) {
    if let Ok(entry) = load(ram, image, "cmd", &[module(b"abc", "s")], RSDP) {
        assert!(entry.rip >= 0x1000 && entry.rip < 32 << 20, "entry {:#x}", entry.rip);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = detect(&bytes);
        let _ = guest_load::extract::payload(&bytes);
        let _ = guest_load::extract::lean_elf(&bytes);
    }

    #[test]
    fn mutated_kernels_are_a_value_or_an_error(
        seed in 0usize..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        extreme in prop::option::of((any::<prop::sample::Index>(), any::<bool>())),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut image = seeds()[seed].clone();
        let headers = image.len().min(0x280);
        for (at, value) in edits {
            image[at.index(headers)] = value;
        }
        if let Some((at, ones)) = extreme {
            let at = at.index(headers - 8) & !3;
            image[at..at + 4].fill(if ones { 0xFF } else { 0 });
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        value_or_error(&Ram::blank_mib(32), &image);
        let _ = guest_load::extract::payload(&image);
        let _ = guest_load::extract::lean_elf(&image);
    }
}
