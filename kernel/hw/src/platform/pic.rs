//! The two 8259s, which are masked: the hypervisor takes no interrupt of theirs.

use core::ops::Range;

use crate::arch::io;

/// Where they deliver their spurious interrupts all the same; the local APIC knows nothing of them.
pub(super) const VECTORS: Range<u8> = BASE..BASE + 16;
const BASE: u8 = 0x20;

/// Masks both 8259s, and moves what they may still say spuriously out of the exceptions' way.
pub(super) fn silence() {
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11), // ICW1: initialise, ICW4 follows
        (0x21, BASE),
        (0xa1, BASE + 8),
        (0x21, 4),
        (0xa1, 2), // cascade on IRQ 2
        (0x21, 1),
        (0xa1, 1), // 8086 mode
        (0x21, 0xff),
        (0xa1, 0xff),
    ] {
        io::outb(port, value);
    }
}
