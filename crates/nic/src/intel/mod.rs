//! Polled driver for Intel's network cards: 8254x (82540EM, the card of Bochs and QEMU), e1000e, igb and ixgbe.
//!
//! All of them still take the descriptors of the first, so one pair of rings serves them all; what differs is how a
//! card is reset, where its registers are, and how its link and its address are read ([`Family`]).

mod loopback;
mod models;
mod probe;
pub mod regs;
mod reset;
mod rings;

pub use loopback::LoopError;
pub use models::{Family, MODELS, Model, VENDOR_INTEL};
pub use probe::Probed;
use regs::*;
use rings::{RX_RING, RxRing, TX_RING, TxRing};
use switch::{Link, MAX_FRAME, MIN_FRAME, MacAddr, Nic, TxError};

/// The card's memory-mapped registers (BAR 0).
pub trait Registers {
    /// Reads the register at byte offset `offset`, a multiple of 4 below 128 KiB.
    fn read32(&self, offset: u32) -> u32;
    /// Writes a register; earlier writes to DMA memory are visible to the card before it.
    fn write32(&mut self, offset: u32, value: u32);
    /// Waits at least this many microseconds; used only while the card is reset or [tried](Card::try_loop).
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
    /// Shows `len` bytes where they lie. The card must not write there meanwhile.
    fn with<R>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R;
    /// Lets `fill` change `len` bytes where they lie. The card must neither read nor write there meanwhile.
    fn with_mut<R>(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// Size of the DMA arena that [`Card::new`] needs.
pub const DMA_BYTES: usize = rings::DMA_BYTES;
/// Bytes of BAR 0 the driver touches.
pub const BAR_BYTES: usize = 0x2_0000;
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
    /// A queue never showed that it runs.
    #[error("queue at register {0:#x} does not start (DCTL {1:#010x})")]
    QueueStuck(u32, u32),
    /// The card's DMA was not ready after the reset.
    #[error("DMA is not ready after the reset (RDRXCTL {0:#010x})")]
    DmaNotReady(u32),
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
pub struct Card<R: Registers, D: Dma> {
    family: Family,
    registers: R,
    dma: D,
    mac: MacAddr,
    rx: RxRing,
    tx: TxRing,
    promiscuous: bool,
    counters: Counters,
}

impl<R: Registers, D: Dma> Card<R, D> {
    /// Probes a card and starts it, see [`Probed`].
    ///
    /// # Errors
    /// See [`InitError`]; the card is left reset, or does not answer.
    pub fn new(family: Family, registers: R, dma: D) -> Result<Self, InitError> {
        Probed::new(family, registers)?.start(dma)
    }

    /// Receives frames to any station (a guest's port behind the switch needs that) or only those to the card's own
    /// address and broadcast.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.promiscuous = on;
        if self.family == Family::Ixgbe {
            let filter = if on { FCTRL_UPE | FCTRL_MPE } else { 0 };
            return self.registers.write32(IXGBE_FCTRL, FCTRL_BAM | filter);
        }
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

    /// The next good frame: where it lies, and how long it is. Damaged ones are counted and given back.
    fn next_frame(&mut self) -> Option<(usize, usize)> {
        // One turn of the ring at most, however fast a broken card sets its done bits.
        for _ in 0..RX_RING {
            match self.rx.next(&self.dma) {
                None => break,
                Some(Ok((at, len))) => {
                    self.counters.rx_frames += 1;
                    self.counters.rx_bytes += len as u64;
                    return Some((at, len));
                }
                Some(Err(_)) => {
                    self.counters.rx_bad += 1;
                    self.rx.consume(&mut self.dma);
                    self.rx.give_back_batch(&mut self.registers);
                }
            }
        }
        self.rx.give_back(&mut self.registers);
        None
    }

    /// Gives the card the frame of `len` bytes in the next buffer; false where no descriptor is free, or it is no frame. Out of
    /// line, as callers are made anew for each way to write a frame.
    #[inline(never)]
    fn sent(&mut self, len: usize) -> bool {
        if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
            return false;
        }
        if self.tx.room() == 0 {
            self.tx.reclaim(&self.dma);
        }
        let sent = self.tx.send(&mut self.registers, &mut self.dma, len);
        if sent {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += len as u64;
        } else {
            self.counters.tx_full += 1;
        }
        sent
    }

    /// Stops both directions and resets the card, so that it writes to memory no more (before a reboot).
    pub fn shut_down(&mut self) -> Result<(), InitError> {
        reset::reset(self.family, &mut self.registers)?;
        reset::release(self.family, &mut self.registers);
        Ok(())
    }
}

impl<R: Registers, D: Dma> Nic for Card<R, D> {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        probe::link(self.family, &self.registers)
    }

    fn poll(&mut self) {
        self.tx.reclaim(&self.dma);
        self.rx.give_back(&mut self.registers);
    }

    fn rx_with<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let (at, len) = self.next_frame()?;
        // In place: a card that has set DD leaves descriptor and buffer alone until it is given them anew, and that is below.
        let result = self.dma.with(at, len, look);
        self.rx.consume(&mut self.dma);
        self.rx.give_back_batch(&mut self.registers);
        Some(result)
    }

    fn tx_with<T>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (T, bool)) -> T {
        // In place: the card has no descriptor of this buffer, neither a full ring's.
        let (result, send) = self.dma.with_mut(self.tx.buffer(), len.min(MAX_FRAME), fill);
        if send {
            self.sent(len);
        }
        result
    }

    fn tx(&mut self, frame: &[u8]) -> Result<(), TxError> {
        let len = frame.len();
        if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
            return Err(TxError::BadLength(len));
        }
        self.dma.write(self.tx.buffer(), frame);
        if self.sent(len) { Ok(()) } else { Err(TxError::Full) }
    }

    fn tx_room(&self) -> usize {
        self.tx.room()
    }
}

/// Starts both queues: the transmitter, then the receiver, which gets its descriptors once its queue runs.
fn start<R: Registers, D: Dma>(
    family: Family,
    registers: &mut R,
    dma: &mut D,
) -> Result<(RxRing, TxRing), InitError> {
    let (rx_queue, tx_queue, srrctl) = match family {
        Family::Igb | Family::I210 => (RX_IGB, TX_IGB, Some(SRRCTL_IGB)),
        Family::Ixgbe => (RX_IXGBE, TX_IXGBE, Some(SRRCTL_IXGBE)),
        _ => (RX_E1000, TX_E1000, None),
    };
    let rx = RxRing::start(rx_queue, registers, dma);
    let tx = TxRing::start(tx_queue, registers, dma);
    match srrctl {
        Some(srrctl) => {
            registers.write32(srrctl, SRRCTL_LEGACY_2K);
            if family == Family::Ixgbe {
                registers.write32(IXGBE_DMATXCTL, registers.read32(IXGBE_DMATXCTL) | DMATXCTL_TE);
            }
            enable(tx_queue, registers)?;
            enable(rx_queue, registers)?;
        }
        None => {
            registers.write32(RDTR, 0);
            if family != Family::I8254x {
                let dctl = tx_queue + QUEUE_DCTL;
                registers.write32(dctl, registers.read32(dctl) | TXDCTL_E1000E);
            }
            registers.write32(TIPG, TIPG_COPPER);
        }
    }
    if family != Family::Ixgbe {
        registers.write32(TCTL, TCTL_EN | TCTL_PSP | TCTL_COLLISION);
    }
    rx.open(registers);
    Ok((rx, tx))
}

/// Lets a queue run and waits until it does (82576 datasheet 8.10.13, 82599 datasheet 4.6.7).
fn enable(queue: u32, registers: &mut impl Registers) -> Result<(), InitError> {
    let dctl = queue + QUEUE_DCTL;
    registers.write32(dctl, registers.read32(dctl) | DCTL_ENABLE);
    for _ in 0..100 {
        if registers.read32(dctl) & DCTL_ENABLE != 0 {
            return Ok(());
        }
        registers.delay_us(100);
    }
    Err(InitError::QueueStuck(queue, registers.read32(dctl)))
}

/// Most frames the card takes before it must be polled.
pub const TX_DEPTH: usize = TX_RING - 1;
