//! The symbols that assembly and the compiler call.

use core::panic::PanicInfo;

use super::Hooks;
use crate::arch::cpu::PerCpu;
use crate::arch::fixup;
use crate::arch::idt::{MACHINE_CHECK, NMI};
use crate::arch::trap::TrapFrame;
use crate::platform::{irq, smp};

unsafe extern "Rust" {
    /// [`image!`](crate::image)'s.
    safe static FLEXVISOR_HOOKS: Hooks;
}

// SAFETY: the only definition of this symbol; the loader calls it once, with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, info: u32) -> ! {
    (FLEXVISOR_HOOKS.boot)(magic, info)
}

// SAFETY: the only definition of this symbol; `trampoline.s` calls it with the C calling convention, on the stack of
// `cpu`. Where it returns, the CPU halts for good.
#[unsafe(no_mangle)]
extern "C" fn ap_main(cpu: &'static PerCpu) {
    if smp::arrive(cpu) {
        (FLEXVISOR_HOOKS.another_cpu)(cpu.index)
    }
}

// SAFETY: the only definition of this symbol; `traps.s` calls it with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn trap_handler(frame: &mut TrapFrame) {
    match frame.vector {
        NMI => (FLEXVISOR_HOOKS.nmi)(frame),
        MACHINE_CHECK => (FLEXVISOR_HOOKS.machine_check)(frame),
        0..32 => match fixup::find(frame.rip) {
            Some(resume) => frame.rip = resume,
            None => (FLEXVISOR_HOOKS.exception)(frame),
        },
        vector => irq::dispatch(vector as u8),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    (FLEXVISOR_HOOKS.panic)(info)
}
