//! The registers at an exception, and how they are printed.

use core::fmt;

use super::idt::{DOUBLE_FAULT, PAGE_FAULT};
use super::{cpu, insn};

/// The registers at an exception or interrupt, as `traps.s` leaves them on the stack.
#[repr(C)]
#[derive(Debug)]
pub struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    /// The frame pointer.
    pub rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    /// The number of the exception or interrupt.
    pub vector: u64,
    error: u64,
    /// Where it came.
    pub rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
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
        let (cr0, cr2, cr3, cr4) = (insn::cr0(), insn::cr2(), insn::cr3(), insn::cr4());
        if matches!(self.vector, PAGE_FAULT | DOUBLE_FAULT)
            && let Some(stack) = cpu::try_this().and_then(|this| this.stacks.guard_at(cr2))
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
