//! Interrupt messages between the IO-APIC and the local APICs (SDM vol. 3, 11.6).

/// The delivery mode of an ICR, LVT or redirection entry, bits 10:8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    Fixed,
    LowestPriority,
    Smi,
    Nmi,
    Init,
    StartUp,
    ExtInt,
    Reserved,
}

impl Delivery {
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// One message on the way to the local APICs it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) vector: u8,
    pub(crate) delivery: Delivery,
    pub(crate) logical: bool,
    pub(crate) level: bool,
    pub(crate) dest: u32,
    /// An I/O device sent it: its destination has 8 bits, even to an x2APIC.
    pub(crate) from_io: bool,
}
