use crate::mac::MacAddr;
use crate::queue::{MAX_FRAME, MIN_FRAME};
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
    /// Shorter than an Ethernet header or longer than [`MAX_FRAME`].
    #[error("frame of {0} bytes cannot be sent")]
    BadLength(usize),
}

/// A polled Ethernet device. Frames are byte slices from the destination MAC to the end of the payload, without FCS. They are
/// shown where they lie: who needs no copy makes none.
pub trait Nic {
    /// The station's own address.
    fn mac(&self) -> MacAddr;

    /// Link state now; may read a device register.
    fn link(&self) -> Link;

    /// Housekeeping: takes back transmitted buffers, gives received ones back to the card. Never blocks.
    fn poll(&mut self);

    /// Shows the next received frame to `look`, and drops it afterwards; `None` when none waits. Damaged frames are counted
    /// and skipped.
    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// Has `fill` write a frame of `len` bytes where it is sent from, whatever that holds, and sends it if `fill` says so.
    ///
    /// `fill` is called in any case. What it wrote is lost where [`Nic::tx_room`] is 0, and where `len` is not
    /// [`MIN_FRAME`] to [`MAX_FRAME`], of which it is shown the latter at most.
    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R;

    /// Queues a copy of a frame for transmission.
    ///
    /// # Errors
    /// There is no room, or it is no frame by its length.
    fn tx(&mut self, frame: &[u8]) -> Result<(), TxError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(TxError::BadLength(frame.len()));
        }
        if self.tx_room() == 0 {
            return Err(TxError::Full);
        }
        self.tx_with(frame.len(), |to| (to.copy_from_slice(frame), true));
        Ok(())
    }

    /// Frames that [`Nic::tx`] takes now without [`TxError::Full`].
    fn tx_room(&self) -> usize;
}
