//! Where the machine comes in: the loader with the bootstrap CPU, `platform/trampoline.s` with the others, `arch/traps.s`
//! with exceptions and interrupts, the compiler with a panic. Each ends in a hook of the kernel's: the only way up.

use core::panic::PanicInfo;

use crate::arch::trap::TrapFrame;

/// What the kernel does when the machine comes in. [`image!`](crate::image) hands them over.
#[derive(Debug)]
pub struct Hooks {
    /// The bootstrap CPU, in long mode on the boot stack: what the boot loader left in EAX and EBX.
    pub boot: fn(u32, u32) -> !,
    /// Another CPU, ready to run: its index.
    pub another_cpu: fn(usize) -> !,
    /// An NMI. It may have come in any place, with any lock held.
    pub nmi: fn(&TrapFrame),
    /// A machine check. As for an NMI; where it returns, the CPU goes on.
    pub machine_check: fn(&TrapFrame),
    /// An exception that no code of ours expects.
    pub exception: fn(&TrapFrame) -> !,
    /// A panic.
    pub panic: fn(&PanicInfo<'_>) -> !,
}

#[cfg(target_os = "none")]
mod entry;
