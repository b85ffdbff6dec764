//! The cards that the driver knows.

/// PCI vendor id of Intel.
pub const VENDOR_INTEL: u16 = 0x8086;

/// Cards with the same registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// 82540 to 82545: PCI, EERD with DONE in bit 4 and the address in bits 15:8.
    I8254x,
    /// 82574 and 82583: PCI Express, EERD with DONE in bit 1 and the address in bits 15:2.
    I8257x,
    /// I217, and of I218 those without an ultra-low-power mode: in the chipset, NVM shared with the firmware.
    I217,
    /// 82576, 82580, I350: queues with an enable bit of their own.
    Igb,
    /// I210 and I211: the same, whose packet buffer sizes survive a reset.
    I210,
    /// 82599, X540, X550: 10 Gbit/s.
    Ixgbe,
}

impl Family {
    /// The name that drivers of this family go by.
    pub const fn name(self) -> &'static str {
        match self {
            Family::I8254x => "e1000",
            Family::I8257x | Family::I217 => "e1000e",
            Family::Igb | Family::I210 => "igb",
            Family::Ixgbe => "ixgbe",
        }
    }
}

impl Family {
    /// Whether the link to the bridge above must be kept out of L0s and L1: with them the 82574 and 82583 hang or lose frames
    /// (82574 specification update, erratum 20; Linux' e1000e takes them away from both).
    pub const fn needs_link_awake(self) -> bool {
        matches!(self, Family::I8257x)
    }

    /// How long a link may take to come up after a reset, in microseconds: 1000BASE-T negotiates for up to 3 s, 10GBASE-T
    /// trains for longer, tries again at a lower rate, and is given 12 s.
    pub const fn link_patience_us(self) -> u32 {
        match self {
            Family::Ixgbe => 12_000_000,
            _ => 4_000_000,
        }
    }
}

/// A model of card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// PCI device id; the vendor is [`VENDOR_INTEL`].
    pub device: u16,
    /// How it is driven.
    pub family: Family,
    /// What it is sold as.
    pub name: &'static str,
}

impl core::fmt::Display for Model {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.name, self.family.name())
    }
}

impl Model {
    /// The model of a PCI function, if the driver knows it.
    pub fn of_pci_id(vendor: u16, device: u16) -> Option<&'static Model> {
        MODELS.iter().find(|model| vendor == VENDOR_INTEL && model.device == device)
    }
}

const fn model(device: u16, family: Family, name: &'static str) -> Model {
    Model { device, family, name }
}

/// Every model, by family. Those that are left out on purpose: the I219 hangs unless its rings are emptied before each reset,
/// and it, like some of I218, may sleep in an ultra-low-power mode that only the management engine ends. Of the igb family those with copper: the others need their SerDes set up.
pub const MODELS: &[Model] = &[
    model(0x100e, Family::I8254x, "82540EM"),
    model(0x100f, Family::I8254x, "82545EM"),
    model(0x10d3, Family::I8257x, "82574L"),
    model(0x10f6, Family::I8257x, "82574LA"),
    model(0x150c, Family::I8257x, "82583V"),
    model(0x153a, Family::I217, "I217-LM"),
    model(0x153b, Family::I217, "I217-V"),
    model(0x15a0, Family::I217, "I218-LM"),
    model(0x15a1, Family::I217, "I218-V"),
    model(0x10c9, Family::Igb, "82576"),
    model(0x10e8, Family::Igb, "82576"),
    model(0x1526, Family::Igb, "82576"),
    model(0x150a, Family::Igb, "82576NS"),
    model(0x150e, Family::Igb, "82580"),
    model(0x1516, Family::Igb, "82580"),
    model(0x1521, Family::Igb, "I350"),
    model(0x1533, Family::I210, "I210"),
    model(0x157b, Family::I210, "I210"),
    model(0x1539, Family::I210, "I211"),
    model(0x10fb, Family::Ixgbe, "82599 SFP+"),
    model(0x154d, Family::Ixgbe, "82599 SFP+"),
    model(0x1557, Family::Ixgbe, "82599EN SFP+"),
    model(0x10f7, Family::Ixgbe, "82599 KX4"),
    model(0x10f8, Family::Ixgbe, "82599 backplane"),
    model(0x10fc, Family::Ixgbe, "82599 XAUI"),
    model(0x151c, Family::Ixgbe, "82599 T3"),
    model(0x1528, Family::Ixgbe, "X540-T"),
    model(0x1560, Family::Ixgbe, "X540-T1"),
    model(0x1563, Family::Ixgbe, "X550-T"),
    model(0x15d1, Family::Ixgbe, "X550-T1"),
];
