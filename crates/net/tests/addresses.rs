//! DHCP against a small server, ping both ways, and frames that no host sends.
#![allow(missing_docs)]

mod common;

use common::{Lan, Mock, TestHost, Wire, host, ip, mac, static_host};
use net::{AddressConfig, AddressEvent, NetError, PingStatus};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::net::Ipv4Addr;

const SECOND: u64 = 1_000_000;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

/// Answers one frame the way a DHCP server would; `lease` is address, mask and router to offer.
fn dhcp_answer(frame: &[u8], lease: (Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>), seconds: u32) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let udp = UdpPacket::new_checked(ipv4.payload()).ok()?;
    if udp.dst_port() != 67 {
        return None;
    }
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    let answer = DhcpRepr {
        message_type,
        your_ip: lease.0,
        server_ip: SERVER,
        server_identifier: Some(SERVER),
        subnet_mask: Some(lease.1),
        router: lease.2,
        lease_duration: Some(seconds),
        client_ip: Ipv4Addr::UNSPECIFIED,
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        dns_servers: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
        ..request
    };
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let payload = udp.header_len() + answer.buffer_len();
    let ip = Ipv4Repr {
        src_addr: SERVER,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: payload,
        hop_limit: 64,
    };
    let mut out = vec![0; 14 + ip.buffer_len() + payload];
    out[..6].copy_from_slice(ethernet.src_addr().as_bytes());
    out[6..12].copy_from_slice(&mac(254).0);
    out[12..14].copy_from_slice(&[8, 0]);
    let caps = ChecksumCapabilities::default();
    let mut ip_packet = Ipv4Packet::new_unchecked(&mut out[14..]);
    ip.emit(&mut ip_packet, &caps);
    udp.emit(
        &mut UdpPacket::new_unchecked(ip_packet.payload_mut()),
        &SERVER.into(),
        &Ipv4Addr::BROADCAST.into(),
        answer.buffer_len(),
        |buf| answer.emit(&mut DhcpPacket::new_unchecked(buf)).unwrap(),
        &caps,
    );
    Some(out)
}

/// Polls for `us` microseconds with a server on the wire that answers `serves` times.
fn with_server(
    card: &Mock,
    host: &mut TestHost,
    now: &mut u64,
    us: u64,
    lease: (Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>),
    mut serves: usize,
) -> Vec<AddressEvent> {
    let end = *now + us;
    let mut events = vec![];
    while *now < end {
        *now += 1000;
        host.poll(*now);
        while serves > 0 {
            let Some(frame) = card.card().sent.pop_front() else { break };
            if let Some(answer) = dhcp_answer(&frame, lease, 100) {
                card.deliver(&answer);
                serves -= 1;
            }
        }
        card.card().sent.clear();
        events.extend(host.take_address_event());
    }
    events
}

const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

#[test]
fn dhcp_gives_renews_and_loses_an_address() {
    let (card, mut host) = host(1, AddressConfig::Dhcp);
    let mut now = 0;
    assert_eq!(host.stack().connect(ip(2), 1), Err(NetError::NoAddress));
    assert_eq!(host.stack().ping(ip(2), 1, 0), Err(NetError::NoAddress));
    // Nobody answers for a while, then a server appears.
    assert_eq!(with_server(&card, &mut host, &mut now, 5 * SECOND, (ip(50), MASK, Some(SERVER)), 0), []);
    let events = with_server(&card, &mut host, &mut now, 10 * SECOND, (ip(50), MASK, Some(SERVER)), 2);
    assert_eq!(events.len(), 1, "{events:?}");
    let address = host.stack().address().unwrap();
    assert_eq!(address.to_string(), "10.0.0.50/24 gateway 10.0.0.254 (dhcp)");
    assert!(host.stack().is_own(ip(50)));
    assert!(host.stack().connect(Ipv4Addr::new(192, 0, 2, 1), 80).is_ok(), "there is a gateway");
    // Renewed at half of the lease.
    assert_eq!(with_server(&card, &mut host, &mut now, 100 * SECOND, (ip(50), MASK, Some(SERVER)), 9), []);
    assert_eq!(host.stack().address(), Some(address));
    // The server is gone.
    let events = with_server(&card, &mut host, &mut now, 300 * SECOND, (ip(50), MASK, Some(SERVER)), 0);
    assert_eq!(events, [AddressEvent::Lost]);
    assert_eq!(host.stack().address(), None);
}

#[test]
fn a_foolish_dhcp_server_gives_nothing_unusable() {
    // A router outside the subnet is left out.
    let (card, mut good) = host(1, AddressConfig::Dhcp);
    let odd = (ip(50), MASK, Some(Ipv4Addr::new(192, 0, 2, 1)));
    with_server(&card, &mut good, &mut 0, 10 * SECOND, odd, 9);
    assert_eq!(good.stack().address().unwrap().to_string(), "10.0.0.50/24 (dhcp)");
    // An address no host can have is not used.
    for bad in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::BROADCAST] {
        let (card, mut host) = host(1, AddressConfig::Dhcp);
        with_server(&card, &mut host, &mut 0, 10 * SECOND, (bad, MASK, None), 9);
        assert_eq!(host.stack().address(), None, "{bad}");
    }
}

#[test]
fn pings_both_ways() {
    let mut lan = Lan::new([Wire::new(300, 10), Wire::new(300, 10)]);
    let now = lan.now;
    lan.a.stack().ping(ip(2), SECOND, now).unwrap();
    assert_eq!(lan.a.stack().ping(ip(2), SECOND, now), Err(NetError::Busy));
    let mut rtt = None;
    lan.run(SECOND, |lan| {
        match lan.a.stack().ping_status(lan.now) {
            PingStatus::Reply(us) => rtt = Some(us),
            PingStatus::Waiting => {}
            other => panic!("{other:?}"),
        }
        rtt.is_some()
    });
    // ARP and echo, each there and back.
    assert!((1200..3000).contains(&rtt.unwrap()), "{rtt:?}");
    assert_eq!(lan.a.stack().ping_status(lan.now), PingStatus::Idle);

    let now = lan.now;
    lan.b.stack().ping(ip(1), SECOND, now).unwrap();
    assert!(
        lan.run(SECOND, |lan| matches!(lan.b.stack().ping_status(lan.now), PingStatus::Reply(600..1500)))
    );
    let now = lan.now;
    lan.b.stack().ping(ip(9), SECOND, now).unwrap();
    assert!(lan.run(2 * SECOND, |lan| lan.b.stack().ping_status(lan.now) == PingStatus::TimedOut));
    // The next one is not answered by a late reply to another address.
    let now = lan.now;
    lan.b.stack().ping(ip(1), SECOND, now).unwrap();
    assert!(lan.run(SECOND, |lan| matches!(lan.b.stack().ping_status(lan.now), PingStatus::Reply(_))));
    assert_eq!(lan.a.stack().ping(ip(255), 1, 0), Err(NetError::BadAddress(ip(255))));
}

/// Frames a real peer could send, to be bent.
fn seeds() -> Vec<Vec<u8>> {
    let mut lan = Lan::new([Wire::new(0, 0), Wire::new(0, 0)]);
    let mut seen = vec![];
    lan.b.stack().listen(4444, 1).unwrap();
    let a = lan.a.stack().connect(ip(2), 4444).unwrap();
    lan.a.stack().ping(ip(2), SECOND, 0).unwrap();
    lan.run(SECOND / 10, |lan| {
        let _ = lan.a.stack().send(a, &[7; 700]);
        lan.now += 100;
        lan.a.poll(lan.now);
        seen.extend(lan.cards[0].look().sent.iter().cloned());
        false
    });
    let (card, mut client) = host(1, AddressConfig::Dhcp);
    client.poll(SECOND);
    let discover = card.card().sent.pop_front().unwrap();
    seen.extend(dhcp_answer(&discover, (ip(2), MASK, Some(SERVER)), 100));
    seen.truncate(24);
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Bytes from the wire, arbitrary or real ones bent, do no more than be dropped; the host lives and answers.
    #[test]
    fn garbage_frames(
        random in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        bends in prop::collection::vec((any::<prop::sample::Index>(), 0usize..80, any::<u8>(), 0usize..100), 0..60),
        dhcp in any::<bool>(),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let (card, mut host) = if dhcp { host(2, AddressConfig::Dhcp) } else { static_host(2) };
        host.nic().set_promiscuous(true);
        host.stack().listen(4444, 1).unwrap();
        let mut now = 0;
        let mut feed = |frame: &[u8], host: &mut TestHost| {
            card.deliver(frame);
            now += 100_000;
            host.poll(now);
            card.card().sent.clear();
        };
        for mut frame in random {
            // Half of them look like IPv4 to us.
            if frame.len() > 34 && frame[0] & 1 == 0 {
                frame[..6].copy_from_slice(&mac(2).0);
                frame[12..14].copy_from_slice(&[8, 0]);
                frame[14] = 0x45;
            }
            feed(&frame, &mut host);
        }
        for (which, at, value, cut) in bends {
            let mut frame = SEEDS.with(|s| which.get(s).clone());
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            if value & 7 == 0 {
                frame.truncate(frame.len().saturating_sub(cut));
            }
            fix_checksums(&mut frame);
            feed(&frame, &mut host);
        }
        let asked = host.stack().listen(1, 1);
        prop_assert!(asked.is_ok());
    }
}

/// So that bent fields are looked at instead of being dropped for their checksum.
fn fix_checksums(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(14..) else { return };
    let Ok(mut packet) = Ipv4Packet::new_checked(ip) else { return };
    packet.fill_checksum();
    let (src, dst) = (packet.src_addr().into(), packet.dst_addr().into());
    let protocol = packet.next_header();
    let payload = packet.payload_mut();
    match protocol {
        IpProtocol::Tcp => {
            if let Ok(mut tcp) = TcpPacket::new_checked(payload) {
                tcp.fill_checksum(&src, &dst);
            }
        }
        IpProtocol::Udp => {
            if let Ok(mut udp) = UdpPacket::new_checked(payload) {
                udp.fill_checksum(&src, &dst);
            }
        }
        IpProtocol::Icmp => {
            if let Ok(mut icmp) = Icmpv4Packet::new_checked(payload) {
                icmp.fill_checksum();
            }
        }
        _ => {}
    }
}
