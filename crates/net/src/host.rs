use crate::{AddressConfig, AddressEvent, NetError, Stack};
use switch::{MacAddr, Nic, PortId, Switch, SwitchError, Uplink};

/// Frames that wait between card and switch, and between switch and stack: a window of 64 KiB and its answers.
const QUEUE_DEPTH: usize = 64;

/// A station of this host's own: its TCP/IP, and its port of the switch.
#[derive(Debug)]
pub struct Station {
    port: PortId,
    mac: MacAddr,
    stack: Stack,
}

/// Why a host's network could not be put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostError {
    /// The address is no good.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The card's MAC is no good.
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

impl Station {
    /// Adds the station to the switch, with the card's MAC. `entropy` as for [`Stack::new`].
    ///
    /// # Errors
    /// The address is no good, or the card's MAC; or the switch has no port left.
    pub fn new<N: Nic>(
        uplink: &mut Uplink<N>,
        config: AddressConfig,
        entropy: u64,
        now_us: u64,
    ) -> Result<Self, HostError> {
        let mac = uplink.nic().mac();
        let port = uplink.switch().add_port(QUEUE_DEPTH)?;
        uplink.switch().pin(mac, port)?;
        let stack = Stack::new(&mut uplink.port(port, mac, now_us), config, entropy, now_us)?;
        Ok(Self { port, mac, stack })
    }

    /// Moves frames and runs the stack once; never blocks. Returns whether anything happened.
    pub fn poll<N: Nic>(&mut self, uplink: &mut Uplink<N>, now_us: u64) -> bool {
        uplink.begin(QUEUE_DEPTH);
        let busy = self.stack.poll(&mut uplink.port(self.port, self.mac, now_us), now_us);
        // No more than the stack's queue holds: the rest waits in the card.
        let budget = uplink.switch().room(self.port);
        uplink.end(budget, now_us) > 0 || busy
    }
}

/// A card, the switch behind it, and the host's own station on one of its ports.
#[derive(Debug)]
pub struct Host<N: Nic> {
    uplink: Uplink<N>,
    station: Station,
}

impl<N: Nic> Host<N> {
    /// Joins the parts; the host uses the card's MAC. `entropy` as for [`Stack::new`].
    pub fn new(nic: N, config: AddressConfig, entropy: u64, now_us: u64) -> Result<Self, HostError> {
        let mut uplink = Uplink::new(nic, QUEUE_DEPTH)?;
        let station = Station::new(&mut uplink, config, entropy, now_us)?;
        Ok(Self { uplink, station })
    }

    /// Moves frames and runs the stack once; never blocks. Returns whether anything happened.
    pub fn poll(&mut self, now_us: u64) -> bool {
        self.station.poll(&mut self.uplink, now_us)
    }

    /// When [`Host::poll`] should run next if the card brings nothing before.
    pub fn next_deadline(&mut self, now_us: u64) -> Option<u64> {
        if self.uplink.has_waiting(self.station.port) {
            return Some(now_us);
        }
        self.station.stack.next_deadline(now_us)
    }

    /// A change of the host's address since the last call.
    pub fn take_address_event(&mut self) -> Option<AddressEvent> {
        self.station.stack.take_address_event()
    }

    /// The host's TCP/IP.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.station.stack
    }

    /// The card.
    pub fn nic(&mut self) -> &mut N {
        self.uplink.nic()
    }

    /// The switch, to look at or to add a guest's port.
    pub fn switch(&mut self) -> &mut Switch {
        self.uplink.switch()
    }

    /// Ports of the card and of the host's stack.
    pub fn ports(&self) -> (PortId, PortId) {
        (self.uplink.id(), self.station.port)
    }
}
