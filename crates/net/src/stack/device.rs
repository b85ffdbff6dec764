//! smoltcp's `phy::Device` over any [`Nic`].

use super::checksum;
use super::neighbour::Neighbours;
use alloc::boxed::Box;
use alloc::vec::Vec;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use switch::{MAX_FRAME, Nic};

/// Untagged frame: what the stack itself sends.
const MTU: usize = 1514;

/// What smoltcp sends at once to the frame that it looks at.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Box<[u8; MAX_FRAME]>,
    len: usize,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self { bytes: Box::new([0; MAX_FRAME]), len: 0 }
    }

    /// The answer, once: none if it needs none.
    pub(super) fn take(&mut self) -> Option<&mut [u8]> {
        let len = core::mem::take(&mut self.len);
        self.bytes.get_mut(..len).filter(|frame| !frame.is_empty())
    }
}

/// What smoltcp sees of the network for one call.
pub(super) struct View<'a, N: Nic> {
    /// A frame for smoltcp, where it lies. It holds the card, so that there is no `way` out meanwhile.
    pub(super) received: Option<&'a [u8]>,
    pub(super) way: Option<Way<'a, N>>,
    pub(super) answer: &'a mut Answer,
}

/// Out: a NIC, and who is at the other end.
pub(super) struct Way<'a, N: Nic> {
    pub(super) nic: &'a mut N,
    pub(super) neighbours: &'a mut Neighbours,
    pub(super) now_us: u64,
}

pub(super) struct Received<'a>(&'a [u8]);

/// To the NIC, or, while a received frame is looked at, to the answer.
pub(super) struct Outgoing<'a, N: Nic> {
    way: Option<Way<'a, N>>,
    answer: &'a mut Answer,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<N: Nic> TxToken for Outgoing<'_, N> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if let Some(Way { nic, neighbours, now_us }) = self.way
            && len <= MAX_FRAME
        {
            let result = nic.tx_with(len, |frame| {
                let result = f(frame);
                checksum::fill(frame);
                (result, neighbours.direct(frame, now_us))
            });
            neighbours.ask(nic);
            return result;
        }
        // smoltcp never asks for more than the MTU; were it to, the frame would be lost.
        let mut too_long = Vec::new();
        let frame = match self.answer.bytes.get_mut(..len) {
            Some(frame) => {
                self.answer.len = len;
                frame
            }
            None => {
                too_long.resize(len, 0);
                &mut too_long[..]
            }
        };
        let result = f(frame);
        checksum::fill(frame);
        result
    }
}

impl<N: Nic> Device for View<'_, N> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t, N>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Outgoing<'_, N>)> {
        let frame = self.received.take()?;
        Some((Received(frame), Outgoing { way: None, answer: self.answer }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_, N>> {
        let Way { nic, neighbours, now_us } = self.way.as_mut().filter(|way| way.nic.tx_room() > 0)?;
        let way = Way { nic: &mut **nic, neighbours, now_us: *now_us };
        Some(Outgoing { way: Some(way), answer: self.answer })
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
