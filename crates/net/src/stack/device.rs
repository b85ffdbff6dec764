//! smoltcp's `phy::Device` over any [`Nic`].

use super::checksum::{self, Verdict};
use crate::{MAX_FRAME, Nic};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Untagged frame: what the stack itself sends.
const MTU: usize = 1514;

/// A NIC and the two frame buffers that tokens work in.
pub(super) struct NicDevice<'a, N: Nic> {
    pub(super) nic: &'a mut N,
    pub(super) received: &'a mut [u8; MAX_FRAME],
    pub(super) outgoing: &'a mut [u8; MAX_FRAME],
    /// Counts frames with a wrong TCP checksum, and fragments.
    pub(super) refused: &'a mut u64,
}

pub(super) struct Received<'a>(&'a [u8]);

pub(super) struct Outgoing<'a, N: Nic> {
    nic: &'a mut N,
    buffer: &'a mut [u8; MAX_FRAME],
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
        // Room was there when the token was made.
        let _ = self.nic.tx(frame);
        result
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

    /// A frame is taken only when its answer could be sent, so that echo and ARP replies are not lost.
    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Outgoing<'_, N>)> {
        if self.nic.tx_room() == 0 {
            return None;
        }
        let len = loop {
            let len = self.nic.rx(self.received)?;
            if self.received.get(..len).map(checksum::check) == Some(Verdict::Good) {
                break len;
            }
            *self.refused += 1;
        };
        let frame = self.received.get(..len)?;
        Some((Received(frame), Outgoing { nic: self.nic, buffer: self.outgoing }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_, N>> {
        (self.nic.tx_room() > 0).then_some(Outgoing { nic: self.nic, buffer: self.outgoing })
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
