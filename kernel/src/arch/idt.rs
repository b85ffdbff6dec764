//! The interrupt descriptor table and what the CPU's exceptions do: print and panic, unless the code expected one.

use core::arch::{asm, global_asm};
use core::fmt;

use bring_up::mce::{Context, Verdict};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::gdt::{CODE, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI};
use super::{fixup, irq};
use crate::{machine, panic};

global_asm!(include_str!("traps.s"), options(att_syntax));

unsafe extern "C" {
    static trap_stubs: [u8; 16 * 256];
}

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// The registers at an exception or interrupt, as `traps.s` leaves them on the stack.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    pub(crate) rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    pub(crate) vector: u64,
    error: u64,
    pub(crate) rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

#[repr(C, align(16))]
struct Table([[u64; 2]; 256]);

static TABLE: Once<Table> = Once::new();

/// Builds the table at the first call and loads it on this CPU.
pub(super) fn load() {
    let table = TABLE.call_once(|| {
        let stubs = (&raw const trap_stubs).addr() as u64;
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
    let base = VirtAddr::new(core::ptr::from_ref(table) as u64);
    // SAFETY: the table is static, and each gate leads to a stub that builds a TrapFrame.
    unsafe { lidt(&DescriptorTablePointer { limit: 256 * 16 - 1, base }) };
}

// SAFETY: the only definition of this symbol; `traps.s` calls it with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn trap_handler(frame: &mut TrapFrame) {
    match frame.vector {
        NMI => panic::nmi(frame),
        MACHINE_CHECK if machine::check(Context::Host) != Verdict::StopHost => {}
        MACHINE_CHECK => panic::exception(frame),
        0..32 => match fixup::find(frame.rip) {
            Some(resume) => frame.rip = resume,
            None => panic::exception(frame),
        },
        vector => irq::dispatch(vector as u8),
    }
}

fn name(vector: u64) -> &'static str {
    const NAMES: [&str; 22] = [
        "#DE divide error",
        "#DB debug",
        "NMI",
        "#BP breakpoint",
        "#OF overflow",
        "#BR bound range",
        "#UD invalid opcode",
        "#NM no FPU",
        "#DF double fault",
        "vector 9",
        "#TS invalid TSS",
        "#NP segment not present",
        "#SS stack fault",
        "#GP general protection",
        "#PF page fault",
        "vector 15",
        "#MF x87 error",
        "#AC alignment check",
        "#MC machine check",
        "#XM SIMD error",
        "#VE virtualization exception",
        "#CP control protection",
    ];
    NAMES.get(vector as usize).copied().unwrap_or("reserved vector")
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (vector {}, error code {:#x})", name(self.vector), self.vector, self.error)?;
        let (cr0, cr2, cr3, cr4): (u64, u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!("mov {}, cr0", "mov {}, cr2", "mov {}, cr3", "mov {}, cr4",
                out(reg) cr0, out(reg) cr2, out(reg) cr3, out(reg) cr4, options(nomem, nostack));
        }
        if matches!(self.vector, PAGE_FAULT | DOUBLE_FAULT)
            && let Some(stack) = super::stack::guard_at(cr2)
        {
            writeln!(f, "  the {stack} stack has run over: {cr2:#x} is its guard page")?;
        }
        writeln!(f, "  rip {:016x} cs  {:04x}  rflags {:08x}", self.rip, self.cs, self.rflags)?;
        writeln!(f, "  rsp {:016x} ss  {:04x}", self.rsp, self.ss)?;
        for row in [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx), ("rdx", self.rdx)],
            [("rsi", self.rsi), ("rdi", self.rdi), ("rbp", self.rbp), ("r8 ", self.r8)],
            [("r9 ", self.r9), ("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15), ("cr0", cr0)],
        ] {
            for (name, value) in row {
                write!(f, "  {name} {value:016x}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  cr2 {cr2:016x}  cr3 {cr3:016x}  cr4 {cr4:016x}")
    }
}
