//! Where assembly comes in: the loader with the bootstrap CPU, `platform/trampoline.s` with the others, `arch/traps.s` with
//! exceptions and interrupts. These symbols are all that the rooms below call of those above them.

use bring_up::mce::{Context, Verdict};

use crate::arch::cpu::PerCpu;
use crate::arch::fixup;
use crate::arch::idt::{MACHINE_CHECK, NMI};
use crate::arch::trap::TrapFrame;
use crate::platform::{irq, smp};
use crate::{machine, panic, start};

// SAFETY: the only definition of this symbol; the loader calls it once, with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, info: u32) -> ! {
    crate::main(magic, info)
}

// SAFETY: the only definition of this symbol; `trampoline.s` calls it with the C calling convention, on the stack of
// `cpu`. Where it returns, the CPU halts for good.
#[unsafe(no_mangle)]
extern "C" fn ap_main(cpu: &'static PerCpu) {
    if smp::arrive(cpu) {
        start::ap(cpu.index)
    }
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
