//! Foreign bytes: no panic, no member that is none, no link that stays with a peer that talks nonsense.
#![allow(missing_docs)]

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;

use common::dumps::{HASWELL, SANDY_BRIDGE, SKYLAKE_X};
use common::*;
use cpu_policy::Baseline;
use pool::{Link, Pool, wire};
use proptest::collection::vec;
use proptest::prelude::*;

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

/// Says nothing, hears everything, and hands on what others say.
struct Tap<'a>(&'a RefCell<VecDeque<u8>>, &'a RefCell<VecDeque<u8>>, &'a RefCell<Vec<u8>>);

impl Link for Tap<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let mut from = self.0.borrow_mut();
        let n = buf.len().min(from.len());
        buf.iter_mut().zip(from.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.1.borrow_mut().extend(data);
        self.2.borrow_mut().extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        true
    }
}

fn target() -> Pool {
    let mut pool = alone(1, "haswell-a", &HASWELL);
    pool.enter("lab", &[], 0);
    pool
}

/// What a member says while it joins: HELLO, its record and another's, BEATs.
fn recorded() -> Vec<u8> {
    let mut other = alone(2, "skylake-b", &SKYLAKE_X);
    other.enter("lab", &[], 0);
    let mut pool = target();
    let (to, from, said, heard) = <(RefCell<_>, RefCell<_>, RefCell<_>, RefCell<_>)>::default();
    let mut status = status(2);
    status.vms = vec![("demo".into(), guest("haswell"))];
    other.update(status).unwrap();
    let a = pool.accepted(address(2), 0).unwrap();
    let b = other.accepted(address(1), 0).unwrap();
    for now in 0..100 {
        assert!(other.poll_link(b, &mut Tap(&from, &to, &said), now * 100_000));
        assert!(pool.poll_link(a, &mut Tap(&to, &from, &heard), now * 100_000));
    }
    assert_eq!(pool.members().len(), 2);
    said.into_inner()
}

/// Feeds it, then hangs up; gives how many members there are.
fn feed(bytes: &[u8]) -> usize {
    let mut pool = target();
    let link = pool.accepted(address(2), 0).unwrap();
    let mut script = Script(bytes.iter().copied().collect());
    let mut now = 0;
    while pool.poll_link(link, &mut script, now) {
        now += 100_000;
        assert!(now < 100_000_000, "the link never ends");
    }
    while let Some(event) = pool.next_event() {
        assert!(event.to_string().lines().count() == 1);
    }
    let own = policy(&HASWELL);
    let hosts: Vec<_> = pool.members().iter().map(|member| member.policy.clone()).collect();
    assert!(hosts.contains(&own));
    assert_eq!(*pool.level(), Baseline::meet(&hosts).unwrap());
    let mut text = String::new();
    pool.write_text(&mut text).unwrap();
    pool.write_json(&mut text).unwrap();
    hosts.len()
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize),
    Drop(usize, usize),
    Insert(usize, Vec<u8>),
    Copy(usize, usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), 1usize..64).prop_map(|(at, n)| Mutation::Drop(at, n)),
        (any::<usize>(), vec(any::<u8>(), 1..32)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<usize>(), any::<usize>(), 1usize..64).prop_map(|(from, to, n)| Mutation::Copy(from, to, n)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let len = bytes.len().max(1);
    match mutation {
        Mutation::Flip(at, bits) => bytes.iter_mut().skip(at % len).take(1).for_each(|byte| *byte ^= bits),
        Mutation::Cut(at) => bytes.truncate(at % len),
        Mutation::Drop(at, n) => {
            let at = at % len;
            bytes.drain(at.min(bytes.len())..(at + n).min(bytes.len()));
        }
        Mutation::Insert(at, new) => {
            let at = (at % len).min(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Copy(from, to, n) => {
            let part: Vec<u8> = bytes.iter().skip(from % len).take(*n).copied().collect();
            let to = (to % len).min(bytes.len());
            bytes.splice(to..to, part);
        }
    }
}

#[test]
fn what_was_recorded_is_taken() {
    assert_eq!(feed(&recorded()), 2);
}

#[test]
fn other_protocols_versions_and_sizes_are_named() {
    let whole = recorded();
    let mut newer = whole.clone();
    (newer[8], newer[10]) = (9, 8);
    let mut flagged = whole.clone();
    flagged[12] = 1;
    let mut long = whole[..wire::STREAM_HEADER].to_vec();
    long.extend([0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0]);
    let mut unknown = whole[..wire::STREAM_HEADER].to_vec();
    unknown.extend([0, 0, 0, 0, 0x23, 1, 0, 0]);
    let early = [&whole[..wire::STREAM_HEADER], &wire::message(wire::Kind::Beat, &[0xa0])].concat();
    for (bytes, why) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not a Flexvisor pool stream: first bytes 47 45 54 20"),
        (newer, "peer speaks versions 8 to 9 of the pool protocol, this host 1 to 1"),
        (flagged, "unknown flags 0x1"),
        (long, "message kind 0x0001 has 2147483647 bytes, at most 4096 are allowed"),
        (unknown, "unknown mandatory message kind 0x0123"),
        (early, "BEAT before HELLO"),
    ] {
        let mut pool = target();
        let link = pool.accepted(address(2), 0).unwrap();
        let mut script = Script(bytes.into());
        for now in 0..100 {
            if !pool.poll_link(link, &mut script, now * 100_000) {
                break;
            }
        }
        let said: Vec<String> = std::iter::from_fn(|| pool.next_event()).map(|e| e.to_string()).collect();
        assert!(said.iter().any(|line| line.contains(why)), "{why}: {said:?}");
    }
}

/// A message of a later version that may be skipped.
#[test]
fn what_is_optional_and_unknown_is_skipped() {
    let whole = recorded();
    let (head, rest) = whole.split_at(wire::STREAM_HEADER);
    let bytes = [head, &[3, 0, 0, 0, 0x07, 0x80, 0, 0, 1, 2, 3], rest].concat();
    assert_eq!(feed(&bytes), 2);
}

/// Two other members pass each other's records on, in any order and any number of times.
#[test]
fn records_in_any_order_give_the_same_set() {
    let mut pools: Vec<Pool> = Vec::new();
    for (number, name, dump) in [(1, "a", &HASWELL), (2, "b", &SKYLAKE_X), (3, "c", &SANDY_BRIDGE)] {
        let mut pool = alone(number, name, dump);
        pool.enter("lab", &[], 0);
        pools.push(pool);
    }
    let mut world = World::new(16);
    for (number, pool) in (1..).zip(pools) {
        world.add(pool, address(number));
    }
    // Only through the one in the middle.
    world.cut = vec![(0, 2)];
    let now = world.now;
    world.hosts[1].pool.enter("lab", &[address(1), address(3)], now);
    world.until(60, "all know all", |w| w.hosts.iter().all(|host| host.pool.members().len() == 3));
    let level = world.hosts[0].pool.level().fingerprint();
    assert!(world.hosts.iter().all(|host| host.pool.level().fingerprint() == level));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_the_link(bytes in vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(feed(&bytes), 1);
    }

    #[test]
    fn any_body_ends_the_link_or_not(kind in 0u8..8, body in vec(any::<u8>(), 0..300)) {
        let whole = recorded();
        // Header, HELLO, then this.
        let hello = wire::STREAM_HEADER + wire::MESSAGE_HEADER + usize::from(u16::from_le_bytes([whole[16], whole[17]]));
        let mut bytes = whole[..hello].to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend([kind, 0, 0, 0]);
        bytes.extend(body);
        prop_assert!(feed(&bytes) >= 1);
    }

    #[test]
    fn a_mutated_stream_ends_the_link_or_not(mutations in vec(mutation(), 1..4)) {
        let mut bytes = recorded();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        prop_assert!((1..=3).contains(&feed(&bytes)));
    }
}
