//! ARP packets for IPv4 on Ethernet (RFC 826).

use core::net::Ipv4Addr;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};
use switch::MacAddr;

/// Bytes of a frame that holds an ARP packet.
pub(super) const FRAME: usize = 14 + 28;

/// An ARP packet, as far as a host looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arp {
    /// A request; else a reply.
    pub(super) is_request: bool,
    /// Who sent it.
    pub(super) sender: (Ipv4Addr, MacAddr),
    /// Whom it is about, and to whom it goes: a request goes to all.
    pub(super) target: (Ipv4Addr, MacAddr),
}

/// Whether a frame is ARP, well-formed or not.
pub(super) fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
}

impl Arp {
    /// The packet in a frame; none where it is malformed, or of another kind.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let is_request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Self {
            is_request,
            sender: (source_protocol_addr, MacAddr(source_hardware_addr.0)),
            target: (target_protocol_addr, MacAddr(ethernet.dst_addr().0)),
        })
    }

    /// The frame that holds it.
    pub(super) fn frame(&self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        EthernetRepr {
            src_addr: EthernetAddress(self.sender.1.0),
            dst_addr: EthernetAddress(self.target.1.0),
            ethertype: EthernetProtocol::Arp,
        }
        .emit(&mut frame);
        ArpRepr::EthernetIpv4 {
            operation: if self.is_request { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: EthernetAddress(self.sender.1.0),
            source_protocol_addr: self.sender.0,
            target_hardware_addr: EthernetAddress(self.target.1.0),
            target_protocol_addr: self.target.0,
        }
        .emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    }
}
