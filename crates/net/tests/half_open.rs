//! SYNs from forged addresses, which nobody follows up.
#![allow(missing_docs)]

mod common;

use common::{Lan, Wire, ip, mac};
use net::{ConnectionState, Listener};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

const PORT: u16 = 4444;
const MS: u64 = 1000;
const SECOND: u64 = 1_000_000;

/// A SYN to host 2 from another address and port for each `n`.
fn syn(n: u32) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 1024 + (n % 60_000) as u16,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(n as i32),
        ack_number: None,
        window_len: 64_240,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: ip(20 + (n % 200) as u8),
        dst_addr: ip(2),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    frame[..6].copy_from_slice(&mac(2).0);
    frame[6..12].copy_from_slice(&mac(77).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let caps = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    ip.emit(&mut packet, &caps);
    let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
    tcp.emit(&mut segment, &ip.src_addr.into(), &ip.dst_addr.into(), &caps);
    frame
}

/// How many of 60 connections, one a second, are made and carry a byte while `rate` SYNs a second come in.
fn made(rate: u64) -> usize {
    let mut lan = Lan::new([Wire::new(50, 10), Wire::new(50, 10)]);
    let listener: Listener = lan.b.stack().listen(PORT, 20).unwrap();
    let (mut made, mut forged, mut next) = (0, 0, 0);
    for _ in 0..60 {
        let connection = lan.a.stack().connect(ip(2), PORT).unwrap();
        let mut arrived = false;
        lan.run(SECOND, |lan| {
            while rate > 0 && lan.now >= next {
                next += SECOND / rate;
                lan.cards[1].deliver(&syn(forged));
                forged += 1;
            }
            if lan.a.stack().connection_state(connection) == Ok(ConnectionState::Open) {
                let _ = lan.a.stack().send(connection, b"x");
            }
            while let Some(accepted) = lan.b.stack().accept(listener).unwrap() {
                assert_eq!(lan.b.stack().peer(accepted).unwrap().0, ip(1));
                arrived = true;
                lan.b.stack().close(accepted).unwrap();
            }
            false
        });
        made += usize::from(arrived);
        lan.a.stack().abort(connection).unwrap();
    }
    assert!(u64::from(forged) >= 60 * rate);
    made
}

/// Issue 12, fault 3.2.
#[test]
fn forged_syns_keep_nobody_away() {
    assert_eq!(made(0), 60);
    assert_eq!(made(10), 60);
    assert_eq!(made(100), 60);
}

/// Those who were there first and have shaken hands are not harmed by what comes after.
#[test]
fn an_accepted_connection_and_one_that_waits_stay() {
    let mut lan = Lan::new([Wire::new(50, 10), Wire::new(50, 10)]);
    let listener = lan.b.stack().listen(PORT, 2).unwrap();
    let dialled = [0; 2].map(|_| lan.a.stack().connect(ip(2), PORT).unwrap());
    let open = |lan: &mut Lan| {
        dialled.iter().all(|c| lan.a.stack().connection_state(*c) == Ok(ConnectionState::Open))
    };
    assert!(lan.run(10 * MS, open));
    lan.run(MS, |_| false);
    let first = lan.b.stack().accept(listener).unwrap().unwrap();
    for n in 0..200 {
        lan.cards[1].deliver(&syn(n));
        lan.run(MS, |_| false);
    }
    assert!(open(&mut lan) && lan.b.stack().connection_state(first) == Ok(ConnectionState::Open));
    assert!(lan.b.stack().accept(listener).unwrap().is_some());
}
