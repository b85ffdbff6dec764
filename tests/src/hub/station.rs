//! A station on the hub that lends programs of this machine its address: whoever connects to it is joined with a local
//! server, and whoever connects to one of its doors on the loopback interface is joined with a host.

use super::{Hub, Inner, host_mac};
use anyhow::{Context, Result, ensure};
use net::{AddressConfig, Connection, Listener, NetError, Stack};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use switch::{Link, MAX_FRAME, MacAddr, Nic};

/// Wait for a frame while connections are open, and while none is.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(10);
/// Bytes held for one direction of a connection.
const HELD: usize = 64 << 10;
/// Connections to the station that are open at a time.
const LIMIT: usize = 8;

/// The station; it works until it is dropped.
pub struct Station {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Where connections to the station go; 0: they are broken off.
    server: AtomicU16,
    doors: Mutex<Vec<(TcpListener, SocketAddrV4)>>,
    /// Connections joined so far.
    joined: AtomicUsize,
}

impl Station {
    /// Station `index` with the address `ip`/24, which listens on `port`.
    pub fn new(hub: &Hub, index: u8, ip: Ipv4Addr, port: u16) -> Result<Self> {
        let mut wire = Wire::new(hub, index);
        let config = AddressConfig::Static { ip, prefix: 24, gateway: None };
        let mut stack = Stack::new(&mut wire, config, u64::from(std::process::id()), 0)?;
        let listener = stack.listen(port, LIMIT)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            Bridge { shared: of_thread, wire, stack, listener, pairs: Vec::new() }.run();
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Joins connections to the station with the server on local port `port` from now on; 0: breaks them off.
    pub fn serve(&self, port: u16) {
        self.shared.server.store(port, Ordering::Relaxed);
    }

    /// A door to a host: the local port that leads there.
    pub fn door(&self, host: Ipv4Addr, port: u16) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?;
        listener.set_nonblocking(true)?;
        let number = listener.local_addr()?.port();
        let mut doors = self.shared.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.push((listener, SocketAddrV4::new(host, port)));
        Ok(number)
    }

    /// Connections joined so far, in both directions.
    pub fn joined(&self) -> usize {
        self.shared.joined.load(Ordering::Relaxed)
    }

    /// Whether it still works: it never ends by itself.
    pub fn check(&self) -> Result<()> {
        ensure!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the station has died");
        Ok(())
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Bridge {
    shared: Arc<Shared>,
    wire: Wire,
    stack: Stack,
    listener: Listener,
    pairs: Vec<Pair>,
}

/// A connection on the hub and its local counterpart.
struct Pair {
    remote: Connection,
    local: TcpStream,
    /// What the host sent and the program has not taken yet, and the other way round.
    inward: Vec<u8>,
    outward: Vec<u8>,
    /// The host, the program sends no more.
    remote_ended: bool,
    local_ended: bool,
    /// Which ends have been told that.
    told_local: bool,
    told_remote: bool,
}

impl Bridge {
    fn run(&mut self) {
        let began = Instant::now();
        while !self.shared.over.load(Ordering::Relaxed) {
            self.wire.wait(if self.pairs.is_empty() { IDLE } else { BUSY });
            let now = began.elapsed().as_micros() as u64;
            self.stack.poll(&mut self.wire, now);
            self.let_in();
            self.let_out();
            let Self { pairs, stack, .. } = self;
            pairs.retain_mut(|pair| {
                let goes_on = pair.pump(stack);
                if !goes_on {
                    // Both have said their last word, or one of them is lost.
                    let _ =
                        if pair.told_remote { stack.close(pair.remote) } else { stack.abort(pair.remote) };
                }
                goes_on
            });
            self.stack.poll(&mut self.wire, now);
        }
    }

    /// Connections from the hub.
    fn let_in(&mut self) {
        while let Ok(Some(remote)) = self.stack.accept(self.listener) {
            let port = self.shared.server.load(Ordering::Relaxed);
            let local = (port != 0).then(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
            match local {
                Some(Ok(local)) => self.join(remote, local),
                Some(Err(_)) | None => {
                    let _ = self.stack.abort(remote);
                }
            }
        }
    }

    /// Connections through the doors.
    fn let_out(&mut self) {
        let shared = Arc::clone(&self.shared);
        for (door, host) in &*shared.doors.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Ok((local, _)) = door.accept()
                && let Ok(remote) = self.stack.connect(*host.ip(), host.port())
            {
                self.join(remote, local);
            }
        }
    }

    fn join(&mut self, remote: Connection, local: TcpStream) {
        if local.set_nonblocking(true).and_then(|()| local.set_nodelay(true)).is_err() {
            let _ = self.stack.abort(remote);
            return;
        }
        self.shared.joined.fetch_add(1, Ordering::Relaxed);
        self.pairs.push(Pair {
            remote,
            local,
            inward: Vec::new(),
            outward: Vec::new(),
            remote_ended: false,
            local_ended: false,
            told_local: false,
            told_remote: false,
        });
    }
}

impl Pair {
    /// Moves what can be moved; whether the connection goes on.
    fn pump(&mut self, stack: &mut Stack) -> bool {
        self.pump_inward(stack).and_then(|()| self.pump_outward(stack)).is_ok()
            && !(self.told_local && self.told_remote)
    }

    fn pump_inward(&mut self, stack: &mut Stack) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        while !self.remote_ended && self.inward.len() < HELD {
            match stack.receive(self.remote, &mut chunk) {
                Ok(0) => break,
                Ok(count) => self.inward.extend(&chunk[..count]),
                Err(NetError::Closed) => self.remote_ended = true,
                Err(why) => return Err(why.into()),
            }
        }
        while !self.inward.is_empty() {
            match self.local.write(&self.inward) {
                Ok(0) => break,
                Ok(count) => drop(self.inward.drain(..count)),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) => return Err(why.into()),
            }
        }
        if self.remote_ended && self.inward.is_empty() && !self.told_local {
            self.told_local = true;
            self.local.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn pump_outward(&mut self, stack: &mut Stack) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        while !self.local_ended && self.outward.len() < HELD {
            match self.local.read(&mut chunk) {
                Ok(0) => self.local_ended = true,
                Ok(count) => self.outward.extend(&chunk[..count]),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) => return Err(why.into()),
            }
        }
        while !self.outward.is_empty() {
            match stack.send(self.remote, &self.outward)? {
                0 => break,
                count => drop(self.outward.drain(..count)),
            }
        }
        if self.local_ended && self.outward.is_empty() && !self.told_remote {
            self.told_remote = true;
            stack.shut_down(self.remote)?;
        }
        Ok(())
    }
}

/// The station's card.
pub(super) struct Wire {
    hub: Arc<Inner>,
    port: usize,
    receiver: Receiver<Vec<u8>>,
    pending: Option<Vec<u8>>,
    mac: MacAddr,
}

impl Wire {
    /// Of station `index`.
    pub(super) fn new(hub: &Hub, index: u8) -> Self {
        let (port, receiver) = hub.plug_channel();
        let mac = MacAddr(host_mac(index));
        Self { hub: Arc::clone(&hub.inner), port, receiver, pending: None, mac }
    }

    /// Waits until a frame has come.
    pub(super) fn wait(&mut self, timeout: Duration) {
        if self.pending.is_none() {
            self.pending = match self.receiver.recv_timeout(timeout) {
                Ok(frame) => Some(frame),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::park_timeout(timeout);
                    None
                }
            };
        }
    }
}

impl Nic for Wire {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        loop {
            let frame = self.pending.take().or_else(|| self.receiver.try_recv().ok())?;
            if frame.len() <= MAX_FRAME {
                return Some(look(&frame));
            }
        }
    }

    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
        let mut frame = [0; MAX_FRAME];
        let frame = &mut frame[..len.min(MAX_FRAME)];
        let (result, send) = fill(frame);
        if send && len <= MAX_FRAME {
            self.hub.handle(self.port, frame);
        }
        result
    }

    fn tx_room(&self) -> usize {
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const PORT: u16 = 4444;

    /// Sends all back, and ends when its client does.
    fn echo() -> (u16, JoinHandle<usize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut all, mut chunk) = (0, [0; 5000]);
            loop {
                let count = stream.read(&mut chunk).unwrap();
                if count == 0 {
                    return all;
                }
                stream.write_all(&chunk[..count]).unwrap();
                all += count;
            }
        });
        (port, thread)
    }

    #[test]
    fn bytes_go_through_both_ways_and_ends_are_told() {
        let hub = Hub::new();
        let a = Station::new(&hub, 1, A, PORT).unwrap();
        let b = Station::new(&hub, 2, B, PORT).unwrap();
        let (port, server) = echo();
        b.serve(port);
        let door = a.door(B, PORT).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, door)).unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|i| ((i * 7919) >> 8) as u8).collect();
        let mut writer = client.try_clone().unwrap();
        let bytes = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == sent, "{} bytes came back", got.len());
        assert_eq!(server.join().unwrap(), sent.len());
        assert_eq!((a.joined(), b.joined()), (1, 1));
        a.check().and(b.check()).unwrap();
    }

    #[test]
    fn without_a_server_connections_are_broken_off() {
        let hub = Hub::new();
        let a = Station::new(&hub, 1, A, PORT).unwrap();
        let _b = Station::new(&hub, 2, B, PORT).unwrap();
        for port in [PORT, PORT + 1] {
            let door = a.door(B, port).unwrap();
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, door)).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let end = client.read(&mut [0; 1]);
            assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        }
    }
}
