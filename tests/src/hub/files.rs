//! A file server on the hub: HTTP on port 80 and TFTP on port 69 (RFC 1350, 2347 to 2349), which can also break off,
//! fall silent and lie about sizes.

use super::Hub;
use super::peer::Wire;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::{IpEndpoint, Ipv4Address};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const HTTP: u16 = 80;
const TFTP: u16 = 69;
/// Ports of the transfers that go on at a time.
const TRANSFERS: [u16; 4] = [50_001, 50_002, 50_003, 50_004];
const CONNECTIONS: usize = 4;
/// An unanswered block is sent again after this time.
const AGAIN: Duration = Duration::from_secs(1);
const PLAIN_BLOCK: usize = 512;

/// How a file is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Whole,
    /// The server ends after so many bytes of it.
    EndsAfter(usize),
    /// The server falls silent after so many bytes of it.
    SilentAfter(usize),
    /// The server says that it has so many bytes.
    Announced(u64),
    /// The server does not say how many bytes it has, and knows no options of TFTP.
    Unsaid,
}

#[derive(Clone, Debug)]
struct File {
    bytes: Arc<Vec<u8>>,
    way: Way,
}

impl File {
    /// What is said of its size, what is sent, and whether the server says when that is over.
    fn plan(&self) -> (Option<u64>, usize, bool) {
        let whole = self.bytes.len();
        let size = Some(whole as u64);
        match self.way {
            Way::Whole => (size, whole, true),
            Way::EndsAfter(count) => (size, count.min(whole), true),
            Way::SilentAfter(count) => (size, count.min(whole), false),
            Way::Announced(size) => (Some(size), whole, true),
            Way::Unsaid => (None, whole, true),
        }
    }
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    files: Mutex<BTreeMap<String, File>>,
    asked: Mutex<Vec<String>>,
    /// TFTP transfers whose end nobody has told.
    open: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The file of a path; the request is noted.
    fn ask(&self, verb: &str, path: &str) -> Option<File> {
        lock(&self.asked).push(format!("{verb} {path}"));
        lock(&self.files).get(path).cloned()
    }
}

/// The server; it works until it is dropped.
pub struct Files {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Files {
    /// Station `index` with the address `ip`/24.
    pub fn new(hub: &Hub, index: u8, ip: Ipv4Address) -> Self {
        let shared = Arc::new(Shared::default());
        let mut server = Server::new(hub, index, ip, Arc::clone(&shared));
        let thread = thread::spawn(move || server.run());
        Self { shared, thread: Some(thread) }
    }

    /// Gives out `bytes` as `path`, which begins with a slash, from now on.
    pub fn put(&self, path: &str, bytes: Vec<u8>, way: Way) {
        lock(&self.shared.files).insert(path.to_string(), File { bytes: Arc::new(bytes), way });
    }

    /// The requests so far: `GET /path` and `RRQ /path`.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }

    /// TFTP transfers that are open: neither acknowledged to the last block nor given up by a message.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    shared: Arc<Shared>,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    web: Vec<Web>,
    requests: SocketHandle,
    transfers: Vec<Transfer>,
}

/// One HTTP connection.
struct Web {
    handle: SocketHandle,
    request: Vec<u8>,
    /// What is to be sent, how much of it was, and whether the connection ends then.
    answer: Option<(Vec<u8>, usize, bool)>,
}

/// One TFTP transfer, or room for one.
struct Transfer {
    handle: SocketHandle,
    client: Option<IpEndpoint>,
    bytes: Vec<u8>,
    /// The last block is one that is not full.
    ends: bool,
    block: usize,
    /// Blocks that are acknowledged.
    blocks: usize,
    /// The datagram that waits for its answer.
    last: Vec<u8>,
    sent: Instant,
    /// The options wait for their acknowledgement.
    options: bool,
}

impl Server {
    fn new(hub: &Hub, index: u8, ip: Ipv4Address, shared: Arc<Shared>) -> Self {
        let (wire, interface) = Wire::new(hub, index, ip);
        let mut sockets = SocketSet::new(Vec::new());
        let web = (0..CONNECTIONS).map(|_| {
            let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
            let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
            Web { handle, request: Vec::new(), answer: None }
        });
        let web = web.collect();
        let datagrams = |sockets: &mut SocketSet<'static>, port: u16| {
            let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16 << 10]);
            let mut socket = udp::Socket::new(buffer(), buffer());
            // A port that is not 0, on a socket that is new.
            let _ = socket.bind(port);
            sockets.add(socket)
        };
        let requests = datagrams(&mut sockets, TFTP);
        let transfers = TRANSFERS.map(|port| Transfer::new(datagrams(&mut sockets, port)));
        Self { shared, wire, interface, sockets, web, requests, transfers: transfers.into() }
    }

    fn run(&mut self) {
        let began = Instant::now();
        while !self.shared.over.load(Ordering::Relaxed) {
            self.wire.wait(Duration::from_millis(2));
            let now = NetInstant::from_micros(began.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            for web in &mut self.web {
                web.turn(self.sockets.get_mut(web.handle), &self.shared);
            }
            self.begin_transfers();
            for transfer in &mut self.transfers {
                transfer.turn(self.sockets.get_mut(transfer.handle));
            }
            let open = self.transfers.iter().filter(|transfer| transfer.client.is_some()).count();
            self.shared.open.store(open, Ordering::Relaxed);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
        }
    }

    fn begin_transfers(&mut self) {
        while let Ok((packet, from)) = self.sockets.get_mut::<udp::Socket<'_>>(self.requests).recv() {
            let (packet, from) = (packet.to_vec(), from.endpoint);
            // Asked again by one that is served already.
            if self.transfers.iter().any(|transfer| transfer.client == Some(from)) {
                continue;
            }
            let Some(free) = self.transfers.iter_mut().find(|transfer| transfer.client.is_none()) else {
                return;
            };
            free.begin(&packet, from, &self.shared);
            free.send(self.sockets.get_mut(free.handle));
        }
    }
}

impl Web {
    fn turn(&mut self, socket: &mut tcp::Socket<'_>, shared: &Shared) {
        if socket.state() == tcp::State::TimeWait {
            socket.abort();
        }
        if !socket.is_open() {
            (self.request, self.answer) = (Vec::new(), None);
            socket.set_nagle_enabled(false);
            // A port that is not 0, on a socket that is closed.
            let _ = socket.listen(HTTP);
            return;
        }
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.request.extend(taken.unwrap_or_default());
        }
        if self.answer.is_none() && self.request.windows(4).any(|end| end == b"\r\n\r\n") {
            self.answer = Some(answer(&self.request, shared));
        }
        match &mut self.answer {
            Some((bytes, at, ends)) => {
                *at += socket.send_slice(&bytes[*at..]).unwrap_or(0);
                if *at == bytes.len() && *ends || !socket.may_recv() {
                    socket.close();
                }
            }
            None if socket.state() == tcp::State::CloseWait => socket.close(),
            None => {}
        }
    }
}

fn answer(request: &[u8], shared: &Shared) -> (Vec<u8>, usize, bool) {
    let text = String::from_utf8_lossy(request);
    let mut words = text.split(' ');
    let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(file) = shared.ask(verb, path) else {
        let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return (head.into(), 0, true);
    };
    let (size, sent, ends) = file.plan();
    let size = size.map_or(String::new(), |size| format!("Content-Length: {size}\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\n{size}Connection: close\r\n\r\n");
    ([head.as_bytes(), &file.bytes[..sent]].concat(), 0, ends)
}

impl Transfer {
    fn new(handle: SocketHandle) -> Self {
        Self {
            handle,
            client: None,
            bytes: Vec::new(),
            ends: true,
            block: PLAIN_BLOCK,
            blocks: 0,
            last: Vec::new(),
            sent: Instant::now(),
            options: false,
        }
    }

    /// Takes a request; `last` is the answer to it.
    fn begin(&mut self, packet: &[u8], from: IpEndpoint, shared: &Shared) {
        *self = Self { client: Some(from), ..Self::new(self.handle) };
        let texts: Vec<String> = packet
            .get(2..)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        let file = texts.first().and_then(|name| shared.ask("RRQ", &format!("/{name}")));
        let Some(file) = file else {
            self.last = [&[0, 5, 0, 1][..], b"File not found\0"].concat();
            return;
        };
        let (size, sent, ends) = file.plan();
        (self.bytes, self.ends) = (file.bytes[..sent].to_vec(), ends);
        let mut agreed = vec![0, 6];
        for option in texts.get(2..).unwrap_or_default().chunks_exact(2) {
            let value = match (option[0].as_str(), size) {
                ("tsize", Some(size)) => size.to_string(),
                ("blksize", Some(_)) => {
                    self.block = option[1].parse().unwrap_or(PLAIN_BLOCK).clamp(8, 1428);
                    self.block.to_string()
                }
                _ => continue,
            };
            agreed.extend([option[0].as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        self.options = agreed.len() > 2;
        if self.options {
            self.last = agreed;
        } else {
            self.next_block();
        }
    }

    fn send(&mut self, socket: &mut udp::Socket<'_>) {
        let Some(client) = self.client else { return };
        // What finds no room is sent again like what gets lost.
        let _ = socket.send_slice(&self.last, client);
        self.sent = Instant::now();
        if self.last.get(..2) == Some(&[0, 5]) {
            *self = Self::new(self.handle);
        }
    }

    /// Makes the block behind those that are acknowledged; false: there is none.
    fn next_block(&mut self) -> bool {
        let start = self.blocks * self.block;
        let end = (start + self.block).min(self.bytes.len());
        let full = end.checked_sub(start) == Some(self.block);
        if start > end || !full && !self.ends {
            return false;
        }
        let number = ((self.blocks + 1) & 0xffff) as u16;
        self.last = [&[0, 3][..], &number.to_be_bytes(), &self.bytes[start..end]].concat();
        true
    }

    fn turn(&mut self, socket: &mut udp::Socket<'_>) {
        while let Ok((packet, from)) = socket.recv() {
            let (packet, from) = (packet.to_vec(), from.endpoint);
            if self.client != Some(from) {
                continue;
            }
            let [high, low, rest @ ..] = packet.as_slice() else { continue };
            match u16::from_be_bytes([*high, *low]) {
                4 => self.acknowledged(rest, socket),
                // The client gives up.
                5 => *self = Self::new(self.handle),
                _ => {}
            }
        }
        if self.client.is_some() && !self.last.is_empty() && self.sent.elapsed() > AGAIN {
            self.send(socket);
        }
    }

    fn acknowledged(&mut self, number: &[u8], socket: &mut udp::Socket<'_>) {
        let expected = if self.options { 0 } else { ((self.blocks + 1) & 0xffff) as u16 };
        if number != expected.to_be_bytes() {
            return;
        }
        if self.options {
            self.options = false;
        } else {
            self.blocks += 1;
        }
        if self.next_block() {
            self.send(socket);
        } else if self.ends {
            *self = Self::new(self.handle);
        } else {
            self.last.clear();
        }
    }
}

#[cfg(test)]
mod tests;
