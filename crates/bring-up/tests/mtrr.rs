//! Memory types over a model of the registers.

use bring_up::mtrr::{Msrs, Mtrrs};
use std::collections::BTreeMap;

const WRITE_BACK: u64 = 6;
const ENABLE: u64 = 1 << 11;
const VALID: u64 = 1 << 11;

struct Cpu {
    registers: BTreeMap<u32, u64>,
}

impl Cpu {
    /// After a reset, but for those given: MTRRs off (SDM table 10-1).
    fn with(registers: &[(u32, u64)]) -> Self {
        let mut all = BTreeMap::from([(0xfe, 8 | 1 << 8), (0x2ff, 0)]);
        all.extend(registers.iter().copied());
        Self { registers: all }
    }

    /// 4 GiB of RAM write-back but for the last, which is uncached; the fixed ranges write-back, 0xa0000 to 0xbffff uncached.
    fn server() -> Self {
        let mask = |len: u64| ((1 << 46) - len) & !0xfff | VALID;
        let all = WRITE_BACK * 0x0101_0101_0101_0101;
        let mut registers = vec![
            (0x2ff, ENABLE | 1 << 10),
            (0x200, WRITE_BACK),
            (0x201, mask(4 << 30)),
            (0x202, 0xc000_0000),
            (0x203, mask(1 << 30)),
        ];
        registers.extend([0x250, 0x258].map(|msr| (msr, all)));
        registers.extend((0x268..0x270).map(|msr| (msr, all)));
        Self::with(&registers)
    }
}

impl Msrs for Cpu {
    fn read(&mut self, msr: u32) -> u64 {
        self.registers.get(&msr).copied().unwrap_or(0)
    }

    fn write(&mut self, msr: u32, value: u64) {
        let on = self.registers[&0x2ff] & ENABLE != 0;
        assert!(msr == 0x2ff || !on, "{msr:#x} is written while MTRRs are on");
        self.registers.insert(msr, value);
    }
}

/// Fault 2.21: MTRRs of other CPUs were taken as found.
#[test]
fn a_cpu_gets_the_first_ones() {
    let mut first = Cpu::server();
    let mut other = Cpu::with(&[(0x2ff, ENABLE | 6), (0x206, 0x1234_0000), (0x207, VALID)]);
    let wanted = Mtrrs::read(&mut first);
    assert_ne!(Mtrrs::read(&mut other), wanted);
    wanted.load(&mut other);
    assert_eq!(Mtrrs::read(&mut other), wanted);
}

#[test]
fn types_are_those_of_the_sdm() {
    let mtrrs = Mtrrs::read(&mut Cpu::server());
    for (at, kind) in [
        (0, 6),
        (0x7_f000, 6),
        (0x9_f000, 6),
        (0xa_0000, 0),
        (0xb_f000, 0),
        (0xc_0000, 6),
        (0xf_f000, 6),
        (0x10_0000, 6),
        (0xbfff_f000, 6),
        (0xc000_0000, 0),
        (0x1_0000_0000, 0),
    ] {
        assert_eq!(mtrrs.page_type(at, 46), Some(kind), "{at:#x}");
    }
    assert_eq!(Mtrrs::read(&mut Cpu::with(&[])).page_type(0x10_0000, 46), Some(0), "off: all is uncached");
}

#[test]
fn ram_that_is_not_write_back_is_found() {
    let mtrrs = Mtrrs::read(&mut Cpu::server());
    assert_eq!(mtrrs.not_write_back(0x10_0000, 0xc000_0000, 46), None);
    // A DIMM more, and firmware that ran out of ranges.
    assert_eq!(mtrrs.not_write_back(0x1_0000_0000, 0x2_0000_0000, 46), Some((0x1_0000_0000, Some(0))));
}
