//! Page walks of every paging mode over tables built by hand.

use std::cell::RefCell;

use proptest::prelude::*;
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};
use x86_decode::{Access, AccessKind, PagingState, WalkError, fetch, walk};

const LEN: usize = 0x10_0000;

struct Ram {
    range: [MemRange; 1],
    bytes: RefCell<Vec<u8>>,
}

impl Ram {
    fn new() -> Self {
        Ram { range: [MemRange { start: Gpa(0), len: LEN as u64 }], bytes: RefCell::new(vec![0; LEN]) }
    }

    fn put64(&self, at: u64, value: u64) {
        self.write(Gpa(at), &value.to_le_bytes()).unwrap();
    }

    fn put32(&self, at: u64, value: u32) {
        self.write(Gpa(at), &value.to_le_bytes()).unwrap();
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.range
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let start = usize::try_from(gpa.0).unwrap_or(usize::MAX);
        let bytes = self.bytes.borrow();
        let part = bytes.get(start..start.saturating_add(buf.len()));
        buf.copy_from_slice(part.ok_or(MemoryError { gpa, len: buf.len() })?);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let start = usize::try_from(gpa.0).unwrap_or(usize::MAX);
        let mut bytes = self.bytes.borrow_mut();
        let part = bytes.get_mut(start..start.saturating_add(data.len()));
        part.ok_or(MemoryError { gpa, len: data.len() })?.copy_from_slice(data);
        Ok(())
    }
}

const PG: u64 = 1 << 31;
const WP: u64 = 1 << 16;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;
const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const NX: u64 = 1 << 63;

const LONG: PagingState =
    PagingState { cr0: PG | WP | 1, cr3: 0x1000, cr4: PAE, efer: LMA | NXE, phys_bits: 40 };

const READ: Access = Access { kind: AccessKind::Read, user: false, ac: false };
const WRITE: Access = Access { kind: AccessKind::Write, ..READ };
const FETCH: Access = Access { kind: AccessKind::Execute, ..READ };

fn user(access: Access) -> Access {
    Access { user: true, ..access }
}

fn fault(error_code: u32) -> Result<Gpa, WalkError> {
    Err(WalkError::PageFault { error_code })
}

const GVA: u64 = 0xFFFF_8123_4567_89AB;

/// Four levels at 0x1000..0x5000 for [`GVA`], ending in `pte`.
fn long_tables(pte: u64) -> Ram {
    let ram = Ram::new();
    ram.put64(0x1000 + (GVA >> 39 & 511) * 8, 0x2007);
    ram.put64(0x2000 + (GVA >> 30 & 511) * 8, 0x3007);
    ram.put64(0x3000 + (GVA >> 21 & 511) * 8, 0x4007);
    ram.put64(0x4000 + (GVA >> 12 & 511) * 8, pte);
    ram
}

#[test]
fn without_paging_addresses_are_physical() {
    let off = PagingState { cr0: 1, ..LONG };
    assert_eq!(walk(&Ram::new(), &off, 0x1_2345_6789, READ), Ok(Gpa(0x2345_6789)));
}

#[test]
fn four_levels() {
    let ram = long_tables(0x8_9007 | NX);
    assert_eq!(walk(&ram, &LONG, GVA, user(WRITE)), Ok(Gpa(0x8_99AB)));
    assert_eq!(walk(&ram, &LONG, GVA, FETCH), fault(0x11));
    assert_eq!(walk(&ram, &LONG, GVA, user(FETCH)), fault(0x15));
    assert_eq!(walk(&ram, &LONG, 0, WRITE), fault(2));
    assert_eq!(walk(&ram, &LONG, 0, user(READ)), fault(4));
    assert_eq!(walk(&ram, &LONG, 0x0000_8123_4567_89AB, READ), Err(WalkError::NonCanonical));
    // PCID in the low bits of CR3.
    assert_eq!(walk(&ram, &PagingState { cr3: 0x1ABC, ..LONG }, GVA, READ), Ok(Gpa(0x8_99AB)));
}

#[test]
fn five_levels() {
    let ram = long_tables(0x8_9007);
    let state = PagingState { cr3: 0x5000, cr4: PAE | LA57, ..LONG };
    let gva = 0xFF12_8123_4567_89AB;
    ram.put64(0x5000 + (gva >> 48 & 511) * 8, 0x1007);
    assert_eq!(walk(&ram, &state, gva, READ), Ok(Gpa(0x8_99AB)));
    assert_eq!(walk(&ram, &state, 0x0112_8123_4567_89AB, READ), Err(WalkError::NonCanonical));
}

#[test]
fn large_pages() {
    let ram = long_tables(0);
    ram.put64(0x3000 + (GVA >> 21 & 511) * 8, 0xC0_1087);
    assert_eq!(
        walk(&ram, &LONG, GVA, READ),
        Ok(Gpa(0xC0_0000 | GVA & 0x1F_FFFF)),
        "the PAT bit is no address bit"
    );
    ram.put64(0x3000 + (GVA >> 21 & 511) * 8, 0xC0_2087);
    assert_eq!(walk(&ram, &LONG, GVA, READ), fault(9));
    ram.put64(0x2000 + (GVA >> 30 & 511) * 8, 0x40_0000_0087);
    assert_eq!(walk(&ram, &LONG, GVA, READ), Ok(Gpa(0x40_0000_0000 | GVA & 0x3FFF_FFFF)));
    ram.put64(0x2000 + (GVA >> 30 & 511) * 8, 0x40_0020_0087);
    assert_eq!(walk(&ram, &LONG, GVA, READ), fault(9));
    ram.put64(0x1000 + (GVA >> 39 & 511) * 8, 0x2087);
    assert_eq!(walk(&ram, &LONG, GVA, READ), fault(9), "no large page at level 4");
}

#[test]
fn rights_of_every_level_count() {
    for level in 0..4 {
        let ram = long_tables(0x8_9007);
        let table = 0x1000 * (level + 1);
        let at = table + (GVA >> (39 - 9 * level) & 511) * 8;
        let mut entry = [0; 8];
        ram.read(Gpa(at), &mut entry).unwrap();
        let entry = u64::from_le_bytes(entry);
        ram.put64(at, entry & !2);
        assert_eq!(walk(&ram, &LONG, GVA, WRITE), fault(3));
        assert_eq!(
            walk(&ram, &PagingState { cr0: PG | 1, ..LONG }, GVA, WRITE),
            Ok(Gpa(0x8_99AB)),
            "CR0.WP = 0"
        );
        assert_eq!(walk(&ram, &PagingState { cr0: PG | 1, ..LONG }, GVA, user(WRITE)), fault(7));
        ram.put64(at, entry & !4);
        assert_eq!(walk(&ram, &LONG, GVA, user(READ)), fault(5));
        assert_eq!(walk(&ram, &LONG, GVA, READ), Ok(Gpa(0x8_99AB)));
        ram.put64(at, entry | NX);
        assert_eq!(walk(&ram, &LONG, GVA, FETCH), fault(0x11));
        assert_eq!(
            walk(&ram, &PagingState { efer: LMA, ..LONG }, GVA, READ),
            fault(9),
            "NX is reserved without NXE"
        );
        ram.put64(at, entry | 1 << 40);
        assert_eq!(walk(&ram, &LONG, GVA, READ), fault(9), "beyond MAXPHYADDR");
        ram.put64(at, entry | 1 << 52);
        assert_eq!(walk(&ram, &LONG, GVA, READ), Ok(Gpa(0x8_99AB)));
    }
}

#[test]
fn smep_and_smap() {
    let ram = long_tables(0x8_9007);
    let on = PagingState { cr4: PAE | SMEP | SMAP, ..LONG };
    assert_eq!(walk(&ram, &on, GVA, FETCH), fault(0x11));
    assert_eq!(walk(&ram, &on, GVA, user(FETCH)), Ok(Gpa(0x8_99AB)));
    assert_eq!(walk(&ram, &on, GVA, READ), fault(1));
    assert_eq!(walk(&ram, &on, GVA, WRITE), fault(3));
    assert_eq!(walk(&ram, &on, GVA, Access { ac: true, ..WRITE }), Ok(Gpa(0x8_99AB)));
    let smap_alone = PagingState { cr4: PAE | SMAP, ..LONG };
    assert_eq!(walk(&ram, &smap_alone, GVA, FETCH), Ok(Gpa(0x8_99AB)), "SMAP is for data");
}

#[test]
fn pae() {
    let state = PagingState { cr0: PG | WP | 1, cr3: 0x1020, cr4: PAE, efer: NXE, phys_bits: 36 };
    let gva = 0xC765_4321;
    let ram = Ram::new();
    ram.put64(0x1020 + (gva >> 30) * 8, 0x2001);
    ram.put64(0x2000 + (gva >> 21 & 511) * 8, 0x3007);
    ram.put64(0x3000 + (gva >> 12 & 511) * 8, 0x8_8007);
    assert_eq!(walk(&ram, &state, gva, user(WRITE)), Ok(Gpa(0x8_8321)), "the top entry carries no rights");
    assert_eq!(walk(&ram, &state, gva | 1 << 32, READ), Ok(Gpa(0x8_8321)));
    assert_eq!(walk(&ram, &state, 0, READ), fault(0));
    ram.put64(0x3000 + (gva >> 12 & 511) * 8, 0x8_8007 | 1 << 52);
    assert_eq!(walk(&ram, &state, gva, READ), fault(9));
    ram.put64(0x2000 + (gva >> 21 & 511) * 8, 0x8_0020_0083);
    assert_eq!(walk(&ram, &state, gva, WRITE), Ok(Gpa(0x8_0020_0000 | gva & 0x1F_FFFF)));
    assert_eq!(walk(&ram, &state, gva, user(FETCH)), fault(0x15));
}

#[test]
fn two_levels_of_32_bits() {
    let state = PagingState { cr0: PG | WP | 1, cr3: 0x1018, cr4: PSE, efer: 0, phys_bits: 36 };
    let gva = 0xC765_4321;
    let ram = Ram::new();
    ram.put32(0x1000 + (gva >> 22) * 4, 0x2007);
    ram.put32(0x2000 + (gva >> 12 & 1023) * 4, 0x8_8005);
    assert_eq!(walk(&ram, &state, gva, user(READ)), Ok(Gpa(0x8_8321)));
    assert_eq!(walk(&ram, &state, gva, user(WRITE)), fault(7));
    assert_eq!(walk(&ram, &state, gva, user(FETCH)), Ok(Gpa(0x8_8321)));
    assert_eq!(walk(&ram, &state, 0, FETCH), fault(0), "without SMEP and NX a fetch is not told apart");
    // 4 MiB, with address bits 39:32 in 20:13.
    ram.put32(0x1000 + (gva >> 22) * 4, 0x0080_6083);
    assert_eq!(walk(&ram, &state, gva, READ), Ok(Gpa(0x3_0080_0000 | gva & 0x3F_FFFF)));
    ram.put32(0x1000 + (gva >> 22) * 4, 0x00A0_6083);
    assert_eq!(walk(&ram, &state, gva, READ), fault(9));
    let no_pse = PagingState { cr4: 0, ..state };
    ram.put32(0x1000 + (gva >> 22) * 4, 0x2087);
    assert_eq!(walk(&ram, &no_pse, gva, READ), Ok(Gpa(0x8_8321)), "bit 7 is ignored without PSE");
}

#[test]
fn tables_outside_ram_are_an_error_of_their_own() {
    let ram = Ram::new();
    let state = PagingState { cr3: 0x8000_0000, ..LONG };
    assert!(
        matches!(walk(&ram, &state, 0, READ), Err(WalkError::Memory(MemoryError { gpa, len: 8 })) if gpa.0 == 0x8000_0000)
    );
}

#[test]
fn fetch_crosses_pages() {
    let ram = long_tables(0x8_9007);
    let rip = GVA & !0xFFF | 0xFF8;
    let next = rip + 8;
    ram.write(Gpa(0x8_9FF8), &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    ram.write(Gpa(0x7_1000), &[9, 10, 11, 12, 13, 14, 15]).unwrap();
    let mut bytes = [0; 15];
    assert_eq!(fetch(&ram, &LONG, rip, false, &mut bytes), Ok(8));
    ram.put64(0x4000 + (next >> 12 & 511) * 8, 0x7_1007);
    assert_eq!(fetch(&ram, &LONG, rip, false, &mut bytes), Ok(15));
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(fetch(&ram, &LONG, rip - 7, false, &mut bytes), Ok(15));
    assert_eq!(fetch(&ram, &LONG, 0, false, &mut bytes), Err(WalkError::PageFault { error_code: 0x10 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_and_tables_are_a_value_or_an_error(
        (cr0, cr3, cr4, efer) in any::<(u64, u64, u64, u64)>(),
        near in any::<bool>(),
        phys_bits in any::<u8>(),
        gva in any::<u64>(),
        canonical in any::<bool>(),
        entries in prop::collection::vec((0u64..0x2000, any::<u64>()), 0..64),
        (kind, user, ac) in (0usize..3, any::<bool>(), any::<bool>()),
    ) {
        let ram = Ram::new();
        // Tables full of entries that point back into themselves.
        for at in (0..0x1_0000).step_by(8) {
            ram.put64(at, (at.wrapping_mul(0x9E37_79B9) & 0xF000) | (at >> 3 & 0xFF));
        }
        for (index, entry) in entries {
            ram.put64(index * 8, entry);
        }
        let cr3 = if near { cr3 & 0xFFFF } else { cr3 };
        let gva = if canonical { ((gva << 16) as i64 >> 16) as u64 } else { gva };
        let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][kind];
        let state = PagingState { cr0, cr3, cr4, efer, phys_bits };
        let result = walk(&ram, &state, gva, Access { kind, user, ac });
        if let Ok(gpa) = result {
            prop_assert_eq!(gpa.0 & 0xFFF, gva & 0xFFF);
        }
        let mut bytes = [0; 15];
        if let Ok(count) = fetch(&ram, &state, gva, user, &mut bytes) {
            prop_assert!((1..=15).contains(&count));
        }
    }
}
