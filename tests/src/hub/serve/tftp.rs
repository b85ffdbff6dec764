//! TFTP (RFC 1350) with the options of RFC 2347 to 2349 that loaders ask for: block size and file size. Read only.

use super::open;
use super::shelf::{Offer, Shelf};
use anyhow::Result;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PORT: u16 = 69;
const FIRST_PORT: u16 = 50_000;
const BLOCK: usize = 512;
/// What fits into a frame of 1500 bytes.
const MAX_BLOCK: usize = 1468;
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;

pub(super) struct Tftp {
    listener: SocketHandle,
    transfers: Vec<Transfer>,
    opened: u16,
    /// Transfers of clients that went without a word.
    forsaken: usize,
}

struct Transfer {
    socket: SocketHandle,
    client: IpEndpoint,
    request: Vec<u8>,
    offer: Offer,
    size: usize,
    /// The options that were agreed on; they go out as block 0.
    options: Option<Vec<u8>>,
    block: usize,
    sent: Instant,
    tries: u32,
}

impl Tftp {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Result<Self> {
        Ok(Self { listener: open(sockets, PORT)?, transfers: Vec::new(), opened: 0, forsaken: 0 })
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>, shelf: &Shelf) {
        loop {
            let socket = sockets.get_mut::<udp::Socket<'_>>(self.listener);
            let Ok((data, from)) = socket.recv() else { break };
            let (bytes, client) = (data.to_vec(), from.endpoint);
            let Some(request) = Request::parse(&bytes) else { continue };
            if self.transfers.iter().any(|transfer| transfer.is_of(client, &bytes)) {
                continue;
            }
            let Some(offer) = shelf.ask("tftp", &request.file) else {
                let _ = socket.send_slice(b"\0\x05\0\x01File not found\0", client);
                continue;
            };
            self.opened = self.opened.wrapping_add(1) % 10_000;
            let Ok(socket) = open(sockets, FIRST_PORT + self.opened) else { continue };
            let (size, options) = request.agree(offer.size);
            let block = usize::from(options.is_none());
            let sent = Instant::now();
            let mut transfer =
                Transfer { socket, client, request: bytes, offer, size, options, block, sent, tries: 0 };
            transfer.send(sockets);
            self.transfers.push(transfer);
        }
        self.transfers.retain_mut(|transfer| {
            let state = transfer.run(sockets);
            if state != State::GoesOn {
                sockets.remove(transfer.socket);
            }
            self.forsaken += usize::from(state == State::Forsaken);
            state == State::GoesOn
        });
        shelf.open.store(self.transfers.len() + self.forsaken, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    GoesOn,
    Over,
    Forsaken,
}

impl Transfer {
    /// The client asks again for what it has not begun to take.
    fn is_of(&self, client: IpEndpoint, request: &[u8]) -> bool {
        self.client == client && self.request == request && self.block == usize::from(self.options.is_none())
    }

    fn run(&mut self, sockets: &mut SocketSet<'static>) -> State {
        loop {
            let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
            let Ok((data, from)) = socket.recv() else { break };
            match data {
                [0, 4, high, low] if from.endpoint == self.client => {
                    if u16::from_be_bytes([*high, *low]) != self.block as u16 {
                        continue;
                    }
                    if self.block * self.size > self.offer.bytes.len() {
                        return State::Over;
                    }
                    self.block += 1;
                    self.tries = 0;
                    self.send(sockets);
                }
                // The client has what it wanted, such as the file's size.
                [0, 5, ..] => return State::Over,
                _ => {}
            }
        }
        if self.sent.elapsed() > PATIENCE {
            self.tries += 1;
            self.send(sockets);
        }
        if self.tries < TRIES { State::GoesOn } else { State::Forsaken }
    }

    fn send(&mut self, sockets: &mut SocketSet<'static>) {
        self.sent = Instant::now();
        let Some(packet) = self.packet() else { return };
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        // What finds no room is sent again like what gets lost.
        let _ = socket.send_slice(&packet, self.client);
    }

    /// The options or the block that wait for an acknowledgement; none where the server has fallen silent.
    fn packet(&self) -> Option<Vec<u8>> {
        if let (Some(options), 0) = (&self.options, self.block) {
            return Some([&[0, 6], options.as_slice()].concat());
        }
        let bytes = &self.offer.bytes;
        let start = (self.block.saturating_sub(1) * self.size).min(bytes.len());
        let end = (start + self.size).min(bytes.len());
        if end - start < self.size && self.offer.silent {
            return None;
        }
        Some([&[0, 3], &(self.block as u16).to_be_bytes()[..], &bytes[start..end]].concat())
    }
}

struct Request {
    file: String,
    options: Vec<(String, String)>,
}

impl Request {
    fn parse(data: &[u8]) -> Option<Self> {
        let [0, 1, rest @ ..] = data else { return None };
        let mut words = rest.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let file = words.next().filter(|file| !file.is_empty())?;
        let _mode = words.next()?;
        let mut options = Vec::new();
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            options.push((key.to_ascii_lowercase(), value));
        }
        Some(Self { file, options })
    }

    /// The block size, and the answer to the options where there are some that are known.
    /// A server that does not say the length knows no options.
    fn agree(&self, length: Option<u64>) -> (usize, Option<Vec<u8>>) {
        let (mut size, mut answer) = (BLOCK, Vec::new());
        let Some(length) = length else { return (size, None) };
        for (key, value) in &self.options {
            let value = match key.as_str() {
                "blksize" => {
                    let Some(wanted) = value.parse().ok().filter(|wanted| *wanted >= 8) else { continue };
                    size = MAX_BLOCK.min(wanted);
                    size as u64
                }
                "tsize" => length,
                _ => continue,
            };
            answer.extend(format!("{key}\0{value}\0").bytes());
        }
        (size, (!answer.is_empty()).then_some(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_agreed_on() {
        let request = Request::parse(b"\0\x01/a/b\0octet\0blksize\x008192\0tsize\x000\0foo\0x\0").unwrap();
        assert_eq!(request.file, "/a/b");
        assert_eq!(request.agree(Some(7)), (1468, Some(b"blksize\x001468\0tsize\x007\0".to_vec())));
        let plain = Request::parse(b"\0\x01a\0octet\0").unwrap();
        assert_eq!(plain.agree(Some(7)), (512, None));
        assert_eq!(request.agree(None), (512, None));
        for bad in [&b"\0\x02a\0octet\0"[..], b"", b"\0", b"\0\x01", b"\0\x01\0octet\0"] {
            assert!(Request::parse(bad).is_none());
        }
    }
}
