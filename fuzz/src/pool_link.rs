//! A member of a pool against a peer that says anything.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

use cpu_policy::{Baseline, Level};
use pool::{HostId, Link, Own, Pool, Status, Timing, Tsc};

use crate::policy::host_of;

const HZ: u64 = 20_000_000;

/// What a peer says, to a member that it has dialed.
pub fn link(data: &[u8]) {
    let mut pool = host(1, "sandybridge");
    pool.enter("lab", &[], 0);
    let link = pool.accepted(address(2), 0).expect("there is room");
    let mut script = Script(data.iter().copied().collect());
    let mut now = 0;
    while pool.poll_link(link, &mut script, now) {
        now += 1_000_000;
        assert!(now < 1_000_000_000, "the link never ends");
    }
    while let Some(event) = pool.next_event() {
        assert!(!event.to_string().is_empty());
    }
    let members = pool.members();
    let meet = Baseline::meet(members.iter().map(|member| &member.policy));
    assert_eq!(meet.as_ref(), Some(pool.level()), "the level is not that of the members");
    let mut text = String::new();
    pool.write_text(&mut text).expect("text");
    pool.write_json(&mut text).expect("JSON");
}

/// What a host says while it joins.
pub(crate) fn record() -> Vec<u8> {
    let (mut here, mut there) = (host(1, "sandybridge"), host(2, "haswell"));
    here.enter("lab", &[], 0);
    there.enter("lab", &[], 0);
    let (mut to, mut from) = (Pipe::default(), Pipe::default());
    let links = [here.accepted(address(2), 0), there.accepted(address(1), 0)].map(|link| link.expect("room"));
    for now in 0..20 {
        assert!(there.poll_link(links[1], &mut End { out: &mut to, into: &mut from }, now * 100_000));
        assert!(here.poll_link(links[0], &mut End { out: &mut from, into: &mut to }, now * 100_000));
    }
    assert_eq!(here.members().len(), 2, "the seed does not join");
    to.all
}

fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, number), 4444)
}

fn host(number: u8, level: &str) -> Pool {
    let policy = host_of(Level::by_name(level).expect("a level")).with_tsc_hz(HZ);
    let own = Own {
        id: HostId([number; 16]),
        name: format!("host-{number}"),
        boot: [number; 16],
        software: "Flexvisor".into(),
        policy,
        tsc: Tsc { hz: HZ, scaling: false },
        memory_mib: 512,
    };
    let status = Status {
        address: Some(address(number)),
        accepts: true,
        free_mib: 256,
        vms: Vec::new(),
        uuids: Vec::new(),
    };
    Pool::new(own, status, Timing::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// A peer that says its piece whatever it hears, and hangs up.
struct Script(VecDeque<u8>);

impl Link for Script {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.0.len()).min(1000);
        buf.iter_mut().zip(self.0.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        data.len()
    }

    fn is_open(&self) -> bool {
        !self.0.is_empty()
    }
}

#[derive(Default)]
struct Pipe {
    waiting: VecDeque<u8>,
    all: Vec<u8>,
}

struct End<'a> {
    out: &'a mut Pipe,
    into: &'a mut Pipe,
}

impl Link for End<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.into.waiting.len());
        buf.iter_mut().zip(self.into.waiting.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.out.waiting.extend(data);
        self.out.all.extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        true
    }
}
