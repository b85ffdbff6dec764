//! A card before it may use DMA: a host with several looks at all of them first.

use super::reset::{prepare, read_mac, release, reset};
use super::{Card, Counters, DMA_BYTES, Dma, Family, InitError, Registers, regs::*, start};
use switch::{Link, MacAddr};

/// A card that works: reset, its address known, its link coming up. It reads and writes no memory yet.
#[derive(Debug)]
pub struct Probed<R: Registers> {
    family: Family,
    registers: R,
    mac: MacAddr,
}

impl<R: Registers> Probed<R> {
    /// Stops whatever a boot loader left running, resets the card, reads its address and lets its link come up. PCI memory
    /// decoding must be on; bus mastering may be allowed from then on.
    ///
    /// # Errors
    /// The card does not answer, does not come out of reset, or has no usable address.
    pub fn new(family: Family, mut registers: R) -> Result<Self, InitError> {
        reset(family, &mut registers)?;
        let mac = read_mac(family, &mut registers)?;
        prepare(family, &mut registers, mac);
        Ok(Self { family, registers, mac })
    }

    /// Its address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The link now. Negotiation takes up to 3 s on copper.
    pub fn link(&self) -> Link {
        link(self.family, &self.registers)
    }

    /// Starts both rings with interrupts masked. Bus mastering must be on.
    ///
    /// # Errors
    /// See [`InitError`]; the card is left reset, or does not answer.
    pub fn start<D: Dma>(self, mut dma: D) -> Result<Card<R, D>, InitError> {
        let Self { family, mut registers, mac } = self;
        let base = dma.bus_addr(0);
        if dma.size() < DMA_BYTES || !base.is_multiple_of(4096) {
            return Err(InitError::BadArena(dma.size(), base));
        }
        let (rx, tx) = match start(family, &mut registers, &mut dma) {
            Ok(rings) => rings,
            Err(error) => {
                let _ = reset(family, &mut registers);
                return Err(error);
            }
        };
        let mut card =
            Card { family, registers, dma, mac, rx, tx, promiscuous: false, counters: Counters::default() };
        card.set_promiscuous(false);
        if family == Family::Ixgbe {
            card.registers.write32(IXGBE_RXCTRL, RXCTRL_RXEN);
        }
        Ok(card)
    }

    /// Leaves the card to the manageability firmware, at rest.
    pub fn release(mut self) {
        release(self.family, &mut self.registers);
    }
}

pub(super) fn link<R: Registers>(family: Family, registers: &R) -> Link {
    if family == Family::Ixgbe {
        return ixgbe_link(registers.read32(IXGBE_LINKS));
    }
    let status = registers.read32(STATUS);
    if status == u32::MAX || status & STATUS_LU == 0 {
        return Link::Down;
    }
    Link::Up(match status >> STATUS_SPEED_SHIFT & 3 {
        0 => 10,
        1 => 100,
        _ => 1000,
    })
}

fn ixgbe_link(links: u32) -> Link {
    if links == u32::MAX || links & LINKS_UP == 0 {
        return Link::Down;
    }
    match (links >> LINKS_SPEED_SHIFT & 3, links & LINKS_ODD_SPEED != 0) {
        (3, false) => Link::Up(10_000),
        (3, true) => Link::Up(2_500),
        (2, _) => Link::Up(1_000),
        (1, true) => Link::Up(5_000),
        (1, false) => Link::Up(100),
        _ => Link::Up(10),
    }
}
