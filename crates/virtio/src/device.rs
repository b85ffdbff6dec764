//! What a kind of device adds to registers and rings.

use crate::broken::Broken;
use crate::ring::Ring;
use alloc::string::String;
use alloc::vec::Vec;

/// Most bytes of a device's own configuration.
pub const CONFIG_MOST: usize = 64;

/// A kind of device, behind [`crate::Virtio`].
pub trait Device: Send {
    /// What its state record is called, and its entry in the shape of a VM.
    const KIND: &'static str;

    /// Its number (5).
    const TYPE: u16;

    /// The sizes that are offered for its queues, each a power of two; 1 to 64 of them.
    const QUEUES: &'static [u16];

    /// Bytes of its own configuration, at most [`CONFIG_MOST`].
    const CONFIG: u32 = 0;

    /// What it offers besides what all do.
    fn features(&self) -> u64 {
        0
    }

    /// Its own configuration, the first [`Device::CONFIG`] bytes.
    fn config(&self, out: &mut [u8; CONFIG_MOST]) {
        let _ = out;
    }

    /// The driver starts again: nothing that it asked for is to be answered.
    fn reset(&mut self) {}

    /// Looks at one of its queues: takes what is there, puts back what is done. `features`: what was negotiated.
    ///
    /// # Errors
    /// What the driver has broken.
    fn look(
        &mut self,
        queue: u16,
        features: u64,
        ring: &mut Ring<'_>,
        host: &mut dyn Host,
    ) -> Result<(), Broken>;

    /// Requests of a queue that were taken and not put back.
    fn in_flight(&self, queue: u16) -> u16 {
        let _ = queue;
        0
    }

    /// Its own state: what of it travels.
    fn export(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over the state that another host sent, which may be anything.
    ///
    /// # Errors
    /// The field and value that it cannot have.
    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        if state.is_empty() {
            Ok(())
        } else {
            Err(alloc::format!("{} bytes of device state, it has none", state.len()))
        }
    }
}

/// What devices reach beyond their guest.
pub trait Host {
    /// Random bytes that are fit for keys. False where there are none yet; `out` is then what it was.
    fn entropy(&mut self, out: &mut [u8]) -> bool;

    /// A driver has broken a device of this kind, which does nothing until it is reset. Its guest decides how often.
    fn broken(&mut self, kind: &str, why: &Broken);
}
