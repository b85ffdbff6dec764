//! CPUID and MSRs of a CPU, from the text that `flexctl` writes.

extern crate std;

use std::collections::HashMap;

use x86::msr;

type Cpuid = HashMap<(u32, u32), [u32; 4]>;

/// Registers that any CPU has and no dump tells, with their values after reset.
const USUAL: [(u32, u64); 19] = [
    (msr::APIC_BASE, 0xfee0_0900),
    (msr::EFER, 0x500),
    (msr::PAT, 0x0007_0406_0007_0406),
    (msr::STAR, 0),
    (msr::LSTAR, 0),
    (msr::CSTAR, 0),
    (msr::FMASK, 0),
    (msr::FS_BASE, 0),
    (msr::GS_BASE, 0),
    (msr::KERNEL_GS_BASE, 0),
    (msr::TSC_AUX, 0),
    (msr::SPEC_CTRL, 0),
    (msr::TSX_CTRL, 0),
    (0x3b, 0),
    (0x140, 0),
    (0x174, 0),
    (0x175, 0),
    (0x176, 0),
    (0x179, 0),
];

/// Registers of the local APIC in x2APIC mode.
const X2APIC: core::ops::Range<u32> = 0x800..0x840;

/// # Panics
/// Names a line that says nothing of the kind.
pub(super) fn parse(text: &str) -> (Cpuid, HashMap<u32, u64>) {
    let mut msrs: HashMap<u32, u64> = USUAL.into_iter().chain(X2APIC.map(|msr| (msr, 0))).collect();
    let mut cpuid = Cpuid::new();
    let hex = |word: &str| u64::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{word} is no number"));
    for line in text.lines() {
        let words: alloc::vec::Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cpuid", at, a, b, c, d] => {
                let (leaf, subleaf) = at.split_once('.').unwrap_or((at, "0"));
                let registers = [a, b, c, d].map(|word| hex(word) as u32);
                cpuid.insert((hex(leaf) as u32, hex(subleaf) as u32), registers);
            }
            ["msr", at, value] => {
                msrs.insert(hex(at) as u32, hex(value));
            }
            ["flexvisor-cpu" | "host" | "tsc" | "end", ..] | [] => {}
            _ => panic!("`{line}` is no line of a dump"),
        }
    }
    (cpuid, msrs)
}
