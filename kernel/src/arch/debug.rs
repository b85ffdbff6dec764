//! CR2 and the debug registers of a guest: the host uses neither, so they stay in the hardware while its
//! vCPU is live. DR7 is in the VMCS.

use core::arch::asm;

/// CR2, then DR0 to DR3 and DR6.
pub(crate) fn save() -> (u64, [u64; 5]) {
    let (cr2, mut d): (u64, [u64; 5]) = (read_cr2(), [0; 5]);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", "mov {}, dr6",
            out(reg) d[0], out(reg) d[1], out(reg) d[2], out(reg) d[3], out(reg) d[4], options(nomem, nostack));
    }
    (cr2, d)
}

/// Loads what [`save`] returned.
pub(crate) fn load(cr2: u64, d: &[u64; 5]) {
    // bits above 31 of DR6 give #GP; a value from the wire must not reach them
    let dr6 = d[4] & 0xffff_ffff;
    // SAFETY: the host's DR7 is 0, so no breakpoint can hit it; nothing of the host reads CR2 but a fault.
    unsafe {
        asm!("mov cr2, {}", in(reg) cr2, options(nomem, nostack));
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}",
            in(reg) d[0], in(reg) d[1], in(reg) d[2], in(reg) d[3], in(reg) dr6, options(nomem, nostack));
    }
}

fn read_cr2() -> u64 {
    let cr2: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack)) };
    cr2
}

/// Sets CR2: a #PF is about to be injected.
pub(crate) fn set_cr2(linear: u64) {
    // SAFETY: nothing of the host reads CR2 but a fault, which sets it.
    unsafe { asm!("mov cr2, {}", in(reg) linear, options(nomem, nostack)) };
}

/// DR6, which is the guest's.
pub(crate) fn dr6() -> u64 {
    let dr6: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, dr6", out(reg) dr6, options(nomem, nostack)) };
    dr6
}

/// Sets DR6.
pub(crate) fn set_dr6(value: u64) {
    // SAFETY: as for `load`.
    unsafe { asm!("mov dr6, {}", in(reg) value & 0xffff_ffff, options(nomem, nostack)) };
}
