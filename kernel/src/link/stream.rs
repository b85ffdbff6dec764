//! A TCP connection of the host's stack, with and without the keyed link on top.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::net::SocketAddrV4;

use net::{Connection, ConnectionState};
use secure_link::{ByteStream, LinkError, PublicKey, Service, Session};

use crate::net as network;
use crate::sessions::Entry;
use hw::arch::tsc;

/// A connection, for one poll. It takes the network's lock for each piece of bytes and for no longer: who polls it computes
/// between two of them, harvests included.
pub(super) struct Tcp {
    connection: Connection,
    sent: usize,
    /// Host TSC ticks of handing bytes to TCP.
    ticks: u64,
}

impl Tcp {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, sent: 0, ticks: 0 }
    }
}

impl ByteStream for Tcp {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        network::with_stack(|stack| stack.receive(self.connection, buf)).unwrap_or(0)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let before = tsc::read();
        let taken = network::with_stack(|stack| stack.send(self.connection, data)).unwrap_or(0);
        self.sent += taken;
        self.ticks += tsc::read() - before;
        taken
    }

    fn is_open(&self) -> bool {
        matches!(
            network::with_stack(|stack| stack.connection_state(self.connection)),
            Ok(ConnectionState::Connecting | ConnectionState::Open | ConnectionState::Closing)
        )
    }
}

/// An established link to another host. It must be given to [`Link::close`] in the end.
pub(crate) struct Link {
    connection: Connection,
    session: Box<Session>,
    peer: SocketAddrV4,
    /// For `sessions`.
    entry: Entry,
}

impl Link {
    pub(super) fn new(connection: Connection, session: Session, peer: SocketAddrV4) -> Self {
        let key = session.peer().map(|key| key.to_string());
        let entry = Entry::new(session.service().name(), peer.to_string(), key);
        Self { connection, session: Box::new(session), peer, entry }
    }

    /// What runs for the other end now; none: nothing.
    pub(crate) fn doing(&self, what: Option<String>) {
        self.entry.doing(what);
    }

    /// The other host.
    pub(crate) fn peer(&self) -> SocketAddrV4 {
        self.peer
    }

    /// What it is for.
    pub(crate) fn service(&self) -> Service {
        self.session.service()
    }

    /// The other host's key; none on an insecure link.
    pub(crate) fn peer_key(&self) -> Option<PublicKey> {
        self.session.peer()
    }

    /// What ended the link before its time.
    pub(crate) fn fault(&self) -> Option<&LinkError> {
        self.session.fault()
    }

    /// Lets `f` receive and send; nothing blocks. What is sent leaves with the next poll of the network.
    pub(crate) fn poll<R>(&mut self, f: impl FnOnce(&mut Bound<'_>) -> R) -> R {
        let mut bound = Bound { session: &mut self.session, stream: Tcp::new(self.connection), ticks: 0 };
        let result = f(&mut bound);
        bound.session.flush(&mut bound.stream);
        result
    }

    /// Ends the link in order. What was sent is still delivered.
    pub(crate) fn close(self) {
        super::close(self);
    }

    /// Says that nothing follows; true once everything has been handed to TCP.
    pub(super) fn finish(&mut self) -> bool {
        self.poll(|bound| {
            bound.session.close(&mut bound.stream);
            bound.session.flush(&mut bound.stream) || !bound.stream.is_open()
        })
    }

    pub(super) fn connection(&self) -> Connection {
        self.connection
    }

    /// The fault, if there is one, as an addition to a reason.
    pub(crate) fn fault_text(&self) -> String {
        self.fault().map_or_else(String::new, |fault| alloc::format!(" ({fault})"))
    }
}

/// A link while it is polled.
pub(crate) struct Bound<'a> {
    session: &'a mut Session,
    stream: Tcp,
    /// Host TSC ticks of sending, TCP's included.
    ticks: u64,
}

impl Bound<'_> {
    /// Takes bytes that have arrived; 0 where none are there now.
    pub(crate) fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.session.recv(&mut self.stream, buf)
    }

    /// Queues as many bytes as there is room for and says how many.
    pub(crate) fn send(&mut self, data: &[u8]) -> usize {
        let before = tsc::read();
        let taken = self.session.send(&mut self.stream, data);
        self.ticks += tsc::read() - before;
        taken
    }

    /// Host TSC ticks that this poll took to send: to seal, and to hand to TCP.
    pub(crate) fn ticks(&self) -> (u64, u64) {
        (self.ticks.saturating_sub(self.stream.ticks), self.stream.ticks)
    }

    /// Whether the link stands in both directions.
    pub(crate) fn is_open(&self) -> bool {
        self.session.is_open(&self.stream)
    }

    /// Bytes that TCP took in this poll.
    pub(crate) fn sent(&self) -> usize {
        self.stream.sent
    }
}
