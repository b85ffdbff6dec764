//! The little that the hub and its filters want to know about a frame.

use std::borrow::Cow;

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

const ETHERNET_HEADER: usize = 14;

/// An Ethernet frame without checksum.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    /// Takes the bytes as they came.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The whole frame.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// What follows the Ethernet header.
    pub fn payload(&self) -> &'a [u8] {
        self.0.get(ETHERNET_HEADER..).unwrap_or_default()
    }

    /// The frame's EtherType, 0 if it is too short to have one.
    pub fn ethertype(&self) -> u16 {
        self.0.get(12..ETHERNET_HEADER).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// The TCP segment over IPv4 in it.
    pub fn tcp(&self) -> Option<Segment<'a>> {
        let packet = (self.ethertype() == 0x0800).then(|| self.payload())?;
        let header = usize::from(packet.first()? & 15) * 4;
        let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        if *packet.get(9)? != 6 {
            return None;
        }
        let segment = packet.get(header..total.min(packet.len()))?;
        let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
        let sequence = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
        let offset = usize::from(segment.get(12)? >> 4) * 4;
        let opens = segment.get(13)? & 2 != 0;
        Some(Segment { from: port(0)?, to: port(2)?, sequence, opens, payload: segment.get(offset..)? })
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Number of its first byte.
    pub sequence: u32,
    /// It opens its direction of the connection (SYN), which counts as one byte.
    pub opens: bool,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// Bochs' socket module hands in only broadcasts and frames to the card's own address; anything else is sent as a
/// broadcast instead, which a host takes in and a guest behind it can still tell from its own by the IP address.
pub(super) fn for_bochs(bytes: &[u8], mac: [u8; 6]) -> Cow<'_, [u8]> {
    match bytes.get(..6) {
        Some(to) if to != mac && to != BROADCAST && is_guest_or_group(to) => {
            let mut frame = bytes.to_vec();
            frame[..6].copy_from_slice(&BROADCAST);
            Cow::Owned(frame)
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// Not one of the hosts' own addresses ([`super::host_mac`]): those need no help.
fn is_guest_or_group(to: &[u8]) -> bool {
    to.get(..5) != Some(&super::host_mac(0)[..5])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_have_no_tcp() {
        for length in 0..60 {
            assert!(Frame::new(&vec![0x45; length]).tcp().is_none());
        }
    }

    #[test]
    fn tcp_payload_is_found() {
        let mut frame = vec![0; 14];
        frame[12] = 8;
        let mut ip = vec![0; 20];
        ip[0] = 0x45;
        ip[3] = 43;
        ip[9] = 6;
        let mut tcp = vec![0; 20];
        tcp[..4].copy_from_slice(&[0x11, 0x5c, 0xc0, 0x00]);
        tcp[12] = 0x50;
        frame.extend(ip);
        frame.extend(tcp);
        frame.extend(b"abc");
        frame.extend([0; 3]); // padding to the least length of a frame
        let segment = Segment { from: 4444, to: 49152, sequence: 0, opens: false, payload: b"abc" };
        assert_eq!(Frame::new(&frame).tcp(), Some(segment));
    }
}
