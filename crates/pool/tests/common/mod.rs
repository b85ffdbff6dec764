//! Hosts in memory: each has a pool, and links that deliver in pieces, late, and break.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::missing_panics_doc,
    clippy::undocumented_unsafe_blocks
)]

#[path = "../../../cpu-policy/tests/common/mod.rs"]
pub mod dumps;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use cpu_policy::{GuestPolicy, HostPolicy};
use dumps::Dump;
use pool::{Dial, Event, HostId, Link, LinkId, Own, Pool, Status, Timing, Tsc};

pub const HZ: u64 = 20_000_000;
/// One step of the simulation.
pub const STEP_US: u64 = 50_000;

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn policy(dump: &Dump) -> HostPolicy {
    let mut policy = dump.policy();
    policy.tsc_hz = Some(HZ);
    policy
}

pub fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, number), 4444)
}

pub fn own(number: u8, name: &str, dump: &Dump, boot: u8) -> Own {
    let policy = policy(dump);
    let scaling = policy.controls().is_some_and(|controls| controls.tsc_scaling());
    Own {
        id: HostId([number; 16]),
        name: name.into(),
        boot: [boot; 16],
        software: "Flexvisor test".into(),
        policy,
        tsc: Tsc { hz: HZ, scaling },
        memory_mib: 512,
    }
}

pub fn status(number: u8) -> Status {
    Status {
        address: Some(address(number)),
        accepts: true,
        free_mib: 256,
        vms: Vec::new(),
        uuids: Vec::new(),
    }
}

pub fn alone(number: u8, name: &str, dump: &Dump) -> Pool {
    Pool::new(own(number, name, dump, number), status(number), Timing::default()).expect("it is a host")
}

pub fn guest(level: &str) -> Vec<u8> {
    dumps::render(level).encode()
}

pub fn decoded(level: &str) -> GuestPolicy {
    dumps::render(level)
}

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Bytes that may be read now.
    ready: usize,
}

struct Wire {
    /// From dialer to acceptor, and back.
    pipes: [Pipe; 2],
    ends: [usize; 2],
    open: [bool; 2],
    /// Nothing passes any more, and nobody is told.
    dead: bool,
}

pub struct End<'a> {
    wire: &'a mut Wire,
    side: usize,
    chunk: usize,
}

impl Link for End<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let pipe = &mut self.wire.pipes[1 - self.side];
        let n = buf.len().min(pipe.ready).min(self.chunk);
        buf.iter_mut().zip(pipe.bytes.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        pipe.ready -= n;
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.chunk);
        if !self.wire.dead {
            self.wire.pipes[self.side].bytes.extend(&data[..n]);
        }
        n
    }

    fn is_open(&self) -> bool {
        let there = self.wire.open[1 - self.side] || !self.wire.pipes[1 - self.side].bytes.is_empty();
        self.wire.open[self.side] && (there || self.wire.dead)
    }
}

pub struct Host {
    pub pool: Pool,
    pub address: SocketAddrV4,
    pub up: bool,
    pub events: Vec<Event>,
    links: BTreeMap<LinkId, (usize, usize)>,
}

/// Hosts and the wires between them.
pub struct World {
    pub now: u64,
    pub hosts: Vec<Host>,
    wires: Vec<Wire>,
    pub rng: Rng,
    /// One in so many steps of a wire breaks it; 0 for none.
    pub breaks: u64,
    /// Pairs between which nothing passes.
    pub cut: Vec<(usize, usize)>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: 1,
            hosts: Vec::new(),
            wires: Vec::new(),
            rng: Rng(seed | 1 << 40),
            breaks: 0,
            cut: Vec::new(),
        }
    }

    pub fn add(&mut self, pool: Pool, address: SocketAddrV4) -> usize {
        let links = BTreeMap::new();
        self.hosts.push(Host { pool, address, up: true, events: Vec::new(), links });
        self.hosts.len() - 1
    }

    /// A host that ends without a word.
    pub fn crash(&mut self, host: usize) {
        self.hosts[host].up = false;
        self.hosts[host].links.clear();
        for wire in &mut self.wires {
            wire.dead |= wire.ends.contains(&host);
        }
    }

    pub fn restart(&mut self, host: usize, pool: Pool) {
        let h = &mut self.hosts[host];
        (h.pool, h.up) = (pool, true);
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    fn dial(&mut self, from: usize, dial: Dial) {
        let to = self.hosts.iter().position(|host| host.address == dial.to && host.up);
        let Some(to) = to.filter(|to| !self.is_cut(from, *to)) else {
            return self.hosts[from].pool.failed(dial.link, "no route", self.now);
        };
        let seen = self.hosts[from].address;
        // From a port of its own, as TCP does.
        let seen = SocketAddrV4::new(*seen.ip(), 50_000);
        let Some(other) = self.hosts[to].pool.accepted(seen, self.now) else {
            return self.hosts[from].pool.failed(dial.link, "reset", self.now);
        };
        let wire = self.wires.len();
        self.wires.push(Wire {
            pipes: <[Pipe; 2]>::default(),
            ends: [from, to],
            open: [true; 2],
            dead: false,
        });
        self.hosts[from].links.insert(dial.link, (wire, 0));
        self.hosts[to].links.insert(other, (wire, 1));
    }

    pub fn step(&mut self) {
        self.now += STEP_US;
        for at in 0..self.wires.len() {
            let [a, b] = self.wires[at].ends;
            let cut = self.is_cut(a, b);
            let breaks = self.breaks > 0 && self.rng.below(self.breaks) == 0;
            let wire = &mut self.wires[at];
            wire.dead |= cut;
            if breaks {
                wire.open = [false; 2];
                wire.pipes = <[Pipe; 2]>::default();
            }
            for pipe in &mut wire.pipes {
                let late = self.rng.below(4) == 0;
                pipe.ready = if late { pipe.ready } else { pipe.bytes.len() };
            }
        }
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.rng.below(i as u64 + 1) as usize);
        }
        for host in order {
            if self.hosts[host].up {
                self.run(host);
            }
        }
    }

    fn run(&mut self, host: usize) {
        for _ in 0..64 {
            match self.hosts[host].pool.poll(self.now) {
                Some(dial) => self.dial(host, dial),
                None => break,
            }
        }
        let links: Vec<_> = self.hosts[host].links.iter().map(|(link, end)| (*link, *end)).collect();
        for (link, (wire, side)) in links {
            let chunk = 1 + self.rng.below(4096) as usize;
            let mut end = End { wire: &mut self.wires[wire], side, chunk };
            let h = &mut self.hosts[host];
            if !h.pool.poll_link(link, &mut end, self.now) {
                self.wires[wire].open[side] = false;
                h.links.remove(&link);
            }
        }
        let h = &mut self.hosts[host];
        while let Some(event) = h.pool.next_event() {
            assert!(!event.to_string().is_empty());
            h.events.push(event);
        }
    }

    pub fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds * 1_000_000 / STEP_US {
            self.step();
        }
    }

    /// Steps until `done`; panics after so many seconds.
    pub fn until(&mut self, seconds: u64, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..seconds * 1_000_000 / STEP_US {
            if done(self) {
                return;
            }
            self.step();
        }
        for host in self.hosts.iter().filter(|host| host.up) {
            let mut text = String::new();
            host.pool.write_text(&mut text).unwrap();
            println!("--- {}\n{text}", host.pool.own().name);
            host.events.iter().for_each(|event| println!("  {event}"));
        }
        panic!("not after {seconds} s: {what}");
    }

    /// All hosts that are up have `members` members, and agree.
    pub fn agree(&self, members: usize) -> bool {
        let mut up = self.hosts.iter().filter(|host| host.up && host.pool.name().is_some());
        let Some(first) = up.clone().next() else { return false };
        let fingerprint = first.pool.level().fingerprint();
        up.all(|host| {
            host.pool.members().len() == members
                && host.pool.level().fingerprint() == fingerprint
                && host.pool.is_formed()
        })
    }
}
