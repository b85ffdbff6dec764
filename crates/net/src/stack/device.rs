//! smoltcp's `phy::Device` over any [`Nic`].

use super::arp;
use super::checksum::{self, Verdict};
use super::neighbour::Neighbours;
use core::net::Ipv4Addr;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use switch::{MAX_FRAME, Nic};

/// Untagged frame: what the stack itself sends.
const MTU: usize = 1514;

/// A NIC, the two frame buffers that tokens work in, and who is at the other end.
pub(super) struct NicDevice<'a, N: Nic> {
    pub(super) nic: &'a mut N,
    pub(super) neighbours: &'a mut Neighbours,
    /// smoltcp is to be told of its router at this address, before anything else.
    pub(super) introduce: &'a mut Option<Ipv4Addr>,
    pub(super) now_us: u64,
    pub(super) received: &'a mut [u8; MAX_FRAME],
    pub(super) outgoing: &'a mut [u8; MAX_FRAME],
    /// Bytes of the frame in `received` that smoltcp has not taken yet.
    pub(super) fetched: Option<usize>,
    /// Counts frames with a wrong TCP checksum, and fragments.
    pub(super) refused: &'a mut u64,
}

pub(super) struct Received<'a>(&'a [u8]);

pub(super) struct Outgoing<'a, N: Nic> {
    nic: &'a mut N,
    neighbours: &'a mut Neighbours,
    buffer: &'a mut [u8; MAX_FRAME],
    now_us: u64,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<N: Nic> TxToken for Outgoing<'_, N> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp never asks for more than the MTU; were it to, the frame would be cut and its checksum wrong.
        let frame = match self.buffer.get_mut(..len) {
            Some(frame) => frame,
            None => return f(&mut alloc::vec![0; len]),
        };
        let result = f(frame);
        checksum::fill(frame);
        self.neighbours.send(self.nic, frame, self.now_us);
        result
    }
}

impl<N: Nic> NicDevice<'_, N> {
    /// Takes the next frame that is smoltcp's, only when its answer could be sent, so that echo replies are not lost.
    pub(super) fn fetch(&mut self) -> Option<&[u8]> {
        let len = loop {
            if self.nic.tx_room() == 0 {
                return None;
            }
            if let Some(router) = self.introduce.take() {
                let frame = self.neighbours.introduction(router);
                self.received[..frame.len()].copy_from_slice(&frame);
                break frame.len();
            }
            let len = self.nic.rx(self.received)?;
            let frame = self.received.get(..len)?;
            if arp::is_arp(frame) {
                self.neighbours.receive(self.nic, frame, self.now_us);
            } else if checksum::check(frame) == Verdict::Good {
                break len;
            } else {
                *self.refused += 1;
            }
        };
        self.fetched = Some(len);
        self.received.get(..len)
    }
}

impl<N: Nic> Device for NicDevice<'_, N> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t, N>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Outgoing<'_, N>)> {
        let len = self.fetched.take()?;
        let outgoing = Outgoing {
            nic: self.nic,
            neighbours: self.neighbours,
            buffer: self.outgoing,
            now_us: self.now_us,
        };
        Some((Received(self.received.get(..len)?), outgoing))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_, N>> {
        (self.nic.tx_room() > 0).then_some(Outgoing {
            nic: self.nic,
            neighbours: self.neighbours,
            buffer: self.outgoing,
            now_us: self.now_us,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU;
        // Ours: see `checksum`.
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}
