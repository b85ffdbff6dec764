//! CPUID faulting: every entry of a table is marked, and none of its answers changes.

mod common;

use common::*;
use cpu_policy::LEVELS;

#[test]
fn every_answer_is_marked_and_none_changes() {
    let leaves = (0..0x24).chain(0x4000_0000..0x4000_0014).chain(0x8000_0000..0x8000_000a);
    let inputs: Vec<(u32, u32)> = leaves
        .chain([0x1234_5678, 0x7fff_ffff, 0xc000_0000, u32::MAX])
        .flat_map(|leaf| [0, 1, 2, 5, 9, 63, u32::MAX].map(|subleaf| (leaf, subleaf)))
        .collect();
    for level in LEVELS {
        let plain = render(level.name).table().clone();
        let mut table = plain.clone();
        assert!(!table.is_faulting());
        table.set_faulting(true);
        assert!(table.is_faulting());
        for (leaf, subleaf) in &inputs {
            let (was, is) = (plain.lookup(*leaf, *subleaf), table.lookup(*leaf, *subleaf));
            assert!(is.faults() && is.is_dynamic() && !was.faults(), "{leaf:#x}.{subleaf}");
            for cr4 in [0, 1 << 18 | 1 << 22] {
                let state = cpu_policy::Dynamic { apic_id: 3, cr4, xcr0: 7 };
                assert_eq!(is.fixed(*subleaf, &state), was.fixed(*subleaf, &state), "{leaf:#x}.{subleaf}");
            }
        }
        table.set_faulting(false);
        assert_eq!(table, plain);
    }
}
