//! FPU, SSE and AVX state: a guest's is saved and loaded here when its vCPU changes CPU or host. `vector.rs` borrows
//! the registers for the length of a call; everything else of the host is built without those instructions, so a
//! guest's state stays in the registers across exits.

use core::arch::asm;
use spin::Once;

/// Bytes kept for a vCPU: standard-format XSAVE of every component up to PKRU fits in 2696.
pub(crate) const AREA: usize = 4096;

/// An XSAVE area in standard format (SDM volume 1, 13.4).
#[repr(C, align(4096))]
pub(crate) struct Area(pub(crate) [u8; AREA]);

/// XCR0: x87 and SSE.
const X87_SSE: u64 = 3;

/// True where this host has XSAVE on.
fn has_xsave() -> bool {
    let cr4: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    cr4 & 1 << 18 != 0
}

/// Writes XCR0.
pub(crate) fn set_xcr0(value: u64) {
    // SAFETY: callers pass values that the policy allows and the host has; XCR0 matters to guests only.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack));
    }
}

/// Reads XCR0 of a host that has XSAVE on.
pub(super) fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers know that XSAVE is on.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}

/// Stores the registers of the components `allowed` (an XCR0 value; 0 for a level without XSAVE).
pub(crate) fn save(area: &mut Area, allowed: u64) {
    let to = area.0.as_mut_ptr();
    // SAFETY: CR0.TS and EM are clear in the host; the area is a 4 KiB page, aligned, and large enough for
    // all components that a policy may allow.
    unsafe {
        if allowed != 0 && has_xsave() {
            set_xcr0(allowed);
            asm!("xsave64 [{}]", in(reg) to, in("eax") allowed as u32, in("edx") (allowed >> 32) as u32,
                options(nostack));
        } else {
            asm!("fxsave64 [{}]", in(reg) to, options(nostack));
        }
    }
}

/// A guest's PKRU. `allowed` and `xcr0` are its components, as for [`load`]; PKRU is not among them on a level without.
pub(crate) fn pkru(allowed: u64, xcr0: u64) -> u32 {
    /// Legacy region, header, and the one component behind them in compacted form.
    #[repr(C, align(64))]
    struct Compacted {
        legacy: [u64; 64],
        in_use: u64,
        header: [u64; 7],
        pkru: u64,
    }
    const PKRU: u64 = 1 << 9;
    if allowed & PKRU == 0 {
        return 0;
    }
    let mut area = Compacted { legacy: [0; 64], in_use: 0, header: [0; 7], pkru: 0 };
    set_xcr0(allowed);
    // SAFETY: PKRU alone is stored, 8 bytes after the header; every CPU with protection keys has XSAVEC.
    unsafe {
        asm!("xsavec64 [{}]", in(reg) &raw mut area, in("eax") PKRU as u32, in("edx") 0, options(nostack));
    }
    set_xcr0(xcr0);
    // In its initial state it is not stored.
    if area.in_use & PKRU == 0 { 0 } else { area.pkru as u32 }
}

/// The components that this host has; 0 without XSAVE.
pub(super) fn components() -> u64 {
    static COMPONENTS: Once<u64> = Once::new();
    *COMPONENTS.call_once(|| {
        if !has_xsave() {
            return 0;
        }
        let leaf = core::arch::x86_64::__cpuid_count(0xd, 0);
        u64::from(leaf.eax) | u64::from(leaf.edx) << 32
    })
}

/// Puts every component but x87, SSE and those `allowed` into its initial state: a guest starts with nothing of
/// another one's in them, PKRU above all.
fn init_others(allowed: u64) {
    /// 576 bytes with a header that says that all is in its initial state.
    #[repr(align(64))]
    struct Blank([u8; 576]);
    static BLANK: Blank = Blank([0; 576]);
    let others = components() & !allowed & !X87_SSE;
    if others == 0 {
        return;
    }
    set_xcr0(components());
    // SAFETY: only components that CPUID.D enumerates, and of the area no more than legacy region and header is
    // read, since XSTATE_BV is 0.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) BLANK.0.as_ptr(), in("eax") others as u32,
            in("edx") (others >> 32) as u32, options(nostack));
    }
}

/// Loads what [`save`] stored, then the guest's own XCR0. What is not allowed is put into its initial state.
pub(crate) fn load(area: &Area, allowed: u64, xcr0: u64) {
    init_others(allowed);
    let from = area.0.as_ptr();
    // SAFETY: as for `save`; the area holds what `save` or a checked import wrote, so nothing of it is reserved.
    unsafe {
        if allowed != 0 && has_xsave() {
            set_xcr0(allowed);
            asm!("xrstor64 [{}]", in(reg) from, in("eax") allowed as u32, in("edx") (allowed >> 32) as u32,
                options(nostack));
            set_xcr0(xcr0);
        } else {
            if has_xsave() {
                set_xcr0(X87_SSE);
            }
            asm!("fxrstor64 [{}]", in(reg) from, options(nostack));
        }
    }
}
