//! The architectural state of a vCPU: where a guest starts, and what travels when it moves.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

use crate::event::Event;
use crate::paging::{CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, ControlRegs, EFER_LMA, EFER_LME, Limits};

/// A segment register with its hidden part; `rights` as in the VMCS (SDM table 24-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SegmentState {
    /// Selector.
    #[n(0)]
    pub selector: u16,
    /// Base address.
    #[n(1)]
    pub base: u64,
    /// Limit in bytes.
    #[n(2)]
    pub limit: u32,
    /// Access rights; bit 16 says unusable.
    #[n(3)]
    pub rights: u32,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct TableState {
    /// Base address.
    #[n(0)]
    pub base: u64,
    /// Limit in bytes.
    #[n(1)]
    pub limit: u32,
}

/// Everything of a vCPU that its VM's policy, devices and memory do not hold. Taken at an instruction
/// boundary.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct VcpuState {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    #[n(0)]
    pub gprs: [u64; 16],
    /// RIP
    #[n(1)]
    pub rip: u64,
    /// RFLAGS
    #[n(2)]
    pub rflags: u64,
    /// CR0 as the guest sees it.
    #[n(3)]
    pub cr0: u64,
    /// CR2
    #[n(4)]
    pub cr2: u64,
    /// CR3 as the guest sees it.
    #[n(5)]
    pub cr3: u64,
    /// CR4 as the guest sees it.
    #[n(6)]
    pub cr4: u64,
    /// IA32_EFER with LMA.
    #[n(7)]
    pub efer: u64,
    /// XCR0
    #[n(8)]
    pub xcr0: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    #[n(9)]
    pub segments: [SegmentState; 8],
    /// GDTR
    #[n(10)]
    pub gdtr: TableState,
    /// IDTR
    #[n(11)]
    pub idtr: TableState,
    /// DR0 to DR3, DR6.
    #[n(12)]
    pub debug: [u64; 5],
    /// DR7
    #[n(13)]
    pub dr7: u64,
    /// IA32_SYSENTER_CS, ESP, EIP.
    #[n(14)]
    pub sysenter: [u64; 3],
    /// IA32_PAT
    #[n(15)]
    pub pat: u64,
    /// IA32_STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE.
    #[n(16)]
    pub msrs: [u64; 5],
    /// IA32_TSC_AUX
    #[n(17)]
    pub tsc_aux: u64,
    /// Waits in HLT.
    #[n(18)]
    pub halted: bool,
    /// Waits for a start-up IPI.
    #[n(19)]
    pub wait_for_sipi: bool,
    /// Interruptibility state (SDM table 24-3).
    #[n(20)]
    pub interruptibility: u32,
    /// Pending debug exceptions (SDM table 24-4).
    #[n(21)]
    pub pending_debug: u64,
    /// An event whose delivery was interrupted: interruption information, 0 for none.
    #[n(22)]
    pub event_info: u32,
    /// Its error code.
    #[n(23)]
    pub event_error_code: u32,
    /// Its instruction length.
    #[n(24)]
    pub event_length: u32,
    /// An NMI waits for its window.
    #[n(25)]
    pub nmi_pending: bool,
    /// XSAVE area in standard format, at least 576 bytes; what is cut off is zero.
    #[cbor(n(26), with = "minicbor::bytes")]
    pub xsave: Vec<u8>,
    /// IA32_TSC_ADJUST: what this vCPU's TSC shows beyond the VM's time line.
    #[n(27)]
    pub tsc_adjust: u64,
    /// MTRRs.
    #[n(28)]
    pub mtrr: MtrrState,
    /// IA32_SPEC_CTRL, of a guest that has it; readers that do not know it have no such guests.
    #[n(29)]
    pub spec_ctrl: Option<u64>,
    /// MSR_MISC_FEATURES_ENABLES, of a guest that uses it: bit 0 is CPUID faulting.
    #[n(30)]
    pub misc_features: Option<u64>,
}

/// The memory-type range registers; storage alone, since EPT decides memory types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct MtrrState {
    /// IA32_MTRR_PHYSBASE and PHYSMASK by turns.
    #[n(0)]
    pub variable: [u64; 16],
    /// The eleven fixed ranges by ascending address.
    #[n(1)]
    pub fixed: [u64; 11],
    /// IA32_MTRR_DEF_TYPE.
    #[n(2)]
    pub def_type: u64,
}

/// Version of the record's schema.
pub const VERSION: u16 = 1;

/// Longest XSAVE area accepted.
pub const XSAVE_MAX: usize = 4096;
const XSAVE_MIN: usize = 576;

impl VcpuState {
    /// The record's body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if minicbor::encode(self, &mut out).is_err() {
            unreachable!("a vector takes every write");
        }
        out
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// What the decoder found wrong, in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        minicbor::decode(bytes).map_err(|error| format!("{error}"))
    }

    /// The control registers.
    #[must_use]
    pub const fn control_regs(&self) -> ControlRegs {
        ControlRegs { cr0: self.cr0, cr3: self.cr3, cr4: self.cr4, efer: self.efer }
    }

    /// The event to inject, if any.
    #[must_use]
    pub const fn event(&self) -> Option<Event> {
        Event::decode(self.event_info, self.event_error_code, self.event_length)
    }

    /// Checks every field that could break a VM entry, fault in the host, or go beyond the guest's policy, of which
    /// `xcr0_allowed` and `spec_ctrl_allowed` are the bits that it may set in XCR0 and IA32_SPEC_CTRL.
    ///
    /// # Errors
    /// The field and its value.
    pub fn check(&self, limits: &Limits, xcr0_allowed: u64, spec_ctrl_allowed: u64) -> Result<(), String> {
        let wrong = |field: &str, value: u64| Err(format!("{field} is {value:#x}"));
        let long = self.efer & EFER_LMA != 0;
        let paging = self.cr0 & CR0_PG != 0;
        if self.cr0 & !0xe005_003f != 0
            || paging && self.cr0 & CR0_PE == 0
            || self.cr0 & CR0_NW != 0 && self.cr0 & CR0_CD == 0
        {
            return wrong("CR0", self.cr0);
        }
        if self.cr4 & !limits.cr4 != 0 || long && self.cr4 & CR4_PAE == 0 {
            return wrong("CR4", self.cr4);
        }
        if self.cr3 >> limits.phys_bits.min(63) != 0 {
            return wrong("CR3", self.cr3);
        }
        let lma = paging && self.efer & EFER_LME != 0;
        if self.efer & !(limits.efer | EFER_LMA) != 0 || long != lma {
            return wrong("IA32_EFER", self.efer);
        }
        if xcr0_allowed != 0 && (self.xcr0 & !xcr0_allowed != 0 || self.xcr0 & 1 == 0) {
            return wrong("XCR0", self.xcr0);
        }
        if let Some(value) = self.spec_ctrl.filter(|value| value & !spec_ctrl_allowed != 0) {
            return wrong("IA32_SPEC_CTRL", value);
        }
        // Reserved bits 63:22, 15, 5, 3 clear, bit 1 set (SDM 26.3.1.4). VM may only be set outside long mode.
        if self.rflags & !0x003f_7fd7 != 0 || self.rflags & 2 == 0 || long && self.rflags & 1 << 17 != 0 {
            return wrong("RFLAGS", self.rflags);
        }
        if self.dr7 >> 32 != 0 || self.debug[4] >> 32 != 0 {
            return wrong("DR7 or DR6", self.dr7 | self.debug[4]);
        }
        if self.interruptibility & !0xb != 0 || self.interruptibility & 3 == 3 {
            return wrong("interruptibility", u64::from(self.interruptibility));
        }
        if self.pending_debug & !0x1_500f != 0 {
            return wrong("pending debug exceptions", self.pending_debug);
        }
        if self.event_info != 0 && self.event().is_none_or(|event| event.info() != self.event_info) {
            return wrong("event", u64::from(self.event_info));
        }
        for kind in self.pat.to_le_bytes() {
            if !matches!(kind, 0 | 1 | 4..=7) {
                return wrong("IA32_PAT", self.pat);
            }
        }
        let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
        let addresses = [
            self.sysenter[1],
            self.sysenter[2],
            self.msrs[1],
            self.msrs[2],
            self.msrs[4],
            self.gdtr.base,
            self.idtr.base,
            if long { self.rip } else { 0 },
        ];
        for address in addresses.into_iter().chain(self.segments.iter().map(|s| s.base)) {
            if !canonical(address) {
                return wrong("an address", address);
            }
        }
        if self.gdtr.limit > 0xffff || self.idtr.limit > 0xffff {
            return wrong("a descriptor-table limit", u64::from(self.gdtr.limit.max(self.idtr.limit)));
        }
        for segment in &self.segments {
            if segment.rights & !0x1_f0ff != 0 {
                return wrong("access rights", u64::from(segment.rights));
            }
        }
        self.check_xsave(xcr0_allowed)
    }

    /// XRSTOR of a host must not fault on it: header reserved bytes zero, no component beyond the policy, no
    /// reserved MXCSR bit (SDM volume 1, 13.8).
    fn check_xsave(&self, xcr0_allowed: u64) -> Result<(), String> {
        if !(XSAVE_MIN..=XSAVE_MAX).contains(&self.xsave.len()) {
            return Err(format!("XSAVE area of {} bytes", self.xsave.len()));
        }
        let word = |at: usize| -> u64 {
            self.xsave.get(at..at + 8).map_or(0, |b| b.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
        };
        if word(512) & !(xcr0_allowed | 3) != 0 {
            return Err(format!("XSTATE_BV is {:#x}", word(512)));
        }
        if (520..576).step_by(8).any(|at| word(at) != 0) {
            return Err(String::from("XSAVE header has reserved bits set"));
        }
        let mxcsr = word(24) as u32;
        if mxcsr & !0xffff != 0 {
            return Err(format!("MXCSR is {mxcsr:#x}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::{EFER_NXE, EFER_SCE};
    use alloc::vec;

    const LIMITS: Limits = Limits { cr4: 0x3407ff, efer: EFER_SCE | EFER_LME | EFER_NXE, phys_bits: 40 };

    fn valid() -> VcpuState {
        VcpuState {
            rflags: 2,
            cr0: CR0_PE | CR0_PG,
            cr4: CR4_PAE,
            efer: EFER_LME | EFER_LMA,
            xcr0: 7,
            pat: 0x0007_0406_0007_0406,
            xsave: vec![0; 832],
            ..VcpuState::default()
        }
    }

    #[test]
    fn travels_unchanged() {
        let mut state = valid();
        state.gprs = core::array::from_fn(|n| n as u64 * 0x1111);
        state.segments[1] = SegmentState { selector: 0x10, base: 0, limit: u32::MAX, rights: 0xa09b };
        assert_eq!(state.check(&LIMITS, 7, 7), Ok(()));
        let without = state.to_bytes();
        assert_eq!(VcpuState::from_bytes(&without), Ok(state.clone()));
        // What a guest does not use is not there, so that readers of before take it.
        (state.spec_ctrl, state.misc_features) = (Some(1), Some(1));
        let with = state.to_bytes();
        assert_eq!(with.len(), without.len() + 6, "two keys above 23 with a small value each");
        assert_eq!(VcpuState::from_bytes(&with), Ok(state));
    }

    #[test]
    fn a_guest_without_spec_ctrl_writes_the_record_of_before() {
        let old = valid().to_bytes();
        let new = VcpuState { spec_ctrl: Some(5), ..valid() };
        assert_eq!(VcpuState::from_bytes(&old).map(|state| state.spec_ctrl), Ok(None));
        assert_eq!(VcpuState::from_bytes(&new.to_bytes()), Ok(new.clone()));
        // A map of 29 members in the old record: number 29 is not written as null.
        assert_eq!(old[..2], [0xb8, 29]);
        assert_eq!(new.check(&LIMITS, 7, 7), Ok(()));
        assert_eq!(new.check(&LIMITS, 7, 0), Err("IA32_SPEC_CTRL is 0x5".into()));
    }

    type Spoil = fn(&mut VcpuState);

    #[test]
    fn each_wrong_field_is_named() {
        let cases: [(&str, Spoil); 14] = [
            ("CR0", |s| s.cr0 = CR0_PG),
            ("CR4", |s| s.cr4 |= 1 << 13),
            ("CR3", |s| s.cr3 = 1 << 40),
            ("IA32_EFER", |s| s.efer = EFER_LMA),
            ("XCR0", |s| s.xcr0 = 0xe7),
            ("RFLAGS", |s| s.rflags = 0),
            ("DR7", |s| s.dr7 = 1 << 32),
            ("interruptibility", |s| s.interruptibility = 3),
            ("event", |s| s.event_info = 0x8000_0700),
            ("IA32_PAT", |s| s.pat = 2),
            ("IA32_SPEC_CTRL", |s| s.spec_ctrl = Some(8)),
            ("address", |s| s.msrs[1] = 1 << 47),
            ("XSTATE_BV", |s| s.xsave[512] = 0xff),
            ("MXCSR", |s| s.xsave[26] = 1),
        ];
        for (name, spoil) in cases {
            let mut state = valid();
            spoil(&mut state);
            let error = state.check(&LIMITS, 7, 7).expect_err(name);
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let good = valid().to_bytes();
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff, good[at] ^ 1] {
                let mut bytes = good.clone();
                bytes[at] = value;
                if let Ok(state) = VcpuState::from_bytes(&bytes) {
                    let _ = state.check(&LIMITS, 7, 7);
                }
            }
            assert!(VcpuState::from_bytes(&good[..at]).is_err());
        }
    }
}
