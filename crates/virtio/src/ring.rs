//! One look at a split ring (2.7): chains are taken, put back, and the driver is told.

use crate::broken::{Broken, Part};
use crate::bytes::read_u16;
use crate::chain::Chain;
use crate::queue::Queue;
use core::sync::atomic::{Ordering, fence};
use virtio_spec::virtq::AvailF;
use vm_types::{Gpa, GuestMemory, nospec};

const NO_INTERRUPT: u16 = AvailF::NO_INTERRUPT.bits().to_ne();

/// Work that one look does: descriptors walked, and what a device charges besides. The chain that is begun is finished.
const BUDGET: u32 = 512;

/// What was negotiated of rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
}

/// A queue, the guest's memory, and what may be done at this look.
pub struct Ring<'a> {
    queue: &'a mut Queue,
    memory: &'a dyn GuestMemory,
    rules: Rules,
    /// The used index as the driver was last told of.
    told: u16,
    /// The available index as last read.
    seen: u16,
    budget: u32,
    again: bool,
}

/// How a look ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The driver wants an interrupt for what was put back.
    pub interrupt: bool,
    /// Chains may wait that this look had no work left for.
    pub again: bool,
}

impl<'a> Ring<'a> {
    /// Begins a look at an enabled queue.
    pub fn new(queue: &'a mut Queue, memory: &'a dyn GuestMemory, rules: Rules) -> Self {
        let (told, seen) = (queue.state.next_used, queue.state.next_available);
        Self { queue, memory, rules, told, seen, budget: BUDGET, again: false }
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &'a dyn GuestMemory {
        self.memory
    }

    /// The next chain that the driver has made available. `None` where there is none, or no work left.
    ///
    /// # Errors
    /// What the driver has broken.
    pub fn take(&mut self) -> Result<Option<Chain>, Broken> {
        if !self.is_more()? {
            return Ok(None);
        }
        if self.budget == 0 {
            self.again = true;
            return Ok(None);
        }
        let state = &self.queue.state;
        let place = u64::from(state.next_available % state.size);
        let head = self.available(4 + 2 * place)?;
        let chain = self.walk(head)?;
        self.queue.state.next_available = self.queue.state.next_available.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Leaves the chain that was taken last where it was: there will be another look, which the device must ask for.
    pub fn leave(&mut self) {
        self.queue.state.next_available = self.queue.state.next_available.wrapping_sub(1);
    }

    /// Walks a chain that was taken before.
    ///
    /// # Errors
    /// What the driver has broken.
    pub fn walk(&mut self, head: u16) -> Result<Chain, Broken> {
        let state = &self.queue.state;
        let size = state.size;
        if head >= size {
            return Err(Broken::Descriptor { index: head, count: size });
        }
        let table = Gpa(state.descriptors);
        let head = nospec::index(head.into(), size.into()) as u16;
        let chain = Chain::walk(self.memory, table, size, self.rules.indirect, head)?;
        self.charge((chain.readable().len() + chain.writable().len()) as u32);
        Ok(chain)
    }

    /// Counts work that a device did for a chain, in descriptors.
    pub fn charge(&mut self, work: u32) {
        self.budget = self.budget.saturating_sub(work);
    }

    /// Puts a chain back, of which `written` bytes were written from its first on (2.7.8.2).
    ///
    /// # Errors
    /// A used ring that is no RAM.
    pub fn put(&mut self, head: u16, written: u32) -> Result<(), Broken> {
        let state = &mut self.queue.state;
        let place = u64::from(state.next_used % state.size);
        let mut element = [0; 8];
        element[..2].copy_from_slice(&head.to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        let error = |error| Broken::Area { part: Part::Used, error };
        self.memory.write(Gpa(state.used + 4 + 8 * place), &element).map_err(error)?;
        state.next_used = state.next_used.wrapping_add(1);
        // The element before its index.
        fence(Ordering::Release);
        self.memory.write_u16(Gpa(state.used + 2), state.next_used).map_err(error)
    }

    /// Ends the look.
    ///
    /// # Errors
    /// An available ring that is no RAM.
    pub fn end(self) -> Result<Ended, Broken> {
        let used = self.queue.state.next_used;
        let interrupt = used != self.told && self.wants_interrupt(used)?;
        Ok(Ended { interrupt, again: self.again })
    }

    /// Whether the driver wants to be told that the used index has come to `used` (2.7.10).
    fn wants_interrupt(&self, used: u16) -> Result<bool, Broken> {
        // What the driver wants is read after it can see what was put back.
        fence(Ordering::SeqCst);
        if !self.rules.event_idx {
            return Ok(self.available(0)? & NO_INTERRUPT == 0);
        }
        let event = self.available(4 + 2 * u64::from(self.queue.state.size))?;
        Ok(used.wrapping_sub(event).wrapping_sub(1) < used.wrapping_sub(self.told))
    }

    /// Whether a chain is available. Where there is none, the driver is asked to say when there is (2.7.10), and may have
    /// made one available meanwhile.
    fn is_more(&mut self) -> Result<bool, Broken> {
        let next = self.queue.state.next_available;
        if self.seen == next {
            self.look(next)?;
        }
        if self.seen == next && self.rules.event_idx {
            let state = &self.queue.state;
            let event = Gpa(state.used + 4 + 8 * u64::from(state.size));
            let error = |error| Broken::Area { part: Part::Used, error };
            self.memory.write_u16(event, next).map_err(error)?;
            fence(Ordering::SeqCst);
            self.look(next)?;
        }
        Ok(self.seen != next)
    }

    /// Reads how far the driver has come.
    fn look(&mut self, next: u16) -> Result<(), Broken> {
        self.seen = self.available(2)?;
        // The ring behind its index.
        fence(Ordering::Acquire);
        let (available, size) = (self.seen.wrapping_sub(next), self.queue.state.size);
        // What is in flight has its places too.
        let in_flight = next.wrapping_sub(self.queue.state.next_used);
        if available > size.saturating_sub(in_flight) {
            return Err(Broken::Index { available, size });
        }
        Ok(())
    }

    /// The word at `offset` of the available ring.
    fn available(&self, offset: u64) -> Result<u16, Broken> {
        let at = Gpa(self.queue.state.available + offset);
        read_u16(self.memory, at).map_err(|error| Broken::Area { part: Part::Available, error })
    }
}
