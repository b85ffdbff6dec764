/// Levels of page tables between a device and memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Depth {
    /// Addresses of 39 bits.
    Three,
    /// Addresses of 48 bits.
    Four,
}

impl Depth {
    /// Bits of a device's addresses.
    pub const fn bits(self) -> u8 {
        match self {
            Depth::Three => 39,
            Depth::Four => 48,
        }
    }

    /// Tables from the first to the last.
    pub(crate) const fn levels(self) -> u32 {
        match self {
            Depth::Three => 3,
            Depth::Four => 4,
        }
    }

    /// As a context entry has it (field AW), and as the bit of SAGAW.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Depth::Three => 1,
            Depth::Four => 2,
        }
    }
}

/// What a unit says of itself: CAP and ECAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// CAP_REG (11.4.2).
    pub cap: u64,
    /// ECAP_REG (11.4.3).
    pub ecap: u64,
}

impl Capability {
    /// SAGAW: which depths it walks.
    pub const fn depths(self) -> u8 {
        (self.cap >> 8) as u8 & 0x1f
    }

    /// The deepest that all of `units` walk.
    pub fn common_depth(units: impl Iterator<Item = Capability>) -> Result<Depth, crate::IommuError> {
        let depths = units.fold(0x1f, |common, unit| common & unit.depths());
        [Depth::Four, Depth::Three]
            .into_iter()
            .find(|depth| depths & 1 << depth.code() != 0)
            .ok_or(crate::IommuError::NoDepth(depths))
    }

    /// Its internal write buffer must be flushed by software.
    pub(crate) const fn needs_write_flush(self) -> bool {
        self.cap & 1 << 4 != 0
    }

    /// It has protected memory regions, low or high.
    pub(crate) const fn has_protected_memory(self) -> bool {
        self.cap & (1 << 5 | 1 << 6) != 0
    }

    /// First fault record, and how many there are.
    pub(crate) const fn faults(self) -> (u32, u32) {
        ((self.cap >> 24) as u32 % 1024 * 16, (self.cap >> 40) as u32 % 256 + 1)
    }

    /// Upper half of the IOTLB invalidation register.
    pub(crate) const fn iotlb(self) -> u32 {
        (self.ecap >> 8) as u32 % 1024 * 16 + 12
    }

    /// Bytes of registers, from the first one on.
    pub fn register_bytes(self) -> u32 {
        let (first, count) = self.faults();
        (first + count * 16).max(self.iotlb() + 4).max(0x100)
    }
}
