//! A station of the test bench's own on the hub: it pings hosts and talks TCP to them. It works only while one of
//! its methods runs.

use super::{Hub, Inner};
use anyhow::{Context, Result, bail, ensure};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, HardwareAddress, Icmpv4Packet,
    Icmpv4Repr, IpAddress, IpCidr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

const PING_IDENT: u16 = 0x4658;
const LOCAL_PORTS: u16 = 49_152;

/// The station.
pub struct Peer {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    started: Instant,
    sequence: u16,
}

/// An open TCP connection of a [`Peer`].
#[derive(Clone, Copy, Debug)]
pub struct Connection(SocketHandle);

impl Peer {
    /// A station with the address `ip`/24.
    pub fn new(hub: &Hub, index: u8, ip: Ipv4Address) -> Self {
        let (wire, interface) = Wire::new(hub, index, ip);
        let started = Instant::now();
        Self { wire, interface, sockets: SocketSet::new(Vec::new()), started, sequence: 0 }
    }

    /// Sends echo requests until one is answered; gives back the number that it took.
    pub fn ping(&mut self, to: Ipv4Address, timeout: Duration) -> Result<u16> {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 1024]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(PING_IDENT)).context("bind")?;
        let handle = self.sockets.add(socket);
        let deadline = Instant::now() + timeout;
        let mut sent = 0;
        let mut next = Instant::now();
        let answered = loop {
            if Instant::now() >= next {
                next = Instant::now() + Duration::from_millis(300);
                self.sequence = self.sequence.wrapping_add(1);
                sent += 1;
                self.send_echo(handle, to)?;
            }
            self.poll(Duration::from_millis(10));
            let socket = self.sockets.get_mut::<icmp::Socket<'_>>(handle);
            if let Ok((data, from)) = socket.recv()
                && from == IpAddress::Ipv4(to)
                && is_reply(data)
            {
                break true;
            }
            if Instant::now() > deadline {
                break false;
            }
        };
        self.sockets.remove(handle);
        ensure!(answered, "{to} answered none of {sent} pings in {:.0} s", timeout.as_secs_f64());
        Ok(sent)
    }

    fn send_echo(&mut self, handle: SocketHandle, to: Ipv4Address) -> Result<()> {
        let repr =
            Icmpv4Repr::EchoRequest { ident: PING_IDENT, seq_no: self.sequence, data: b"flexvisor test" };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(handle);
        let room = socket.send(repr.buffer_len(), IpAddress::Ipv4(to)).context("send")?;
        repr.emit(&mut Icmpv4Packet::new_unchecked(room), &ChecksumCapabilities::default());
        Ok(())
    }

    /// Opens a TCP connection.
    pub fn connect(&mut self, to: Ipv4Address, port: u16, timeout: Duration) -> Result<Connection> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.sequence = self.sequence.wrapping_add(1);
        let local = LOCAL_PORTS + self.sequence % 16_000;
        socket.connect(self.interface.context(), (IpAddress::Ipv4(to), port), local).context("connect")?;
        let handle = self.sockets.add(socket);
        let deadline = Instant::now() + timeout;
        loop {
            self.poll(Duration::from_millis(10));
            let socket = self.sockets.get::<tcp::Socket<'_>>(handle);
            match socket.state() {
                tcp::State::Established | tcp::State::CloseWait => return Ok(Connection(handle)),
                tcp::State::Closed => {
                    self.sockets.remove(handle);
                    bail!("{to}:{port} refused the connection");
                }
                _ if Instant::now() > deadline => {
                    self.sockets.remove(handle);
                    bail!("{to}:{port} did not answer in {:.0} s", timeout.as_secs_f64());
                }
                _ => {}
            }
        }
    }

    /// Sends all of `bytes`; less goes out if the other end closes first.
    pub fn send(&mut self, on: Connection, bytes: &[u8], timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut rest = bytes;
        while !rest.is_empty() {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(on.0);
            if !socket.may_send() {
                return Ok(());
            }
            let count = socket.send_slice(rest).context("send")?;
            rest = &rest[count..];
            self.poll(Duration::from_millis(5));
            ensure!(Instant::now() < deadline, "{} bytes could not be sent in time", rest.len());
        }
        Ok(())
    }

    /// Reads until the other end closes the connection, or until `timeout`; `true` if it closed it.
    pub fn read_to_end(&mut self, on: Connection, timeout: Duration) -> (Vec<u8>, bool) {
        let deadline = Instant::now() + timeout;
        let mut got = Vec::new();
        loop {
            self.poll(Duration::from_millis(10));
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(on.0);
            while socket.can_recv() {
                let taken = socket.recv(|data| (data.len(), data.to_vec()));
                got.extend(taken.unwrap_or_default());
            }
            if !socket.may_recv() {
                return (got, true);
            }
            if Instant::now() > deadline {
                return (got, false);
            }
        }
    }

    /// Closes a connection at once (RST).
    pub fn abort(&mut self, on: Connection) {
        self.sockets.get_mut::<tcp::Socket<'_>>(on.0).abort();
        self.poll(Duration::from_millis(5));
        self.sockets.remove(on.0);
    }

    /// Sends a SYN to host `index` at `to` as if from another station: from another address and port for each `number`.
    pub fn forge_syn(&self, index: u8, to: Ipv4Address, port: u16, number: u32) {
        let tcp = TcpRepr {
            src_port: 1024 + (number % 60_000) as u16,
            dst_port: port,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(number as i32),
            ack_number: None,
            window_len: 64_240,
            window_scale: None,
            max_seg_size: Some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let [a, b, c, _] = to.octets();
        let ip = Ipv4Repr {
            src_addr: Ipv4Address::new(a, b, c, 50 + (number % 200) as u8),
            dst_addr: to,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut frame = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
        EthernetRepr {
            src_addr: EthernetAddress(super::host_mac(77)),
            dst_addr: EthernetAddress(super::host_mac(index)),
            ethertype: EthernetProtocol::Ipv4,
        }
        .emit(&mut EthernetFrame::new_unchecked(&mut frame));
        let caps = ChecksumCapabilities::default();
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        ip.emit(&mut packet, &caps);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &ip.src_addr.into(), &ip.dst_addr.into(), &caps);
        self.wire.send(&frame);
    }

    fn poll(&mut self, wait: Duration) {
        self.wire.wait(wait);
        let now = NetInstant::from_micros(self.started.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }
}

fn is_reply(data: &[u8]) -> bool {
    let packet = Icmpv4Packet::new_checked(data);
    let repr = packet.and_then(|packet| Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()));
    matches!(repr, Ok(Icmpv4Repr::EchoReply { .. }))
}

/// The card of a station that speaks by smoltcp.
pub(super) struct Wire {
    hub: Arc<Inner>,
    port: usize,
    receiver: Receiver<Vec<u8>>,
    pending: Option<Vec<u8>>,
}

impl Wire {
    /// A card with an interface of address `ip`/24 on it.
    pub(super) fn new(hub: &Hub, index: u8, ip: Ipv4Address) -> (Self, Interface) {
        let (port, receiver) = hub.plug_channel();
        let mut wire = Self { hub: Arc::clone(&hub.inner), port, receiver, pending: None };
        let mac = EthernetAddress(super::host_mac(index));
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut interface = Interface::new(config, &mut wire, NetInstant::ZERO);
        interface.update_ip_addrs(|list| {
            let _ = list.push(IpCidr::new(IpAddress::Ipv4(ip), 24));
        });
        (wire, interface)
    }

    /// Waits until a frame has come.
    pub(super) fn wait(&mut self, timeout: Duration) {
        if self.pending.is_none() {
            self.pending = self.receiver.recv_timeout(timeout).ok();
        }
    }

    /// The frame that comes next.
    pub(super) fn pending(&self) -> Option<&[u8]> {
        self.pending.as_deref()
    }

    /// Sends a frame past the stack.
    pub(super) fn send(&self, frame: &[u8]) {
        self.hub.handle(self.port, frame);
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: NetInstant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.pending.take().or_else(|| self.receiver.try_recv().ok())?;
        Some((Incoming(frame), Outgoing { hub: &self.hub, port: self.port }))
    }

    fn transmit(&mut self, _: NetInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing { hub: &self.hub, port: self.port })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

pub(super) struct Incoming(Vec<u8>);

impl phy::RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Outgoing<'a> {
    hub: &'a Inner,
    port: usize,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.hub.handle(self.port, &frame);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn two_stations_ping_and_talk() {
        let hub = Hub::new();
        let (ip1, ip2) = (Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2));
        let mut a = Peer::new(&hub, 1, ip1);
        let mut b = Peer::new(&hub, 2, ip2);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let other = thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                b.poll(Duration::from_millis(5));
            }
        });
        assert_eq!(a.ping(ip2, Duration::from_secs(5)).unwrap(), 1);
        let refused = a.connect(ip2, 4444, Duration::from_secs(5)).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        let silent = a.ping(Ipv4Address::new(10, 0, 0, 9), Duration::from_millis(50)).unwrap_err();
        assert!(silent.to_string().contains("answered none"), "{silent}");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        other.join().unwrap();
    }
}
