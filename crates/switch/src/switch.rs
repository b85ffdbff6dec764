use crate::mac::MacAddr;
use crate::port::{MAX_PORTS, PortCounters, PortId, PortSet};
use crate::queue::{FrameQueue, MAX_FRAME, MIN_FRAME};
use crate::table::MacTable;
use alloc::vec::Vec;

/// Why the switch refused a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SwitchError {
    /// [`MAX_PORTS`] exist.
    #[error("the switch has all its {MAX_PORTS} ports")]
    TooManyPorts,
    /// A group or zero address cannot be a station's.
    #[error("{0} is no station address")]
    NotAStation(MacAddr),
    /// The address table's set for it holds only pinned ones.
    #[error("no room to pin {0}")]
    TableFull(MacAddr),
}

#[derive(Debug)]
struct Port {
    egress: FrameQueue,
    counters: PortCounters,
}

impl Port {
    /// Queues a copy of a frame, or counts it as lost.
    fn queue(&mut self, frame: &[u8]) {
        if self.egress.push(frame) {
            self.count_out(frame.len());
        } else {
            self.counters.out_dropped += 1;
        }
    }

    fn count_out(&mut self, len: usize) {
        self.counters.out_frames += 1;
        self.counters.out_bytes += len as u64;
    }
}

/// The switch: frames go in with [`Switch::input`] and wait in the destination port's bounded queue.
/// No frame allocates memory.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Port>,
    table: MacTable,
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Switch {
    /// A switch without ports.
    pub fn new() -> Self {
        Self { ports: Vec::new(), table: MacTable::new() }
    }

    /// Adds a port whose queue holds `depth` frames.
    pub fn add_port(&mut self, depth: usize) -> Result<PortId, SwitchError> {
        if self.ports.len() >= MAX_PORTS {
            return Err(SwitchError::TooManyPorts);
        }
        let id = PortId(self.ports.len() as u8);
        self.ports.push(Port { egress: FrameQueue::new(depth), counters: PortCounters::default() });
        Ok(id)
    }

    /// Ties an address to a port: frames with it as their source elsewhere do not move it, so nobody on the wire
    /// can draw the host's traffic to itself.
    pub fn pin(&mut self, mac: MacAddr, port: PortId) -> Result<(), SwitchError> {
        if !mac.is_station() {
            return Err(SwitchError::NotAStation(mac));
        }
        if self.table.pin(mac, port) { Ok(()) } else { Err(SwitchError::TableFull(mac)) }
    }

    /// Takes a frame from the owner of `from` and queues it where it belongs: the port its destination was heard
    /// on, or all others if that is a group address or unknown.
    pub fn input(&mut self, from: PortId, frame: &[u8], now_us: u64) {
        let to = self.admit(from, frame, now_us);
        self.spread(to, frame);
    }

    /// The same, but if it goes to port `at` alone, whose owner is at hand, and nothing waits there, it is left to the
    /// caller to hand over: then the answer is true.
    pub(crate) fn pass(&mut self, from: PortId, frame: &[u8], at: PortId, now_us: u64) -> bool {
        let to = self.admit(from, frame, now_us);
        if to == PortSet::of(at)
            && let Some(port) = self.ports.get_mut(usize::from(at.0))
            && port.egress.is_empty()
        {
            port.count_out(frame.len());
            return true;
        }
        self.spread(to, frame);
        false
    }

    /// Counts a frame from the owner of `from`, learns where its source is, and says which ports it goes to.
    fn admit(&mut self, from: PortId, frame: &[u8], now_us: u64) -> PortSet {
        let Some(port) = self.ports.get_mut(usize::from(from.0)) else { return PortSet::NONE };
        let addresses = MacAddr::of_frame(frame).filter(|(dst, src)| {
            (MIN_FRAME..=MAX_FRAME).contains(&frame.len()) && src.is_station() && !dst.is_link_local()
        });
        let Some((dst, src)) = addresses else {
            port.counters.in_bad += 1;
            return PortSet::NONE;
        };
        port.counters.in_frames += 1;
        port.counters.in_bytes += frame.len() as u64;
        self.table.learn(src, from, now_us);
        let known = if dst.is_group() { None } else { self.table.lookup(dst, now_us) };
        known.map_or(PortSet::first(self.ports.len()), PortSet::of).without(from)
    }

    fn spread(&mut self, to: PortSet, frame: &[u8]) {
        for port in to.ports() {
            if let Some(port) = self.ports.get_mut(usize::from(port.0)) {
                port.queue(frame);
            }
        }
    }

    /// The oldest frame that waits for the owner of `port`.
    pub fn front(&self, port: PortId) -> Option<&[u8]> {
        self.ports.get(usize::from(port.0))?.egress.front()
    }

    /// Drops the frame that [`Switch::front`] showed.
    pub fn pop(&mut self, port: PortId) {
        if let Some(port) = self.ports.get_mut(usize::from(port.0)) {
            port.egress.pop();
        }
    }

    /// Frames that still fit the queue of `port`.
    pub fn room(&self, port: PortId) -> usize {
        self.ports.get(usize::from(port.0)).map_or(0, |p| p.egress.room())
    }

    /// Counters of `port` since it was added.
    pub fn counters(&self, port: PortId) -> PortCounters {
        self.ports.get(usize::from(port.0)).map_or(PortCounters::default(), |p| p.counters)
    }

    /// Forgets the addresses behind `port` and what waits for it: its owner went away.
    pub fn forget(&mut self, port: PortId) {
        self.table.forget(port);
        if let Some(port) = self.ports.get_mut(usize::from(port.0)) {
            port.egress.clear();
        }
    }

    /// Addresses known now, pinned ones included.
    pub fn addresses(&self, now_us: u64) -> usize {
        self.table.len(now_us)
    }
}
