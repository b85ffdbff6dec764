//! What a guest and its image can hand in.

use guest_load::{Module, detect, extract, load};
use vm_types::Gpa;
use x86_decode::{
    Access, AccessKind, CodeSize, MAX_LEN, MmioBus, PagingState, Place, decode, execute, fetch, walk,
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

/// A bus that answers with `self.0` and refuses the access when that is 0.
struct Bus(u64);

impl MmioBus for Bus {
    type Error = ();

    fn read(&mut self, _: Place, size: u8) -> Result<u64, ()> {
        assert!(matches!(size, 1 | 2 | 4 | 8));
        if self.0 == 0 { Err(()) } else { Ok(self.0 & (u64::MAX >> (64 - 8 * u32::from(size)))) }
    }

    fn write(&mut self, _: Place, size: u8, value: u64) -> Result<(), ()> {
        assert!(matches!(size, 1 | 2 | 4 | 8) && value <= u64::MAX >> (64 - 8 * u32::from(size)));
        if self.0 == 0 { Err(()) } else { Ok(()) }
    }
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
    let mut regs = [u64::from(*pick).wrapping_mul(0x0101_0101_0101_0101); 16];
    let mut rflags = 2 | u64::from(*pick) << 4 & 0x8D4;
    let _ = insn.mem.offset(&regs, u64::MAX);
    for answer in [0, 1, u64::MAX] {
        let before = (regs, rflags);
        if execute(&insn, &mut regs, &mut rflags, &mut Bus(answer)).is_err() {
            assert_eq!(before, (regs, rflags), "{insn:?} failed and left its mark");
        }
    }
}

/// Paging registers, an address, and the first pages of memory.
pub fn page_walk(data: &[u8]) {
    let mut data = Bytes(data);
    let mode = data.u8();
    let state = PagingState {
        cr0: (u64::from(mode & 1) << 31) | (u64::from(mode & 2) << 15) | 1,
        cr3: data.u16().into(),
        cr4: u64::from(data.u32()),
        efer: u64::from(mode & 0x1C) << 8,
        phys_bits: mode,
    };
    let gva = data.u64();
    let memory = Ram::filled(data.0, 64 << 10);
    for kind in [AccessKind::Read, AccessKind::Write, AccessKind::Execute] {
        for user in [false, true] {
            let _ = walk(&memory, &state, gva, Access { kind, user, ac: mode & 0x20 != 0 });
        }
    }
    let mut bytes = [0; MAX_LEN];
    if let Ok(len) = fetch(&memory, &state, gva, false, &mut bytes) {
        assert!((1..=MAX_LEN).contains(&len));
    }
}
