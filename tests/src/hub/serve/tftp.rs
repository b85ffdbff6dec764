//! TFTP (RFC 1350) with the options of RFC 2347 to 2349 that loaders ask for: block size and file size. Read only.

use super::{Folder, Log, open};
use anyhow::Result;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
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
}

struct Transfer {
    socket: SocketHandle,
    client: IpEndpoint,
    data: Vec<u8>,
    size: usize,
    /// The options that were agreed on; they go out as block 0.
    options: Option<Vec<u8>>,
    block: usize,
    sent: Instant,
    tries: u32,
}

impl Tftp {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Result<Self> {
        Ok(Self { listener: open(sockets, PORT)?, transfers: Vec::new(), opened: 0 })
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>, folder: &Folder, log: &Log) {
        loop {
            let socket = sockets.get_mut::<udp::Socket<'_>>(self.listener);
            let Ok((data, from)) = socket.recv() else { break };
            let Some(request) = Request::parse(data) else { continue };
            let found = folder.read(&request.file);
            let missing = if found.is_none() { " (none)" } else { "" };
            log.say(format!("tftp {}{missing}", request.file));
            let Some(data) = found else {
                let _ = socket.send_slice(b"\0\x05\0\x01File not found\0", from.endpoint);
                continue;
            };
            self.opened = self.opened.wrapping_add(1) % 10_000;
            let Ok(socket) = open(sockets, FIRST_PORT + self.opened) else { continue };
            let (size, options) = request.agree(data.len());
            let block = usize::from(options.is_none());
            let client = from.endpoint;
            let sent = Instant::now();
            self.transfers.push(Transfer { socket, client, data, size, options, block, sent, tries: 0 });
            if let Some(transfer) = self.transfers.last_mut() {
                transfer.send(sockets);
            }
        }
        self.transfers.retain_mut(|transfer| {
            let goes_on = transfer.run(sockets);
            if !goes_on {
                sockets.remove(transfer.socket);
            }
            goes_on
        });
    }
}

impl Transfer {
    /// False when it is over.
    fn run(&mut self, sockets: &mut SocketSet<'static>) -> bool {
        loop {
            let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
            let Ok((data, from)) = socket.recv() else { break };
            match data {
                [0, 4, high, low] if from.endpoint == self.client => {
                    if u16::from_be_bytes([*high, *low]) != self.block as u16 {
                        continue;
                    }
                    if self.block * self.size > self.data.len() {
                        return false;
                    }
                    self.block += 1;
                    self.tries = 0;
                    self.send(sockets);
                }
                // The client has what it wanted, such as the file's size.
                [0, 5, ..] => return false,
                _ => {}
            }
        }
        if self.sent.elapsed() > PATIENCE {
            self.tries += 1;
            self.send(sockets);
        }
        self.tries < TRIES
    }

    fn send(&mut self, sockets: &mut SocketSet<'static>) {
        let packet = match (&self.options, self.block.checked_sub(1)) {
            (Some(options), None) => [&[0, 6], options.as_slice()].concat(),
            (_, index) => {
                let start = (index.unwrap_or_default() * self.size).min(self.data.len());
                let end = (start + self.size).min(self.data.len());
                [&[0, 3], &(self.block as u16).to_be_bytes()[..], &self.data[start..end]].concat()
            }
        };
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        let _ = socket.send_slice(&packet, self.client);
        self.sent = Instant::now();
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
    fn agree(&self, length: usize) -> (usize, Option<Vec<u8>>) {
        let (mut size, mut answer) = (BLOCK, Vec::new());
        for (key, value) in &self.options {
            let value = match key.as_str() {
                "blksize" => {
                    let Some(wanted) = value.parse().ok().filter(|wanted| *wanted >= 8) else { continue };
                    size = MAX_BLOCK.min(wanted);
                    size
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
        assert_eq!(request.agree(7), (1468, Some(b"blksize\x001468\0tsize\x007\0".to_vec())));
        let plain = Request::parse(b"\0\x01a\0octet\0").unwrap();
        assert_eq!(plain.agree(7), (512, None));
        for bad in [&b"\0\x02a\0octet\0"[..], b"", b"\0", b"\0\x01", b"\0\x01\0octet\0"] {
            assert!(Request::parse(bad).is_none());
        }
    }
}
