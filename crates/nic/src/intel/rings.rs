//! Receive and transmit rings of legacy descriptors (manual sections 3.2 and 3.3) in the DMA arena:
//! ```text
//! 0x0000  RX descriptors   64 x 16 bytes
//! 0x0400  TX descriptors   64 x 16 bytes
//! 0x1000  RX buffers       64 x 2 KiB
//! 0x21000 TX buffers       64 x 2 KiB
//! ```
//! What the card writes to a descriptor is read once, checked, and used only as a length within one buffer; ring positions
//! and buffer addresses are our own.

use super::regs::*;
use super::{Dma, Registers};
use switch::{MAX_FRAME, MIN_FRAME};

pub(super) const RX_RING: usize = 64;
pub(super) const TX_RING: usize = 64;
const BUFFER: usize = 2048;
const DESCRIPTOR: usize = 16;
const RX_DESCRIPTORS: usize = 0;
const TX_DESCRIPTORS: usize = RX_RING * DESCRIPTOR;
const RX_BUFFERS: usize = 4096;
const TX_BUFFERS: usize = RX_BUFFERS + RX_RING * BUFFER;
pub(super) const DMA_BYTES: usize = TX_BUFFERS + TX_RING * BUFFER;

// RDLEN and TDLEN are multiples of 128 bytes, and the descriptors end before the buffers.
const _: () = assert!(RX_RING.is_multiple_of(8) && TX_RING.is_multiple_of(8));
const _: () = assert!(TX_DESCRIPTORS + TX_RING * DESCRIPTOR <= RX_BUFFERS);

/// Offsets of fields in a descriptor.
const LENGTH: usize = 8;
const STATUS_BYTE: usize = 12;

/// Received descriptors are handed back in batches: one uncached write for this many frames.
const BATCH: usize = 8;

/// Tells a queue where its descriptors are, none of which it has yet.
fn place(queue: u32, registers: &mut impl Registers, at: u64, entries: usize) {
    registers.write32(queue + QUEUE_BAL, at as u32);
    registers.write32(queue + QUEUE_BAH, (at >> 32) as u32);
    registers.write32(queue + QUEUE_LEN, (entries * DESCRIPTOR) as u32);
    registers.write32(queue + QUEUE_H, 0);
    registers.write32(queue + QUEUE_T, 0);
}

/// Thrown away: damaged, of impossible length, or spread over several buffers.
#[derive(Debug, PartialEq)]
pub(super) struct Bad;

#[derive(Debug)]
pub(super) struct RxRing {
    /// First register of the queue.
    queue: u32,
    next: usize,
    /// Consumed descriptors the card does not know of yet.
    owed: usize,
    /// Inside a frame that began in an earlier buffer.
    inside_long_frame: bool,
}

impl RxRing {
    /// Sets up the queue whose first register is `queue`. No descriptor is given to the card before [`Self::open`]:
    /// a queue with an enable bit must run first.
    pub(super) fn start(queue: u32, registers: &mut impl Registers, dma: &mut impl Dma) -> Self {
        for index in 0..RX_RING {
            arm(dma, index);
        }
        place(queue, registers, dma.bus_addr(RX_DESCRIPTORS), RX_RING);
        Self { queue, next: 0, owed: 0, inside_long_frame: false }
    }

    /// Gives the card all descriptors but one.
    pub(super) fn open(&self, registers: &mut impl Registers) {
        registers.write32(self.queue + QUEUE_T, RX_RING as u32 - 1);
    }

    /// Looks at the descriptor that the card is done with: where its frame lies and how long it is, or that it is no good. To be
    /// [consumed](Self::consume) before the next.
    pub(super) fn next(&mut self, dma: &impl Dma) -> Option<Result<(usize, usize), Bad>> {
        let descriptor = RX_DESCRIPTORS + self.next * DESCRIPTOR;
        let mut done = [0; 1];
        dma.read(descriptor + STATUS_BYTE, &mut done);
        if done[0] & RXD_STAT_DD == 0 {
            return None;
        }
        // Only now: the card writes the length no later than DD.
        let mut written = [0; 8];
        dma.read(descriptor + LENGTH, &mut written);
        let [low, high, _, _, status, errors, ..] = written;
        let length = usize::from(u16::from_le_bytes([low, high]));

        let whole = status & RXD_STAT_EOP != 0;
        let continued = core::mem::replace(&mut self.inside_long_frame, !whole);
        let good =
            whole && !continued && errors & RXD_ERRORS == 0 && (MIN_FRAME..=MAX_FRAME).contains(&length);
        Some(if good { Ok((RX_BUFFERS + self.next * BUFFER, length)) } else { Err(Bad) })
    }

    /// Makes the descriptor that was looked at ready for the card, which is told of it later.
    pub(super) fn consume(&mut self, dma: &mut impl Dma) {
        arm(dma, self.next);
        self.next = (self.next + 1) % RX_RING;
        self.owed += 1;
    }

    /// Hands consumed descriptors back to the card.
    pub(super) fn give_back(&mut self, registers: &mut impl Registers) {
        if self.owed > 0 {
            self.owed = 0;
            registers.write32(self.queue + QUEUE_T, ((self.next + RX_RING - 1) % RX_RING) as u32);
        }
    }

    pub(super) fn give_back_batch(&mut self, registers: &mut impl Registers) {
        if self.owed >= BATCH {
            self.give_back(registers);
        }
    }
}

/// Writes RX descriptor `index` anew: its own buffer, status clear.
fn arm(dma: &mut impl Dma, index: usize) {
    let mut descriptor = [0; DESCRIPTOR];
    let buffer = dma.bus_addr(RX_BUFFERS + index * BUFFER);
    descriptor[..8].copy_from_slice(&buffer.to_le_bytes());
    dma.write(RX_DESCRIPTORS + index * DESCRIPTOR, &descriptor);
}

#[derive(Debug)]
pub(super) struct TxRing {
    /// First register of the queue.
    queue: u32,
    /// Next descriptor to fill: the card's tail.
    tail: usize,
    in_flight: usize,
}

impl TxRing {
    /// Sets up the queue whose first register is `queue`.
    pub(super) fn start(queue: u32, registers: &mut impl Registers, dma: &mut impl Dma) -> Self {
        dma.write(TX_DESCRIPTORS, &[0; TX_RING * DESCRIPTOR]);
        place(queue, registers, dma.bus_addr(TX_DESCRIPTORS), TX_RING);
        Self { queue, tail: 0, in_flight: 0 }
    }

    /// One descriptor stays free: a full ring would look empty to the card.
    pub(super) fn room(&self) -> usize {
        TX_RING - 1 - self.in_flight
    }

    /// Takes back descriptors the card is done with, oldest first.
    pub(super) fn reclaim(&mut self, dma: &impl Dma) {
        while self.in_flight > 0 {
            let oldest = (self.tail + TX_RING - self.in_flight) % TX_RING;
            let mut status = [0; 1];
            dma.read(TX_DESCRIPTORS + oldest * DESCRIPTOR + STATUS_BYTE, &mut status);
            if status[0] & TXD_STAT_DD == 0 {
                break;
            }
            self.in_flight -= 1;
        }
    }

    /// Where the next frame is to be written, up to [`MAX_FRAME`] bytes. The card never has this buffer: the descriptor that
    /// stays free has one, too.
    pub(super) fn buffer(&self) -> usize {
        TX_BUFFERS + self.tail * BUFFER
    }

    /// Tells the card of the frame of `len` bytes in [`Self::buffer`]; false when no descriptor is free.
    pub(super) fn send(&mut self, registers: &mut impl Registers, dma: &mut impl Dma, len: usize) -> bool {
        if self.room() == 0 {
            return false;
        }
        let mut descriptor = [0; DESCRIPTOR];
        descriptor[..8].copy_from_slice(&dma.bus_addr(self.buffer()).to_le_bytes());
        descriptor[LENGTH..LENGTH + 2].copy_from_slice(&(len as u16).to_le_bytes());
        descriptor[11] = TXD_CMD_EOP | TXD_CMD_IFCS | TXD_CMD_RS;
        dma.write(TX_DESCRIPTORS + self.tail * DESCRIPTOR, &descriptor);
        self.tail = (self.tail + 1) % TX_RING;
        self.in_flight += 1;
        registers.write32(self.queue + QUEUE_T, self.tail as u32);
        true
    }
}
