//! Frames that a card sends to itself, inside its MAC: what DMA, rings and filter do, without cable and neighbour.

use super::{Card, Dma, Family, Registers, TX_DEPTH, regs::*};
use switch::{MAX_FRAME, Nic};

/// Lengths of the frames, without FCS: from the least of Ethernet, which no card pads, to the most of an untagged one.
const LENGTHS: [usize; 8] = [60, 61, 64, 65, 128, 999, 1500, 1514];
/// EtherType for local experiments (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const HEADER: usize = 14;
/// A frame is looked for this often, and so long: the first one waits until the forced link is up.
const LOOK_US: u32 = 10;
const PATIENCE_US: u32 = 500_000;

/// Why no frame came round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoopError {
    /// The card has none that leaves its link alone.
    #[error("{0}")]
    NotOffered(&'static str),
    /// What was sent before does not leave.
    #[error("{0} frames of before do not leave the card")]
    Stuck(usize),
    /// It was sent, and did not come.
    #[error("a frame of {0} bytes did not come back in {ms} ms", ms = PATIENCE_US / 1000)]
    Lost(usize),
    /// Its bytes are others.
    #[error("a frame of {0} bytes came back with other bytes")]
    Changed(usize),
}

impl Family {
    /// Why there is no loop inside the MAC; none: there is one (82574 datasheet, product features; 82576 and I350
    /// datasheets, RCTL.LBM).
    const fn lacks_loop(self) -> Option<&'static str> {
        match self {
            Family::I8257x | Family::Igb | Family::I210 => None,
            Family::I8254x => Some("the loop of this card is its PHY's, and costs the link"),
            Family::I217 => Some("the loop of this card is its PHY's, which the firmware shares"),
            Family::Ixgbe => Some("the loop of this card trains its link anew"),
        }
    }
}

impl<R: Registers, D: Dma> Card<R, D> {
    /// Sends frames to itself and compares what comes back; gives how many. Nothing goes to the wire or comes from it
    /// meanwhile: what waits to be read, or comes now, is thrown away. Waits, where the card does not work for up to
    /// half a second.
    ///
    /// # Errors
    /// See [`LoopError`].
    pub fn try_loop(&mut self) -> Result<usize, LoopError> {
        if let Some(why) = self.family.lacks_loop() {
            return Err(LoopError::NotOffered(why));
        }
        self.wait(|card| {
            card.poll();
            (card.tx_room() == TX_DEPTH).then_some(())
        })
        .ok_or(LoopError::Stuck(TX_DEPTH - self.tx_room()))?;
        let ctrl = self.registers.read32(CTRL);
        let forced = CTRL_FD | CTRL_SLU | CTRL_SPEED_1000 | CTRL_FRCSPD | CTRL_FRCDPX;
        self.registers.write32(CTRL, ctrl & !CTRL_SPEED | forced);
        self.registers.write32(RCTL, RCTL_EN | RCTL_LBM_MAC | RCTL_SECRC);
        let result = LENGTHS.iter().try_for_each(|length| self.round(*length));
        self.registers.write32(CTRL, ctrl);
        self.set_promiscuous(self.promiscuous);
        result.map(|()| LENGTHS.len())
    }

    /// One frame there and back.
    fn round(&mut self, length: usize) -> Result<(), LoopError> {
        let mut sent = [0; MAX_FRAME];
        let frame = sent.get_mut(..length).ok_or(LoopError::Lost(length))?;
        for (at, byte) in frame.iter_mut().enumerate() {
            *byte = (at * 7 + length) as u8;
        }
        let header = [&self.mac.0[..], &self.mac.0, &EXPERIMENT].concat();
        frame[..HEADER].copy_from_slice(&header);
        self.tx(frame).map_err(|_| LoopError::Lost(length))?;
        let came = self.wait(|card| {
            // What came off the wire before is not ours.
            card.rx_with(|came| (came.get(..HEADER) == Some(&header)).then_some(came == &*frame))?
        });
        match came {
            None => Err(LoopError::Lost(length)),
            Some(true) => Ok(()),
            Some(false) => Err(LoopError::Changed(length)),
        }
    }

    fn wait<T>(&mut self, mut what: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        for _ in 0..PATIENCE_US / LOOK_US {
            if let Some(result) = what(self) {
                return Some(result);
            }
            self.registers.delay_us(LOOK_US);
        }
        None
    }
}
