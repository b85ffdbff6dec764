/// Most ports a switch can have.
pub const MAX_PORTS: usize = 32;

/// A port of one [`Switch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortId(pub(crate) u8);

/// Ports that a frame goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortSet(u32);

const _: () = assert!(MAX_PORTS == u32::BITS as usize);

impl PortSet {
    pub(crate) const NONE: PortSet = PortSet(0);

    /// One port.
    pub(crate) fn of(port: PortId) -> Self {
        Self(1 << (u32::from(port.0) % u32::BITS))
    }

    /// The first `count` ports, [`MAX_PORTS`] at most.
    pub(crate) fn first(count: usize) -> Self {
        Self(u32::MAX.checked_shr(u32::BITS.saturating_sub(count as u32)).unwrap_or(0))
    }

    pub(crate) fn without(self, port: PortId) -> Self {
        Self(self.0 & !Self::of(port).0)
    }

    /// Each of them, from the first.
    pub(crate) fn ports(self) -> impl Iterator<Item = PortId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let port = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (port < u32::BITS).then_some(PortId(port as u8))
        })
    }
}

/// Frames and bytes of one port, as seen from the switch: `in` came from the port's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCounters {
    /// Good frames from the owner.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Frames from the owner thrown away: length, group source address or link-local destination.
    pub in_bad: u64,
    /// Frames handed to the owner, or queued for it.
    pub out_frames: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Frames lost because the owner's queue was full.
    pub out_dropped: u64,
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sets_of_ports() {
        for count in [0, 1, 2, 31, 32] {
            let all = PortSet::first(count);
            let ports: Vec<_> = all.ports().collect();
            assert_eq!(ports, (0..count as u8).map(PortId).collect::<Vec<_>>());
            for port in (0..32).map(PortId) {
                let rest: Vec<_> = all.without(port).ports().collect();
                assert_eq!(rest, ports.iter().copied().filter(|other| *other != port).collect::<Vec<_>>());
                assert_eq!(PortSet::of(port).ports().collect::<Vec<_>>(), [port]);
            }
        }
        assert_eq!(PortSet::first(40), PortSet::first(32));
        assert_eq!(PortSet::NONE.ports().count(), 0);
    }
}
