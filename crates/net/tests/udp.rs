//! Datagrams both ways between two hosts.
#![allow(missing_docs)]

mod common;

use common::{Lan, Wire, ip};
use net::{MAX_DATAGRAM, NetError};

const SECOND: u64 = 1_000_000;

#[test]
fn datagrams_go_both_ways_to_any_port_of_the_peer_only() {
    let mut lan = Lan::new([Wire::new(100, 10), Wire::new(100, 10)]);
    assert_eq!(lan.a.stack().udp_send(1, b"x"), Err(NetError::Stale));
    let a = lan.a.stack().udp_open(ip(2)).unwrap();
    assert_eq!(lan.a.stack().udp_open(ip(2)), Err(NetError::UdpInUse));
    let b = lan.b.stack().udp_open(ip(1)).unwrap();
    assert_eq!(lan.a.stack().udp_send(0, b"x"), Err(NetError::PortUnusable(0)));
    let long = [7; MAX_DATAGRAM + 1];
    assert_eq!(lan.a.stack().udp_send(b, &long), Err(NetError::TooLong(MAX_DATAGRAM + 1)));

    let mut bytes = [0; MAX_DATAGRAM];
    assert_eq!(lan.a.stack().udp_send(b, &long[1..]), Ok(true));
    let mut came = None;
    assert!(lan.run(SECOND, |lan| {
        came = lan.b.stack().udp_receive(&mut bytes).unwrap();
        came.is_some()
    }));
    assert_eq!((came, bytes), (Some((a, MAX_DATAGRAM)), [7; MAX_DATAGRAM]));
    assert_eq!(lan.b.stack().udp_send(a, b"answer"), Ok(true));
    assert!(lan.run(SECOND, |lan| {
        came = lan.a.stack().udp_receive(&mut bytes).unwrap();
        came.is_some()
    }));
    assert_eq!((came, &bytes[..6]), (Some((b, 6)), b"answer".as_slice()));

    // Of another host than the one it was opened for.
    lan.a.stack().udp_close();
    let a = lan.a.stack().udp_open(ip(9)).unwrap();
    assert_eq!(lan.b.stack().udp_send(a, b"stranger"), Ok(true));
    assert!(!lan.run(SECOND / 10, |lan| lan.a.stack().udp_receive(&mut bytes).unwrap().is_some()));
    lan.a.stack().udp_close();
    assert_eq!(lan.a.stack().udp_receive(&mut bytes), Err(NetError::Stale));
}

#[test]
fn what_was_sent_before_the_end_still_leaves() {
    let mut lan = Lan::new([Wire::new(100, 10), Wire::new(100, 10)]);
    let mut bytes = [0; MAX_DATAGRAM];
    // Nobody has the first address: its datagram stays, and stands in nobody's way.
    for (to, came) in [(9, false), (2, true), (2, true)] {
        lan.a.stack().udp_open(ip(to)).unwrap();
        let b = lan.b.stack().udp_open(ip(1)).unwrap();
        assert_eq!(lan.a.stack().udp_send(b, b"last word"), Ok(true));
        lan.a.stack().udp_close();
        assert_eq!(lan.a.stack().udp_send(b, b"too late"), Err(NetError::Stale));
        let got = lan.run(SECOND, |lan| lan.b.stack().udp_receive(&mut bytes).unwrap().is_some());
        assert_eq!((got, bytes.starts_with(b"last word")), (came, came));
        bytes = [0; MAX_DATAGRAM];
        lan.b.stack().udp_close();
    }
}
