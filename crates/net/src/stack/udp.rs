//! A UDP socket at a time: for a client that talks to one server, such as TFTP.

use super::{NetError, Search, Stack};
use alloc::vec;
use core::net::Ipv4Addr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{IpAddress, IpEndpoint};

/// Most bytes of a datagram: what an Ethernet frame holds.
pub const MAX_DATAGRAM: usize = 1472;
/// Datagrams that wait in a direction.
const WAITING: usize = 8;

/// The UDP socket, and who is at the other end.
#[derive(Debug)]
pub(super) struct Udp {
    handle: SocketHandle,
    peer: Ipv4Addr,
    /// Until it has sent a datagram.
    search: Option<Search>,
    /// Why none gets there.
    lost: Option<NetError>,
}

impl Stack {
    /// Opens the UDP socket for datagrams from and to any port of `peer`. Returns its own port.
    ///
    /// # Errors
    /// It is open already, or there is no way to `peer`.
    pub fn udp_open(&mut self, peer: Ipv4Addr) -> Result<u16, NetError> {
        self.address().ok_or(NetError::NoAddress)?.route(peer)?;
        if self.udp.is_some() {
            return Err(NetError::UdpInUse);
        }
        let buffer =
            || PacketBuffer::new(vec![PacketMetadata::EMPTY; WAITING], vec![0; WAITING * MAX_DATAGRAM]);
        let mut socket = Socket::new(buffer(), buffer());
        let port = self.free_local_port();
        socket.bind(port).map_err(|_| NetError::PortUnusable(port))?;
        let search = Some(self.neighbours.search(peer));
        self.udp = Some(Udp { handle: self.sockets.add(socket), peer, search, lost: None });
        Ok(port)
    }

    /// Queues a datagram to `port` of the peer. False: no room for it now.
    ///
    /// # Errors
    /// The socket is not open, the port is 0, or the datagram is longer than [`MAX_DATAGRAM`].
    pub fn udp_send(&mut self, port: u16, bytes: &[u8]) -> Result<bool, NetError> {
        let udp = self.udp.as_ref().ok_or(NetError::Stale)?;
        if port == 0 {
            return Err(NetError::PortUnusable(port));
        }
        if bytes.len() > MAX_DATAGRAM {
            return Err(NetError::TooLong(bytes.len()));
        }
        let to = IpEndpoint::new(IpAddress::Ipv4(udp.peer), port);
        Ok(self.sockets.get_mut::<Socket<'_>>(udp.handle).send_slice(bytes, to).is_ok())
    }

    /// The next datagram from the peer, if one waits: its port, and how many bytes of `bytes` it fills. Others'
    /// datagrams, and those longer than `bytes`, are thrown away.
    ///
    /// # Errors
    /// The socket is not open, or nobody has the peer's address: as long as it has not sent anything.
    pub fn udp_receive(&mut self, bytes: &mut [u8]) -> Result<Option<(u16, usize)>, NetError> {
        let udp = self.udp.as_mut().ok_or(NetError::Stale)?;
        let socket = self.sockets.get_mut::<Socket<'_>>(udp.handle);
        while let Ok((datagram, from)) = socket.recv() {
            let place = bytes.get_mut(..datagram.len());
            if let Some(place) = place.filter(|_| from.endpoint.addr == IpAddress::Ipv4(udp.peer)) {
                place.copy_from_slice(datagram);
                (udp.search, udp.lost) = (None, None);
                return Ok(Some((from.endpoint.port, place.len())));
            }
        }
        udp.lost.map_or(Ok(None), Err)
    }

    /// Notices that no datagram gets to the peer.
    pub(super) fn udp_give_up(&mut self) {
        if let Some(Udp { search: Some(search), lost, .. }) = &mut self.udp {
            *lost = self.neighbours.unanswered(*search);
        }
    }

    /// Closes the UDP socket: what waits to be read is lost, what waits to be sent leaves with the next [`Stack::poll`].
    pub fn udp_close(&mut self) {
        let Some(udp) = self.udp.take() else { return };
        // One at a time: a peer that no datagram reaches does not keep more than that.
        if let Some(before) = self.udp_leaving.replace(udp.handle) {
            self.sockets.remove(before);
        }
        self.udp_let_go();
    }

    /// Removes a closed socket once its last datagram has left.
    pub(super) fn udp_let_go(&mut self) {
        let sockets = &mut self.sockets;
        let gone = |handle: &mut SocketHandle| sockets.get::<Socket<'_>>(*handle).send_queue() == 0;
        if let Some(handle) = self.udp_leaving.take_if(gone) {
            self.sockets.remove(handle);
        }
    }
}
