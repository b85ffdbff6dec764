//! A mock 8254x that executes descriptors, and a wire between cards.
#![allow(dead_code, missing_docs, unreachable_pub)]

use net::e1000::regs::*;
use net::e1000::{DMA_BYTES, Dma, E1000, Registers, Variant};
use net::{AddressConfig, Host, MacAddr};
use std::cell::{Ref, RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;

pub const BUS: u64 = 0x1_2345_6000;

/// What the card is: registers, memory it can reach, EEPROM, and what it sent.
pub struct Card {
    pub regs: HashMap<u32, u32>,
    pub memory: Vec<u8>,
    pub eeprom: [u16; 3],
    pub variant: Variant,
    pub sent: VecDeque<Vec<u8>>,
    /// Transmit descriptors are left alone until [`Mock::transmit`].
    pub hold_tx: bool,
    pub dead: bool,
    pub reset_stuck: bool,
    /// Frames refused: no free descriptor, or filtered.
    pub missed: usize,
    pub rdt_writes: usize,
}

#[derive(Clone)]
pub struct Mock(Rc<RefCell<Card>>);

impl Mock {
    pub fn new(mac: MacAddr) -> Self {
        let m = mac.0;
        let word = |i: usize| u16::from_le_bytes([m[i], m[i + 1]]);
        Mock(Rc::new(RefCell::new(Card {
            regs: HashMap::from([(STATUS, 0x80 | STATUS_LU)]),
            memory: vec![0xa5; DMA_BYTES],
            eeprom: [word(0), word(2), word(4)],
            variant: Variant::I8254x,
            sent: VecDeque::new(),
            hold_tx: false,
            dead: false,
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

    /// A card with an IOMMU behind it: an access outside the arena is a test failure.
    fn at(&self, bus: u64, len: usize) -> usize {
        let offset = usize::try_from(bus.checked_sub(BUS).expect("DMA below the arena")).unwrap();
        assert!(offset + len <= self.memory.len(), "DMA past the arena: {offset:#x}+{len:#x}");
        offset
    }

    fn descriptor(&self, low: u32, high: u32, index: u32) -> usize {
        let base = u64::from(self.reg(low)) | u64::from(self.reg(high)) << 32;
        assert_eq!(base % 16, 0);
        self.at(base + u64::from(index) * 16, 16)
    }

    fn transmit(&mut self) {
        if self.reg(TCTL) & TCTL_EN == 0 {
            return;
        }
        let entries = self.reg(TDLEN) / 16;
        while self.reg(TDH) != self.reg(TDT) {
            let at = self.descriptor(TDBAL, TDBAH, self.reg(TDH));
            let d: [u8; 16] = self.memory[at..at + 16].try_into().unwrap();
            let length = usize::from(u16::from_le_bytes([d[8], d[9]]));
            let buffer = self.at(u64::from_le_bytes(d[..8].try_into().unwrap()), length);
            assert_eq!(d[11], TXD_CMD_EOP | TXD_CMD_IFCS | TXD_CMD_RS);
            self.sent.push_back(self.memory[buffer..buffer + length].to_vec());
            self.memory[at + 12] |= TXD_STAT_DD;
            let next = (self.reg(TDH) + 1) % entries;
            self.regs.insert(TDH, next);
        }
    }

    fn receive(&mut self, frame: &[u8], status: u8, errors: u8, length: Option<u16>) {
        let rctl = self.reg(RCTL);
        let (head, tail) = (self.reg(RDH), self.reg(RDT));
        let ral = self.reg(RAL0).to_le_bytes();
        let rah = self.reg(RAH0).to_le_bytes();
        let own = [ral[0], ral[1], ral[2], ral[3], rah[0], rah[1]];
        let dst = frame.get(..6);
        let wanted = rctl & RCTL_UPE != 0 || dst == Some(&own) || dst == Some(&[0xff; 6]);
        if rctl & RCTL_EN == 0 || !wanted || head == tail {
            self.missed += 1;
            return;
        }
        let at = self.descriptor(RDBAL, RDBAH, head);
        let buffer = u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap());
        let copied = frame.len().min(2048);
        let buffer = self.at(buffer, 2048);
        self.memory[buffer..buffer + copied].copy_from_slice(&frame[..copied]);
        let length = length.unwrap_or(frame.len() as u16);
        self.memory[at + 8..at + 10].copy_from_slice(&length.to_le_bytes());
        self.memory[at + 12] |= status;
        self.memory[at + 13] = errors;
        let entries = self.reg(RDLEN) / 16;
        self.regs.insert(RDH, (head + 1) % entries);
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
        let (shift, done) = if card.variant == Variant::I8254x { (8, 1 << 4) } else { (2, 1 << 1) };
        let word = card.eeprom.get((eerd >> shift) as usize & 0x3f);
        word.map_or(eerd, |w| u32::from(*w) << 16 | done)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < 0x2_0000);
        let mut card = self.card();
        let keep = match offset {
            CTRL if value & CTRL_RST != 0 && !card.reset_stuck => {
                card.regs.retain(|&r, _| r == STATUS);
                value & !CTRL_RST
            }
            RDLEN | TDLEN => value & 0xf_ff80,
            _ => value,
        };
        card.regs.insert(offset, keep);
        match offset {
            TDT if !card.hold_tx => card.transmit(),
            RDT => card.rdt_writes += 1,
            _ => {}
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
}

pub fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x12, 0x34, n])
}

pub fn nic(n: u8) -> (Mock, E1000<Mock, Mock>) {
    let mock = Mock::new(mac(n));
    let nic = E1000::new(Variant::I8254x, mock.clone(), mock.clone()).unwrap();
    (mock, nic)
}

pub fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub type TestHost = Host<E1000<Mock, Mock>>;

pub fn host(n: u8, config: AddressConfig) -> (Mock, TestHost) {
    let (mock, nic) = nic(n);
    // The same entropy everywhere: two emulated hosts can draw the same numbers.
    (mock, Host::new(nic, config, 42, 0).unwrap())
}

pub fn static_host(n: u8) -> (Mock, TestHost) {
    host(n, AddressConfig::Static { ip: ip(n), prefix: 24, gateway: None })
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

/// One direction of a wire: frames take `delay_us`, one leaves per `per_frame_us`; some are lost, doubled or late.
pub struct Wire {
    pub delay_us: u64,
    pub per_frame_us: u64,
    pub lose_one_in: u64,
    pub delay_one_in: u64,
    pub double_one_in: u64,
    pub cut: bool,
    pub frames: usize,
    pub lost: usize,
    dice: Dice,
    free_at: u64,
    flying: Vec<(u64, Vec<u8>)>,
}

impl Wire {
    pub fn new(delay_us: u64, per_frame_us: u64) -> Self {
        Wire {
            delay_us,
            per_frame_us,
            lose_one_in: 0,
            delay_one_in: 0,
            double_one_in: 0,
            cut: false,
            frames: 0,
            lost: 0,
            dice: Dice(0x1234_5678_9abc_def1),
            free_at: 0,
            flying: Vec::new(),
        }
    }

    pub fn lossy(seed: u64) -> Self {
        Wire { lose_one_in: 80, delay_one_in: 25, double_one_in: 60, dice: Dice(seed), ..Wire::new(200, 100) }
    }

    /// Takes what `from` sent and hands over to `to` what has arrived by `now`.
    pub fn carry(&mut self, from: &Mock, to: &Mock, now: u64) {
        while let Some(frame) = from.card().sent.pop_front() {
            self.frames += 1;
            if self.cut || self.dice.one_in(self.lose_one_in) {
                self.lost += 1;
                continue;
            }
            self.free_at = self.free_at.max(now) + self.per_frame_us;
            let late = if self.dice.one_in(self.delay_one_in) { 5 * self.per_frame_us } else { 0 };
            let at = self.free_at + self.delay_us + late;
            if self.dice.one_in(self.double_one_in) {
                self.flying.push((at + 1, frame.clone()));
            }
            self.flying.push((at, frame));
        }
        self.flying.sort_by_key(|f| f.0);
        let arrived = self.flying.partition_point(|f| f.0 <= now);
        for (_, frame) in self.flying.drain(..arrived) {
            to.deliver(&frame);
        }
    }
}

/// Two hosts and the wire between them.
pub struct Lan {
    pub a: TestHost,
    pub b: TestHost,
    pub cards: [Mock; 2],
    pub wires: [Wire; 2],
    pub now: u64,
    pub polls: usize,
}

impl Lan {
    pub fn new(wires: [Wire; 2]) -> Self {
        let (card_a, a) = static_host(1);
        let (card_b, b) = static_host(2);
        Lan { a, b, cards: [card_a, card_b], wires, now: 0, polls: 0 }
    }

    /// 100 us pass.
    pub fn step(&mut self) {
        self.now += 100;
        self.polls += 1;
        self.a.poll(self.now);
        self.b.poll(self.now);
        let [a, b] = &self.cards;
        self.wires[0].carry(a, b, self.now);
        self.wires[1].carry(b, a, self.now);
    }

    /// Steps until `done` or for `us` microseconds; whether it was done.
    pub fn run(&mut self, us: u64, mut done: impl FnMut(&mut Lan) -> bool) -> bool {
        let end = self.now + us;
        while self.now < end {
            self.step();
            if done(self) {
                return true;
            }
        }
        false
    }
}
