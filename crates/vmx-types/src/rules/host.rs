//! Rules for the host state (SDM 26.2.2 to 26.2.4).

use super::{Mode, Verdict, canonical, need, pat_is_legal, too_wide};
use crate::field;
use crate::paging::{CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE};
use crate::vmcs::Vmcs;

/// The host state of a VMCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostFields {
    /// CR0, CR3, CR4.
    pub cr: [u64; 3],
    /// IA32_EFER
    pub efer: u64,
    /// IA32_PAT
    pub pat: u64,
    /// ES, CS, SS, DS, FS, GS, TR.
    pub selectors: [u16; 7],
    /// Bases of FS, GS, TR, GDTR, IDTR, then IA32_SYSENTER_ESP and EIP.
    pub addresses: [u64; 7],
    /// RIP
    pub rip: u64,
}

const ADDRESSES: [&str; 7] = [
    "host FS base",
    "host GS base",
    "host TR base",
    "host GDTR base",
    "host IDTR base",
    "host IA32_SYSENTER_ESP",
    "host IA32_SYSENTER_EIP",
];

impl HostFields {
    /// Reads them.
    pub fn read(vmcs: &impl Vmcs) -> Self {
        Self {
            cr: [field::HOST_CR0, field::HOST_CR3, field::HOST_CR4].map(|cr| vmcs.get(cr)),
            efer: vmcs.get(field::HOST_IA32_EFER),
            pat: vmcs.get(field::HOST_IA32_PAT),
            selectors: [
                field::HOST_ES_SELECTOR,
                field::HOST_CS_SELECTOR,
                field::HOST_SS_SELECTOR,
                field::HOST_DS_SELECTOR,
                field::HOST_FS_SELECTOR,
                field::HOST_GS_SELECTOR,
                field::HOST_TR_SELECTOR,
            ]
            .map(|selector| vmcs.get(selector)),
            addresses: [
                field::HOST_FS_BASE,
                field::HOST_GS_BASE,
                field::HOST_TR_BASE,
                field::HOST_GDTR_BASE,
                field::HOST_IDTR_BASE,
                field::HOST_IA32_SYSENTER_ESP,
                field::HOST_IA32_SYSENTER_EIP,
            ]
            .map(|address| vmcs.get(address)),
            rip: vmcs.get(field::HOST_RIP),
        }
    }

    /// All rules, of a host in 64-bit mode.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check(&self, mode: &Mode) -> Verdict {
        let [cr0, cr3, cr4] = self.cr;
        need(mode.cr0.0 & !cr0 == 0 && cr0 & !mode.cr0.1 == 0, "26.2.2", "host CR0", cr0)?;
        need(mode.cr4.0 & !cr4 == 0 && cr4 & !mode.cr4.1 == 0, "26.2.2", "host CR4", cr4)?;
        need(!too_wide(cr3, mode.phys_bits), "26.2.2", "host CR3", cr3)?;
        need(pat_is_legal(self.pat), "26.2.2", "host IA32_PAT", self.pat)?;
        let long = EFER_LMA | EFER_LME;
        let legal = self.efer & !(long | EFER_SCE | EFER_NXE) == 0 && self.efer & long == long;
        need(legal, "26.2.2", "host IA32_EFER", self.efer)?;
        for selector in self.selectors {
            need(selector & 7 == 0, "26.2.3", "host selector", selector.into())?;
        }
        let [_, cs, _, _, _, _, tr] = self.selectors;
        need(cs != 0, "26.2.3", "host CS selector", 0)?;
        need(tr != 0, "26.2.3", "host TR selector", 0)?;
        for (name, address) in ADDRESSES.into_iter().zip(self.addresses) {
            let rule = if name.contains("SYSENTER") { "26.2.2" } else { "26.2.3" };
            need(canonical(address), rule, name, address)?;
        }
        need(cr4 & CR4_PAE != 0, "26.2.4", "host CR4", cr4)?;
        need(canonical(self.rip), "26.2.4", "host RIP", self.rip)
    }
}
