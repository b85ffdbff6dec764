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

/// An access to the APIC-access page (SDM table 27-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApicAccess {
    /// Where in the page; meaningless where the access was not by a linear address.
    pub offset: u16,
    /// What accessed it.
    pub kind: ApicAccessKind,
}

/// What accessed the APIC-access page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApicAccessKind {
    /// An instruction read from it.
    Read,
    /// An instruction wrote to it.
    Write,
    /// An instruction was fetched from it.
    Fetch,
    /// An event was delivered by way of it.
    EventDelivery,
    /// By a guest-physical address: the guest's tables lie there.
    GuestPhysical,
}

impl ApicAccess {
    /// From the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        let kind = match qualification >> 12 & 0xf {
            0 => ApicAccessKind::Read,
            1 => ApicAccessKind::Write,
            2 => ApicAccessKind::Fetch,
            3 => ApicAccessKind::EventDelivery,
            _ => ApicAccessKind::GuestPhysical,
        };
        Self { offset: qualification as u16 & 0xfff, kind }
    }
}

/// An EPT violation (SDM table 27-7). Kept as the CPU gave it: it travels in two registers on a short path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptViolation {
    /// Guest-physical address of the access.
    pub gpa: u64,
    qualification: u64,
}

impl EptViolation {
    /// From the exit qualification and the guest-physical address.
    #[must_use]
    pub const fn decode(qualification: u64, gpa: u64) -> Self {
        Self { gpa, qualification }
    }

    /// A data read.
    #[must_use]
    pub const fn read(self) -> bool {
        self.qualification & 1 != 0
    }

    /// A data write.
    #[must_use]
    pub const fn write(self) -> bool {
        self.qualification & 1 << 1 != 0
    }

    /// An instruction fetch.
    #[must_use]
    pub const fn fetch(self) -> bool {
        self.qualification & 1 << 2 != 0
    }

    /// The translation was readable, writable or executable, so a page is mapped there.
    #[must_use]
    pub const fn mapped(self) -> bool {
        self.qualification & 7 << 3 != 0
    }

    /// The access was to the page that a linear address translates to, not to a paging structure.
    #[must_use]
    pub const fn linear_translation(self) -> bool {
        self.qualification & 3 << 7 == 3 << 7
    }

    /// A data write to a page that is readable and not writable, and nothing besides.
    #[must_use]
    pub const fn is_protected_write(self) -> bool {
        const WRITE: u64 = 1 << 1;
        const READABLE: u64 = 1 << 3;
        const FETCH_WRITABLE_NMI: u64 = 1 << 2 | 1 << 4 | 1 << 12;
        self.qualification & (WRITE | READABLE | FETCH_WRITABLE_NMI) == WRITE | READABLE
    }

    /// The qualification itself.
    #[must_use]
    pub const fn qualification(self) -> u64 {
        self.qualification
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
    fn apic_accesses_by_the_table() {
        for (qualification, offset, kind) in [
            (0x0380, 0x380, ApicAccessKind::Read),
            (0x10b0, 0xb0, ApicAccessKind::Write),
            (0x2fff, 0xfff, ApicAccessKind::Fetch),
            (0x3010, 0x10, ApicAccessKind::EventDelivery),
            (0xa000, 0, ApicAccessKind::GuestPhysical),
            (0xf000, 0, ApicAccessKind::GuestPhysical),
        ] {
            assert_eq!(ApicAccess::decode(qualification), ApicAccess { offset, kind });
        }
    }

    #[test]
    fn ept_by_the_table() {
        let write_protected = EptViolation::decode(0x1aa, 0x1000);
        assert!(write_protected.write() && write_protected.mapped() && write_protected.linear_translation());
        assert!(!write_protected.read() && !write_protected.fetch());
        let walk = EptViolation::decode(0x1083, 0);
        assert!(!walk.linear_translation() && !walk.mapped());
        assert!(write_protected.is_protected_write() && !walk.is_protected_write());
        for other in [0x1ae, 0x1ba, 0x182, 0x1a9, 0x11aa] {
            assert!(!EptViolation::decode(other, 0).is_protected_write(), "{other:#x}");
        }
    }
}
