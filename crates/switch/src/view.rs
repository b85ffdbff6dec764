use crate::mac::MacAddr;
use crate::nic::{Link, Nic, TxError};
use crate::port::PortId;
use crate::queue::{MAX_FRAME, MIN_FRAME};
use crate::switch::Switch;

/// A switch port seen from its owner, as a NIC: the host's stack runs on one.
#[derive(Debug)]
pub struct SwitchPort<'a> {
    /// The switch.
    pub switch: &'a mut Switch,
    /// The owner's port.
    pub port: PortId,
    /// The port that most of the owner's traffic leaves by; the owner is held back while its queue is full.
    pub towards: PortId,
    /// The owner's address.
    pub mac: MacAddr,
    /// Time of this use in microseconds.
    pub now_us: u64,
}

impl Nic for SwitchPort<'_> {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx(&mut self, buf: &mut [u8]) -> Option<usize> {
        loop {
            let frame = self.switch.front(self.port)?;
            let len = frame.len();
            let fits = buf.get_mut(..len).map(|b| b.copy_from_slice(frame)).is_some();
            self.switch.pop(self.port);
            if fits {
                return Some(len);
            }
        }
    }

    fn tx(&mut self, frame: &[u8]) -> Result<(), TxError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(TxError::BadLength(frame.len()));
        }
        if self.tx_room() == 0 {
            return Err(TxError::Full);
        }
        self.switch.input(self.port, frame, self.now_us);
        Ok(())
    }

    fn tx_room(&self) -> usize {
        self.switch.room(self.towards)
    }
}
