//! A mock of Intel's cards, of whichever family, that executes descriptors.
#![allow(dead_code, missing_docs, unreachable_pub)]

use nic::intel::regs::*;
use nic::intel::{self, DMA_BYTES, Dma, Family, Registers};
use std::cell::{Ref, RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use switch::MacAddr;

pub const BUS: u64 = 0x1_2345_6000;

/// What the card is: registers, memory it can reach, EEPROM, and what it sent.
pub struct Card {
    pub regs: HashMap<u32, u32>,
    pub memory: Vec<u8>,
    pub eeprom: [u16; 3],
    pub family: Family,
    /// The queues' enable bits stay clear.
    pub queue_stuck: bool,
    pub sent: VecDeque<Vec<u8>>,
    /// Transmit descriptors are left alone until [`Mock::transmit`].
    pub hold_tx: bool,
    pub dead: bool,
    /// What its loop does to a frame; `None` swallows it.
    pub looped: fn(Vec<u8>) -> Option<Vec<u8>>,
    pub reset_stuck: bool,
    /// Frames refused: no free descriptor, or filtered.
    pub missed: usize,
    pub rdt_writes: usize,
}

#[derive(Clone)]
pub struct Mock(Rc<RefCell<Card>>);

impl Mock {
    pub fn new(mac: MacAddr) -> Self {
        Self::of(Family::I8254x, mac)
    }

    pub fn of(family: Family, mac: MacAddr) -> Self {
        let m = mac.0;
        let word = |i: usize| u16::from_le_bytes([m[i], m[i + 1]]);
        Mock(Rc::new(RefCell::new(Card {
            regs: HashMap::from([(STATUS, 0x80 | STATUS_LU), (IXGBE_LINKS, LINKS_UP | 3 << 28)]),
            memory: vec![0xa5; DMA_BYTES],
            eeprom: [word(0), word(2), word(4)],
            family,
            queue_stuck: false,
            sent: VecDeque::new(),
            hold_tx: false,
            dead: false,
            looped: Some,
            reset_stuck: false,
            missed: 0,
            rdt_writes: 0,
        })))
    }

    pub fn card(&self) -> RefMut<'_, Card> {
        self.0.borrow_mut()
    }

    pub fn look(&self) -> Ref<'_, Card> {
        self.0.borrow()
    }

    /// A frame arrives on the wire.
    pub fn deliver(&self, frame: &[u8]) {
        self.card().receive(frame, RXD_STAT_DD | RXD_STAT_EOP, 0, None);
    }

    /// The same with what a broken card might write.
    pub fn deliver_raw(&self, frame: &[u8], status: u8, errors: u8, length: u16) {
        self.card().receive(frame, status, errors, Some(length));
    }

    pub fn transmit(&self) {
        self.card().transmit();
    }
}

impl Card {
    fn reg(&self, offset: u32) -> u32 {
        self.regs.get(&offset).copied().unwrap_or(0)
    }

    /// First registers of the receive and the transmit queue.
    pub fn queues(&self) -> (u32, u32) {
        match self.family {
            Family::Igb | Family::I210 => (0xc000, 0xe000),
            Family::Ixgbe => (0x1000, 0x6000),
            _ => (0x2800, 0x3800),
        }
    }

    fn has_queue_enable(&self) -> bool {
        matches!(self.family, Family::Igb | Family::I210 | Family::Ixgbe)
    }

    /// Whether a queue runs, by the card's own rules.
    pub fn runs(&self, queue: u32) -> bool {
        let (rx, _) = self.queues();
        let all = match (self.family, queue == rx) {
            (Family::Ixgbe, true) => self.reg(IXGBE_RXCTRL) & RXCTRL_RXEN != 0,
            (Family::Ixgbe, false) => self.reg(IXGBE_DMATXCTL) & DMATXCTL_TE != 0,
            (_, true) => self.reg(RCTL) & RCTL_EN != 0,
            (_, false) => self.reg(TCTL) & TCTL_EN != 0,
        };
        all && (!self.has_queue_enable() || self.reg(queue + QUEUE_DCTL) & DCTL_ENABLE != 0)
    }

    /// As after power-on: the address from the EEPROM in the first filter.
    fn reset(&mut self) {
        self.regs.retain(|&r, _| r == STATUS || r == IXGBE_LINKS);
        let [a, b, c] = self.eeprom.map(u32::from);
        let (low, high) = if self.family == Family::Ixgbe { (IXGBE_RAL0, IXGBE_RAH0) } else { (RAL0, RAH0) };
        if !matches!(self.family, Family::I8254x | Family::I8257x) {
            self.regs.extend([(low, a | b << 16), (high, c | RAH_AV)]);
        }
        if self.family == Family::Ixgbe {
            // What must be changed reads as after a reset of the silicon, or worse.
            self.regs.extend([
                (IXGBE_RDRXCTL, RDRXCTL_DMA_READY | RDRXCTL_RSC),
                (IXGBE_DCA_RXCTRL, DCA_RXCTRL_CLEAR),
                (IXGBE_HLREG0, 0x0c03),
            ]);
        }
    }

    /// A card with an IOMMU behind it: an access outside the arena is a test failure.
    fn at(&self, bus: u64, len: usize) -> usize {
        let offset = usize::try_from(bus.checked_sub(BUS).expect("DMA below the arena")).unwrap();
        assert!(offset + len <= self.memory.len(), "DMA past the arena: {offset:#x}+{len:#x}");
        offset
    }

    fn descriptor(&self, queue: u32, index: u32) -> usize {
        let base = u64::from(self.reg(queue + QUEUE_BAL)) | u64::from(self.reg(queue + QUEUE_BAH)) << 32;
        assert_eq!(base % 16, 0);
        self.at(base + u64::from(index) * 16, 16)
    }

    fn transmit(&mut self) {
        let (_, queue) = self.queues();
        let (head, tail) = (queue + QUEUE_H, queue + QUEUE_T);
        if !self.runs(queue) {
            return;
        }
        let entries = self.reg(queue + QUEUE_LEN) / 16;
        while self.reg(head) != self.reg(tail) {
            let at = self.descriptor(queue, self.reg(head));
            let d: [u8; 16] = self.memory[at..at + 16].try_into().unwrap();
            let length = usize::from(u16::from_le_bytes([d[8], d[9]]));
            let buffer = self.at(u64::from_le_bytes(d[..8].try_into().unwrap()), length);
            assert_eq!(d[11], TXD_CMD_EOP | TXD_CMD_IFCS | TXD_CMD_RS);
            let frame = self.memory[buffer..buffer + length].to_vec();
            // As the datasheets say: only with speed and duplex forced.
            let forced = CTRL_FRCSPD | CTRL_FRCDPX | CTRL_SPEED_1000 | CTRL_FD | CTRL_SLU;
            if self.reg(RCTL) & RCTL_LBM_MAC == 0 {
                self.sent.push_back(frame);
            } else if self.reg(CTRL) & (forced | CTRL_SPEED) == forced
                && let Some(frame) = (self.looped)(frame)
            {
                self.receive(&frame, RXD_STAT_DD | RXD_STAT_EOP, 0, None);
            }
            self.memory[at + 12] |= TXD_STAT_DD;
            let next = (self.reg(head) + 1) % entries;
            self.regs.insert(head, next);
        }
    }

    fn receive(&mut self, frame: &[u8], status: u8, errors: u8, length: Option<u16>) {
        let (queue, _) = self.queues();
        let (head, tail) = (self.reg(queue + QUEUE_H), self.reg(queue + QUEUE_T));
        let (low, high, everything) = if self.family == Family::Ixgbe {
            (IXGBE_RAL0, IXGBE_RAH0, self.reg(IXGBE_FCTRL) & FCTRL_UPE != 0)
        } else {
            (RAL0, RAH0, self.reg(RCTL) & RCTL_UPE != 0)
        };
        let ral = self.reg(low).to_le_bytes();
        let rah = self.reg(high).to_le_bytes();
        let own = [ral[0], ral[1], ral[2], ral[3], rah[0], rah[1]];
        let dst = frame.get(..6);
        let wanted = everything || dst == Some(&own) || dst == Some(&[0xff; 6]);
        if !self.runs(queue) || !wanted || head == tail {
            self.missed += 1;
            return;
        }
        let at = self.descriptor(queue, head);
        let buffer = u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap());
        let copied = frame.len().min(2048);
        let buffer = self.at(buffer, 2048);
        self.memory[buffer..buffer + copied].copy_from_slice(&frame[..copied]);
        let length = length.unwrap_or(frame.len() as u16);
        self.memory[at + 8..at + 10].copy_from_slice(&length.to_le_bytes());
        self.memory[at + 12] |= status;
        self.memory[at + 13] = errors;
        let entries = self.reg(queue + QUEUE_LEN) / 16;
        self.regs.insert(queue + QUEUE_H, (head + 1) % entries);
    }
}

impl Registers for Mock {
    fn read32(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 0x2_0000);
        let card = self.look();
        if card.dead {
            return u32::MAX;
        }
        if offset != EERD {
            return card.reg(offset);
        }
        let eerd = card.reg(EERD);
        let (shift, done) = match card.family {
            Family::I8254x => (8, 1 << 4),
            Family::I8257x => (2, 1 << 1),
            _ => return eerd,
        };
        let word = card.eeprom.get((eerd >> shift) as usize & 0x3f);
        word.map_or(eerd, |w| u32::from(*w) << 16 | done)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < 0x2_0000);
        let mut card = self.card();
        let (rx, tx) = card.queues();
        let keep = match offset {
            CTRL if value & CTRL_RST != 0 && !card.reset_stuck => {
                card.reset();
                value & !(CTRL_RST | CTRL_LRST)
            }
            _ if offset == rx + QUEUE_LEN || offset == tx + QUEUE_LEN => value & 0xf_ff80,
            _ if offset == rx + QUEUE_DCTL || offset == tx + QUEUE_DCTL => {
                if card.queue_stuck {
                    value & !DCTL_ENABLE
                } else {
                    value
                }
            }
            // A queue that does not run takes no descriptors.
            _ if offset == rx + QUEUE_T
                && card.has_queue_enable()
                && card.reg(rx + QUEUE_DCTL) & DCTL_ENABLE == 0 =>
            {
                0
            }
            _ => value,
        };
        card.regs.insert(offset, keep);
        if offset == tx + QUEUE_T && !card.hold_tx {
            card.transmit();
        } else if offset == rx + QUEUE_T {
            card.rdt_writes += 1;
        }
    }

    fn delay_us(&mut self, _us: u32) {}
}

impl Dma for Mock {
    fn size(&self) -> usize {
        self.look().memory.len()
    }

    fn bus_addr(&self, offset: usize) -> u64 {
        BUS + offset as u64
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.look().memory[offset..offset + to.len()]);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.card().memory[offset..offset + from.len()].copy_from_slice(from);
    }

    fn with<R>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.look().memory[offset..offset + len])
    }

    fn with_mut<R>(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        fill(&mut self.card().memory[offset..offset + len])
    }
}

pub fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x12, 0x34, n])
}

pub type TestCard = intel::Card<Mock, Mock>;

pub fn nic(n: u8) -> (Mock, TestCard) {
    nic_of(Family::I8254x, n)
}

pub fn nic_of(family: Family, n: u8) -> (Mock, TestCard) {
    let mock = Mock::of(family, mac(n));
    let nic = TestCard::new(family, mock.clone(), mock.clone()).unwrap();
    (mock, nic)
}

/// Small deterministic generator for losses and data.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.roll().is_multiple_of(n)
    }
}
