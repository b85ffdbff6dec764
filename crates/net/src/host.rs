use crate::{AddressConfig, AddressEvent, NetError, Stack};
use alloc::boxed::Box;
use switch::{MAX_FRAME, MacAddr, Nic, PortId, Switch, SwitchError, SwitchPort};

/// Frames that wait between card and switch, and between switch and stack: a window of 64 KiB and its answers.
const QUEUE_DEPTH: usize = 64;

/// A card, the switch behind it, and the host's own stack on one of its ports.
#[derive(Debug)]
pub struct Host<N: Nic> {
    nic: N,
    switch: Switch,
    uplink: PortId,
    port: PortId,
    mac: MacAddr,
    stack: Stack,
    scratch: Box<[u8; MAX_FRAME]>,
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

impl<N: Nic> Host<N> {
    /// Joins the parts; the host uses the card's MAC. `entropy` as for [`Stack::new`].
    pub fn new(nic: N, config: AddressConfig, entropy: u64, now_us: u64) -> Result<Self, HostError> {
        let mac = nic.mac();
        let mut switch = Switch::new();
        let uplink = switch.add_port(QUEUE_DEPTH)?;
        let port = switch.add_port(QUEUE_DEPTH)?;
        switch.pin(mac, port)?;
        let mut view = SwitchPort { switch: &mut switch, port, towards: uplink, mac, now_us };
        let stack = Stack::new(&mut view, config, entropy, now_us)?;
        Ok(Self { nic, switch, uplink, port, mac, stack, scratch: Box::new([0; MAX_FRAME]) })
    }

    /// Moves frames and runs the stack once; never blocks. Returns whether anything happened.
    pub fn poll(&mut self, now_us: u64) -> bool {
        // No more than the stack's queue holds: the rest waits in the card.
        let budget = self.switch.room(self.port);
        let taken = self.switch.exchange(self.uplink, &mut self.nic, &mut self.scratch[..], budget, now_us);
        let mut view = SwitchPort {
            switch: &mut self.switch,
            port: self.port,
            towards: self.uplink,
            mac: self.mac,
            now_us,
        };
        let busy = self.stack.poll(&mut view, now_us);
        let sent = self.switch.exchange(self.uplink, &mut self.nic, &mut self.scratch[..], 0, now_us);
        busy || taken + sent > 0
    }

    /// When [`Host::poll`] should run next if the card brings nothing before.
    pub fn next_deadline(&mut self, now_us: u64) -> Option<u64> {
        if self.switch.front(self.port).is_some() || self.switch.front(self.uplink).is_some() {
            return Some(now_us);
        }
        self.stack.next_deadline(now_us)
    }

    /// A change of the host's address since the last call.
    pub fn take_address_event(&mut self) -> Option<AddressEvent> {
        self.stack.take_address_event()
    }

    /// The host's TCP/IP.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// The card.
    pub fn nic(&mut self) -> &mut N {
        &mut self.nic
    }

    /// The switch, to look at or to add a guest's port.
    pub fn switch(&mut self) -> &mut Switch {
        &mut self.switch
    }

    /// Ports of the card and of the host's stack.
    pub fn ports(&self) -> (PortId, PortId) {
        (self.uplink, self.port)
    }
}
