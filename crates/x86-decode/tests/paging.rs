//! Page walks of every paging mode over tables built by hand.

mod board;

use board::Ram;
use proptest::prelude::*;
use vm_types::{Gpa, GuestMemory};
use x86_decode::{Access, AccessKind, PagingState, WalkError, fetch, translate, walk};

const LEN: usize = 0x10_0000;

fn ram() -> Ram {
    Ram::new(LEN)
}

fn put32(ram: &Ram, at: u64, value: u32) {
    ram.write(Gpa(at), &value.to_le_bytes()).unwrap();
}

const PG: u64 = 1 << 31;
const WP: u64 = 1 << 16;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;
const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;
const PKE: u64 = 1 << 22;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const NX: u64 = 1 << 63;

const LONG: PagingState =
    PagingState { cr0: PG | WP | 1, cr3: 0x1000, cr4: PAE, efer: LMA | NXE, pdptes: [0; 4], phys_bits: 40 };

const READ: Access = Access { kind: AccessKind::Read, user: false, ac: false, pkru: 0 };
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
    let ram = ram();
    ram.put64(0x1000 + (GVA >> 39 & 511) * 8, 0x2007);
    ram.put64(0x2000 + (GVA >> 30 & 511) * 8, 0x3007);
    ram.put64(0x3000 + (GVA >> 21 & 511) * 8, 0x4007);
    ram.put64(0x4000 + (GVA >> 12 & 511) * 8, pte);
    ram
}

#[test]
fn without_paging_addresses_are_physical() {
    let off = PagingState { cr0: 1, ..LONG };
    assert_eq!(walk(&ram(), &off, 0x1_2345_6789, READ), Ok(Gpa(0x2345_6789)));
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
    let pdptes = [0, 0, 0, 0x2001];
    let state = PagingState { cr0: PG | WP | 1, cr3: 0x1020, cr4: PAE, efer: NXE, pdptes, phys_bits: 36 };
    let gva = 0xC765_4321;
    let ram = ram();
    // Memory has another entry there by now: nobody has loaded it (fault 2.13).
    ram.put64(0x1020 + (gva >> 30) * 8, 0x7001);
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
    let state =
        PagingState { cr0: PG | WP | 1, cr3: 0x1018, cr4: PSE, efer: 0, pdptes: [0; 4], phys_bits: 36 };
    let gva = 0xC765_4321;
    let ram = ram();
    put32(&ram, 0x1000 + (gva >> 22) * 4, 0x2007);
    put32(&ram, 0x2000 + (gva >> 12 & 1023) * 4, 0x8_8005);
    assert_eq!(walk(&ram, &state, gva, user(READ)), Ok(Gpa(0x8_8321)));
    assert_eq!(walk(&ram, &state, gva, user(WRITE)), fault(7));
    assert_eq!(walk(&ram, &state, gva, user(FETCH)), Ok(Gpa(0x8_8321)));
    assert_eq!(walk(&ram, &state, 0, FETCH), fault(0), "without SMEP and NX a fetch is not told apart");
    // 4 MiB, with address bits 39:32 in 20:13.
    put32(&ram, 0x1000 + (gva >> 22) * 4, 0x0080_6083);
    assert_eq!(walk(&ram, &state, gva, READ), Ok(Gpa(0x3_0080_0000 | gva & 0x3F_FFFF)));
    put32(&ram, 0x1000 + (gva >> 22) * 4, 0x00A0_6083);
    assert_eq!(walk(&ram, &state, gva, READ), fault(9));
    let no_pse = PagingState { cr4: 0, ..state };
    put32(&ram, 0x1000 + (gva >> 22) * 4, 0x2087);
    assert_eq!(walk(&ram, &no_pse, gva, READ), Ok(Gpa(0x8_8321)), "bit 7 is ignored without PSE");
}

#[test]
fn tables_outside_ram_read_as_ones() {
    let ram = ram();
    let state = PagingState { cr3: 0x8000_0000, ..LONG };
    assert_eq!(walk(&ram, &state, 0, READ), fault(9), "every reserved bit is set");
    let mut bytes = [0; 15];
    let code = PagingState { cr0: 1, ..LONG };
    assert_eq!(fetch(&ram, &code, LEN as u64 - 2, false, &mut bytes), Ok(2 + 13));
    assert_eq!(bytes[..4], [0, 0, 0xFF, 0xFF]);
}

/// Fault 2.14: the hypervisor's accesses left the guest's tables as they were, so that Linux would drop a page that an
/// INS had filled as clean.
#[test]
fn accessed_and_dirty_flags_are_set_where_the_cpu_sets_them() {
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    let tables = |ram: &Ram| {
        (0..4)
            .map(|level| ram.get64(0x1000 * (level + 1) + (GVA >> (39 - 9 * level) & 511) * 8))
            .collect::<Vec<_>>()
    };
    let flags =
        |ram: &Ram| tables(ram).into_iter().map(|entry| entry & (ACCESSED | DIRTY)).collect::<Vec<_>>();
    let ram = long_tables(0x8_9007);
    let found = translate(&ram, &LONG, GVA, READ).unwrap();
    assert_eq!(flags(&ram), [0; 4], "a translation alone leaves no trace");
    found.mark(&ram);
    assert_eq!(flags(&ram), [ACCESSED; 4]);
    translate(&ram, &LONG, GVA, WRITE).unwrap().mark(&ram);
    assert_eq!(flags(&ram), [ACCESSED, ACCESSED, ACCESSED, ACCESSED | DIRTY]);
    assert_eq!(tables(&ram)[3], 0x8_9007 | ACCESSED | DIRTY, "nothing else changes");
    // 32-bit tables, a large page, and PAE, whose top entries have no flags.
    let legacy =
        PagingState { cr0: PG | WP | 1, cr3: 0x1000, cr4: PSE, efer: 0, pdptes: [0; 4], phys_bits: 36 };
    let ram = Ram::new(LEN);
    put32(&ram, 0x1000, 0x2007);
    put32(&ram, 0x2000, 0x8_8007);
    put32(&ram, 0x1004, 0x0040_0083);
    translate(&ram, &legacy, 0x123, WRITE).unwrap().mark(&ram);
    translate(&ram, &legacy, 0x40_0123, WRITE).unwrap().mark(&ram);
    assert_eq!((ram.get64(0x1000), ram.get64(0x2000)), (0x0040_00E3_0000_2027, 0x8_8067));
    let pae = PagingState { cr4: PAE, pdptes: [0x2001, 0, 0, 0], ..legacy };
    let ram = Ram::new(LEN);
    ram.put64(0x1000, 0x2001);
    ram.put64(0x2000, 0x3007);
    ram.put64(0x3000, 0x8_8007);
    translate(&ram, &pae, 0x123, READ).unwrap().mark(&ram);
    assert_eq!((ram.get64(0x1000), ram.get64(0x2000), ram.get64(0x3000)), (0x2001, 0x3027, 0x8_8027));
}

#[test]
fn protection_keys() {
    let ram = long_tables(0x8_9007 | 5 << 59);
    let on = PagingState { cr4: PAE | PKE, ..LONG };
    let with = |access: Access, bits: u32| Access { pkru: bits << 10, ..access };
    assert_eq!(walk(&ram, &on, GVA, with(user(READ), 1)), fault(0x25));
    assert_eq!(walk(&ram, &on, GVA, with(WRITE, 1)), fault(0x23), "supervisors, too");
    assert_eq!(walk(&ram, &on, GVA, with(user(WRITE), 2)), fault(0x27));
    assert_eq!(walk(&ram, &on, GVA, with(user(READ), 2)), Ok(Gpa(0x8_99AB)));
    let no_wp = PagingState { cr0: PG | 1, ..on };
    assert_eq!(walk(&ram, &no_wp, GVA, with(WRITE, 2)), Ok(Gpa(0x8_99AB)), "CR0.WP = 0");
    assert_eq!(walk(&ram, &on, GVA, with(user(FETCH), 3)), Ok(Gpa(0x8_99AB)), "fetches have no key");
    assert_eq!(walk(&ram, &LONG, GVA, with(user(READ), 3)), Ok(Gpa(0x8_99AB)), "CR4.PKE = 0");
    let supervisor = long_tables(0x8_9003 | 5 << 59);
    assert_eq!(
        walk(&supervisor, &on, GVA, with(READ, 3)),
        Ok(Gpa(0x8_99AB)),
        "pages of users alone have keys"
    );
}

/// Fault 2.13: bits between the guest's width and the host's are reserved for the guest.
#[test]
fn bits_beyond_the_guests_width_are_reserved() {
    for (bit, narrow, wide) in [(40, 40, 46), (45, 45, 46), (51, 46, 52)] {
        let ram = long_tables(0x8_9007 | 1 << bit);
        assert_eq!(walk(&ram, &PagingState { phys_bits: narrow, ..LONG }, GVA, user(WRITE)), fault(0xF));
        assert_eq!(
            walk(&ram, &PagingState { phys_bits: wide, ..LONG }, GVA, WRITE),
            Ok(Gpa(1 << bit | 0x8_99AB))
        );
    }
    // Address bits 39:32 of a 4 MiB page.
    let legacy =
        PagingState { cr0: PG | WP | 1, cr3: 0x1000, cr4: PSE, efer: 0, pdptes: [0; 4], phys_bits: 36 };
    let ram = Ram::new(LEN);
    put32(&ram, 0x1000, 0x0040_0083 | 1 << 17);
    assert_eq!(walk(&ram, &legacy, 0, READ), fault(9));
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
        let ram = ram();
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
        let state = PagingState { cr0, cr3, cr4, efer, pdptes: [cr3 | 1, cr4 | 1, 0, 0x2001], phys_bits };
        let result = walk(&ram, &state, gva, Access { kind, user, ac, pkru: 0 });
        if let Ok(gpa) = result {
            prop_assert_eq!(gpa.0 & 0xFFF, gva & 0xFFF);
        }
        let mut bytes = [0; 15];
        if let Ok(count) = fetch(&ram, &state, gva, user, &mut bytes) {
            prop_assert!((1..=15).contains(&count));
        }
    }
}
