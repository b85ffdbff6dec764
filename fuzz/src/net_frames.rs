//! Frames from the network, through switch and stack.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use net::{AddressConfig, Host};
use switch::{Link, MAX_FRAME, MacAddr, Nic};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

/// A card that receives what it is given and drops what it sends.
struct Card(VecDeque<Vec<u8>>);

impl Nic for Card {
    fn mac(&self) -> MacAddr {
        MAC
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        // As a driver: none that is longer.
        let frame = self.0.pop_front().filter(|frame| frame.len() <= MAX_FRAME)?;
        Some(look(&frame))
    }

    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
        fill(&mut [0xa5; MAX_FRAME][..len.min(MAX_FRAME)]).0
    }

    fn tx_room(&self) -> usize {
        16
    }
}

/// Frames, each behind its length in two bytes (bit 15: put the checksums right first). A static address, or DHCP
/// where the first byte is odd; a listener on port 4444.
pub fn frames(data: &[u8]) {
    let Some((pick, mut rest)) = data.split_first() else { return };
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    let config = match pick & 1 {
        0 => AddressConfig::Static { ip, prefix: 24, gateway: None },
        _ => AddressConfig::Dhcp,
    };
    let mut host = Host::new(Card(VecDeque::new()), config, 1, 0).expect("a host with a good address");
    let listener = host.stack().listen(4444, 2).expect("a free port");
    let mut now_us = 0;
    let mut buffer = [0; 512];
    while let Some((head, tail)) = rest.split_first_chunk::<2>() {
        let word = u16::from_le_bytes(*head);
        let (frame, tail) = tail.split_at(usize::from(word & 0x7FF).min(tail.len()));
        rest = tail;
        let mut frame = frame.to_vec();
        if word & 0x8000 != 0 {
            fix_checksums(&mut frame);
        }
        host.nic().0.push_back(frame);
        host.poll(now_us);
        if let Ok(Some(connection)) = host.stack().accept(listener) {
            let _ = host.stack().send(connection, b"hello");
            while host.stack().receive(connection, &mut buffer).is_ok_and(|n| n > 0) {}
        }
        now_us += 1000;
        let _ = host.take_address_event();
        let _ = host.next_deadline(now_us);
    }
    host.poll(now_us + 10_000_000);
}

/// Makes an IPv4 frame's header checksum right, and that of ICMP, TCP or UDP in it: a mutation almost never does.
fn fix_checksums(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[8, 0]) || frame.len() < 34 {
        return;
    }
    let ip = &mut frame[14..];
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
    if header < 20 || header > total {
        return;
    }
    ip[10..12].fill(0);
    let sum = checksum(0, &ip[..header]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let (at, pseudo) = match ip[9] {
        1 => (2, false),
        6 => (16, true),
        17 => (6, true),
        _ => return,
    };
    let mut start = 0;
    if pseudo {
        let length = total - header;
        start = u32::from(ip[9]) + length as u32;
        start += ip[12..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    }
    let payload = &mut ip[header..total];
    if payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let sum = checksum(start, payload);
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}
