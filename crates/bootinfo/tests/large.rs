//! Memory maps of large machines, and of firmware that gets them wrong.

use bootinfo::{BootInfo, Builder, MAX_REGIONS, MULTIBOOT2_MAGIC, RegionKind};
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const PAGE: u64 = 4096;
const AT: u64 = 0x9000;

/// What a boot loader with this map hands over: start, length, kind.
fn boot(map: &[(u64, u64, u32)]) -> BootInfo {
    let mut block = vec![0; 256 + map.len() * 24];
    let mut builder = Builder::new(&mut block);
    builder.memory_map(map.iter().map(|&(start, len, kind)| (start, len, RegionKind::from(kind))));
    assert!(!builder.is_full());
    builder.finish();
    let memory = |address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(AT)?).ok()?;
        block.get(at..at.checked_add(len)?)
    };
    BootInfo::parse(MULTIBOOT2_MAGIC, AT, &memory).unwrap()
}

/// A machine with `sockets` nodes of `node` bytes each, the first of which has the hole below 4 GiB.
fn machine(sockets: u64, node: u64) -> Vec<(u64, u64, u32)> {
    let mut map = vec![(0, 0x9_f000, 1), (0x9_f000, 0x1000, 2), (0x10_0000, 2 * GIB - 0x10_0000, 1)];
    map.extend([(2 * GIB, GIB / 2, 2), (0xfec0_0000, 0x40_0000, 2)]);
    for i in 0..sockets {
        let start = 4 * GIB + i * node;
        let len = if i == 0 { node - 2 * GIB } else { node };
        // Each node keeps 64 MiB at its end for itself.
        map.extend([(start, len, 1), (start + len - (64 << 20), 64 << 20, 2)]);
    }
    map
}

#[test]
fn all_of_large_machines_is_seen() {
    for (sockets, node) in [(2, TIB / 2), (8, 6 * TIB / 8), (64, TIB)] {
        let map = machine(sockets, node);
        let mut info = boot(&map);
        let total = sockets * node - (64 << 20) * sockets - 0x10_0000 + 0x9_f000;
        assert_eq!(info.usable(PAGE).total(), total);
        assert!(info.usable(PAGE).ranges().len() <= map.len());
        assert_eq!(info.cut_above(1 << 47).usable, 0);
        // A CPU with 40 address bits reaches 1 TiB of it.
        let cut = info.cut_above(TIB);
        assert_eq!(cut.usable + info.usable(PAGE).total(), total);
        assert!(info.usable(PAGE).ranges().iter().all(|range| range.1 <= TIB));
    }
}

#[test]
fn a_map_with_too_many_entries_loses_ram_only() {
    let mut map: Vec<_> = (0..MAX_REGIONS as u64 + 50).map(|i| (i * 2 * GIB, GIB, 1)).collect();
    map.push((GIB / 2, GIB / 4, 2));
    let info = boot(&map);
    assert_eq!(info.memory.len(), MAX_REGIONS);
    assert_eq!(info.memory.iter().filter(|r| r.kind == RegionKind::Reserved).count(), 1);
    assert!(!info.usable(PAGE).overlaps(GIB / 2, GIB / 2 + GIB / 4));
    assert!(info.usable(PAGE).contains(0, GIB / 2));
}

#[test]
fn entries_at_the_end_of_the_address_space_are_cut() {
    let mut info =
        boot(&[(0, GIB, 1), (u64::MAX - GIB, u64::MAX, 1), (u64::MAX - PAGE, PAGE, 3), (1 << 47, GIB, 1)]);
    let cut = info.cut_above(1 << 47);
    assert_eq!((info.memory.len(), info.usable(PAGE).ranges()), (1, &[(0, GIB)][..]));
    // A module of 4 GiB and above cannot be in the map.
    assert!(cut.usable > GIB && cut.modules == 0);
}

/// Entries in any order, overlapping, empty, not on page boundaries, in an address space of `top` bytes.
fn any_map(top: u64) -> impl Strategy<Value = Vec<(u64, u64, u32)>> {
    let start = prop_oneof![0..top, (0..top / GIB).prop_map(|at| at * GIB), 0..16 * PAGE];
    let len = prop_oneof![Just(0), 1..4 * PAGE, 1..4 * GIB, (1..top / GIB).prop_map(|len| len * GIB)];
    prop::collection::vec((start, len, 1..=5_u32), 1..300)
}

proptest! {
    #[test]
    fn what_is_usable_is_ram_and_nothing_else(
        map in prop_oneof![any_map(TIB), any_map(6 * TIB), any_map(64 * TIB)],
        probes in prop::collection::vec((0..300_usize, 0..8_u64), 40),
    ) {
        prop_assume!(map.iter().any(|&(_, len, kind)| len > 0 && kind == 1));
        let mut info = boot(&map);
        info.cut_above(1 << 47);
        let usable = info.usable(PAGE);
        prop_assert!(usable.ranges().windows(2).all(|pair| pair[0].1 < pair[1].0));
        for (entry, offset) in probes {
            // Around the borders of the entries, where errors are.
            let (start, len, _) = map[entry % map.len()];
            let border = if offset % 2 == 0 { start } else { start.saturating_add(len) };
            let page = (border / PAGE + offset / 2).saturating_sub(2) * PAGE;
            let end = page + PAGE;
            let claimed = map.iter().any(|&(s, l, kind)| kind != 1 && l > 0 && s < end && page < s.saturating_add(l));
            let whole = map.iter().any(|&(s, l, kind)| kind == 1 && s <= page && end <= s.saturating_add(l));
            let touched = map.iter().any(|&(s, l, kind)| kind == 1 && s < end && page < s.saturating_add(l));
            let found = usable.contains(page, end);
            if end <= 1 << 47 {
                prop_assert!(!found || touched && !claimed, "{page:#x} is taken for RAM");
                prop_assert!(found || claimed || !whole, "{page:#x} is RAM that is not seen");
            }
        }
    }
}
