//! A switch whose first port is a card, and its other ports as their owners see them.
//!
//! A frame that is for one port, whose owner is at hand, is handed over where it lies: from the card to the owner who asks
//! for frames, and from an owner to the card. All others go by the queues. Frames that go to a port keep their order, as
//! [`Switch::pass`] hands nothing over while something waits there.

use crate::mac::MacAddr;
use crate::nic::{Link, Nic, TxError};
use crate::port::PortId;
use crate::queue::{MAX_FRAME, MIN_FRAME};
use crate::switch::{Switch, SwitchError};

/// A card, and the switch behind it.
#[derive(Debug)]
pub struct Uplink<N: Nic> {
    nic: N,
    switch: Switch,
    port: PortId,
    turn: Turn,
}

/// What a turn may still do, so that it ends however fast frames come; and what it has done.
#[derive(Debug, Default)]
struct Turn {
    take: usize,
    send: usize,
    moved: usize,
}

impl Turn {
    /// Puts in a frame of the owner of `from`; whether it goes to `card`, the card's port where the card takes a frame, from
    /// where it lies. Out of line, as its callers are made anew for each way to write a frame.
    #[inline(never)]
    fn sends(
        &mut self,
        switch: &mut Switch,
        from: PortId,
        frame: &[u8],
        card: Option<PortId>,
        now_us: u64,
    ) -> bool {
        let Some(card) = card else {
            switch.input(from, frame, now_us);
            return false;
        };
        let direct = switch.pass(from, frame, card, now_us);
        self.send = self.send.saturating_sub(direct.into());
        self.moved += usize::from(direct);
        direct
    }
}

impl<N: Nic> Uplink<N> {
    /// A switch whose only port is the card's, with a queue of `depth` frames.
    ///
    /// # Errors
    /// As [`Switch::add_port`].
    pub fn new(nic: N, depth: usize) -> Result<Self, SwitchError> {
        let mut switch = Switch::new();
        let port = switch.add_port(depth)?;
        Ok(Self { nic, switch, port, turn: Turn::default() })
    }

    /// Begins a turn: frames that wait for the wire leave. Up to `frames` may then come from the card, and be handed to it.
    pub fn begin(&mut self, frames: usize) {
        self.turn = Turn { take: frames, send: frames, moved: 0 };
        self.flush();
    }

    /// Ends a turn: takes up to `budget` frames that the card still has to the queues, as far as the turn goes, and sends what
    /// waits for the wire. Returns how many frames came from the card or left by it since [`Uplink::begin`].
    pub fn end(&mut self, budget: usize, now_us: u64) -> usize {
        for _ in 0..budget.min(self.turn.take) {
            let Self { nic, switch, port, .. } = self;
            if nic.rx_with(|frame| switch.input(*port, frame, now_us)).is_none() {
                break;
            }
            self.turn.moved += 1;
        }
        self.turn.take = 0;
        self.flush();
        self.turn.moved
    }

    /// Sends what waits for the wire, as far as the card takes it.
    fn flush(&mut self) {
        self.nic.poll();
        while let Some(frame) = self.switch.front(self.port) {
            if self.nic.tx(frame) == Err(TxError::Full) {
                break;
            }
            self.switch.pop(self.port);
            self.turn.moved += 1;
        }
    }

    /// A port as its owner sees it, in this turn. `mac` is the owner's address.
    pub fn port(&mut self, port: PortId, mac: MacAddr, now_us: u64) -> SwitchPort<'_, N> {
        SwitchPort { uplink: self, port, mac, now_us }
    }

    /// The card's port.
    pub fn id(&self) -> PortId {
        self.port
    }

    /// The card.
    pub fn nic(&mut self) -> &mut N {
        &mut self.nic
    }

    /// The switch, to look at or to add a port.
    pub fn switch(&mut self) -> &mut Switch {
        &mut self.switch
    }

    /// Whether a frame waits for the owner of `port`, or for the wire.
    pub fn has_waiting(&self, port: PortId) -> bool {
        [port, self.port].into_iter().any(|port| self.switch.front(port).is_some())
    }

    /// Whether the card takes a frame now.
    fn card_takes(&mut self) -> bool {
        if self.nic.tx_room() == 0 {
            self.nic.poll();
        }
        self.nic.tx_room() > 0
    }
}

/// A port seen from its owner, as a card: the host's stack runs on one.
#[derive(Debug)]
pub struct SwitchPort<'a, N: Nic> {
    uplink: &'a mut Uplink<N>,
    port: PortId,
    mac: MacAddr,
    now_us: u64,
}

impl<N: Nic> Nic for SwitchPort<'_, N> {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let Uplink { nic, switch, port: from, turn } = &mut *self.uplink;
        let mut look = Some(look);
        loop {
            // What waits came before what the card has.
            if let Some(frame) = switch.front(self.port) {
                let result = look.take().map(|look| look(frame));
                switch.pop(self.port);
                return result;
            }
            if turn.take == 0 {
                return None;
            }
            let result = nic.rx_with(|frame| {
                let direct = switch.pass(*from, frame, self.port, self.now_us);
                look.take_if(|_| direct).map(|look| look(frame))
            })?;
            turn.take -= 1;
            turn.moved += 1;
            if result.is_some() {
                return result;
            }
        }
    }

    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
        let goes = self.tx_room() > 0 && (MIN_FRAME..=MAX_FRAME).contains(&len);
        let takes = self.uplink.card_takes();
        let Uplink { nic, switch, port: to, turn } = &mut *self.uplink;
        // One that does not go to the card from there, as it is full or the frame is for others, is copied to its queues.
        nic.tx_with(len, |frame| {
            let (result, send) = fill(frame);
            let direct =
                send && goes && turn.sends(switch, self.port, frame, takes.then_some(*to), self.now_us);
            (result, direct)
        })
    }

    /// Its owner is held back while the wire's queue is full, as most of what it sends leaves by the wire.
    fn tx_room(&self) -> usize {
        self.uplink.switch.room(self.uplink.port).min(self.uplink.turn.send)
    }
}
