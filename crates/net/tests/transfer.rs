//! TCP between two hosts: card, switch and stack on both sides, a bad wire between them.
#![allow(missing_docs)]

mod common;

use common::{Dice, Lan, Wire, ip};
use net::{Connection, ConnectionState, Listener, MAX_SOCKETS, NetError, TcpTiming, WINDOW};

const PORT: u16 = 4444;
const SECOND: u64 = 1_000_000;

fn clean() -> Lan {
    Lan::new([Wire::new(200, 10), Wire::new(200, 10)])
}

/// A connects to B's port; both ends, and B's listener.
fn connected(lan: &mut Lan) -> (Connection, Connection, Listener) {
    let listener = lan.b.stack().listen(PORT, 1).unwrap();
    let a = lan.a.stack().connect(ip(2), PORT).unwrap();
    let mut b = None;
    assert!(lan.run(30 * SECOND, |lan| {
        b = b.or(lan.b.stack().accept(listener).unwrap());
        b.is_some() && lan.a.stack().connection_state(a) == Ok(ConnectionState::Open)
    }));
    (a, b.unwrap(), listener)
}

fn data(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    std::iter::repeat_with(|| dice.roll().to_le_bytes()).flatten().take(len).collect()
}

/// Sends `bytes` from A to B, closes, and reads to the end at B.
fn transfer(lan: &mut Lan, a: Connection, b: Connection, bytes: &[u8], limit_us: u64) -> Vec<u8> {
    let mut sent = 0;
    let mut received = Vec::with_capacity(bytes.len());
    let mut buf = vec![0; 5000];
    let done = lan.run(limit_us, |lan| {
        if sent < bytes.len() {
            sent += lan.a.stack().send(a, &bytes[sent..]).unwrap();
            assert!(lan.a.stack().unacknowledged(a) <= WINDOW);
            if sent == bytes.len() {
                lan.a.stack().shut_down(a).unwrap();
            }
        }
        loop {
            match lan.b.stack().receive(b, &mut buf) {
                Ok(0) => return false,
                Ok(n) => received.extend_from_slice(&buf[..n]),
                Err(NetError::Closed) => return true,
                Err(e) => panic!("receive: {e}"),
            }
        }
    });
    assert!(done, "{} of {} bytes after {} us", received.len(), bytes.len(), lan.now);
    received
}

#[test]
fn four_mebibytes_arrive_intact_over_a_bad_wire() {
    let mut lan = Lan::new([Wire::lossy(11), Wire::lossy(12)]);
    let (a, b, _) = connected(&mut lan);
    let bytes = data(4 << 20, 5);
    assert!(transfer(&mut lan, a, b, &bytes, 3000 * SECOND) == bytes, "bytes differ");
    assert!(lan.wires[0].lost > 20, "the wire lost only {}", lan.wires[0].lost);
}

#[test]
fn a_clean_wire_is_kept_busy() {
    // As in the emulator: one frame a millisecond, answers on the other wire.
    let mut lan = Lan::new([Wire::new(100, 1000), Wire::new(100, 1000)]);
    let (a, b, _) = connected(&mut lan);
    let bytes = data(1 << 20, 6);
    let (start, polls, frames) = (lan.now, lan.polls, lan.wires[0].frames);
    assert!(transfer(&mut lan, a, b, &bytes, 60 * SECOND) == bytes);
    let ideal = bytes.len() as u64 * 1000 / 1460;
    let took = lan.now - start;
    assert!(took < ideal * 11 / 10, "{took} us for an ideal of {ideal} us, {} polls", lan.polls - polls);
    let needed = bytes.len().div_ceil(1460);
    assert!(lan.wires[0].frames - frames < needed + needed / 50, "{} frames", lan.wires[0].frames - frames);
    assert_eq!(lan.wires[0].lost, 0);
    // An acknowledgement for each frame at most (no delayed ones), and window updates.
    assert!(lan.wires[1].frames < needed * 5 / 4, "{} answers", lan.wires[1].frames);
}

#[test]
fn no_more_than_a_window_is_in_flight() {
    // A wire that stores everything for a fifth of a second: what is on it is what is in flight.
    const ROUND_TRIP: u64 = SECOND / 5;
    let mut lan = Lan::new([Wire::new(ROUND_TRIP / 2, 0), Wire::new(ROUND_TRIP / 2, 0)]);
    let (a, b, _) = connected(&mut lan);
    let (mut buf, bytes) = (vec![0; 100_000], data(WINDOW, 3));
    let mut last = lan.wires[0].frames;
    let mut most = 0;
    lan.run(20 * SECOND, |lan| {
        let _ = lan.a.stack().send(a, &bytes).unwrap();
        let _ = lan.b.stack().receive(b, &mut buf).unwrap();
        if lan.now.is_multiple_of(ROUND_TRIP) {
            most = most.max(lan.wires[0].frames - last);
            last = lan.wires[0].frames;
        }
        false
    });
    assert!((43..=45).contains(&most), "{most} frames a round trip");
}

#[test]
fn two_way_traffic() {
    let mut lan = Lan::new([Wire::lossy(3), Wire::lossy(4)]);
    let (a, b, _) = connected(&mut lan);
    let (to_b, to_a) = (data(300_000, 1), data(200_000, 2));
    let (mut at_a, mut at_b, mut sent_a, mut sent_b) = (vec![], vec![], 0, 0);
    let mut buf = [0; 3000];
    assert!(lan.run(1000 * SECOND, |lan| {
        sent_a += lan.a.stack().send(a, &to_b[sent_a..]).unwrap();
        sent_b += lan.b.stack().send(b, &to_a[sent_b..]).unwrap();
        let n = lan.a.stack().receive(a, &mut buf).unwrap();
        at_a.extend_from_slice(&buf[..n]);
        let n = lan.b.stack().receive(b, &mut buf).unwrap();
        at_b.extend_from_slice(&buf[..n]);
        at_a.len() == to_a.len() && at_b.len() == to_b.len()
    }));
    assert!(at_a == to_a && at_b == to_b);
    assert_eq!(lan.a.stack().peer(a), Some((ip(2), PORT)));
}

#[test]
fn a_listener_serves_one_and_refuses_others_until_it_is_gone() {
    let mut lan = clean();
    let (a, b, listener) = connected(&mut lan);
    let second = lan.a.stack().connect(ip(2), PORT).unwrap();
    assert!(lan.run(SECOND, |lan| lan.a.stack().connection_state(second) == Err(NetError::Refused)));
    assert_eq!(lan.a.stack().receive(second, &mut [0; 8]), Err(NetError::Refused));
    assert_eq!(lan.a.stack().send(second, &[0; 8]), Err(NetError::Refused));
    lan.a.stack().close(second).unwrap();

    // The first is not harmed; when B gives it up, the port is free again.
    assert_eq!(lan.a.stack().connection_state(a), Ok(ConnectionState::Open));
    assert_eq!(lan.b.stack().send(b, b"last words").unwrap(), 10);
    lan.b.stack().close(b).unwrap();
    assert!(lan.run(SECOND, |lan| lan.a.stack().connection_state(a) == Ok(ConnectionState::PeerClosed)));
    let mut buf = [0; 64];
    assert_eq!(lan.a.stack().receive(a, &mut buf), Ok(10));
    assert_eq!(lan.a.stack().receive(a, &mut buf), Err(NetError::Closed));
    lan.a.stack().close(a).unwrap();
    let third = lan.a.stack().connect(ip(2), PORT).unwrap();
    let mut accepted = None;
    assert!(lan.run(SECOND, |lan| {
        accepted = lan.b.stack().accept(listener).unwrap();
        accepted.is_some()
    }));
    assert_eq!(lan.a.stack().connection_state(third), Ok(ConnectionState::Open));

    assert_eq!(lan.b.stack().listen(PORT, 1), Err(NetError::PortUnusable(PORT)));
    assert_eq!(lan.b.stack().listen(0, 1), Err(NetError::PortUnusable(0)));
    lan.b.stack().stop_listening(listener).unwrap();
    assert_eq!(lan.b.stack().accept(listener), Err(NetError::Stale));
    lan.b.stack().listen(PORT, 1).unwrap();
}

#[test]
fn two_dials_in_one_moment_are_both_accepted() {
    let mut lan = clean();
    let listener = lan.b.stack().listen(PORT, 2).unwrap();
    let dialled = [0; 3].map(|_| lan.a.stack().connect(ip(2), PORT).unwrap());
    // Nobody accepts meanwhile: there is room for two. The third makes the oldest that is half open give way.
    assert!(lan.run(SECOND, |lan| {
        let open = dialled.map(|c| lan.a.stack().connection_state(c));
        open.iter().filter(|state| **state == Ok(ConnectionState::Open)).count() == 2
            && open.iter().filter(|state| state.is_err()).count() == 1
    }));
    let mut accepted = 0;
    assert!(lan.run(SECOND, |lan| {
        accepted += usize::from(lan.b.stack().accept(listener).unwrap().is_some());
        accepted == 2
    }));
    assert_eq!(lan.b.stack().accept(listener), Ok(None));
}

#[test]
fn a_peer_that_never_finishes_its_handshake_does_not_block_the_port() {
    let mut lan = clean();
    let listener = lan.b.stack().listen(PORT, 1).unwrap();
    // Warm up ARP, then let A's last segment of the handshake be lost for good.
    let first = lan.a.stack().connect(ip(2), PORT).unwrap();
    assert!(lan.run(SECOND, |lan| lan.wires[0].frames >= 2));
    lan.wires[0].cut = true;
    lan.run(SECOND / 10, |_| false);
    lan.a.stack().abort(first).unwrap();
    lan.run(6 * SECOND, |_| false);
    assert_eq!(lan.b.stack().accept(listener), Ok(None));
    lan.wires[0].cut = false;
    lan.a.stack().connect(ip(2), PORT).unwrap();
    assert!(lan.run(2 * SECOND, |lan| lan.b.stack().accept(listener).unwrap().is_some()));
}

#[test]
fn ends_of_a_connection_have_their_names() {
    // Reset.
    let mut lan = clean();
    let (a, b, _) = connected(&mut lan);
    lan.b.stack().abort(b).unwrap();
    assert!(lan.run(SECOND, |lan| lan.a.stack().connection_state(a) == Err(NetError::Reset)));
    assert_eq!(lan.a.stack().receive(a, &mut [0; 8]), Err(NetError::Reset));

    // Silence: A notices whether it waits for an answer or not.
    for talk in [true, false] {
        let mut lan = clean();
        let timing =
            TcpTiming { keep_alive_us: 2 * SECOND, user_timeout_us: 10 * SECOND, ..TcpTiming::default() };
        lan.a.stack().set_tcp_timing(timing);
        let (a, _, _) = connected(&mut lan);
        // Idle for long: keep-alive holds it.
        lan.run(60 * SECOND, |_| false);
        assert_eq!(lan.a.stack().connection_state(a), Ok(ConnectionState::Open));
        if talk {
            lan.a.stack().send(a, b"anybody there?").unwrap();
        }
        lan.wires[1].cut = true;
        let start = lan.now;
        assert!(lan.run(20 * SECOND, |lan| lan.a.stack().connection_state(a) == Err(NetError::TimedOut)));
        assert!(lan.now - start >= 8 * SECOND);
    }

    // Nobody at that address, nobody on that port, and addresses that cannot be.
    let mut lan = clean();
    lan.a.stack().set_tcp_timing(TcpTiming { connect_timeout_us: 10 * SECOND, ..TcpTiming::default() });
    let refused = lan.a.stack().connect(ip(2), 5).unwrap();
    let nobody = lan.a.stack().connect(ip(77), PORT).unwrap();
    assert_eq!(lan.a.stack().connection_state(nobody), Ok(ConnectionState::Connecting));
    assert_eq!(lan.a.stack().send(nobody, &[1]), Ok(0));
    assert_eq!(lan.a.stack().receive(nobody, &mut [0; 4]), Ok(0));
    assert!(lan.run(SECOND, |lan| lan.a.stack().connection_state(refused) == Err(NetError::Refused)));
    let not_there = Err(NetError::NoNeighbour(ip(77)));
    assert!(lan.run(7 * SECOND, |lan| lan.a.stack().connection_state(nobody) == not_there));
    // Somebody who is known, and has gone silent since.
    lan.wires[1].cut = true;
    let silent = lan.a.stack().connect(ip(2), PORT).unwrap();
    let start = lan.now;
    assert!(lan.run(12 * SECOND, |lan| lan.a.stack().connection_state(silent) == Err(NetError::TimedOut)));
    assert!(lan.now - start >= 10 * SECOND);
    assert_eq!(lan.a.stack().connect(ip(1), PORT), Err(NetError::OwnAddress(ip(1))));
    let far = std::net::Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(lan.a.stack().connect(far, PORT), Err(NetError::NoRoute(far)));
    assert_eq!(lan.a.stack().connect(ip(2), 0), Err(NetError::PortUnusable(0)));
}

#[test]
fn sockets_are_bounded_and_handles_go_stale() {
    let mut lan = clean();
    // ARP for one that exists: asking for the absent one would hold it up.
    let first = lan.a.stack().connect(ip(2), PORT).unwrap();
    assert!(lan.run(SECOND, |lan| lan.a.stack().connection_state(first) == Err(NetError::Refused)));
    lan.a.stack().close(first).unwrap();
    lan.run(SECOND, |_| false);
    let conns: Vec<_> = (0..MAX_SOCKETS).map(|_| lan.a.stack().connect(ip(99), PORT).unwrap()).collect();
    assert_eq!(lan.a.stack().connect(ip(99), PORT), Err(NetError::TooManySockets));
    assert_eq!(lan.a.stack().connections(), MAX_SOCKETS);
    lan.a.stack().abort(conns[3]).unwrap();
    // At once, though the old one still lingers.
    let new = lan.a.stack().connect(ip(99), PORT).unwrap();
    assert_eq!(lan.a.stack().connection_state(conns[3]), Err(NetError::Stale));
    assert_eq!(lan.a.stack().close(conns[3]), Err(NetError::Stale));
    assert_eq!(lan.a.stack().connection_state(new), Ok(ConnectionState::Connecting));
    // Nothing leaks over many connections.
    lan.a.stack().abort(new).unwrap();
    lan.b.stack().listen(PORT, 1).unwrap();
    for _ in 0..50 {
        let c = lan.a.stack().connect(ip(2), PORT + 1).unwrap();
        assert!(lan.run(SECOND / 10, |lan| lan.a.stack().connection_state(c) == Err(NetError::Refused)));
        lan.a.stack().close(c).unwrap();
    }
    assert_eq!(lan.a.stack().connections(), MAX_SOCKETS - 1);
}

#[test]
fn the_deadline_is_enough_to_poll_by() {
    // Polling only when frames arrive or the deadline says so must not stop a transfer.
    let mut lan = clean();
    let (a, _, _) = connected(&mut lan);
    lan.run(SECOND / 10, |_| false);
    let now = lan.now;
    let idle = lan.a.next_deadline(now).expect("keep-alive");
    assert!(idle > now + SECOND, "an idle connection wants a poll in {} us", idle - now);
    lan.a.stack().send(a, b"x").unwrap();
    assert_eq!(lan.a.next_deadline(now), Some(now));
    lan.a.poll(now);
    let after = lan.a.next_deadline(now).unwrap();
    assert!(after > now && after <= now + SECOND, "retransmission in {} us", after - now);
}

#[test]
fn hosts_given_the_same_entropy_differ() {
    let mut lan = clean();
    let ports: Vec<_> = [&mut lan.a, &mut lan.b]
        .into_iter()
        .map(|host| {
            let peer = if host.stack().is_own(ip(1)) { ip(2) } else { ip(1) };
            let connection = host.stack().connect(peer, 9).unwrap();
            host.stack().local_port(connection).unwrap()
        })
        .collect();
    assert_ne!(ports[0], ports[1]);
    // And so do initial sequence numbers, seen in the SYNs once ARP is done.
    lan.run(SECOND / 100, |_| false);
    let mut numbers = vec![];
    for _ in 0..20 {
        lan.a.stack().connect(ip(2), 9).ok();
        lan.b.stack().connect(ip(1), 9).ok();
        lan.now += 100;
        lan.a.poll(lan.now);
        lan.b.poll(lan.now);
        for card in &lan.cards {
            let sent = std::mem::take(&mut card.card().sent);
            numbers.extend(
                sent.iter().filter(|f| f[12..14] == [8, 0] && f[47] == 2).map(|f| f[38..42].to_vec()),
            );
        }
    }
    assert!(numbers.len() > 4, "{} SYNs", numbers.len());
    let all = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), all);
}

/// Issue 12, fault 5.7. B reads nothing for half an hour, as `flexctl` under Ctrl-Z; its answers to A's probes of the
/// closed window, which come a minute apart in the end, take longer now and then.
#[test]
fn a_peer_that_does_not_read_is_not_a_dead_one() {
    let mut lan = clean();
    // B has no timers of its own, as a socket of Linux has none.
    let never = 1 << 40;
    let timing = TcpTiming { keep_alive_us: never, user_timeout_us: never, ..TcpTiming::default() };
    lan.b.stack().set_tcp_timing(timing);
    let (a, b, _) = connected(&mut lan);
    let bytes = data(3 * WINDOW, 7);
    let mut sent = 0;
    for minute in 0..30 {
        // Each answer a little slower than the one before.
        lan.wires[1].delay_us = 200 + minute * 20_000;
        for _ in 0..600 {
            sent += lan.a.stack().send(a, &bytes[sent..]).unwrap();
            lan.now += 100_000 - 100;
            lan.step();
        }
        assert_eq!(lan.a.stack().connection_state(a), Ok(ConnectionState::Open), "after minute {minute}");
    }
    assert_eq!(sent, 2 * WINDOW);
    lan.wires[1].delay_us = 200;
    let mut got = 0;
    let mut buf = vec![0; 5000];
    assert!(lan.run(200 * SECOND, |lan| {
        sent += lan.a.stack().send(a, &bytes[sent..]).unwrap();
        let len = lan.b.stack().receive(b, &mut buf).unwrap();
        assert_eq!(buf[..len], bytes[got..got + len]);
        got += len;
        got == bytes.len()
    }));
}
