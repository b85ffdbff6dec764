use crate::mac::MacAddr;
use core::fmt;

/// State of the physical link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// No carrier, or the card no longer answers.
    Down,
    /// Carrier at this speed in Mbit/s.
    Up(u16),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Down => f.write_str("link down"),
            Link::Up(mbps) => write!(f, "link up, {mbps} Mbit/s"),
        }
    }
}

/// Why a frame was not taken for transmission.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TxError {
    /// No free descriptor or queue slot: poll and try again.
    #[error("transmit queue is full")]
    Full,
    /// Shorter than an Ethernet header or longer than [`crate::MAX_FRAME`].
    #[error("frame of {0} bytes cannot be sent")]
    BadLength(usize),
}

/// A polled Ethernet device. Frames are byte slices from the destination MAC to the end of the payload, without FCS.
pub trait Nic {
    /// The station's own address.
    fn mac(&self) -> MacAddr;

    /// Link state now; may read a device register.
    fn link(&self) -> Link;

    /// Housekeeping: takes back transmitted buffers, gives received ones back to the card. Never blocks.
    fn poll(&mut self);

    /// Copies the next received frame to `buf` and returns its length; `None` when none waits.
    /// Frames that do not fit `buf` or are damaged are counted and skipped.
    fn rx(&mut self, buf: &mut [u8]) -> Option<usize>;

    /// Queues one frame for transmission.
    fn tx(&mut self, frame: &[u8]) -> Result<(), TxError>;

    /// Frames that [`Nic::tx`] takes now without [`TxError::Full`].
    fn tx_room(&self) -> usize;
}
