//! Patching the hypervisor's own code, at boot only.

use core::ptr;

use super::insn;

/// Overwrites code.
///
/// # Safety
/// `site` is code of ours that no CPU executes meanwhile, and the new bytes are whole instructions there.
pub(crate) unsafe fn patch(site: *const u8, bytes: &[u8]) {
    const WRITE_PROTECT: u64 = 1 << 16;
    // SAFETY: with CR0.WP clear the supervisor may write the read-only text; interrupts are off during boot. CPUID
    // serialises, so that the new bytes are fetched (SDM 8.1.3).
    unsafe {
        let cr0 = insn::cr0();
        insn::set_cr0(cr0 & !WRITE_PROTECT);
        ptr::copy_nonoverlapping(bytes.as_ptr(), site.cast_mut(), bytes.len());
        insn::set_cr0(cr0);
    }
    insn::cpuid(0, 0);
}
