//! A DHCP server for one client (RFC 2131): enough to see a host take an address.

use super::{BROADCAST, Hub, host_mac};
use anyhow::{Result, bail};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use std::time::{Duration, Instant};

const LEASE: u32 = 3600;

/// Serves one client until it has taken `lease`; gives back the client's Ethernet address.
pub fn lease(
    hub: &Hub,
    index: u8,
    server: Ipv4Address,
    lease: Ipv4Address,
    timeout: Duration,
) -> Result<[u8; 6]> {
    let (port, frames) = hub.plug_channel();
    let deadline = Instant::now() + timeout;
    while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
        let Ok(frame) = frames.recv_timeout(rest) else { break };
        let Some(request) = request(&frame) else { continue };
        let kind = match request.kind {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            _ => continue,
        };
        hub.inner.handle(port, &answer(&request, kind, host_mac(index), server, lease));
        if kind == DhcpMessageType::Ack {
            return Ok(request.client.0);
        }
    }
    bail!("no client asked for an address in {:.0} s", timeout.as_secs_f64())
}

struct Request {
    kind: DhcpMessageType,
    transaction: u32,
    secs: u16,
    client: EthernetAddress,
}

fn request(frame: &[u8]) -> Option<Request> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let udp = UdpPacket::new_checked(packet.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp || udp.dst_port() != DHCP_SERVER_PORT {
        return None;
    }
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let repr = DhcpRepr::parse(&packet).ok()?;
    let (kind, transaction, secs) = (repr.message_type, repr.transaction_id, repr.secs);
    Some(Request { kind, transaction, secs, client: repr.client_hardware_address })
}

fn answer(
    request: &Request,
    kind: DhcpMessageType,
    mac: [u8; 6],
    server: Ipv4Address,
    lease: Ipv4Address,
) -> Vec<u8> {
    let dhcp = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction,
        secs: request.secs,
        client_hardware_address: request.client,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: lease,
        server_ip: server,
        router: Some(server),
        subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(server),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let checksums = ChecksumCapabilities::default();
    let udp = UdpRepr { src_port: DHCP_SERVER_PORT, dst_port: DHCP_CLIENT_PORT };
    let ip = Ipv4Repr {
        src_addr: server,
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + dhcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress(BROADCAST),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let emit = |room: &mut [u8]| {
        // The room is as long as the representation says.
        let _ = dhcp.emit(&mut DhcpPacket::new_unchecked(room));
    };
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &server.into(),
        &Ipv4Address::BROADCAST.into(),
        dhcp.buffer_len(),
        emit,
        &checksums,
    );
    bytes
}
