//! What INIT and a start-up IPI make of a vCPU (SDM vol. 3, 9.1.1 and 9.4.4).

use crate::paging::{CR0_CD, CR0_ET, CR0_NW};
use crate::state::{SegmentState, TableState, VcpuState};

/// Present, writable, accessed data; the same of code; an LDT; a busy 32-bit TSS. As access rights of a VMCS.
const DATA: u32 = 0x93;
const CODE: u32 = 0x9b;
const LDT: u32 = 0x82;
const TSS: u32 = 0x8b;
const LIMIT: u32 = 0xffff;
/// ES, CS, SS, DS, FS, GS, LDTR, TR.
const RIGHTS: [u32; 8] = [DATA, CODE, DATA, DATA, DATA, DATA, LDT, TSS];
const CS: usize = 1;
const RDX: usize = 2;

impl VcpuState {
    /// INIT: the registers get the values of table 9-1, and the vCPU waits for a start-up IPI. `signature` is what CPUID
    /// leaf 1 answers in EAX. What table 9-1 leaves unchanged, such as most MSRs and the FPU, stays as it is. IA32_EFER is
    /// not in the table: with CR0.PG it would keep long mode enabled, so that it is cleared, as Linux' KVM does.
    pub fn init(&mut self, signature: u32) {
        let kept = core::mem::take(self);
        *self = Self {
            rip: 0xfff0,
            rflags: 2,
            cr0: CR0_ET | kept.cr0 & (CR0_CD | CR0_NW),
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            gprs: [0; 16],
            segments: RIGHTS.map(|rights| SegmentState { selector: 0, base: 0, limit: LIMIT, rights }),
            gdtr: TableState { base: 0, limit: LIMIT },
            idtr: TableState { base: 0, limit: LIMIT },
            debug: [0, 0, 0, 0, 0xffff_0ff0],
            dr7: 0x400,
            halted: false,
            wait_for_sipi: true,
            interruptibility: 0,
            pending_debug: 0,
            event_info: 0,
            event_error_code: 0,
            event_length: 0,
            nmi_pending: false,
            pdptes: None,
            ..kept
        };
        self.gprs[RDX] = signature.into();
        self.segments[CS].selector = 0xf000;
        self.segments[CS].base = 0xffff_0000;
    }

    /// A start-up IPI with this vector: a vCPU that waits for one starts at `vector` * 4096 in real mode. Any other goes on
    /// as it is.
    pub fn start_up(&mut self, vector: u8) {
        if !core::mem::take(&mut self.wait_for_sipi) {
            return;
        }
        self.rip = 0;
        self.segments[CS].selector = u16::from(vector) << 8;
        self.segments[CS].base = u64::from(vector) << 12;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::{CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, EFER_SCE, Limits};

    const LIMITS: Limits =
        Limits { unrestricted: true, cr4: 0x3407ff, efer: EFER_SCE | EFER_LME, phys_bits: 40 };

    /// In long mode, halted, with something in each register.
    fn busy() -> VcpuState {
        let data = SegmentState { selector: 0x18, base: 0x1000, limit: u32::MAX, rights: 0xc093 };
        VcpuState {
            gprs: [0x1111; 16],
            rip: 0x1234_5678,
            rflags: 0x246,
            cr0: CR0_PE | CR0_PG | CR0_ET,
            cr2: 0x5000,
            cr3: 0x6000,
            cr4: CR4_PAE,
            efer: EFER_LME | EFER_LMA | EFER_SCE,
            xcr0: 7,
            segments: [data; 8],
            gdtr: TableState { base: 0x7000, limit: 0x7f },
            debug: [1, 2, 3, 4, 0xffff_4ff0],
            dr7: 0x401,
            sysenter: [0x10, 0x8000, 0x9000],
            pat: 0x0007_0406_0007_0406,
            msrs: [1, 2, 3, 4, 5],
            tsc_aux: 6,
            halted: true,
            nmi_pending: true,
            xsave: alloc::vec![0; 832],
            tsc_adjust: 7,
            ..VcpuState::default()
        }
    }

    #[test]
    fn init_sets_what_the_table_says_and_leaves_the_rest() {
        let before = busy();
        let mut state = before.clone();
        state.init(0x306f2);
        assert_eq!(state.check(&LIMITS, 7, 0), Ok(()));
        assert_eq!((state.rip, state.rflags, state.cr0, state.cr4, state.efer), (0xfff0, 2, CR0_ET, 0, 0));
        assert_eq!((state.gprs[RDX], state.gprs[0]), (0x306f2, 0));
        assert_eq!((state.segments[CS].selector, state.segments[CS].base), (0xf000, 0xffff_0000));
        assert!(state.wait_for_sipi && !state.halted && !state.nmi_pending);
        let unchanged =
            |s: &VcpuState| (s.xcr0, s.sysenter, s.pat, s.msrs, s.tsc_aux, s.tsc_adjust, s.xsave.clone());
        assert_eq!(unchanged(&state), unchanged(&before));
    }

    /// SDM vol. 3, table 9-1, note on CR0: CD and NW stay as they are.
    #[test]
    fn init_keeps_the_caches_as_they_are() {
        for bits in [0, CR0_CD, CR0_CD | CR0_NW] {
            let mut state = VcpuState { cr0: CR0_PE | CR0_PG | bits, ..busy() };
            state.init(0);
            assert_eq!(state.cr0, CR0_ET | bits);
        }
    }

    #[test]
    fn a_start_up_ipi_starts_one_that_waits_and_no_other() {
        let mut state = busy();
        state.start_up(0x9a);
        assert_eq!(state, busy(), "it runs");
        state.init(0);
        state.start_up(0x9a);
        assert_eq!((state.segments[CS].selector, state.segments[CS].base, state.rip), (0x9a00, 0x9_a000, 0));
        assert!(!state.wait_for_sipi);
        assert_eq!(state.check(&LIMITS, 7, 0), Ok(()));
        let started = state.clone();
        state.start_up(0x9b);
        assert_eq!(state, started, "the second one has no meaning");
    }
}
