//! CR2 and the debug registers of a guest: the host uses neither, so they stay in the hardware while its
//! vCPU is live. DR7 is in the VMCS.

use super::insn;

/// CR2, then DR0 to DR3 and DR6.
pub fn save() -> (u64, [u64; 5]) {
    (insn::cr2(), [insn::dr0(), insn::dr1(), insn::dr2(), insn::dr3(), insn::dr6()])
}

/// Loads what [`save`] returned.
pub fn load(cr2: u64, d: &[u64; 5]) {
    set_cr2(cr2);
    // SAFETY: the host's DR7 is 0, so no breakpoint can hit it.
    unsafe {
        insn::set_dr0(d[0]);
        insn::set_dr1(d[1]);
        insn::set_dr2(d[2]);
        insn::set_dr3(d[3]);
    }
    set_dr6(d[4]);
}

/// Sets CR2: a #PF is about to be injected.
pub fn set_cr2(linear: u64) {
    // SAFETY: nothing of the host reads CR2 but a fault, which sets it.
    unsafe { insn::set_cr2(linear) };
}

/// DR6, which is the guest's.
pub fn dr6() -> u64 {
    insn::dr6()
}

/// Sets DR6. Bits above 31 give #GP; a value from the wire must not reach them.
pub fn set_dr6(value: u64) {
    // SAFETY: as for `load`.
    unsafe { insn::set_dr6(value & 0xffff_ffff) };
}
