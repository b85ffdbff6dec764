//! Guest memory of a test, and small kernels built field by field.
#![allow(dead_code)]

use std::cell::RefCell;

use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

/// RAM from 0, with a second range above 4 GiB where asked for. Fresh RAM is 0xA5, so that clearing shows.
pub(crate) struct Ram {
    ranges: Vec<MemRange>,
    bytes: RefCell<Vec<Vec<u8>>>,
}

impl Ram {
    pub(crate) fn mib(low: u64) -> Self {
        Self::new(&[(0, low << 20)])
    }

    /// All zero: cheap to make, as the system hands it out.
    pub(crate) fn blank_mib(low: u64) -> Self {
        Ram { bytes: RefCell::new(vec![vec![0; (low << 20) as usize]]), ..Self::new(&[(0, 0)]) }
            .with_len(low << 20)
    }

    fn with_len(mut self, len: u64) -> Self {
        self.ranges[0].len = len;
        self
    }

    pub(crate) fn new(ranges: &[(u64, u64)]) -> Self {
        Ram {
            ranges: ranges.iter().map(|&(start, len)| MemRange { start: Gpa(start), len }).collect(),
            bytes: RefCell::new(ranges.iter().map(|&(_, len)| vec![0xA5; len as usize]).collect()),
        }
    }

    fn place(&self, gpa: Gpa, len: usize) -> Result<(usize, usize), MemoryError> {
        let inside =
            |range: &MemRange| gpa.0 >= range.start.0 && gpa.0.saturating_add(len as u64) <= range.end();
        let index = self.ranges.iter().position(inside).ok_or(MemoryError { gpa, len })?;
        Ok((index, (gpa.0 - self.ranges[index].start.0) as usize))
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn u16(&self, at: u64) -> u64 {
        u16::from_le_bytes(self.bytes(at, 2).try_into().unwrap()).into()
    }

    pub(crate) fn u32(&self, at: u64) -> u64 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap()).into()
    }

    pub(crate) fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    pub(crate) fn string(&self, at: u64) -> String {
        let bytes: Vec<u8> = (at..).map(|at| self.bytes(at, 1)[0]).take_while(|byte| *byte != 0).collect();
        String::from_utf8(bytes).unwrap()
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let (index, at) = self.place(gpa, buf.len())?;
        buf.copy_from_slice(&self.bytes.borrow()[index][at..at + buf.len()]);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let (index, at) = self.place(gpa, data.len())?;
        self.bytes.borrow_mut()[index][at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

pub(crate) fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn p16(file: &mut Vec<u8>, at: usize, value: u16) {
    put(file, at, &value.to_le_bytes());
}

pub(crate) fn p32(file: &mut Vec<u8>, at: usize, value: u32) {
    put(file, at, &value.to_le_bytes());
}

pub(crate) fn p64(file: &mut Vec<u8>, at: usize, value: u64) {
    put(file, at, &value.to_le_bytes());
}

/// Bytes 0, 1, 2, ... so that a shifted copy shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// A bzImage: 2 setup sectors, 4 KiB of code, wants 1 MiB at 16 MiB, payload at code offset 0x400.
pub(crate) fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 3 * 512];
    file[0x1F1] = 2;
    p16(&mut file, 0x1FE, 0xAA55);
    put(&mut file, 0x200, &[0xEB, 0x6A]);
    put(&mut file, 0x202, b"HdrS");
    p16(&mut file, 0x206, 0x20F);
    p32(&mut file, 0x1F4, 4096 / 16);
    file[0x211] = 1;
    p32(&mut file, 0x22C, 0x7FFF_FFFF);
    p32(&mut file, 0x230, 0x20_0000);
    file[0x234] = 1;
    p16(&mut file, 0x236, 0x7F);
    p32(&mut file, 0x238, 2047);
    p32(&mut file, 0x248, 0x400);
    p32(&mut file, 0x24C, 0x104);
    p64(&mut file, 0x258, 0x100_0000);
    p32(&mut file, 0x260, 0x10_0000);
    let mut code = pattern(4096);
    code[0x400..0x406].copy_from_slice(b"\xfd7zXZ\0");
    code[0x500..0x504].copy_from_slice(&0x1234_5678u32.to_le_bytes());
    file.extend(code);
    file
}

pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) vaddr: u64,
    pub(crate) paddr: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) mem_len: u64,
}

pub(crate) fn elf64(entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    p16(&mut file, 16, 2);
    p16(&mut file, 18, 62);
    p32(&mut file, 20, 1);
    p64(&mut file, 24, entry);
    p64(&mut file, 32, 64);
    p16(&mut file, 52, 64);
    p16(&mut file, 54, 56);
    p16(&mut file, 56, segments.len() as u16);
    file.resize(64, 0);
    let mut at = 64 + segments.len() * 56;
    for (index, segment) in segments.iter().enumerate() {
        let header = 64 + index * 56;
        p32(&mut file, header, segment.kind);
        p32(&mut file, header + 4, 5);
        let len = segment.data.len() as u64;
        for (field, value) in
            [at as u64, segment.vaddr, segment.paddr, len, segment.mem_len, 4].iter().enumerate()
        {
            p64(&mut file, header + 8 + field * 8, *value);
        }
        put(&mut file, at, &segment.data);
        at += segment.data.len();
    }
    file
}

/// A note section: a foreign note of odd length first, then PVH's with a 4- or 8-byte entry.
pub(crate) fn pvh_notes(entry: &[u8]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (name, kind, desc) in
        [(&b"GNU\0"[..], 18u32, &b"12345"[..]), (b"Xen\0", 6, b"linux\0"), (b"Xen\0", 18, entry)]
    {
        notes.extend((name.len() as u32).to_le_bytes());
        notes.extend((desc.len() as u32).to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(name);
        notes.extend(desc);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

/// A PVH kernel at 16 MiB with a bss, its note behind.
pub(crate) fn pvh() -> Vec<u8> {
    let text = Segment {
        kind: 1,
        vaddr: 0xFFFF_FFFF_8100_0000,
        paddr: 0x100_0000,
        data: pattern(5000),
        mem_len: 9000,
    };
    let data = Segment { kind: 1, vaddr: 0, paddr: 0x110_0000, data: pattern(3), mem_len: 3 };
    let notes = pvh_notes(&0x100_0850u64.to_le_bytes());
    let note = Segment { kind: 4, vaddr: 0, paddr: 0, mem_len: notes.len() as u64, data: notes };
    elf64(0x100_0000, &[text, data, note])
}

/// A Multiboot ELF32 linked at 3 GiB + 1 MiB, loaded at 1 MiB, entered at its byte 0x10.
pub(crate) fn multiboot_elf() -> Vec<u8> {
    let mut text = pattern(600);
    multiboot_header(&mut text, 4, 3);
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    p16(&mut file, 16, 2);
    p16(&mut file, 18, 3);
    p32(&mut file, 20, 1);
    p32(&mut file, 24, 0xC010_0010);
    p32(&mut file, 28, 52);
    p16(&mut file, 40, 52);
    p16(&mut file, 42, 32);
    p16(&mut file, 44, 1);
    for (field, value) in [1, 84, 0xC010_0000, 0x10_0000, 600, 5000, 5, 4].iter().enumerate() {
        p32(&mut file, 52 + field * 4, *value);
    }
    file.extend(text);
    file
}

pub(crate) fn multiboot_header(file: &mut Vec<u8>, at: usize, flags: u32) {
    p32(file, at, 0x1BAD_B002);
    p32(file, at + 4, flags);
    p32(file, at + 8, 0u32.wrapping_sub(0x1BAD_B002).wrapping_sub(flags));
}

/// A flat Multiboot file with address fields: 16 bytes of junk, then what goes to 2 MiB.
pub(crate) fn multiboot_flat() -> Vec<u8> {
    let mut file = pattern(1000);
    multiboot_header(&mut file, 32, 1 << 16);
    for (field, value) in [0x20_0010, 0x20_0000, 0x20_0200, 0x20_1000, 0x20_0040].iter().enumerate() {
        p32(&mut file, 44 + field * 4, *value);
    }
    file
}
