//! Two cards and the cable between them: frames are lost, late, doubled, out of order, or cut off.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use switch::{Link, MacAddr, Nic};

/// Frames that a card holds in each direction.
const DEPTH: usize = 256;

#[derive(Default)]
pub struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

/// A card: what the host's network sees of the simulation.
pub struct Card {
    mac: MacAddr,
    queues: Rc<RefCell<Queues>>,
}

impl Card {
    pub fn new(number: u8) -> (Self, Rc<RefCell<Queues>>) {
        let queues = Rc::<RefCell<Queues>>::default();
        (Self { mac: MacAddr([0x52, 0x54, 0, 0x12, 0x34, number]), queues: queues.clone() }, queues)
    }
}

impl Nic for Card {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let frame = self.queues.borrow_mut().received.pop_front()?;
        Some(look(&frame))
    }

    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
        let mut frame = vec![0; len];
        let (result, send) = fill(&mut frame);
        if send && self.tx_room() > 0 {
            self.queues.borrow_mut().sent.push_back(frame);
        }
        result
    }

    fn tx_room(&self) -> usize {
        DEPTH - self.queues.borrow().sent.len().min(DEPTH)
    }
}

/// What the cable does to frames. Times in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// Every frame of that direction is lost.
    pub cut: [bool; 2],
    /// Every frame is later by so much.
    pub late_us: u64,
    /// One in so many; 0: none.
    pub lose_one_in: u64,
    pub double_one_in: u64,
    /// Every so many frames one comes behind those that follow it within `shuffle_us`.
    pub shuffle_one_in: u64,
    pub shuffle_us: u64,
}

/// The cable.
pub struct Cable {
    pub weather: Weather,
    dice: super::Dice,
    /// By arrival and number: direction and frame.
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    free_at: [u64; 2],
    frames: u64,
}

const LATENCY_US: u64 = 200;
const PER_FRAME_US: u64 = 120;

impl Cable {
    pub fn new(seed: u64) -> Self {
        Self {
            weather: Weather::default(),
            dice: super::Dice::new(seed),
            flying: BTreeMap::new(),
            free_at: [0; 2],
            frames: 0,
        }
    }

    /// Takes what the cards have sent, and hands over what has arrived.
    pub fn carry(&mut self, cards: &[Rc<RefCell<Queues>>; 2], now: u64) {
        for (from, card) in cards.iter().enumerate() {
            while let Some(frame) = card.borrow_mut().sent.pop_front() {
                self.take(from, frame, now);
            }
        }
        while let Some((&(at, _), _)) = self.flying.first_key_value()
            && at <= now
        {
            let (_, (from, frame)) = self.flying.pop_first().expect("one is there");
            let mut card = cards[1 - from].borrow_mut();
            if !self.weather.cut[from] && card.received.len() < DEPTH {
                card.received.push_back(frame);
            }
        }
    }

    fn take(&mut self, from: usize, frame: Vec<u8>, now: u64) {
        let weather = self.weather;
        self.frames += 1;
        if weather.cut[from] || self.dice.one_in(weather.lose_one_in) {
            return;
        }
        self.free_at[from] = self.free_at[from].max(now) + PER_FRAME_US;
        let shuffled = if self.dice.one_in(weather.shuffle_one_in) { weather.shuffle_us } else { 0 };
        let at = self.free_at[from] + LATENCY_US + weather.late_us + shuffled;
        if self.dice.one_in(weather.double_one_in) {
            let later = at + self.dice.below(3000);
            self.flying.insert((later, self.frames << 1 | 1), (from, frame.clone()));
        }
        self.flying.insert((at, self.frames << 1), (from, frame));
    }

    /// When the next frame arrives.
    pub fn next(&self) -> Option<u64> {
        self.flying.first_key_value().map(|(&(at, _), _)| at)
    }
}
