//! What a guest and its image can hand in.

use guest_load::{Module, detect, extract, load};
use vm_types::Gpa;
use x86_decode::{
    Access, AccessKind, CodeSize, Cpu, MAX_LEN, Machine, PagingState, Segment, SegmentRegister, Vector,
    decode, emulate, execute, fetch, walk,
};

use crate::Bytes;
use crate::memory::Ram;

/// A kernel image, loaded with a module into a small VM, and unpacked as the image builder does.
pub fn load_image(data: &[u8]) {
    let memory = Ram::new(8 << 20);
    let modules = [Module { bytes: &[0x5A; 100], string: "initrd" }];
    if load(&memory, data, "console=ttyS0", &modules, Some(Gpa(0xE_0000))).is_ok() {
        assert!(detect(data).is_ok());
    }
    // A payload or a lean file is never larger than what it came from.
    if let Ok(payload) = extract::payload(data) {
        assert!(payload.bytes.len() <= data.len());
    }
    let _ = extract::lean_elf(data);
}

/// A machine whose devices answer with one number, and whose segments are shaped by it.
struct Board {
    ram: Ram,
    answer: u64,
}

impl Machine for Board {
    type Ram = Ram;

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn segment(&self, segment: Segment) -> SegmentRegister {
        let rights = (self.answer >> segment as u32) as u32;
        SegmentRegister { base: self.answer & 0xFFFF, limit: rights | 0xFFFF, rights: rights | 2 }
    }

    fn pkru(&mut self) -> u32 {
        self.answer as u32
    }

    fn load(&mut self, _: Gpa, size: u8) -> u64 {
        assert!(matches!(size, 1 | 2 | 4 | 8));
        self.answer & (u64::MAX >> (64 - 8 * u32::from(size)))
    }

    fn store(&mut self, _: Gpa, size: u8, value: u64) {
        assert!(matches!(size, 1 | 2 | 4 | 8) && value <= u64::MAX >> (64 - 8 * u32::from(size)));
    }

    fn input(&mut self, _: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4));
        self.answer as u32
    }

    fn output(&mut self, _: u16, size: u8, value: u32) {
        assert!(matches!(size, 1 | 2 | 4) && u64::from(value) <= u64::MAX >> (64 - 8 * u32::from(size)));
    }

    fn vector(&mut self, register: u8) -> Vector {
        assert!(register < 16);
        [self.answer as u8; 64]
    }

    fn set_vector(&mut self, register: u8, _: &Vector) {
        assert!(register < 16);
    }

    fn lmsw(&mut self, _: u16) {}
}

/// An instruction: a byte that picks code size and registers, then its bytes.
pub fn instruction(data: &[u8]) {
    let Some((pick, code)) = data.split_first() else { return };
    let size = [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64][usize::from(pick % 3)];
    let Ok(insn) = decode(code, size) else { return };
    let len = usize::from(insn.len);
    assert!((1..=MAX_LEN.min(code.len())).contains(&len));
    assert_eq!(decode(&code[..len], size), Ok(insn), "bytes behind it do not count");
    assert!(decode(&code[..len - 1], size).is_err(), "{insn:?} from fewer bytes than it has");
    let regs = [u64::from(*pick).wrapping_mul(0x0101_0101_0101_0101); 16];
    let _ = insn.mem.offset(&regs, u64::MAX);
    let ram = || Ram::filled(code, 8 << 10);
    for (answer, flat) in [(0, true), (1, false), (u64::MAX, true), (u64::from(*pick) << 30, false)] {
        // Without paging, and with tables made of the instruction's own bytes.
        let paging = PagingState {
            cr0: u64::from(!flat) << 31 | 1,
            cr3: 0,
            cr4: u64::from(*pick) << 4,
            efer: u64::from(*pick & 1) << 10,
            pdptes: [1, 0x1001, u64::from(*pick) << 12, 0],
            phys_bits: 40,
        };
        let gprs = if flat { [u64::from(*pick) << 4; 16] } else { regs };
        let rflags = 2 | u64::from(*pick) << 4 & 0x8D4;
        let before = Cpu { gprs, rflags, rip: 0, code: size, cpl: pick & 3, paging };
        let (mut cpu, mut board) = (before, Board { ram: ram(), answer });
        if execute(&insn, &mut cpu, &mut board, flat.then_some(Gpa(0xFED0_0000))).is_err() {
            assert_eq!(before, cpu, "{insn:?} failed and left its mark");
        }
        let _ = emulate(&mut cpu, &mut board, None);
    }
}

/// Paging registers, an address, and the first pages of memory.
pub fn page_walk(data: &[u8]) {
    let mut data = Bytes(data);
    let mode = data.u8();
    let (cr3, cr4) = (u64::from(data.u16()), u64::from(data.u32()));
    let state = PagingState {
        cr0: (u64::from(mode & 1) << 31) | (u64::from(mode & 2) << 15) | 1,
        cr3,
        cr4,
        efer: u64::from(mode & 0x1C) << 8,
        pdptes: [cr3 | 1, cr4 | 1, 0, 0x2001],
        phys_bits: mode,
    };
    let gva = data.u64();
    let memory = Ram::filled(data.0, 64 << 10);
    for kind in [AccessKind::Read, AccessKind::Write, AccessKind::Execute] {
        for user in [false, true] {
            let _ = walk(&memory, &state, gva, Access { kind, user, ac: mode & 0x20 != 0, pkru: gva as u32 });
        }
    }
    let mut bytes = [0; MAX_LEN];
    if let Ok(len) = fetch(&memory, &state, gva, false, &mut bytes) {
        assert!((1..=MAX_LEN).contains(&len));
    }
}
