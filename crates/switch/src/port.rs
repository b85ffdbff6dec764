/// Most ports a switch can have.
pub const MAX_PORTS: usize = 32;

/// A port of one [`Switch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortId(pub(crate) u8);

/// Frames and bytes of one port, as seen from the switch: `in` came from the port's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCounters {
    /// Good frames from the owner.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Frames from the owner thrown away: length, group source address or link-local destination.
    pub in_bad: u64,
    /// Frames queued for the owner.
    pub out_frames: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Frames lost because the owner's queue was full.
    pub out_dropped: u64,
}
