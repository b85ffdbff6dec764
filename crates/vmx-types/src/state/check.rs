//! A vCPU's state against its policy and the rules of VM entry (SDM volume 3C, 26.3.1), before any of it is loaded.

use alloc::format;
use alloc::string::String;

use super::{SegmentState, VcpuState};
use crate::event::EventKind;
use crate::paging::{CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME, Limits};

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;
const BLOCKING_BY_STI: u32 = 1;
const BLOCKING_BY_MOV_SS: u32 = 2;
/// Pending debug exceptions: enabled breakpoint, BS, RTM.
const ENABLED_BREAKPOINT: u64 = 1 << 12;
const PENDING_BS: u64 = 1 << 14;
const PENDING_RTM: u64 = 1 << 16;
/// Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
const WITH_ERROR_CODE: u32 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17;

const UNUSABLE: u32 = 1 << 16;
const SYSTEM_OR_CODE: u32 = 1 << 4;
const PRESENT: u32 = 1 << 7;
const LONG: u32 = 1 << 13;
const DEFAULT_32: u32 = 1 << 14;
const GRANULARITY: u32 = 1 << 15;
const NAMES: [&str; 8] = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];
const ES: usize = 0;
const CS: usize = 1;
const SS: usize = 2;
const DS: usize = 3;
const FS: usize = 4;
const GS: usize = 5;
const LDTR: usize = 6;
const TR: usize = 7;

type Checked = Result<(), String>;

fn need(ok: bool, field: &str, value: u64) -> Checked {
    if ok { Ok(()) } else { Err(format!("{field} is {value:#x}")) }
}

const fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
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
    /// The field and its value.
    pub fn check(&self, limits: &Limits, xcr0_allowed: u64, spec_ctrl_allowed: u64) -> Result<(), String> {
        self.check_control(limits)?;
        let legal = xcr0_is_legal(self.xcr0) && self.xcr0 & !(xcr0_allowed | 1) == 0;
        need(legal, "XCR0", self.xcr0)?;
        self.check_msrs(spec_ctrl_allowed)?;
        self.check_tables()?;
        self.check_flow()?;
        for (number, segment) in self.segments.iter().enumerate() {
            self.check_segment(number, segment)?;
        }
        self.check_event()?;
        if !limits.unrestricted && self.rflags & RFLAGS_VM == 0 && self.cr0 & CR0_PE != 0 {
            self.check_privileges()?;
        }
        super::xsave::check(&self.xsave, xcr0_allowed)
    }

    fn check_control(&self, limits: &Limits) -> Checked {
        let paging = self.cr0 & CR0_PG != 0;
        let cr0 = self.cr0 & !0xe005_003f == 0
            && (!paging || self.cr0 & CR0_PE != 0)
            && (self.cr0 & CR0_NW == 0 || self.cr0 & CR0_CD != 0);
        need(cr0, "CR0", self.cr0)?;
        let cr4 = self.cr4 & !limits.cr4 == 0
            && (!self.long() || self.cr4 & CR4_PAE != 0)
            && (self.cr4 & CR4_PCIDE == 0 || self.long());
        need(cr4, "CR4", self.cr4)?;
        need(self.cr3 >> limits.phys_bits.min(63) == 0, "CR3", self.cr3)?;
        let lma = paging && self.efer & EFER_LME != 0;
        let efer = self.efer & !(limits.efer | EFER_LMA) == 0 && self.long() == lma;
        need(efer, "IA32_EFER", self.efer)?;
        need(self.dr7 >> 32 == 0, "DR7", self.dr7)?;
        need(self.debug[4] >> 32 == 0, "DR6", self.debug[4])
    }

    fn check_msrs(&self, spec_ctrl_allowed: u64) -> Checked {
        if let Some(value) = self.spec_ctrl {
            need(value & !spec_ctrl_allowed == 0, "IA32_SPEC_CTRL", value)?;
        }
        if let Some(value) = self.misc_features {
            need(value & !1 == 0, "MSR_MISC_FEATURES_ENABLES", value)?;
        }
        let pat = self.pat.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
        need(pat, "IA32_PAT", self.pat)?;
        need(self.sysenter[0] >> 32 == 0, "IA32_SYSENTER_CS", self.sysenter[0])?;
        need(canonical(self.sysenter[1]), "address IA32_SYSENTER_ESP", self.sysenter[1])?;
        need(canonical(self.sysenter[2]), "address IA32_SYSENTER_EIP", self.sysenter[2])?;
        need(canonical(self.msrs[1]), "address IA32_LSTAR", self.msrs[1])?;
        need(canonical(self.msrs[2]), "address IA32_CSTAR", self.msrs[2])?;
        need(self.msrs[3] >> 32 == 0, "IA32_FMASK", self.msrs[3])?;
        need(canonical(self.msrs[4]), "address IA32_KERNEL_GS_BASE", self.msrs[4])?;
        need(self.tsc_aux >> 32 == 0, "IA32_TSC_AUX", self.tsc_aux)
    }

    fn check_tables(&self) -> Checked {
        for (name, table) in [("GDTR", &self.gdtr), ("IDTR", &self.idtr)] {
            need(canonical(table.base), &format!("{name} address"), table.base)?;
            need(table.limit <= 0xffff, &format!("{name} limit"), table.limit.into())?;
        }
        Ok(())
    }

    /// SDM 26.3.1.2.
    fn check_segment(&self, number: usize, segment: &SegmentState) -> Checked {
        let (rights, limit, base) = (segment.rights, segment.limit, segment.base);
        let need = |ok: bool, field: &str, value: u64| need(ok, &format!("{} {field}", NAMES[number]), value);
        let usable = rights & UNUSABLE == 0;
        let right = |ok: bool| need(ok, "access rights", rights.into());
        right(rights & !0x1_f0ff == 0)?;
        let is_system = number >= LDTR;
        if is_system {
            need(!usable || segment.selector & 4 == 0, "selector", segment.selector.into())?;
        }
        if is_system || number >= FS {
            need(canonical(base), "address", base)?;
        } else if usable || number == CS {
            need(base >> 32 == 0, "base", base)?;
        } else {
            need(canonical(base), "base", base)?;
        }
        if self.rflags & RFLAGS_VM != 0 && !is_system {
            need(base == u64::from(segment.selector) << 4, "base", base)?;
            need(limit == 0xffff, "limit", limit.into())?;
            return right(rights == 0xf3);
        }
        if !usable && number != CS && number != TR {
            return Ok(());
        }
        let kind = rights & 0xf;
        let dpl = rights >> 5 & 3;
        let ss_dpl = self.segments[SS].rights >> 5 & 3;
        right(match number {
            CS => match kind {
                3 => dpl == 0,
                9 | 11 => dpl == ss_dpl,
                13 | 15 => dpl <= ss_dpl,
                _ => false,
            },
            SS => matches!(kind, 3 | 7) && (self.cr0 & CR0_PE != 0 || dpl == 0),
            LDTR => kind == 2,
            TR => kind == 11 || kind == 3 && !self.long(),
            _ => kind & 1 != 0 && (kind & 8 == 0 || kind & 2 != 0),
        })?;
        right(
            (usable || number == CS) && (rights & SYSTEM_OR_CODE != 0) != is_system && rights & PRESENT != 0,
        )?;
        if number == CS && self.long() {
            right(rights & (LONG | DEFAULT_32) != LONG | DEFAULT_32)?;
        }
        let bytes = rights & GRANULARITY == 0;
        need((bytes || limit & 0xfff == 0xfff) && (!bytes || limit >> 20 == 0), "limit", limit.into())
    }

    /// What only CPUs without unrestricted guest ask of selectors and access rights, in protected mode: SDM 26.3.1.2.
    /// A guest between setting CR0.PE and its far jump does not fulfil it.
    fn check_privileges(&self) -> Checked {
        let rpl = |number: usize| u32::from(self.segments[number].selector & 3);
        let dpl = |number: usize| self.segments[number].rights >> 5 & 3;
        let code = self.segments[CS].rights;
        need(matches!(code & 0xf, 9 | 11 | 13 | 15), "CS access rights", code.into())?;
        need(rpl(SS) == rpl(CS), "SS selector", self.segments[SS].selector.into())?;
        need(dpl(SS) == rpl(SS), "SS access rights", self.segments[SS].rights.into())?;
        for number in [ES, DS, FS, GS] {
            let rights = self.segments[number].rights;
            let conforming = rights & 0xc == 0xc;
            let legal = rights & UNUSABLE != 0 || conforming || dpl(number) >= rpl(number);
            need(legal, &format!("{} access rights", NAMES[number]), rights.into())?;
        }
        Ok(())
    }

    /// RIP, RFLAGS, activity, interruptibility, pending debug exceptions: SDM 26.3.1.4, 26.3.1.5.
    fn check_flow(&self) -> Checked {
        let is_64_bit = self.long() && self.segments[CS].rights & LONG != 0;
        need(
            if is_64_bit { canonical(self.rip) } else { self.rip >> 32 == 0 },
            "RIP, an address,",
            self.rip,
        )?;
        // Reserved bits 63:22, 15, 5, 3 clear, bit 1 set. VM only in protected mode outside IA-32e mode.
        let vm86 = self.rflags & RFLAGS_VM != 0 && (self.long() || self.cr0 & CR0_PE == 0);
        need(self.rflags & !0x003f_7fd7 == 0 && self.rflags & 2 != 0 && !vm86, "RFLAGS", self.rflags)?;
        need(!(self.halted && self.wait_for_sipi), "activity: halted and waits for SIPI", 1)?;
        let blocking = self.interruptibility & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        let legal = self.interruptibility & !0xb == 0
            && blocking != BLOCKING_BY_STI | BLOCKING_BY_MOV_SS
            && (blocking & BLOCKING_BY_STI == 0 || self.rflags & RFLAGS_IF != 0);
        need(legal, "interruptibility", self.interruptibility.into())?;
        let pending = self.pending_debug;
        let mut legal = pending & !0x1_500f == 0;
        if pending & PENDING_RTM != 0 {
            legal &= pending == PENDING_RTM | ENABLED_BREAKPOINT && blocking & BLOCKING_BY_MOV_SS == 0;
        } else if blocking != 0 {
            legal &= (pending & PENDING_BS != 0) == (self.rflags & RFLAGS_TF != 0);
        }
        need(legal, "pending debug exceptions", pending)
    }

    /// The event to be injected: SDM 26.2.1.3, and 26.3.1.5 for what may be blocked.
    fn check_event(&self) -> Checked {
        if self.event_info == 0 {
            return Ok(());
        }
        let wrong = || Err(format!("event is {:#x}", self.event_info));
        let Some(event) = self.event().filter(|event| event.info() == self.event_info) else {
            return wrong();
        };
        let blocking = self.interruptibility & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        let protected = self.cr0 & CR0_PE != 0;
        let legal = match event.kind {
            EventKind::External => self.rflags & RFLAGS_IF != 0 && blocking == 0,
            EventKind::Nmi => event.vector == 2 && blocking & BLOCKING_BY_MOV_SS == 0,
            EventKind::Exception => event.vector < 32 && event.vector != 2,
            EventKind::Software | EventKind::PrivilegedSoftware | EventKind::SoftwareException => true,
        };
        let pushes = protected
            && event.kind == EventKind::Exception
            && WITH_ERROR_CODE.checked_shr(event.vector.into()).is_some_and(|bit| bit & 1 != 0);
        if !legal || event.error_code.is_some() != pushes {
            return wrong();
        }
        need(
            event.error_code.is_none_or(|code| code >> 16 == 0),
            "event error code",
            self.event_error_code.into(),
        )?;
        let length = self.event_length <= 15 && (!event.needs_length() || self.event_length > 0);
        need(length, "event length", self.event_length.into())
    }
}
