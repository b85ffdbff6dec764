//! The state of a vCPU from another host.

use vmx_types::paging::Limits;
use vmx_types::state::{SegmentState, VcpuState};

const LIMITS: Limits = Limits { unrestricted: false, cr4: 0x0034_07ff, efer: 0xd01, phys_bits: 40 };
const XCR0: u64 = 7;
const SPEC_CTRL: u64 = 7;

/// The body of a `vcpu` record. What is accepted travels on as it is.
pub fn state(data: &[u8]) {
    let Ok(state) = VcpuState::from_bytes(data) else { return };
    if state.check(&LIMITS, XCR0, SPEC_CTRL).is_ok() {
        assert_eq!(VcpuState::from_bytes(&state.to_bytes()).as_ref(), Ok(&state));
    }
}

/// A guest in 64-bit mode with AVX state.
pub(crate) fn seed() -> Vec<u8> {
    let data = SegmentState { selector: 0x18, base: 0, limit: u32::MAX, rights: 0xc093 };
    let code = SegmentState { selector: 0x10, base: 0, limit: u32::MAX, rights: 0xa09b };
    let ldtr = SegmentState { selector: 0, base: 0, limit: 0, rights: 0x1_0000 };
    let tr = SegmentState { selector: 0x40, base: 0xffff_fe00_0000_3000, limit: 0x206f, rights: 0x8b };
    let mut xsave = vec![0; 832];
    xsave[..2].copy_from_slice(&0x037f_u16.to_le_bytes());
    xsave[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    xsave[512] = 7;
    xsave[576..].fill(0x5a);
    let state = VcpuState {
        rip: 0xffff_ffff_8100_0000,
        rflags: 0x202,
        cr0: 0x8005_0033,
        cr3: 0x100_0000,
        cr4: 0x20,
        efer: 0xd01,
        xcr0: XCR0,
        segments: [data, code, data, data, data, data, ldtr, tr],
        debug: [0, 0, 0, 0, 0xffff_0ff0],
        dr7: 0x400,
        pat: 0x0007_0406_0007_0406,
        spec_ctrl: Some(1),
        xsave,
        ..VcpuState::default()
    };
    assert_eq!(state.check(&LIMITS, XCR0, SPEC_CTRL), Ok(()));
    state.to_bytes()
}
