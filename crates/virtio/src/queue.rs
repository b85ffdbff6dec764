//! One queue as the driver has set it up, and how far both sides have come.

use crate::broken::{Broken, Part};
use crate::chain::DESCRIPTOR;
use alloc::format;
use alloc::string::String;
use minicbor::{Decode, Encode};
use vm_types::Gpa;

/// What an interrupt vector register holds for none (4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xFFFF;

/// A queue: its registers, and the device's own indices.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The size that is offered: a power of two.
    pub(crate) most: u16,
    pub(crate) state: QueueState,
}

/// What of a queue travels: all but what its device offers.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct QueueState {
    /// Places.
    #[n(0)]
    pub size: u16,
    /// The driver has enabled it.
    #[n(1)]
    pub enabled: bool,
    /// Entry of the MSI-X table, or 0xFFFF.
    #[n(2)]
    pub vector: u16,
    /// The descriptor table.
    #[n(3)]
    pub descriptors: u64,
    /// The available ring.
    #[n(4)]
    pub available: u64,
    /// The used ring.
    #[n(5)]
    pub used: u64,
    /// The chain to take next: the available ring's index, less what was not taken.
    #[n(6)]
    pub next_available: u16,
    /// The used ring's index.
    #[n(7)]
    pub next_used: u16,
}

impl Queue {
    /// As it is after reset. `most`: the size that is offered, a power of two.
    #[must_use]
    pub const fn new(most: u16) -> Self {
        let state = QueueState {
            size: most,
            enabled: false,
            vector: NO_VECTOR,
            descriptors: 0,
            available: 0,
            used: 0,
            next_available: 0,
            next_used: 0,
        };
        Self { most, state }
    }

    /// Its registers and indices.
    #[must_use]
    pub fn state(&self) -> &QueueState {
        &self.state
    }

    /// A queue whose driver has set these registers, and enabled it.
    ///
    /// # Errors
    /// A size or a place that it cannot have.
    pub fn placed(most: u16, state: QueueState) -> Result<Self, Broken> {
        let mut queue = Self { most, state };
        queue.enable()?;
        Ok(queue)
    }

    /// Enables it with the registers that it has.
    ///
    /// # Errors
    /// A size or a place that it cannot have.
    pub(crate) fn enable(&mut self) -> Result<(), Broken> {
        self.check()?;
        self.state.enabled = true;
        Ok(())
    }

    fn check(&self) -> Result<(), Broken> {
        let QueueState { size, descriptors, available, used, .. } = self.state;
        if !size.is_power_of_two() || size > self.most {
            return Err(Broken::Size { size, most: self.most });
        }
        // Alignment and bytes of the areas (2.7), with the word of EVENT_IDX at the end.
        let places = u64::from(size);
        let areas = [
            (Part::Descriptors, descriptors, 16, DESCRIPTOR * places),
            (Part::Available, available, 2, 6 + 2 * places),
            (Part::Used, used, 4, 6 + 8 * places),
        ];
        for (part, at, alignment, len) in areas {
            if at % alignment != 0 || at.checked_add(len).is_none() {
                return Err(Broken::Place { part, at: Gpa(at) });
            }
        }
        Ok(())
    }

    /// Takes over the state of another host's, which may be anything. `in_flight`: chains that were taken and not put
    /// back.
    ///
    /// # Errors
    /// The field and value that it cannot have.
    pub fn import(&mut self, state: QueueState, in_flight: u16) -> Result<(), String> {
        let came = Self { most: self.most, state };
        let QueueState { size, enabled, next_available, next_used, .. } = came.state;
        if enabled {
            came.check().map_err(|error| format!("{error}"))?;
        }
        if next_available.wrapping_sub(next_used) != in_flight
            || in_flight > size
            || !enabled && next_available != 0
        {
            return Err(format!(
                "{in_flight} requests in flight, indices {next_available} and {next_used} of {size} places, enabled: {enabled}"
            ));
        }
        *self = came;
        Ok(())
    }
}
