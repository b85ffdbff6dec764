//! Polled driver for the Intel 8254x family (82540EM, the card of Bochs and QEMU) and its legacy-descriptor heirs.

pub mod regs;
mod rings;

use crate::{Link, MAX_FRAME, MIN_FRAME, MacAddr, Nic, TxError};
use regs::*;
use rings::{RX_RING, RxRing, TX_RING, TxRing};

/// The card's memory-mapped registers (BAR 0).
pub trait Registers {
    /// Reads the register at byte offset `offset`, a multiple of 4 below 128 KiB.
    fn read32(&self, offset: u32) -> u32;
    /// Writes a register; earlier writes to DMA memory are visible to the card before it.
    fn write32(&mut self, offset: u32, value: u32);
    /// Waits at least this many microseconds; used only while the card is reset.
    fn delay_us(&mut self, us: u32);
}

/// Memory that the card reads and writes: [`DMA_BYTES`] bytes at consecutive bus addresses, 4 KiB aligned.
///
/// The driver stays within it. Calls take effect in program order, as the card sees them and as we see the card's.
pub trait Dma {
    /// Bytes in the arena.
    fn size(&self) -> usize;
    /// Address of byte `offset` as the card must use it.
    fn bus_addr(&self, offset: usize) -> u64;
    /// Copies from the arena.
    fn read(&self, offset: usize, to: &mut [u8]);
    /// Copies into the arena.
    fn write(&mut self, offset: usize, from: &[u8]);
}

/// Size of the DMA arena that [`E1000::new`] needs.
pub const DMA_BYTES: usize = rings::DMA_BYTES;
/// Bytes of BAR 0 the driver touches.
pub const BAR_BYTES: usize = 0x2_0000;
/// PCI vendor id of Intel.
pub const VENDOR_INTEL: u16 = 0x8086;

/// What differs between members of the family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// 82540EM and 82545EM: EERD with DONE in bit 4 and the address in bits 15:8.
    I8254x,
    /// 82574L (e1000e), not tried on silicon: EERD with DONE in bit 1 and the address in bits 15:2.
    I82574,
}

impl Variant {
    /// The variant of a PCI function, if the driver knows it.
    pub const fn of_pci_id(vendor: u16, device: u16) -> Option<Variant> {
        match (vendor, device) {
            (VENDOR_INTEL, 0x100e | 0x100f) => Some(Variant::I8254x),
            (VENDOR_INTEL, 0x10d3) => Some(Variant::I82574),
            _ => None,
        }
    }
}

/// Why a card could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InitError {
    /// Every register reads as ones.
    #[error("the card does not answer on its BAR")]
    NoAnswer,
    /// CTRL.RST stayed set.
    #[error("reset did not end (CTRL {0:#010x})")]
    ResetStuck(u32),
    /// EEPROM and receive-address register give no usable MAC.
    #[error("no usable MAC address (read {0})")]
    NoMac(MacAddr),
    /// EERD never showed DONE.
    #[error("EEPROM does not answer (EERD {0:#010x})")]
    EepromStuck(u32),
    /// The arena is too small or misaligned.
    #[error("DMA arena of {0} bytes at {1:#x} does not fit")]
    BadArena(usize, u64),
}

/// Frames and faults since the driver started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Good frames received and handed on.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Received descriptors thrown away: error bits, impossible length, frame over several buffers.
    pub rx_bad: u64,
    /// Frames given to the card.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Refused because all descriptors were in flight.
    pub tx_full: u64,
}

/// A running card.
#[derive(Debug)]
pub struct E1000<R: Registers, D: Dma> {
    variant: Variant,
    registers: R,
    dma: D,
    mac: MacAddr,
    rx: RxRing,
    tx: TxRing,
    promiscuous: bool,
    counters: Counters,
}

impl<R: Registers, D: Dma> E1000<R, D> {
    /// Resets the card, reads its MAC and starts both rings with interrupts masked.
    /// PCI memory decoding and bus mastering must be on.
    pub fn new(variant: Variant, mut registers: R, mut dma: D) -> Result<Self, InitError> {
        let base = dma.bus_addr(0);
        if dma.size() < DMA_BYTES || !base.is_multiple_of(4096) {
            return Err(InitError::BadArena(dma.size(), base));
        }
        reset(variant, &mut registers)?;
        let mac = read_mac(variant, &mut registers)?;

        let ctrl = registers.read32(CTRL) & !CTRL_CLEAR;
        registers.write32(CTRL, ctrl | CTRL_SLU | CTRL_ASDE);
        for flow_control in [FCAL, FCAH, FCT, FCTTV] {
            registers.write32(flow_control, 0);
        }
        set_station_address(&mut registers, mac);

        let rx = RxRing::start(&mut registers, &mut dma);
        let tx = TxRing::start(&mut registers, &mut dma);
        if variant == Variant::I82574 {
            let txdctl = registers.read32(TXDCTL);
            registers.write32(TXDCTL, txdctl | TXDCTL_82574);
        }
        registers.write32(TIPG, TIPG_COPPER);
        registers.write32(TCTL, TCTL_EN | TCTL_PSP | TCTL_COLLISION);
        let mut nic =
            Self { variant, registers, dma, mac, rx, tx, promiscuous: false, counters: Counters::default() };
        nic.set_promiscuous(false);
        Ok(nic)
    }

    /// Receives frames to any station (a guest's port behind the switch needs that) or only those to the card's own
    /// address and broadcast.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.promiscuous = on;
        let filter = if on { RCTL_UPE | RCTL_MPE } else { 0 };
        self.registers.write32(RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC | filter);
    }

    /// Whether frames to other stations are received.
    pub fn promiscuous(&self) -> bool {
        self.promiscuous
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Stops both directions and resets the card, so that it writes to memory no more (before a reboot).
    pub fn shut_down(&mut self) -> Result<(), InitError> {
        reset(self.variant, &mut self.registers)
    }
}

impl<R: Registers, D: Dma> Nic for E1000<R, D> {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        let status = self.registers.read32(STATUS);
        if status == u32::MAX || status & STATUS_LU == 0 {
            return Link::Down;
        }
        Link::Up(match status >> STATUS_SPEED_SHIFT & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        })
    }

    fn poll(&mut self) {
        self.tx.reclaim(&self.dma);
        self.rx.give_back(&mut self.registers);
    }

    fn rx(&mut self, buf: &mut [u8]) -> Option<usize> {
        // One turn of the ring at most, however fast a broken card sets its done bits.
        for _ in 0..RX_RING {
            let Some(length) = self.rx.next(&mut self.dma, buf) else { break };
            self.rx.give_back_batch(&mut self.registers);
            if let Ok(length) = length {
                self.counters.rx_frames += 1;
                self.counters.rx_bytes += length as u64;
                return Some(length);
            }
            self.counters.rx_bad += 1;
        }
        self.rx.give_back(&mut self.registers);
        None
    }

    fn tx(&mut self, frame: &[u8]) -> Result<(), TxError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(TxError::BadLength(frame.len()));
        }
        if self.tx.room() == 0 {
            self.tx.reclaim(&self.dma);
        }
        if !self.tx.send(&mut self.registers, &mut self.dma, frame) {
            self.counters.tx_full += 1;
            return Err(TxError::Full);
        }
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += frame.len() as u64;
        Ok(())
    }

    fn tx_room(&self) -> usize {
        self.tx.room()
    }
}

/// Masks interrupts, stops DMA and resets the MAC (manual section 14.3). A card that a boot loader left armed must have
/// this before bus mastering is allowed; [`E1000::new`] does it again.
pub fn reset(variant: Variant, registers: &mut impl Registers) -> Result<(), InitError> {
    if registers.read32(STATUS) == u32::MAX {
        return Err(InitError::NoAnswer);
    }
    registers.write32(IMC, u32::MAX);
    registers.write32(RCTL, 0);
    registers.write32(TCTL, TCTL_PSP);
    let ctrl = registers.read32(CTRL);
    if variant == Variant::I82574 {
        // A PCI Express part must have no request outstanding when it is reset.
        registers.write32(CTRL, ctrl | CTRL_GIO_MASTER_DISABLE);
        registers.delay_us(10_000);
    }
    registers.write32(CTRL, ctrl | CTRL_RST);
    // The manual asks for 1 us before the next access; the EEPROM is read again within 2 ms.
    registers.delay_us(5_000);
    let mut ctrl = registers.read32(CTRL);
    for _ in 0..100 {
        if ctrl & CTRL_RST == 0 {
            break;
        }
        registers.delay_us(1_000);
        ctrl = registers.read32(CTRL);
    }
    if ctrl & CTRL_RST != 0 {
        return Err(InitError::ResetStuck(ctrl));
    }
    registers.write32(IMC, u32::MAX);
    let _ = registers.read32(ICR);
    Ok(())
}

/// The address from the EEPROM, else what the card loaded into its first receive address itself.
fn read_mac(variant: Variant, registers: &mut impl Registers) -> Result<MacAddr, InitError> {
    let eeprom = eeprom_mac(variant, registers);
    if let Ok(mac) = eeprom
        && mac.is_station()
    {
        return Ok(mac);
    }
    let [a, b, c, d] = registers.read32(RAL0).to_le_bytes();
    let [e, f, ..] = registers.read32(RAH0).to_le_bytes();
    let loaded = MacAddr([a, b, c, d, e, f]);
    if loaded.is_station() {
        return Ok(loaded);
    }
    Err(eeprom.map_or_else(|e| e, InitError::NoMac))
}

fn eeprom_mac(variant: Variant, registers: &mut impl Registers) -> Result<MacAddr, InitError> {
    let mut mac = [0; 6];
    for (word, bytes) in (0u32..).zip(mac.chunks_exact_mut(2)) {
        bytes.copy_from_slice(&eeprom_word(variant, registers, word)?.to_le_bytes());
    }
    Ok(MacAddr(mac))
}

fn eeprom_word(variant: Variant, registers: &mut impl Registers, word: u32) -> Result<u16, InitError> {
    let (shift, done) = match variant {
        Variant::I8254x => (8, 1 << 4),
        Variant::I82574 => (2, 1 << 1),
    };
    registers.write32(EERD, word << shift | 1);
    let mut value = registers.read32(EERD);
    for _ in 0..1000 {
        if value & done != 0 {
            return Ok((value >> 16) as u16);
        }
        registers.delay_us(5);
        value = registers.read32(EERD);
    }
    Err(InitError::EepromStuck(value))
}

/// Filters: our address in the first pair, no other address, no multicast.
fn set_station_address(registers: &mut impl Registers, mac: MacAddr) {
    let [a, b, c, d, e, f] = mac.0;
    registers.write32(RAL0, u32::from_le_bytes([a, b, c, d]));
    registers.write32(RAH0, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
    for pair in 1..RA_PAIRS {
        registers.write32(RAH0 + pair * 8, 0);
        registers.write32(RAL0 + pair * 8, 0);
    }
    for word in 0..MTA_WORDS {
        registers.write32(MTA + word * 4, 0);
    }
}

/// Most frames the card takes before it must be polled.
pub const TX_DEPTH: usize = TX_RING - 1;
