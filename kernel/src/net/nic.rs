//! The card that the host's network runs on: the first one in PCI order that a driver knows.

use core::fmt;

use ::iommu::IommuError;
use net::intel::{self, BAR_BYTES, DMA_BYTES, Dma, Family, InitError, Model, Registers};

use crate::arch::pci::{self, Bar, Function};
use crate::arch::{mmio, tsc};
use crate::iommu;
use crate::mm::dma::DmaBuffer;
use crate::mm::{Hpa, map};

/// A running card.
pub(crate) type Card = intel::Card<Bar0, Arena>;

/// Network controller, Ethernet.
const CLASS_ETHERNET: (u8, u8) = (2, 0);
const COMMAND: u8 = 0x04;
const COMMAND_MEMORY: u32 = 1 << 1;

/// Registers of a card in BAR 0.
#[derive(Debug)]
pub(crate) struct Bar0(Hpa);

impl Registers for Bar0 {
    fn read32(&self, offset: u32) -> u32 {
        mmio::read32(self.at(offset))
    }

    fn write32(&mut self, offset: u32, value: u32) {
        mmio::write32(self.at(offset), value);
    }

    fn delay_us(&mut self, us: u32) {
        tsc::delay(us.into());
    }
}

impl Bar0 {
    fn at(&self, offset: u32) -> Hpa {
        debug_assert!((offset as usize) < BAR_BYTES);
        Hpa(self.0.0 + u64::from(offset))
    }
}

/// Descriptors and buffers of a card.
#[derive(Debug)]
pub(crate) struct Arena(DmaBuffer);

impl Dma for Arena {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn bus_addr(&self, offset: usize) -> u64 {
        self.0.bus_addr(offset)
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.0.read(offset, to);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }
}

/// Why a card that a driver knows is not used.
#[derive(Debug)]
enum Refusal {
    NoBar,
    NoMemory,
    Init(InitError),
    Closed(IommuError),
}

impl From<IommuError> for Refusal {
    fn from(error: IommuError) -> Self {
        Refusal::Closed(error)
    }
}

impl From<InitError> for Refusal {
    fn from(error: InitError) -> Self {
        Refusal::Init(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoBar => f.write_str("BAR 0 is not memory, or too small"),
            Refusal::NoMemory => write!(f, "no {DMA_BYTES} bytes of memory in one piece"),
            Refusal::Init(error) => error.fmt(f),
            Refusal::Closed(error) => write!(f, "the IOMMU lets it reach nothing: {error}"),
        }
    }
}

/// A card that runs.
pub(super) struct Found {
    pub(super) function: &'static Function,
    pub(super) model: &'static Model,
    pub(super) card: Card,
}

/// Brings up the first card that a driver knows and that works; the log says what is wrong with the others.
pub(super) fn find() -> Option<Found> {
    pci::functions().iter().filter(|function| function.class == CLASS_ETHERNET).find_map(|function| {
        let Some(model) = Model::of_pci_id(function.vendor, function.device) else {
            log::warn!(target: "net", "no driver for {}", super::Place(function));
            return None;
        };
        match bring_up(function, model.family) {
            Ok(card) => Some(Found { function, model, card }),
            Err(why) => {
                function.disable_bus_master();
                log::error!(target: "net", "{} {model}: {why}", super::Place(function));
                None
            }
        }
    })
}

fn bring_up(function: &Function, family: Family) -> Result<Card, Refusal> {
    let base = match function.bar(0) {
        Some(Bar::Memory { base, len }) if base != 0 && len >= BAR_BYTES as u64 => Hpa(base),
        _ => return Err(Refusal::NoBar),
    };
    let arena = DmaBuffer::new(DMA_BYTES).ok_or(Refusal::NoMemory)?;
    map::map_mmio(base, BAR_BYTES as u64);
    function.wake();
    // A network boot leaves the rings running: bus mastering stays off until they have stopped.
    let command = function.address.read(COMMAND) & 0xffff;
    function.address.write(COMMAND, command | COMMAND_MEMORY);
    intel::reset(family, &mut Bar0(base))?;
    iommu::allow(function.address, Hpa(arena.bus_addr(0)), DMA_BYTES as u64)?;
    function.enable();
    Ok(Card::new(family, Bar0(base), Arena(arena))?)
}
