//! Rules for the guest state (SDM 26.3.1), segments excepted.

use super::{EventFields, Mode, Verdict, canonical, need, pat_is_legal, too_wide};
use crate::control::EntryControls;
use crate::event::EventKind;
use crate::field::{self, Segment};
use crate::flow::{
    BLOCKED_BY_MOV_SS, BLOCKED_BY_NMI, BLOCKED_BY_STI, Flow, PENDING_BREAKPOINT, PENDING_RTM, PENDING_STEP,
    RFLAGS_IF, RFLAGS_TF, RFLAGS_VM,
};
use crate::paging::{CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME};
use crate::paging::{EFER_NXE, EFER_SCE, pdpte_is_legal};
use crate::state::{SegmentState, TableState};
use crate::vmcs::Vmcs;

/// Activity states (SDM 24.4.2).
const HLT: u32 = 1;
const SHUTDOWN: u32 = 2;
const WAIT_FOR_SIPI: u32 = 3;

/// Registers of a guest that most exits leave alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestRegs {
    /// CR0, CR3, CR4 as the hardware has them.
    pub cr0: u64,
    /// CR3
    pub cr3: u64,
    /// CR4
    pub cr4: u64,
    /// IA32_EFER
    pub efer: u64,
    /// "IA-32e mode guest" of the entry controls.
    pub ia32e: bool,
    /// IA32_PAT
    pub pat: u64,
    /// IA32_DEBUGCTL
    pub debugctl: u64,
    /// DR7
    pub dr7: u64,
    /// IA32_SYSENTER_ESP and EIP.
    pub sysenter: [u64; 2],
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: [SegmentState; 8],
    /// GDTR
    pub gdtr: TableState,
    /// IDTR
    pub idtr: TableState,
    /// The four PDPTEs, of a guest with PAE paging.
    pub pdptes: Option<[u64; 4]>,
    /// RFLAGS.VM
    pub virtual_8086: bool,
}

/// The guest state of a VMCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestFields {
    /// What changes rarely.
    pub regs: GuestRegs,
    /// RIP
    pub rip: u64,
    /// RFLAGS, interruptibility, pending debug exceptions.
    pub flow: Flow,
    /// Activity state.
    pub activity: u32,
    /// What is injected.
    pub event: EventFields,
}

impl GuestFields {
    /// Reads them.
    pub fn read(vmcs: &impl Vmcs) -> Self {
        let (cr0, cr4) = (vmcs.get(field::GUEST_CR0), vmcs.get(field::GUEST_CR4));
        let ia32e = vmcs.get(field::ENTRY_CONTROLS) & EntryControls::IA32E_MODE_GUEST.bits() != 0;
        let flow = Flow::read(vmcs);
        let regs = GuestRegs {
            cr0,
            cr3: vmcs.get(field::GUEST_CR3),
            cr4,
            efer: vmcs.get(field::GUEST_IA32_EFER),
            ia32e,
            pat: vmcs.get(field::GUEST_IA32_PAT),
            debugctl: vmcs.get(field::GUEST_IA32_DEBUGCTL),
            dr7: vmcs.get(field::GUEST_DR7),
            sysenter: [vmcs.get(field::GUEST_IA32_SYSENTER_ESP), vmcs.get(field::GUEST_IA32_SYSENTER_EIP)],
            segments: Segment::ALL.map(|segment| SegmentState {
                selector: vmcs.get(segment.selector()),
                base: vmcs.get(segment.base()),
                limit: vmcs.get(segment.limit()),
                rights: vmcs.get(segment.access_rights()),
            }),
            gdtr: TableState {
                base: vmcs.get(field::GUEST_GDTR_BASE),
                limit: vmcs.get(field::GUEST_GDTR_LIMIT),
            },
            idtr: TableState {
                base: vmcs.get(field::GUEST_IDTR_BASE),
                limit: vmcs.get(field::GUEST_IDTR_LIMIT),
            },
            pdptes: (cr0 & CR0_PG != 0 && cr4 & CR4_PAE != 0 && !ia32e)
                .then(|| field::GUEST_PDPTES.map(|pdpte| vmcs.get(pdpte))),
            virtual_8086: flow.rflags & RFLAGS_VM != 0,
        };
        Self {
            regs,
            rip: vmcs.get(field::GUEST_RIP),
            flow,
            activity: vmcs.get(field::GUEST_ACTIVITY_STATE),
            event: EventFields::read(vmcs),
        }
    }

    /// Reads what every exit changes; of the registers, only what its rules ask for. CR0 and IA-32e mode are ours to
    /// change, and as they were.
    pub(super) fn read_flow(vmcs: &impl Vmcs, mut regs: GuestRegs) -> Self {
        let flow = Flow::read(vmcs);
        for segment in [Segment::Cs, Segment::Ss] {
            regs.segments[segment as usize].rights = vmcs.get(segment.access_rights());
        }
        regs.virtual_8086 = flow.rflags & RFLAGS_VM != 0;
        Self {
            regs,
            rip: vmcs.get(field::GUEST_RIP),
            flow,
            activity: vmcs.get(field::GUEST_ACTIVITY_STATE),
            event: EventFields::read(vmcs),
        }
    }

    /// All rules.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check(&self, mode: &Mode) -> Verdict {
        self.check_flow()?;
        self.regs.check(mode)
    }

    /// Those for what every exit changes: RIP, RFLAGS, activity, interruptibility, pending debug exceptions, the event.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check_flow(&self) -> Verdict {
        let Flow { rflags, interruptibility: blocked, pending_debug: pending } = self.flow;
        let protected = self.regs.cr0 & CR0_PE != 0;
        let event = self.event.check(protected)?.map(|event| event.kind);
        let injected = |kind| event == Some(kind);

        let in_64_bit_mode = self.regs.ia32e && self.regs.segments[Segment::Cs as usize].is_long();
        let rip = if in_64_bit_mode { canonical(self.rip) } else { self.rip >> 32 == 0 };
        need(rip, "26.3.1.4", "RIP, an address,", self.rip)?;
        // Reserved bits 63:22, 15, 5, 3 clear, bit 1 set. VM only in protected mode outside IA-32e mode.
        let virtual_8086 = rflags & RFLAGS_VM == 0 || protected && !self.regs.ia32e;
        let legal = rflags & !0x003f_7fd7 == 0 && rflags & 2 != 0 && virtual_8086;
        need(legal, "26.3.1.4", "RFLAGS", rflags)?;
        let open = rflags & RFLAGS_IF != 0 || !injected(EventKind::External);
        need(open, "26.3.1.4", "RFLAGS under an injected interrupt", rflags)?;

        let shadow = blocked & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS);
        let legal = match self.activity {
            0 => true,
            HLT => {
                self.regs.segments[Segment::Ss as usize].dpl() == 0 && shadow == 0 && self.event.wakes_hlt()
            }
            SHUTDOWN => shadow == 0 && self.event.wakes_shutdown(),
            WAIT_FOR_SIPI => shadow == 0 && event.is_none(),
            _ => false,
        };
        need(legal, "26.3.1.5", "activity state", self.activity.into())?;
        // No guest of ours is in SMM or in an enclave.
        let legal = blocked & !(BLOCKED_BY_STI | BLOCKED_BY_MOV_SS | BLOCKED_BY_NMI) == 0
            && shadow != BLOCKED_BY_STI | BLOCKED_BY_MOV_SS
            && (blocked & BLOCKED_BY_STI == 0 || rflags & RFLAGS_IF != 0);
        need(legal, "26.3.1.5", "interruptibility", blocked.into())?;
        // An NMI under blocking by STI is refused by some CPUs only.
        let shut = injected(EventKind::External) && shadow != 0 || injected(EventKind::Nmi) && blocked != 0;
        need(!shut, "26.3.1.5", "interruptibility under an injected event", blocked.into())?;

        let mut legal = pending & !(0xf | PENDING_BREAKPOINT | PENDING_STEP | PENDING_RTM) == 0;
        if shadow != 0 || self.activity == HLT {
            // IA32_DEBUGCTL.BTF would turn it round; no guest has it.
            legal &= (pending & PENDING_STEP != 0) == (rflags & RFLAGS_TF != 0);
        }
        if pending & PENDING_RTM != 0 {
            legal &= pending == PENDING_RTM | PENDING_BREAKPOINT && blocked & BLOCKED_BY_MOV_SS == 0;
        }
        need(legal, "26.3.1.5", "pending debug exceptions", pending)
    }
}

impl GuestRegs {
    /// The rules for registers.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check(&self, mode: &Mode) -> Verdict {
        self.check_control(mode)?;
        self.check_segments(mode)?;
        for (base, limit, table) in
            [("GDTR address", "GDTR limit", self.gdtr), ("IDTR address", "IDTR limit", self.idtr)]
        {
            need(canonical(table.base), "26.3.1.3", base, table.base)?;
            need(table.limit <= 0xffff, "26.3.1.3", limit, table.limit.into())?;
        }
        for pdpte in self.pdptes.into_iter().flatten() {
            need(pdpte_is_legal(pdpte, mode.phys_bits), "26.3.1.6", "PDPTE", pdpte)?;
        }
        Ok(())
    }

    fn check_control(&self, mode: &Mode) -> Verdict {
        const RULE: &str = "26.3.1.1";
        let (cr0, cr4, efer) = (self.cr0, self.cr4, self.efer);
        let free = CR0_NW | CR0_CD | if mode.unrestricted { CR0_PE | CR0_PG } else { 0 };
        let fixed = mode.cr0.0 & !free & !cr0 == 0 && cr0 & !mode.cr0.1 == 0;
        need(fixed && (cr0 & CR0_PG == 0 || cr0 & CR0_PE != 0), RULE, "CR0", cr0)?;
        let fixed = mode.cr4.0 & !cr4 == 0 && cr4 & !mode.cr4.1 == 0;
        need(fixed && (self.ia32e || cr4 & CR4_PCIDE == 0), RULE, "CR4", cr4)?;
        if self.ia32e {
            need(cr0 & CR0_PG != 0, RULE, "CR0", cr0)?;
            need(cr4 & CR4_PAE != 0, RULE, "CR4", cr4)?;
        }
        need(!too_wide(self.cr3, mode.phys_bits), RULE, "CR3", self.cr3)?;
        need(self.debugctl & !0xdfc3 == 0, RULE, "IA32_DEBUGCTL", self.debugctl)?;
        need(self.dr7 >> 32 == 0, RULE, "DR7", self.dr7)?;
        need(canonical(self.sysenter[0]), RULE, "address IA32_SYSENTER_ESP", self.sysenter[0])?;
        need(canonical(self.sysenter[1]), RULE, "address IA32_SYSENTER_EIP", self.sysenter[1])?;
        need(pat_is_legal(self.pat), RULE, "IA32_PAT", self.pat)?;
        let lma = efer & EFER_LMA != 0;
        let legal = efer & !(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) == 0
            && lma == self.ia32e
            && (cr0 & CR0_PG == 0 || lma == (efer & EFER_LME != 0));
        need(legal, RULE, "IA32_EFER", efer)
    }
}
