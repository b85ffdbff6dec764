//! Many hosts on one segment, some of them switched off: who is not there costs nobody else anything.
#![allow(missing_docs)]

mod common;

use common::{Mock, TestHost, host, ip, mac, static_host};
use net::{AddressConfig, Connection, ConnectionState, Listener, NetError, PingStatus};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};
use std::collections::HashMap;
use std::net::Ipv4Addr;

const PORT: u16 = 4444;
const MS: u64 = 1000;
const SECOND: u64 = 1_000_000;

/// Hosts on one hub; each has an address, a listener, and takes what comes.
struct Segment {
    hosts: Vec<(Mock, TestHost, Listener)>,
    /// What was accepted, and by which host.
    accepted: Vec<(usize, Connection)>,
    now: u64,
    /// ARP requests for each address.
    asked: HashMap<Ipv4Addr, usize>,
}

impl Segment {
    fn new(hosts: Vec<(Mock, TestHost)>) -> Self {
        let listen = |(card, mut host): (Mock, TestHost)| {
            let listener = host.stack().listen(PORT, 8).unwrap();
            (card, host, listener)
        };
        Self {
            hosts: hosts.into_iter().map(listen).collect(),
            accepted: vec![],
            now: 0,
            asked: HashMap::new(),
        }
    }

    /// Half a millisecond passes; a frame that a host sends is with all others at its end.
    fn step(&mut self) {
        self.now += MS / 2;
        for (number, (_, host, listener)) in self.hosts.iter_mut().enumerate() {
            host.poll(self.now);
            while let Some(connection) = host.stack().accept(*listener).unwrap() {
                self.accepted.push((number, connection));
            }
        }
        let hosts = &mut self.hosts;
        self.accepted.retain(|(number, connection)| {
            let stack = hosts[*number].1.stack();
            stack.connection_state(*connection).is_ok() || stack.close(*connection).is_err()
        });
        for from in 0..self.hosts.len() {
            while let Some(frame) = { self.hosts[from].0.card().sent.pop_front() } {
                if let Some(ip) = asked_for(&frame) {
                    *self.asked.entry(ip).or_default() += 1;
                }
                let others = self.hosts.iter().enumerate().filter(|(to, _)| *to != from);
                others.for_each(|(_, (card, ..))| card.deliver(&frame));
            }
        }
    }

    fn run(&mut self, us: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + us;
        while self.now < end {
            self.step();
            if done(self) {
                return true;
            }
        }
        false
    }

    fn dial(&mut self, to: u8) -> Connection {
        self.hosts[0].1.stack().connect(ip(to), PORT).unwrap()
    }

    fn state(&mut self, connection: Connection) -> Option<ConnectionState> {
        self.hosts[0].1.stack().connection_state(connection).ok()
    }
}

fn asked_for(frame: &[u8]) -> Option<Ipv4Addr> {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    match ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap() {
        ArpRepr::EthernetIpv4 { operation: ArpOperation::Request, target_protocol_addr, .. } => {
            Some(target_protocol_addr)
        }
        _ => None,
    }
}

/// Issue 12, fault 6.1. A host that is off, or in another network, is named as that, and soon; one that comes up late is
/// reached, and so is one that was off at the last attempt.
#[test]
fn an_address_that_nobody_has_is_said_so() {
    let mut segment = Segment::new(vec![static_host(1), static_host(2)]);
    let nobody = segment.dial(9);
    segment.hosts[0].1.stack().udp_open(ip(9)).unwrap();
    segment.hosts[0].1.stack().udp_send(69, b"read").unwrap();
    let over = |s: &mut Segment| s.hosts[0].1.stack().connection_state(nobody).is_err();
    assert!(!segment.run(5_900 * MS, over), "given up after {} us", segment.now);
    assert!(segment.run(400 * MS, over), "it is still waited for");
    let why = segment.hosts[0].1.stack().connection_state(nobody).unwrap_err();
    assert_eq!(why, NetError::NoNeighbour(ip(9)));
    assert_eq!(why.to_string(), "no answer to ARP for 10.0.0.9: is the host on, in this network?");
    let mut datagram = [0; 64];
    assert_eq!(segment.hosts[0].1.stack().udp_receive(&mut datagram), Err(why));
    segment.hosts[0].1.stack().abort(nobody).unwrap();
    segment.hosts[0].1.stack().udp_close();
    // It is switched on two seconds after the next attempt has begun.
    let late = segment.dial(9);
    assert!(!segment.run(2 * SECOND, |s| s.hosts[0].1.stack().connection_state(late).is_err()));
    let (card, mut host) = static_host(9);
    let listener = host.stack().listen(PORT, 8).unwrap();
    segment.hosts.push((card, host, listener));
    assert!(segment.run(10 * SECOND, |s| s.state(late) == Some(ConnectionState::Open)), "not reached");
}

/// A sister of it: what was connected once is left to TCP's own times, also when its peer's ARP answer has grown old; a
/// new attempt to reach that peer is not.
#[test]
fn a_connection_outlives_the_answer_to_arp() {
    let mut segment = Segment::new(vec![static_host(1), static_host(2), static_host(3)]);
    let (idle, busy) = (segment.dial(2), segment.dial(2));
    segment.hosts[1].1.stack().connect(ip(1), PORT).unwrap();
    let open = |s: &mut Segment| s.accepted.len() == 3;
    assert!(segment.run(20 * MS, open));
    let (_, from_peer) = *segment.accepted.iter().find(|(number, _)| *number == 0).unwrap();
    let (ours, theirs) = (segment.hosts[0].1.stack().udp_open(ip(2)).unwrap(), segment.hosts[1].1.stack());
    theirs.udp_open(ip(1)).unwrap();
    assert!(theirs.udp_send(ours, b"block 1").unwrap());
    let mut datagram = [0; 64];
    let heard = |s: &mut Segment| s.hosts[0].1.stack().udp_receive(&mut datagram).unwrap().is_some();
    assert!(segment.run(10 * MS, heard));
    // Its cable is pulled a moment before its answer grows old, for 40 s.
    segment.run(55 * SECOND, |_| false);
    let away = segment.hosts.remove(1);
    segment.accepted.retain(|(number, _)| *number != 1);
    for connection in [busy, from_peer] {
        assert_eq!(segment.hosts[0].1.stack().send(connection, b"beat").unwrap(), 4);
    }
    for second in 0..40 {
        segment.run(SECOND, |_| false);
        for connection in [idle, busy, from_peer] {
            assert_eq!(segment.state(connection), Some(ConnectionState::Open), "{second} s");
        }
        let stack = segment.hosts[0].1.stack();
        assert!(stack.udp_send(69, b"ack 1").is_ok());
        assert_eq!(stack.udp_receive(&mut [0; 64]), Ok(None), "{second} s");
    }
    let asked = segment.asked[&ip(2)];
    assert!(asked > 10, "{asked} questions");
    let anew = segment.dial(2);
    let over =
        |s: &mut Segment| s.hosts[0].1.stack().connection_state(anew) == Err(NetError::NoNeighbour(ip(2)));
    assert!(segment.run(6_300 * MS, over));
    segment.hosts.insert(1, away);
    let acknowledged = |s: &mut Segment| {
        [busy, from_peer].iter().all(|connection| s.hosts[0].1.stack().unacknowledged(*connection) == 0)
    };
    assert!(segment.run(30 * SECOND, acknowledged), "{:?}", segment.state(busy));
}

/// Behind a gateway that nobody has, it is the gateway that is named.
#[test]
fn a_gateway_that_nobody_has_is_said_so() {
    let config = AddressConfig::Static { ip: ip(1), prefix: 24, gateway: Some(ip(254)) };
    let mut segment = Segment::new(vec![host(1, config), static_host(2)]);
    let beyond = segment.hosts[0].1.stack().connect(Ipv4Addr::new(192, 0, 2, 1), PORT).unwrap();
    let over = |s: &mut Segment| s.hosts[0].1.stack().connection_state(beyond).is_err();
    assert!(segment.run(6_300 * MS, over));
    let why = segment.hosts[0].1.stack().connection_state(beyond).unwrap_err();
    assert_eq!(why.to_string(), "no answer to ARP for the gateway 10.0.0.254: is it on, in this network?");
}

/// Issue 12, fault 3.6. Nine members of a pool are off, and dialled again as soon as an attempt ends; the tenth is there.
#[test]
fn nine_absent_peers_and_one_living() {
    let mut segment = Segment::new(vec![static_host(1), static_host(2)]);
    let mut absent: Vec<(u8, Connection)> = (11..20).map(|n| (n, segment.dial(n))).collect();
    segment.run(SECOND, |_| false);
    for attempt in 0..30 {
        let living = segment.dial(2);
        let open = |s: &mut Segment| s.state(living) == Some(ConnectionState::Open);
        assert!(segment.run(5 * MS, open), "attempt {attempt} at {} us", segment.now);
        segment.hosts[0].1.stack().abort(living).unwrap();
        let now = segment.now;
        segment.hosts[0].1.stack().ping(ip(2), SECOND, now).unwrap();
        let answered = |s: &mut Segment| {
            let now = s.now;
            matches!(s.hosts[0].1.stack().ping_status(now), PingStatus::Reply(_))
        };
        assert!(segment.run(5 * MS, answered), "ping {attempt} at {} us", segment.now);
        segment.run(SECOND, |s| {
            for (to, connection) in &mut absent {
                let stack = s.hosts[0].1.stack();
                if stack.connection_state(*connection).is_err() {
                    stack.abort(*connection).unwrap();
                    *connection = stack.connect(ip(*to), PORT).unwrap();
                }
            }
            false
        });
    }
    // Each is asked for once a second at most; the one that answers was asked for once, and again after a minute.
    for n in 11..20 {
        let asked = segment.asked[&ip(n)];
        assert!((5..=32).contains(&asked), "{n}: {asked} requests in {} us", segment.now);
    }
    assert_eq!(segment.asked[&ip(2)], 1);
}

/// A sister of it: smoltcp remembers eight neighbours, and a pool has fifteen. None waits for another, and none stands
/// still when its answer grows old.
#[test]
fn fifteen_living_peers() {
    let hosts = (1..=16).map(static_host).collect();
    let mut segment = Segment::new(hosts);
    let peers: Vec<Connection> = (2..=16).map(|n| segment.dial(n)).collect();
    let open = |s: &mut Segment| peers.iter().all(|c| s.state(*c) == Some(ConnectionState::Open));
    assert!(segment.run(10 * MS, open));
    for second in 0..70 {
        for connection in &peers {
            assert_eq!(segment.hosts[0].1.stack().send(*connection, b"beat").unwrap(), 4);
        }
        let acknowledged =
            |s: &mut Segment| peers.iter().all(|c| s.hosts[0].1.stack().unacknowledged(*c) == 0);
        assert!(segment.run(5 * MS, acknowledged), "second {second}");
        segment.now += SECOND;
    }
    assert!(segment.asked.values().all(|asked| *asked <= 4), "{:?}", segment.asked);
}

/// Behind a gateway that is off, nobody is reached; in the subnet everybody is.
#[test]
fn an_absent_gateway() {
    let config = AddressConfig::Static { ip: ip(1), prefix: 24, gateway: Some(ip(254)) };
    let mut segment = Segment::new(vec![host(1, config), static_host(2)]);
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let beyond = segment.hosts[0].1.stack().connect(far, PORT).unwrap();
    segment.run(SECOND / 2, |_| false);
    let living = segment.dial(2);
    assert!(segment.run(5 * MS, |s| s.state(living) == Some(ConnectionState::Open)));
    assert_eq!(segment.state(beyond), Some(ConnectionState::Connecting));
    assert!(segment.asked.contains_key(&ip(254)) && !segment.asked.contains_key(&far));
}

/// A host whose card was changed says so; it is found without a question.
#[test]
fn a_neighbour_with_another_card() {
    let mut segment = Segment::new(vec![static_host(1), static_host(2)]);
    let first = segment.dial(2);
    assert!(segment.run(5 * MS, |s| s.state(first) == Some(ConnectionState::Open)));
    segment.hosts.pop();
    segment.accepted.clear();
    let config = AddressConfig::Static { ip: ip(2), prefix: 24, gateway: None };
    let (card, mut changed) = host(7, config);
    let listener = changed.stack().listen(PORT, 8).unwrap();
    // What it asks of others tells them where it is.
    let now = segment.now;
    changed.stack().ping(ip(1), SECOND, now).unwrap();
    segment.hosts.push((card, changed, listener));
    segment.run(5 * MS, |_| false);
    let second = segment.dial(2);
    assert!(segment.run(5 * MS, |s| s.state(second) == Some(ConnectionState::Open)));
    assert_eq!(segment.asked[&ip(2)], 1);
}

/// Somebody looks whether an address is in use before he takes it (RFC 5227): he is told, and not remembered.
#[test]
fn a_probe_is_answered() {
    let (card, mut host) = static_host(1);
    let mut frame = vec![0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac(9).0);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac(9).0);
    frame[38..42].copy_from_slice(&ip(1).octets());
    card.deliver(&frame);
    host.poll(1);
    let answer = card.card().sent.pop_front().unwrap();
    assert_eq!((&answer[..6], &answer[20..22]), (&mac(9).0[..], &[0, 2][..]));
    assert_eq!((&answer[22..28], &answer[28..32]), (&mac(1).0[..], &ip(1).octets()[..]));
    // Nor is one about somebody else.
    frame[41] = 2;
    card.deliver(&frame);
    host.poll(2);
    assert!(card.look().sent.is_empty());
}
