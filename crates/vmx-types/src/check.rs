//! A vCPU's state against its policy and the rules of VM entry ([`crate::rules`]), before any of it is loaded.

use alloc::format;
use alloc::string::String;

use crate::flow::{Flow, RFLAGS_VM};
use crate::paging::{CR0_CD, CR0_NW, CR0_PE, CR0_PG, EFER_LMA, EFER_LME, Limits};
use crate::rules::{EventFields, GuestFields, GuestRegs, Mode, SEGMENT_WORDS, canonical};
use crate::state::{VcpuState, xsave};

type Checked = Result<(), String>;

fn need(ok: bool, field: &str, value: u64) -> Checked {
    if ok { Ok(()) } else { Err(format!("{field} is {value:#x}")) }
}

/// Combinations that XSETBV takes (SDM volume 1, 13.3).
const fn xcr0_is_legal(xcr0: u64) -> bool {
    const AVX: u64 = 1 << 2;
    const MPX: u64 = 3 << 3;
    const AVX512: u64 = 7 << 5;
    const AMX: u64 = 3 << 17;
    xcr0 & 1 != 0
        && (xcr0 & AVX == 0 || xcr0 & 2 != 0)
        && (xcr0 & MPX == 0 || xcr0 & MPX == MPX)
        && (xcr0 & AVX512 == 0 || xcr0 & AVX512 == AVX512 && xcr0 & AVX != 0)
        && (xcr0 & AMX == 0 || xcr0 & AMX == AMX)
}

impl VcpuState {
    fn long(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    /// Checks every field that could break a VM entry, fault in the host, or go beyond the guest's policy, of which
    /// `xcr0_allowed` and `spec_ctrl_allowed` are the bits that it may set in XCR0 and IA32_SPEC_CTRL. What VM entry
    /// asks only of CPUs without unrestricted guest is asked where the limits say so, but for real and unpaged mode:
    /// [`crate::paging::hardware`] knows what it makes of those.
    ///
    /// # Errors
    /// The field and its value, and the rule of VM entry that it breaks, if it is one.
    pub fn check(&self, limits: &Limits, xcr0_allowed: u64, spec_ctrl_allowed: u64) -> Result<(), String> {
        self.check_control(limits)?;
        let legal = xcr0_is_legal(self.xcr0) && self.xcr0 & !(xcr0_allowed | 1) == 0;
        need(legal, "XCR0", self.xcr0)?;
        self.check_msrs(spec_ctrl_allowed)?;
        need(!(self.halted && self.wait_for_sipi), "activity: halted and waits for SIPI", 1)?;
        let real_mode = self.cr0 & CR0_PE == 0;
        let mode = Mode::any(limits.unrestricted || real_mode, limits.phys_bits);
        self.entry_fields().check(&mode).map_err(|broken| format!("{broken}"))?;
        for ([_, base, _, rights], segment) in SEGMENT_WORDS.iter().zip(&self.segments) {
            // Of unusable registers VM entry asks nothing, but no CPU leaves them like this.
            need(canonical(segment.base), base, segment.base)?;
            need(segment.rights & !0x1_f0ff == 0, rights, segment.rights.into())?;
        }
        let pdptes = self.pdptes.is_none() || self.control_regs().pae_paging();
        need(pdptes, "PDPTE of a guest without PAE paging", self.pdptes.map_or(0, |pdptes| pdptes[0]))?;
        xsave::check(&self.xsave, xcr0_allowed)
    }

    /// The fields that this state fills in a VMCS, control registers as the guest sees them.
    fn entry_fields(&self) -> GuestFields {
        let regs = GuestRegs {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
            ia32e: self.long(),
            pat: self.pat,
            debugctl: 0,
            dr7: self.dr7,
            sysenter: [self.sysenter[1], self.sysenter[2]],
            segments: self.segments,
            gdtr: self.gdtr,
            idtr: self.idtr,
            pdptes: self.pdptes.filter(|_| self.control_regs().pae_paging()),
            virtual_8086: self.rflags & RFLAGS_VM != 0,
        };
        GuestFields {
            regs,
            rip: self.rip,
            flow: Flow {
                rflags: self.rflags,
                interruptibility: self.interruptibility,
                pending_debug: self.pending_debug,
            },
            activity: 0, // HLT is kept apart
            event: EventFields {
                info: self.event_info,
                error_code: self.event_error_code,
                length: self.event_length,
            },
        }
    }

    /// What the policy and the architecture ask of control registers, whatever VM entry does.
    fn check_control(&self, limits: &Limits) -> Checked {
        let paging = self.cr0 & CR0_PG != 0;
        let cr0 = self.cr0 & !0xe005_003f == 0 && (self.cr0 & CR0_NW == 0 || self.cr0 & CR0_CD != 0);
        need(cr0, "CR0", self.cr0)?;
        let cr4 = self.cr4 & !limits.cr4 == 0;
        need(cr4, "CR4", self.cr4)?;
        let lma = paging && self.efer & EFER_LME != 0;
        let efer = self.efer & !(limits.efer | EFER_LMA) == 0 && self.long() == lma;
        need(efer, "IA32_EFER", self.efer)?;
        need(self.debug[4] >> 32 == 0, "DR6", self.debug[4])
    }

    fn check_msrs(&self, spec_ctrl_allowed: u64) -> Checked {
        if let Some(value) = self.spec_ctrl {
            need(value & !spec_ctrl_allowed == 0, "IA32_SPEC_CTRL", value)?;
        }
        if let Some(value) = self.misc_features {
            need(value & !1 == 0, "MSR_MISC_FEATURES_ENABLES", value)?;
        }
        need(self.sysenter[0] >> 32 == 0, "IA32_SYSENTER_CS", self.sysenter[0])?;
        need(canonical(self.msrs[1]), "address IA32_LSTAR", self.msrs[1])?;
        need(canonical(self.msrs[2]), "address IA32_CSTAR", self.msrs[2])?;
        need(self.msrs[3] >> 32 == 0, "IA32_FMASK", self.msrs[3])?;
        need(canonical(self.msrs[4]), "address IA32_KERNEL_GS_BASE", self.msrs[4])?;
        need(self.tsc_aux >> 32 == 0, "IA32_TSC_AUX", self.tsc_aux)
    }
}
