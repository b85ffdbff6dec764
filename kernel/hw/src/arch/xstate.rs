//! FPU, SSE and AVX state: a guest's is saved and loaded here when its vCPU changes CPU or host. `vector.rs` borrows
//! the registers for the length of a call; everything else of the host is built without those instructions, so a
//! guest's state stays in the registers across exits.

use spin::Once;

use super::{cpu, insn};

/// Bytes kept for a vCPU: standard-format XSAVE of every component up to PKRU fits in 2696.
pub const AREA: usize = 4096;

/// An XSAVE area in standard format (SDM volume 1, 13.4).
#[repr(C, align(4096))]
pub struct Area(pub [u8; AREA]);

/// XCR0: x87 and SSE.
const X87_SSE: u64 = 3;

/// True where this host has XSAVE on.
fn has_xsave() -> bool {
    insn::cr4() & 1 << 18 != 0
}

/// Writes XCR0: a value that the policy allows, and the host has.
pub fn set_xcr0(value: u64) {
    insn::set_xcr0(value);
}

/// XCR0, of a host that has XSAVE on.
pub(super) fn xcr0() -> u64 {
    insn::xcr0()
}

/// Stores the registers of the components `allowed` (an XCR0 value; 0 for a level without XSAVE).
pub fn save(area: &mut Area, allowed: u64) {
    let to = area.0.as_mut_ptr();
    // SAFETY: CR0.TS and EM are clear in the host; the area is a 4 KiB page, aligned, and large enough for
    // all components that a policy may allow.
    unsafe {
        if allowed != 0 && has_xsave() {
            set_xcr0(allowed);
            insn::xsave(to, allowed);
        } else {
            insn::fxsave(to);
        }
    }
}

/// A guest's PKRU. `allowed` and `xcr0` are its components, as for [`load`]; PKRU is not among them on a level without.
pub fn pkru(allowed: u64, xcr0: u64) -> u32 {
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
    unsafe { insn::xsavec((&raw mut area).cast(), PKRU) };
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
        let [low, _, _, high] = cpu::cpuid(0xd, 0);
        u64::from(low) | u64::from(high) << 32
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
    unsafe { insn::xrstor(BLANK.0.as_ptr(), others) };
}

/// Loads what [`save`] stored, then the guest's own XCR0. What is not allowed is put into its initial state.
pub fn load(area: &Area, allowed: u64, xcr0: u64) {
    init_others(allowed);
    let from = area.0.as_ptr();
    // SAFETY: as for `save`; the area holds what `save` or a checked import wrote, so nothing of it is reserved.
    unsafe {
        if allowed != 0 && has_xsave() {
            set_xcr0(allowed);
            insn::xrstor(from, allowed);
            set_xcr0(xcr0);
        } else {
            if has_xsave() {
                set_xcr0(X87_SSE);
            }
            insn::fxrstor(from);
        }
    }
}
