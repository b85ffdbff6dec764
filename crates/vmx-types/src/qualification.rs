//! Exit qualifications as structs (SDM 27.2.1).

/// A general-purpose register by its number in ModRM order: RAX 0, RCX 1 ... R15 15.
pub type Gpr = u8;

/// What a control-register access did (SDM table 27-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrAccess {
    /// MOV to CR.
    Write {
        /// 0, 3, 4 or 8.
        cr: u8,
        /// Source.
        gpr: Gpr,
    },
    /// MOV from CR.
    Read {
        /// 3 or 8.
        cr: u8,
        /// Destination.
        gpr: Gpr,
    },
    /// CLTS.
    Clts,
    /// LMSW with its source operand.
    Lmsw(u16),
}

impl CrAccess {
    /// From the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        let cr = qualification as u8 & 0xf;
        let gpr = (qualification >> 8) as u8 & 0xf;
        match qualification >> 4 & 3 {
            0 => Self::Write { cr, gpr },
            1 => Self::Read { cr, gpr },
            2 => Self::Clts,
            _ => Self::Lmsw((qualification >> 16) as u16),
        }
    }
}

/// An I/O instruction (SDM table 27-5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoAccess {
    /// Port number.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// True for IN and INS.
    pub read: bool,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
}

impl IoAccess {
    /// From the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        Self {
            port: (qualification >> 16) as u16,
            size: (qualification as u8 & 7) + 1,
            read: qualification & 1 << 3 != 0,
            string: qualification & 1 << 4 != 0,
            rep: qualification & 1 << 5 != 0,
        }
    }
}

/// An EPT violation (SDM table 27-7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptViolation {
    /// Guest-physical address of the access.
    pub gpa: u64,
    /// A data read.
    pub read: bool,
    /// A data write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// The translation was readable, writable or executable, so a page is mapped there.
    pub mapped: bool,
    /// The access was to the page that a linear address translates to, not to a paging structure.
    pub linear_translation: bool,
    /// The exit happened in an IRET that had unblocked NMIs.
    pub nmi_unblocking: bool,
}

impl EptViolation {
    /// From the exit qualification and the guest-physical address.
    #[must_use]
    pub const fn decode(qualification: u64, gpa: u64) -> Self {
        Self {
            gpa,
            read: qualification & 1 != 0,
            write: qualification & 1 << 1 != 0,
            fetch: qualification & 1 << 2 != 0,
            mapped: qualification & 7 << 3 != 0,
            linear_translation: qualification & 3 << 7 == 3 << 7,
            nmi_unblocking: qualification & 1 << 12 != 0,
        }
    }
}

/// A MOV to or from a debug register (SDM table 27-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrAccess {
    /// 0 to 7.
    pub dr: u8,
    /// True for MOV from DR.
    pub read: bool,
    /// The general-purpose register.
    pub gpr: Gpr,
}

impl DrAccess {
    /// From the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        Self {
            dr: qualification as u8 & 7,
            read: qualification & 1 << 4 != 0,
            gpr: (qualification >> 8) as u8 & 0xf,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_by_the_table() {
        let insb = IoAccess::decode(0x03f8 << 16 | 1 << 5 | 1 << 4 | 1 << 3);
        assert_eq!(insb, IoAccess { port: 0x3f8, size: 1, read: true, string: true, rep: true });
        let outl = IoAccess::decode(0x0cf8 << 16 | 3);
        assert_eq!(outl, IoAccess { port: 0xcf8, size: 4, read: false, string: false, rep: false });
    }

    #[test]
    fn cr_by_the_table() {
        assert_eq!(CrAccess::decode(0x0f04), CrAccess::Write { cr: 4, gpr: 15 });
        assert_eq!(CrAccess::decode(0x0013), CrAccess::Read { cr: 3, gpr: 0 });
        assert_eq!(CrAccess::decode(0x20), CrAccess::Clts);
        assert_eq!(CrAccess::decode(0x0001_0030), CrAccess::Lmsw(1));
    }

    #[test]
    fn ept_by_the_table() {
        let write_protected = EptViolation::decode(0x1aa, 0x1000);
        assert!(write_protected.write && write_protected.mapped && write_protected.linear_translation);
        let walk = EptViolation::decode(0x083, 0);
        assert!(!walk.linear_translation && !walk.mapped);
    }
}
