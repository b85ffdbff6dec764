//! Two hosts, each with a mock of a card, and a wire between them.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

#[path = "../../../nic/tests/common/mod.rs"]
mod card;

pub use card::{Dice, Mock, TestCard, mac, nic};
use net::{AddressConfig, Host};
use std::net::Ipv4Addr;

pub fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub type TestHost = Host<TestCard>;

pub fn host(n: u8, config: AddressConfig) -> (Mock, TestHost) {
    let (mock, nic) = nic(n);
    // The same entropy everywhere: two emulated hosts can draw the same numbers.
    (mock, Host::new(nic, config, 42, 0).unwrap())
}

pub fn static_host(n: u8) -> (Mock, TestHost) {
    host(n, AddressConfig::Static { ip: ip(n), prefix: 24, gateway: None })
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
