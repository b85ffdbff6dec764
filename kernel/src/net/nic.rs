//! The card that the host's network runs on: the one of `nic=`, else the first in PCI order that has a link.

use alloc::vec::Vec;
use core::fmt;

use ::iommu::IommuError;
use ::nic::intel::{self, BAR_BYTES, DMA_BYTES, Dma, InitError, Model, Probed, Registers};
use cmdline::NicChoice;
use switch::{Link, MacAddr};

use crate::iommu;
use hw::arch::{mmio, tsc};
use hw::mm::dma::DmaBuffer;
use hw::mm::{Hpa, map};
use hw::platform::pci::{self, Address, Bar, Function};

/// A running card.
pub(crate) type Card = intel::Card<Bar0, Arena>;

/// Network controller, Ethernet.
const CLASS_ETHERNET: (u8, u8) = (2, 0);
const COMMAND: u8 = 0x04;
const COMMAND_MEMORY: u32 = 1 << 1;
const LINK_CHECK_US: u64 = 10_000;

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
        self.0.size()
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

    fn with<R>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        self.0.with(offset, len, look)
    }

    fn with_mut<R>(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.0.with_mut(offset, len, fill)
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

/// A card that works, and does nothing yet.
struct Candidate {
    function: &'static Function,
    model: &'static Model,
    card: Probed<Bar0>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, model, card } = self;
        write!(f, "{} {model} mac {} {}", super::Place(function), card.mac(), card.link())
    }
}

/// Brings up the card of the choice. The log tells of the others, and what is wrong with those that do not work.
pub(super) fn find(choice: NicChoice) -> Option<Found> {
    let ethernet = pci::functions().iter().filter(|function| function.class == CLASS_ETHERNET);
    let mut cards: Vec<Candidate> = match choice {
        NicChoice::Place { bus, device, function } => {
            let place = Address { bus, device, function };
            ethernet.filter(|function| function.address == place).filter_map(candidate).collect()
        }
        NicChoice::Auto | NicChoice::Mac(_) => ethernet.filter_map(candidate).collect(),
    };
    if choice == NicChoice::Auto {
        await_link(&cards);
    }
    let mut found = None;
    while found.is_none()
        && let Some(index) = best(choice, &cards)
    {
        found = cards.remove(index).start();
    }
    for other in cards {
        log::info!(target: "net", "{other}: not used");
        other.card.release();
    }
    if found.is_none() && choice != NicChoice::Auto {
        log::error!(target: "net", "no network card {choice} that works, as nic= wants it");
    }
    found
}

/// The first with a link of those that are wanted, else the first of them.
fn best(choice: NicChoice, cards: &[Candidate]) -> Option<usize> {
    let wanted = |candidate: &Candidate| match choice {
        NicChoice::Mac(mac) => candidate.card.mac() == MacAddr(mac),
        NicChoice::Auto | NicChoice::Place { .. } => true,
    };
    let up = |candidate: &Candidate| candidate.card.link() != Link::Down;
    let with_link = cards.iter().position(|candidate| wanted(candidate) && up(candidate));
    with_link.or_else(|| cards.iter().position(wanted))
}

/// Waits where there is a choice: until the first card has a link, or none can be expected any more.
fn await_link(cards: &[Candidate]) {
    let [first, _, ..] = cards else { return };
    let (start, patience) = (tsc::micros(), u64::from(first.model.family.link_patience_us()));
    while first.card.link() == Link::Down && tsc::micros() - start < patience {
        tsc::delay(LINK_CHECK_US);
    }
}

fn candidate(function: &'static Function) -> Option<Candidate> {
    let Some(model) = Model::of_pci_id(function.vendor, function.device) else {
        log::warn!(target: "net", "no driver for {}", super::Place(function));
        return None;
    };
    match probe(function, model) {
        Ok(card) => Some(Candidate { function, model, card }),
        Err(why) => {
            log::error!(target: "net", "{} {model}: {why}", super::Place(function));
            None
        }
    }
}

fn probe(function: &Function, model: &Model) -> Result<Probed<Bar0>, Refusal> {
    function.reach();
    if model.family.needs_link_awake() {
        function.keep_link_awake();
    }
    let base = match function.bar(0) {
        Some(Bar::Memory { base, len }) if base != 0 && len >= BAR_BYTES as u64 => Hpa(base),
        _ => return Err(Refusal::NoBar),
    };
    map::map_mmio(base, BAR_BYTES as u64);
    // A network boot leaves the rings running: bus mastering stays off until they have stopped.
    let command = function.address.read(COMMAND) & 0xffff;
    function.address.write(COMMAND, command | COMMAND_MEMORY);
    Ok(Probed::new(model.family, Bar0(base))?)
}

impl Candidate {
    /// The running card; the log says why there is none.
    fn start(self) -> Option<Found> {
        let Self { function, model, card } = self;
        match bring_up(function, card) {
            Ok(card) => Some(Found { function, model, card }),
            Err(why) => {
                function.disable_bus_master();
                log::error!(target: "net", "{} {model}: {why}", super::Place(function));
                None
            }
        }
    }
}

fn bring_up(function: &Function, card: Probed<Bar0>) -> Result<Card, Refusal> {
    let arena = DmaBuffer::new(DMA_BYTES).ok_or(Refusal::NoMemory)?;
    iommu::allow(function.address, Hpa(arena.bus_addr(0)), DMA_BYTES as u64)?;
    function.enable();
    Ok(card.start(Arena(arena))?)
}

#[cfg(test)]
mod tests;
