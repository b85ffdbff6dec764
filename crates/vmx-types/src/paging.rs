//! How the guest's control registers stand in the hardware: the architectural values on one side, the
//! VMCS fields on the other (SDM 23.8, 26.3.1.1).

/// CR0.PE
pub const CR0_PE: u64 = 1 << 0;
/// CR0.MP
pub const CR0_MP: u64 = 1 << 1;
/// CR0.EM
pub const CR0_EM: u64 = 1 << 2;
/// CR0.TS
pub const CR0_TS: u64 = 1 << 3;
/// CR0.ET
pub const CR0_ET: u64 = 1 << 4;
/// CR0.NE
pub const CR0_NE: u64 = 1 << 5;
/// CR0.WP
pub const CR0_WP: u64 = 1 << 16;
/// CR0.AM
pub const CR0_AM: u64 = 1 << 18;
/// CR0.NW
pub const CR0_NW: u64 = 1 << 29;
/// CR0.CD
pub const CR0_CD: u64 = 1 << 30;
/// CR0.PG
pub const CR0_PG: u64 = 1 << 31;
/// CR4.PSE
pub const CR4_PSE: u64 = 1 << 4;
/// CR4.PAE
pub const CR4_PAE: u64 = 1 << 5;
/// CR4.MCE
pub const CR4_MCE: u64 = 1 << 6;
/// CR4.PGE
pub const CR4_PGE: u64 = 1 << 7;
/// CR4.PCIDE
pub const CR4_PCIDE: u64 = 1 << 17;
/// CR4.VMXE
pub const CR4_VMXE: u64 = 1 << 13;
/// CR4.OSXSAVE
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4.SMEP
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP
pub const CR4_SMAP: u64 = 1 << 21;
/// IA32_EFER.SCE
pub const EFER_SCE: u64 = 1 << 0;
pub use x86::{EFER_LMA, EFER_LME, EFER_NXE};

const CR0_DEFINED: u64 =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/// The control registers as the guest sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControlRegs {
    /// CR0
    pub cr0: u64,
    /// CR3
    pub cr3: u64,
    /// CR4
    pub cr4: u64,
    /// IA32_EFER, LMA included.
    pub efer: u64,
}

/// Why a write to a control register gives #GP(0); for logs and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrFault {
    /// A reserved bit, or one that the level does not offer.
    Reserved(u64),
    /// PG without PE, NW without CD, or the like.
    Combination,
    /// A PDPTE that would be loaded has a reserved bit set.
    Pdpte(u64),
    /// PG with LME but without CR4.PAE, or PAE taken away in IA-32e mode.
    LongModeNeedsPae,
}

/// What a guest may set, from its policy, and what the CPU asks of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The CPU has unrestricted guest: VM entry asks less of the segments.
    pub unrestricted: bool,
    /// CR4 bits the level offers.
    pub cr4: u64,
    /// IA32_EFER bits the level offers.
    pub efer: u64,
    /// Bits of CR3 that are addresses or flags: everything above is reserved.
    pub phys_bits: u8,
}

impl ControlRegs {
    /// True in IA-32e mode.
    #[must_use]
    pub const fn long_mode(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    /// True where CR3 points to PAE's four PDPTEs, which the VMCS must hold.
    #[must_use]
    pub const fn pae_paging(&self) -> bool {
        self.cr0 & CR0_PG != 0 && self.cr4 & CR4_PAE != 0 && !self.long_mode()
    }

    /// Whether a MOV to CR0 or CR4 that makes these registers `new` loads the PDPTEs (SDM 3A 4.4.1). Writes of IA32_EFER
    /// and CLTS never do.
    #[must_use]
    pub const fn loads_pdptes(&self, new: &Self) -> bool {
        const OF_CR0: u64 = CR0_CD | CR0_NW | CR0_PG;
        const OF_CR4: u64 = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
        let changed = (self.cr0 ^ new.cr0) & OF_CR0 | (self.cr4 ^ new.cr4) & OF_CR4;
        new.pae_paging() && changed != 0
    }

    /// MOV to CR0: the new registers. `cs_long`: the code segment is a 64-bit one.
    ///
    /// # Errors
    /// [`CrFault`] where the CPU would raise #GP(0) (SDM 2.5, 4.1.2).
    pub const fn write_cr0(self, value: u64, cs_long: bool) -> Result<Self, CrFault> {
        if value >> 32 != 0 {
            return Err(CrFault::Reserved(value & !CR0_DEFINED));
        }
        // reserved bits in the low half are ignored, ET is always 1
        let value = value & CR0_DEFINED | CR0_ET;
        if value & CR0_PG != 0 && value & CR0_PE == 0 || value & CR0_NW != 0 && value & CR0_CD == 0 {
            return Err(CrFault::Combination);
        }
        let mut efer = self.efer;
        let paging_on = value & CR0_PG != 0 && self.cr0 & CR0_PG == 0;
        if paging_on && self.efer & EFER_LME != 0 {
            if self.cr4 & CR4_PAE == 0 {
                return Err(CrFault::LongModeNeedsPae);
            }
            efer |= EFER_LMA;
        }
        if value & CR0_PG == 0 {
            let in_64_bit_mode = self.long_mode() && cs_long;
            if self.cr4 & CR4_PCIDE != 0 || in_64_bit_mode {
                return Err(CrFault::Combination);
            }
            efer &= !EFER_LMA;
        }
        Ok(Self { cr0: value, efer, ..self })
    }

    /// MOV to CR4.
    ///
    /// # Errors
    /// [`CrFault`] where the CPU, with the level's features, would raise #GP(0).
    pub const fn write_cr4(self, value: u64, limits: &Limits) -> Result<Self, CrFault> {
        if value & !limits.cr4 != 0 {
            return Err(CrFault::Reserved(value & !limits.cr4));
        }
        if self.long_mode() && value & CR4_PAE == 0 {
            return Err(CrFault::LongModeNeedsPae);
        }
        let pcide_on = value & CR4_PCIDE != 0 && self.cr4 & CR4_PCIDE == 0;
        if pcide_on && (!self.long_mode() || self.cr3 & 0xfff != 0) {
            return Err(CrFault::Combination);
        }
        Ok(Self { cr4: value, ..self })
    }

    /// MOV to CR3. Bit 63 (no flush, with PCIDE) is not part of the register.
    ///
    /// # Errors
    /// [`CrFault::Reserved`] for bits above the guest's physical width.
    pub const fn write_cr3(self, value: u64, limits: &Limits) -> Result<Self, CrFault> {
        let value = if self.cr4 & CR4_PCIDE != 0 { value & !(1 << 63) } else { value };
        let value = if self.long_mode() { value } else { value & 0xffff_ffff };
        if value >> limits.phys_bits != 0 {
            return Err(CrFault::Reserved(value >> limits.phys_bits << limits.phys_bits));
        }
        Ok(Self { cr3: value, ..self })
    }

    /// WRMSR to IA32_EFER. LMA is read-only.
    ///
    /// # Errors
    /// [`CrFault`] for a bit outside the level, or a change of LME while paging is on.
    pub const fn write_efer(self, value: u64, limits: &Limits) -> Result<Self, CrFault> {
        let value = value & !EFER_LMA;
        if value & !limits.efer != 0 {
            return Err(CrFault::Reserved(value & !limits.efer));
        }
        if self.cr0 & CR0_PG != 0 && (value ^ self.efer) & EFER_LME != 0 {
            return Err(CrFault::Combination);
        }
        Ok(Self { efer: value | self.efer & EFER_LMA, ..self })
    }
}

/// Where CR3 points to with PAE paging.
#[must_use]
pub const fn pdpte_table(cr3: u64) -> u64 {
    cr3 & 0xffff_ffe0
}

/// The four PDPTEs of a table in memory.
///
/// # Errors
/// [`CrFault::Pdpte`] where none is loaded, and #GP(0) raised.
pub fn load_pdptes(table: &[u8; 32], phys_bits: u8) -> Result<[u64; 4], CrFault> {
    let mut pdptes = [0; 4];
    for (pdpte, bytes) in pdptes.iter_mut().zip(table.as_chunks().0) {
        *pdpte = u64::from_le_bytes(*bytes);
        if !pdpte_is_legal(*pdpte, phys_bits) {
            return Err(CrFault::Pdpte(*pdpte));
        }
    }
    Ok(pdptes)
}

/// True for a PDPTE that a CPU with this width loads: one that is present has no reserved bit set (SDM 3A 4.4.1, table
/// 4-8: bits 2:1, 8:5, and those above the width).
#[must_use]
pub const fn pdpte_is_legal(pdpte: u64, phys_bits: u8) -> bool {
    let above = if phys_bits < 64 { u64::MAX << phys_bits } else { 0 };
    pdpte & 1 == 0 || pdpte & (above | 0x1e6) == 0
}

/// What of the hardware the translation depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagingCaps {
    /// The unrestricted-guest control is in use.
    pub unrestricted: bool,
    /// IA32_VMX_CR0_FIXED0.
    pub cr0_fixed0: u64,
    /// IA32_VMX_CR4_FIXED0.
    pub cr4_fixed0: u64,
    /// Guest-physical address of a page directory that maps 4 GiB one to one by 4 MiB pages.
    pub identity_cr3: u64,
}

/// The same registers as VMCS fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hardware {
    /// GUEST_CR0
    pub cr0: u64,
    /// GUEST_CR3
    pub cr3: u64,
    /// GUEST_CR4
    pub cr4: u64,
    /// GUEST_IA32_EFER
    pub efer: u64,
    /// "IA-32e mode guest" of the entry controls.
    pub ia32e: bool,
    /// MOV to and from CR3 must exit: the hardware's CR3 is not the guest's.
    pub cr3_exiting: bool,
}

/// A state that this CPU cannot run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeedsRealMode;

/// Translates the guest's registers for this CPU.
///
/// Without unrestricted guest, unpaged protected mode runs on the identity page directory with 4 MiB pages.
///
/// # Errors
/// [`NeedsRealMode`] where the guest is in real mode and the CPU lacks unrestricted guest.
pub const fn hardware(regs: &ControlRegs, caps: &PagingCaps) -> Result<Hardware, NeedsRealMode> {
    // CD and NW stay clear in hardware: the host decides caching. MCE stays set: a machine check must
    // reach the host. NE is a fixed bit.
    let mut fixed0 = caps.cr0_fixed0;
    if caps.unrestricted {
        fixed0 &= !(CR0_PE | CR0_PG);
    }
    let mut cr0 = regs.cr0 & !(CR0_CD | CR0_NW) | fixed0;
    let mut cr4 = regs.cr4 | caps.cr4_fixed0 | CR4_MCE;
    let mut cr3 = regs.cr3;
    let mut efer = regs.efer;
    let mut cr3_exiting = false;
    if !caps.unrestricted && regs.cr0 & CR0_PG == 0 {
        if regs.cr0 & CR0_PE == 0 {
            return Err(NeedsRealMode);
        }
        cr0 |= CR0_PG;
        cr4 = cr4 & !(CR4_PAE | CR4_SMEP | CR4_SMAP) | CR4_PSE;
        cr3 = caps.identity_cr3;
        cr3_exiting = true;
        efer &= !(EFER_LME | EFER_LMA);
    }
    // With paging on in hardware, LME must equal LMA (SDM 26.3.1.1).
    if cr0 & CR0_PG != 0 && efer & EFER_LMA == 0 {
        efer &= !EFER_LME;
    }
    Ok(Hardware { cr0, cr3, cr4, efer, ia32e: efer & EFER_LMA != 0, cr3_exiting })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        unrestricted: true,
        cr4: 0x7ff | CR4_OSXSAVE | CR4_PCIDE,
        efer: EFER_SCE | EFER_LME | EFER_NXE,
        phys_bits: 40,
    };
    const NEHALEM: PagingCaps = PagingCaps {
        unrestricted: false,
        cr0_fixed0: 0x8000_0021,
        cr4_fixed0: 0x2000,
        identity_cr3: 0xfeff_c000,
    };
    const WESTMERE: PagingCaps = PagingCaps { unrestricted: true, ..NEHALEM };

    #[test]
    fn linux_enters_long_mode() {
        let mut regs = ControlRegs { cr0: CR0_PE | CR0_ET, ..ControlRegs::default() };
        regs = regs.write_cr4(CR4_PAE, &LIMITS).expect("CR4");
        regs = regs.write_cr3(0x100_0000, &LIMITS).expect("CR3");
        regs = regs.write_efer(EFER_LME | EFER_NXE, &LIMITS).expect("EFER");
        assert!(!regs.long_mode());
        let unpaged = hardware(&regs, &NEHALEM).expect("protected mode");
        assert_eq!(unpaged.cr3, 0xfeff_c000);
        assert!(unpaged.cr3_exiting && !unpaged.ia32e && unpaged.efer & EFER_LME == 0);
        assert_eq!(unpaged.cr4 & (CR4_PAE | CR4_PSE), CR4_PSE);
        regs = regs.write_cr0(CR0_PG | CR0_PE | CR0_WP, false).expect("CR0");
        assert!(regs.long_mode() && !regs.pae_paging());
        for caps in [NEHALEM, WESTMERE] {
            let paged = hardware(&regs, &caps).expect("long mode");
            assert!(paged.ia32e && !paged.cr3_exiting);
            assert_eq!((paged.cr3, paged.efer), (0x100_0000, EFER_LME | EFER_LMA | EFER_NXE));
            assert_eq!(paged.cr4 & (CR4_VMXE | CR4_MCE), CR4_VMXE | CR4_MCE);
        }
        assert_eq!(regs.write_cr0(CR0_PE, true), Err(CrFault::Combination));
        regs = regs.write_cr0(CR0_PE, false).expect("paging off");
        assert_eq!(regs.efer, EFER_LME | EFER_NXE);
    }

    #[test]
    fn what_the_cpu_refuses() {
        let regs = ControlRegs::default();
        assert_eq!(regs.write_cr0(CR0_PG, false), Err(CrFault::Combination));
        assert_eq!(regs.write_cr0(CR0_NW, false), Err(CrFault::Combination));
        assert_eq!(regs.write_cr0(1 << 32, false), Err(CrFault::Reserved(1 << 32)));
        assert_eq!(regs.write_cr4(CR4_VMXE, &LIMITS), Err(CrFault::Reserved(CR4_VMXE)));
        assert_eq!(regs.write_cr4(CR4_PCIDE, &LIMITS), Err(CrFault::Combination));
        assert_eq!(regs.write_efer(1 << 14, &LIMITS), Err(CrFault::Reserved(1 << 14)));
        let long = ControlRegs { cr0: CR0_PE | CR0_PG, cr4: CR4_PAE, efer: EFER_LME | EFER_LMA, cr3: 0 };
        assert_eq!(long.write_cr4(0, &LIMITS), Err(CrFault::LongModeNeedsPae));
        assert_eq!(long.write_efer(0, &LIMITS), Err(CrFault::Combination));
        assert_eq!(long.write_cr3(1 << 40, &LIMITS), Err(CrFault::Reserved(1 << 40)));
    }

    /// Fault 2.16a: the instructions and bits of SDM 3A 4.4.1, and no others.
    #[test]
    fn pdptes_are_loaded_when_the_sdm_says() {
        let pae = ControlRegs { cr0: CR0_PE | CR0_PG, cr3: 0x1000, cr4: CR4_PAE, efer: 0 };
        for cr0 in [CR0_CD, CR0_NW | CR0_CD] {
            assert!(pae.loads_pdptes(&ControlRegs { cr0: pae.cr0 | cr0, ..pae }), "{cr0:#x}");
        }
        for cr4 in [CR4_PGE, CR4_PSE, CR4_SMEP] {
            assert!(pae.loads_pdptes(&ControlRegs { cr4: pae.cr4 | cr4, ..pae }), "{cr4:#x}");
        }
        assert!(ControlRegs { cr0: CR0_PE, ..pae }.loads_pdptes(&pae), "paging on");
        assert!(ControlRegs { cr4: 0, ..pae }.loads_pdptes(&pae), "PAE on");
        for same in [
            ControlRegs { cr0: pae.cr0 | CR0_TS | CR0_WP | CR0_MP, ..pae },
            ControlRegs { cr4: pae.cr4 | CR4_OSXSAVE | CR4_SMAP, ..pae },
            ControlRegs { efer: EFER_NXE, ..pae },
        ] {
            assert!(!pae.loads_pdptes(&same), "{same:x?}");
        }
        let long = ControlRegs { efer: EFER_LME | EFER_LMA, ..pae };
        assert!(!long.loads_pdptes(&ControlRegs { cr4: long.cr4 | CR4_PGE, ..long }), "four levels");
        assert!(!pae.loads_pdptes(&ControlRegs { cr4: 0, ..pae }), "two levels");
    }

    #[test]
    fn pdptes_with_reserved_bits_are_not_loaded() {
        let table = |pdptes: [u64; 4]| {
            let mut bytes = [0; 32];
            for (to, from) in bytes.chunks_exact_mut(8).zip(pdptes) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            load_pdptes(&bytes, 40)
        };
        assert_eq!(table([0x1001, 0, 0x1e6, 0x2e19]), Ok([0x1001, 0, 0x1e6, 0x2e19]), "absent: anything");
        for wrong in [2, 1 << 2, 1 << 5, 1 << 8, 1 << 40, 1 << 63] {
            assert_eq!(table([0, 0, 0, 1 | wrong]), Err(CrFault::Pdpte(1 | wrong)));
        }
        assert_eq!(
            load_pdptes(&[0xff; 32], 40),
            Err(CrFault::Pdpte(u64::MAX)),
            "not memory: it reads as ones"
        );
    }

    #[test]
    fn real_mode_needs_unrestricted_guest() {
        let regs = ControlRegs { cr0: CR0_ET, ..ControlRegs::default() };
        assert_eq!(hardware(&regs, &NEHALEM), Err(NeedsRealMode));
        assert_eq!(hardware(&regs, &WESTMERE).expect("unrestricted").cr0, CR0_ET | CR0_NE);
    }
}
