//! Instructions that may fault, and where to go on when they do.
//!
//! Inline assembly puts a pair of addresses (may fault, go on) into section `.fixup`.

use core::arch::asm;
use core::slice;

unsafe extern "C" {
    static __fixup_start: [u64; 2];
    static __fixup_end: [u64; 2];
}

/// Where to go on after a fault at `rip`, if the code there expects one.
pub(crate) fn find(rip: u64) -> Option<u64> {
    let start = (&raw const __fixup_start).addr();
    let count = ((&raw const __fixup_end).addr() - start) / 16;
    // SAFETY: the linker script puts the two symbols around the pairs, which nothing writes.
    let table = unsafe { slice::from_raw_parts(&raw const __fixup_start, count) };
    table.iter().find(|pair| pair[0] == rip).map(|pair| pair[1])
}

/// Reads a word of the hypervisor's own address space; `None` where nothing is mapped.
pub(crate) fn probe(address: u64) -> Option<u64> {
    let value: u64;
    let mut ok = 0_u32;
    // SAFETY: only reads; a fault at label 2 is resumed at label 3 by the fix-up table, with `ok` still 0.
    unsafe {
        asm!("2: mov {value}, [{address}]", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            address = in(reg) address, value = out(reg) value, ok = inout(reg) ok, options(nostack, readonly));
    }
    (ok != 0).then_some(value)
}
