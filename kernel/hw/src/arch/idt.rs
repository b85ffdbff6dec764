//! The interrupt descriptor table: each gate leads to a stub of `traps.s`, and that to `trap_handler`.

use spin::Once;

use super::gdt::{CODE, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI};
use super::{insn, link};

pub(crate) const NMI: u64 = 2;
pub(super) const DOUBLE_FAULT: u64 = 8;
pub(super) const PAGE_FAULT: u64 = 14;
pub(crate) const MACHINE_CHECK: u64 = 18;

#[repr(C, align(16))]
struct Table([[u64; 2]; 256]);

static TABLE: Once<Table> = Once::new();

/// Builds the table at the first call and loads it on this CPU.
pub(super) fn load() {
    let table = TABLE.call_once(|| {
        let stubs = link::stubs();
        let mut table = Table([[0; 2]; 256]);
        for (vector, entry) in (0_u64..).zip(&mut table.0) {
            let ist = match vector {
                DOUBLE_FAULT => IST_DOUBLE_FAULT,
                NMI => IST_NMI,
                MACHINE_CHECK => IST_MACHINE_CHECK,
                _ => 0,
            };
            let stub = stubs + vector * 16;
            // Present interrupt gate, DPL 0 (SDM 3A 6.14.1).
            entry[0] = stub & 0xffff
                | u64::from(CODE) << 16
                | u64::from(ist) << 32
                | 0x8e << 40
                | (stub >> 16 & 0xffff) << 48;
            entry[1] = stub >> 32;
        }
        table
    });
    // SAFETY: the table is static, and each gate leads to a stub that builds a TrapFrame.
    unsafe { insn::lidt(core::ptr::from_ref(table) as u64, size_of::<Table>()) };
}

/// Resets the CPU, and with it the machine.
pub fn triple_fault() -> ! {
    // SAFETY: an empty table: the exception that follows has no gate, nor has the double fault.
    unsafe { insn::lidt(0, 1) };
    insn::ud2()
}
