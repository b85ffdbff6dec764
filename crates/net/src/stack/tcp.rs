//! TCP connections and listeners: bounded numbers, handles that go stale instead of naming another connection.

use super::{MAX_SOCKETS, NetError, Search, Stack};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// Bytes of a connection's receive window and of its send buffer: at most so many are in flight. A whole number of
/// full segments below 64 KiB, so that no short one is sent on the way.
pub const WINDOW: usize = 44 * 1460;

/// More than this queued is a bulk transfer.
const BULK: usize = WINDOW / 2;
const MAX_LISTENERS: usize = 4;
/// Connections to a listener that are being made, or are made and not yet accepted; each holds its buffers already.
const BACKLOG: usize = 4;
/// A peer that began a handshake must finish it in this time, or the listener is free for the next.
const HANDSHAKE_US: u64 = 5_000_000;
/// A connection given up by its user is dropped after this time at the latest.
const LINGER_US: u64 = 60_000_000;
const LOCAL_PORTS: core::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Timers of a connection, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpTiming {
    /// An idle connection is probed this often.
    pub keep_alive_us: u64,
    /// A peer silent for this long while it owes an answer is taken for dead (RFC 5482 user timeout). A closed window
    /// is probed every 60 s in the end, so it must be longer than that and a round trip.
    pub user_timeout_us: u64,
    /// An attempt to connect ends after this time.
    pub connect_timeout_us: u64,
}

impl Default for TcpTiming {
    fn default() -> Self {
        Self { keep_alive_us: 10_000_000, user_timeout_us: 75_000_000, connect_timeout_us: 20_000_000 }
    }
}

/// A connection of one [`Stack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    slot: u8,
    generation: u32,
}

/// A listening port of one [`Stack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    slot: u8,
    generation: u32,
}

/// Life of a connection that has not ended; its end is an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// The handshake is under way.
    Connecting,
    /// Both directions are open.
    Open,
    /// The peer sends no more; what it sent can still be read and we can still send.
    PeerClosed,
    /// We send no more ([`Stack::shut_down`]).
    Closing,
}

/// What ended a connection that smoltcp shows as closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClosedBy {
    Peer,
    Timer,
    AddressLoss,
}

#[derive(Debug, Default)]
enum Use {
    #[default]
    Free,
    Open {
        handle: SocketHandle,
        listener: Option<Listener>,
        /// Of an attempt of ours.
        search: Option<Search>,
        established: bool,
        ended: Option<NetError>,
    },
    /// Given up by its user; delivers what is queued.
    Lingering { handle: SocketHandle, since_us: Option<u64> },
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    state: Use,
}

#[derive(Debug)]
struct Listening {
    port: u16,
    limit: usize,
    /// Sockets that listen, or whose connection waits to be accepted.
    waiting: [Option<Waiting>; BACKLOG],
    /// Handshakes that have begun.
    begun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    handle: SocketHandle,
    /// Which of the handshakes its last was.
    begun: u64,
}

impl Listening {
    fn handles(&self) -> impl Iterator<Item = SocketHandle> {
        self.waiting.iter().flatten().map(|waiting| waiting.handle)
    }

    /// Sees to it that a SYN of `from` finds a socket that listens: it takes the place of the oldest handshake that has
    /// not ended. Who only begins them, from forged addresses, would keep everybody else away.
    fn make_way(&mut self, sockets: &mut SocketSet<'_>, from: IpEndpoint) {
        let mut oldest: Option<&mut Waiting> = None;
        for waiting in self.waiting.iter_mut().flatten() {
            let socket = sockets.get::<Socket<'_>>(waiting.handle);
            match socket.state() {
                State::Listen => {
                    self.begun += 1;
                    waiting.begun = self.begun;
                    return;
                }
                // It comes a second time.
                State::SynReceived if socket.remote_endpoint() == Some(from) => return,
                State::SynReceived if oldest.as_ref().is_none_or(|oldest| waiting.begun < oldest.begun) => {
                    oldest = Some(waiting);
                }
                _ => {}
            }
        }
        if let Some(waiting) = oldest {
            let socket = sockets.get_mut::<Socket<'_>>(waiting.handle);
            // No reset: it would go to whoever was named as the sender.
            socket.abort();
            // Port 0 was refused by `Stack::listen`, and the socket is closed: it cannot fail.
            let _ = socket.listen(self.port);
            self.begun += 1;
            waiting.begun = self.begun;
        }
    }
}

#[derive(Debug, Default)]
struct ListenerSlot {
    generation: u32,
    listening: Option<Listening>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: [Slot; MAX_SOCKETS],
    listeners: [ListenerSlot; MAX_LISTENERS],
    timing: TcpTiming,
}

fn buffer() -> Result<SocketBuffer<'static>, NetError> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(WINDOW).map_err(|_| NetError::NoMemory)?;
    bytes.resize(WINDOW, 0);
    Ok(SocketBuffer::new(bytes))
}

/// A socket whose handshake must end within `handshake_us`.
fn socket(handshake_us: u64) -> Result<Socket<'static>, NetError> {
    let mut socket = Socket::new(buffer()?, buffer()?);
    socket.set_congestion_control(CongestionControl::Reno);
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_timeout(Some(Duration::from_micros(handshake_us)));
    Ok(socket)
}

fn configure_established(socket: &mut Socket<'_>, timing: TcpTiming) {
    socket.set_keep_alive(Some(Duration::from_micros(timing.keep_alive_us)));
    socket.set_timeout(Some(Duration::from_micros(timing.user_timeout_us)));
}

fn is_established(state: State) -> bool {
    !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
}

impl Table {
    /// Records that connections were made, or why they ended; called while the reason is still known.
    pub(super) fn note_changes(&mut self, sockets: &mut SocketSet<'_>, by: ClosedBy) {
        for slot in &mut self.slots {
            let Use::Open { handle, established, ended: ended @ None, .. } = &mut slot.state else {
                continue;
            };
            let socket = sockets.get_mut::<Socket<'_>>(*handle);
            if !*established && is_established(socket.state()) {
                *established = true;
                configure_established(socket, self.timing);
            }
            if socket.state() == State::Closed {
                *ended = Some(match by {
                    ClosedBy::Peer if *established => NetError::Reset,
                    ClosedBy::Peer => NetError::Refused,
                    ClosedBy::Timer => NetError::TimedOut,
                    ClosedBy::AddressLoss => NetError::NoAddress,
                });
            }
        }
    }

    /// Ends the attempts to connect that reach nobody; `why` says that of one. What was a connection once is left alone:
    /// its peer may come back, and TCP's own times are for that.
    pub(super) fn give_up(&mut self, sockets: &mut SocketSet<'_>, why: impl Fn(Search) -> Option<NetError>) {
        for slot in &mut self.slots {
            let Use::Open { handle, search: Some(search), ended: ended @ None, .. } = &mut slot.state else {
                continue;
            };
            let socket = sockets.get_mut::<Socket<'_>>(*handle);
            if socket.state() == State::SynSent
                && let Some(error) = why(*search)
            {
                socket.abort();
                *ended = Some(error);
            }
        }
    }

    /// Nagle's algorithm is off, so that the last words of a message do not wait, but not while much is queued: a
    /// short segment sent because the window ended would come back with every round trip.
    pub(super) fn avoid_short_segments(&self, sockets: &mut SocketSet<'_>) {
        for slot in &self.slots {
            if let Use::Open { handle, .. } | Use::Lingering { handle, .. } = slot.state {
                let socket = sockets.get_mut::<Socket<'_>>(handle);
                socket.set_nagle_enabled(socket.send_queue() >= BULK);
            }
        }
    }

    /// Frees what has lingered to its end and makes listeners listen again.
    pub(super) fn maintain(&mut self, sockets: &mut SocketSet<'_>, now_us: u64) {
        for slot in &mut self.slots {
            let Use::Lingering { handle, since_us } = &mut slot.state else { continue };
            let since = *since_us.get_or_insert(now_us);
            let socket = sockets.get::<Socket<'_>>(*handle);
            // An aborted socket keeps its peer until the reset is sent.
            let finished = socket.state() == State::Closed && socket.remote_endpoint().is_none();
            if finished || now_us.saturating_sub(since) >= LINGER_US {
                sockets.remove(*handle);
                slot.state = Use::Free;
            }
        }
        for index in 0..MAX_LISTENERS {
            self.listen_again(sockets, index);
        }
    }

    /// Before a SYN is taken in: who sent it, and to which port.
    pub(super) fn make_way(&mut self, sockets: &mut SocketSet<'_>, syn: Option<(IpEndpoint, u16)>) {
        let Some((from, port)) = syn else { return };
        let mut listeners = self.listeners.iter_mut().filter_map(|slot| slot.listening.as_mut());
        if let Some(listening) = listeners.find(|listening| listening.port == port) {
            listening.make_way(sockets, from);
        }
    }

    fn listen_again(&mut self, sockets: &mut SocketSet<'_>, index: usize) {
        let Some(slot) = self.listeners.get_mut(index) else { return };
        let id = Listener { slot: index as u8, generation: slot.generation };
        let Some(listening) = &mut slot.listening else { return };
        let accepted =
            self.slots.iter().filter(|s| matches!(s.state, Use::Open { listener: Some(l), .. } if l == id));
        let held = accepted.count() + listening.handles().count();
        let mut room = listening.limit.saturating_sub(held);
        for waiting in &mut listening.waiting {
            let waiting = match waiting {
                Some(waiting) => waiting,
                None if room == 0 => continue,
                None => {
                    let Ok(socket) = socket(HANDSHAKE_US) else { return };
                    room -= 1;
                    waiting.insert(Waiting { handle: sockets.add(socket), begun: 0 })
                }
            };
            let socket = sockets.get_mut::<Socket<'_>>(waiting.handle);
            if matches!(socket.state(), State::Closed | State::TimeWait) {
                // As in `make_way`.
                let _ = socket.listen(listening.port);
            }
        }
    }

    fn open(&self, id: Connection) -> Result<(SocketHandle, Option<NetError>), NetError> {
        match self.slots.get(usize::from(id.slot)) {
            Some(Slot { generation, state: Use::Open { handle, ended, .. } })
                if *generation == id.generation =>
            {
                Ok((*handle, *ended))
            }
            _ => Err(NetError::Stale),
        }
    }

    /// A slot for a new connection: a free one, else the one of the connection that lingers longest.
    fn claim(&mut self, sockets: &mut SocketSet<'_>) -> Result<usize, NetError> {
        if let Some(free) = self.slots.iter().position(|s| matches!(s.state, Use::Free)) {
            return Ok(free);
        }
        let lingering = self.slots.iter_mut().enumerate().filter_map(|(i, s)| match s.state {
            Use::Lingering { handle, since_us } => Some((since_us.unwrap_or(u64::MAX), i, handle)),
            _ => None,
        });
        let (_, index, handle) = lingering.min_by_key(|l| l.0).ok_or(NetError::TooManySockets)?;
        sockets.remove(handle);
        self.slots[index].state = Use::Free;
        Ok(index)
    }

    fn occupy(&mut self, index: usize, handle: SocketHandle, of: Result<Search, Listener>) -> Connection {
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        let (search, listener) = (of.ok(), of.err());
        slot.state = Use::Open { handle, listener, search, established: listener.is_some(), ended: None };
        Connection { slot: index as u8, generation: slot.generation }
    }

    fn listening(&mut self, id: Listener) -> Result<&mut Listening, NetError> {
        match self.listeners.get_mut(usize::from(id.slot)) {
            Some(ListenerSlot { generation, listening: Some(l) }) if *generation == id.generation => Ok(l),
            _ => Err(NetError::Stale),
        }
    }
}

impl Stack {
    /// Timers for connections made from now on.
    pub fn set_tcp_timing(&mut self, timing: TcpTiming) {
        self.tcp.timing = timing;
    }

    /// Listens on `port` of any address of the host. At most `limit` accepted connections exist at a time: while they
    /// do, others are refused with a reset, and so is a fifth one while four are made and not accepted yet. Of those that
    /// are being made, the oldest gives way to one more.
    pub fn listen(&mut self, port: u16, limit: usize) -> Result<Listener, NetError> {
        let taken = self.tcp.listeners.iter().any(|l| l.listening.as_ref().is_some_and(|l| l.port == port));
        if port == 0 || taken {
            return Err(NetError::PortUnusable(port));
        }
        let free = self.tcp.listeners.iter().position(|l| l.listening.is_none());
        let index = free.ok_or(NetError::TooManySockets)?;
        let slot = &mut self.tcp.listeners[index];
        slot.generation = slot.generation.wrapping_add(1);
        slot.listening = Some(Listening { port, limit, waiting: [None; BACKLOG], begun: 0 });
        let id = Listener { slot: index as u8, generation: slot.generation };
        self.tcp.listen_again(&mut self.sockets, index);
        Ok(id)
    }

    /// Stops listening; accepted connections stay.
    pub fn stop_listening(&mut self, listener: Listener) -> Result<(), NetError> {
        let listening = self.tcp.listening(listener)?;
        for handle in listening.handles() {
            self.sockets.remove(handle);
        }
        self.tcp.listeners[usize::from(listener.slot)].listening = None;
        Ok(())
    }

    /// The connection that was made to the listening port, if one was.
    pub fn accept(&mut self, listener: Listener) -> Result<Option<Connection>, NetError> {
        let waiting = self.tcp.listening(listener)?.waiting;
        let made = |handle: SocketHandle| {
            let state = self.sockets.get::<Socket<'_>>(handle).state();
            matches!(state, State::Established | State::CloseWait)
        };
        let made = waiting.iter().enumerate().find_map(|(place, waiting)| {
            waiting.filter(|waiting| made(waiting.handle)).map(|waiting| (place, waiting.handle))
        });
        let Some((place, handle)) = made else { return Ok(None) };
        let index = self.tcp.claim(&mut self.sockets)?;
        configure_established(self.sockets.get_mut::<Socket<'_>>(handle), self.tcp.timing);
        self.tcp.listening(listener)?.waiting[place] = None;
        Ok(Some(self.tcp.occupy(index, handle, Err(listener))))
    }

    /// Starts to connect; [`Stack::connection_state`] tells how it goes.
    pub fn connect(&mut self, to: Ipv4Addr, port: u16) -> Result<Connection, NetError> {
        let address = self.address().ok_or(NetError::NoAddress)?;
        address.route(to)?;
        if port == 0 {
            return Err(NetError::PortUnusable(port));
        }
        let local = self.free_local_port();
        let mut socket = socket(self.tcp.timing.connect_timeout_us)?;
        let remote = IpEndpoint::new(IpAddress::Ipv4(to), port);
        socket.connect(self.interface.context(), remote, local).map_err(|_| NetError::NoRoute(to))?;
        let index = self.tcp.claim(&mut self.sockets)?;
        let handle = self.sockets.add(socket);
        Ok(self.tcp.occupy(index, handle, Ok(self.neighbours.search(to))))
    }

    /// A random local port that no socket uses (RFC 6056).
    pub(super) fn free_local_port(&mut self) -> u16 {
        let span = u64::from(LOCAL_PORTS.end() - LOCAL_PORTS.start()) + 1;
        loop {
            let port = LOCAL_PORTS.start() + (self.rng.next() % span) as u16;
            // Fewer than 100 sockets exist: a few tries find one.
            let used = self.sockets.iter().any(|(_, socket)| match socket {
                smoltcp::socket::Socket::Tcp(s) => {
                    s.local_endpoint().is_some_and(|e| e.port == port) || s.listen_endpoint().port == port
                }
                _ => false,
            });
            if !used {
                return port;
            }
        }
    }

    /// How a connection stands; an error once it has ended (refused, reset, timed out).
    pub fn connection_state(&self, id: Connection) -> Result<ConnectionState, NetError> {
        let (handle, ended) = self.tcp.open(id)?;
        match self.sockets.get::<Socket<'_>>(handle).state() {
            State::Closed | State::Listen => Err(ended.unwrap_or(NetError::Closed)),
            State::SynSent | State::SynReceived => Ok(ConnectionState::Connecting),
            State::Established => Ok(ConnectionState::Open),
            State::CloseWait => Ok(ConnectionState::PeerClosed),
            _ => Ok(ConnectionState::Closing),
        }
    }

    /// Address and port of the peer.
    pub fn peer(&self, id: Connection) -> Option<(Ipv4Addr, u16)> {
        let (handle, _) = self.tcp.open(id).ok()?;
        let endpoint = self.sockets.get::<Socket<'_>>(handle).remote_endpoint()?;
        let IpAddress::Ipv4(ip) = endpoint.addr;
        Some((ip, endpoint.port))
    }

    /// The local port of a connection.
    pub fn local_port(&self, id: Connection) -> Option<u16> {
        let (handle, _) = self.tcp.open(id).ok()?;
        Some(self.sockets.get::<Socket<'_>>(handle).local_endpoint()?.port)
    }

    /// Queues bytes and returns how many fitted: 0 while the connection is being made or the buffer is full.
    pub fn send(&mut self, id: Connection, bytes: &[u8]) -> Result<usize, NetError> {
        let (handle, ended) = self.tcp.open(id)?;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        if matches!(socket.state(), State::SynSent | State::SynReceived) {
            return Ok(0);
        }
        socket.send_slice(bytes).map_err(|_| ended.unwrap_or(NetError::Closed))
    }

    /// Reads received bytes: 0 when none wait. After the last byte of a peer that closed: [`NetError::Closed`]; of one
    /// that broke off: why.
    pub fn receive(&mut self, id: Connection, to: &mut [u8]) -> Result<usize, NetError> {
        let (handle, ended) = self.tcp.open(id)?;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        match socket.recv_slice(to) {
            Ok(n) => Ok(n),
            Err(RecvError::Finished) => Err(NetError::Closed),
            Err(RecvError::InvalidState) if matches!(socket.state(), State::SynSent | State::SynReceived) => {
                Ok(0)
            }
            Err(RecvError::InvalidState) => Err(ended.unwrap_or(NetError::Closed)),
        }
    }

    /// Bytes that [`Stack::send`] would take now.
    pub fn send_room(&self, id: Connection) -> usize {
        let Ok((handle, _)) = self.tcp.open(id) else { return 0 };
        let socket = self.sockets.get::<Socket<'_>>(handle);
        if socket.may_send() { socket.send_capacity().saturating_sub(socket.send_queue()) } else { 0 }
    }

    /// Bytes queued or in flight that the peer has not acknowledged.
    pub fn unacknowledged(&self, id: Connection) -> usize {
        self.tcp.open(id).map_or(0, |(handle, _)| self.sockets.get::<Socket<'_>>(handle).send_queue())
    }

    /// Bytes that wait to be read.
    pub fn readable(&self, id: Connection) -> usize {
        self.tcp.open(id).map_or(0, |(handle, _)| self.sockets.get::<Socket<'_>>(handle).recv_queue())
    }

    /// Sends no more after what is queued (FIN); receiving goes on.
    pub fn shut_down(&mut self, id: Connection) -> Result<(), NetError> {
        let (handle, _) = self.tcp.open(id)?;
        self.sockets.get_mut::<Socket<'_>>(handle).close();
        Ok(())
    }

    /// Gives the connection up in order: what is queued is still delivered. The handle is stale from now on.
    pub fn close(&mut self, id: Connection) -> Result<(), NetError> {
        self.give_up(id, Socket::close)
    }

    /// Breaks the connection off with a reset. The handle is stale from now on.
    pub fn abort(&mut self, id: Connection) -> Result<(), NetError> {
        self.give_up(id, Socket::abort)
    }

    fn give_up(&mut self, id: Connection, how: fn(&mut Socket<'static>)) -> Result<(), NetError> {
        let (handle, _) = self.tcp.open(id)?;
        how(self.sockets.get_mut::<Socket<'_>>(handle));
        if let Some(slot) = self.tcp.slots.get_mut(usize::from(id.slot)) {
            slot.state = Use::Lingering { handle, since_us: None };
        }
        Ok(())
    }

    /// Connections in use, lingering ones not counted: while there are any, the network should be polled often.
    pub fn connections(&self) -> usize {
        self.tcp.slots.iter().filter(|s| matches!(s.state, Use::Open { .. })).count()
    }
}
