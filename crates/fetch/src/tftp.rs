//! A TFTP read (RFC 1350) with options (RFC 2347) for the block size (RFC 2348) and the file's size (RFC 2349).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{FetchError, Why};
use crate::shown::shown;
use crate::url::Url;
use crate::{PATIENCE_US, Sink, Status, is_slow};

const RRQ: u16 = 1;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;
/// ERROR code: unknown transfer id.
const UNKNOWN_ID: u16 = 5;
/// ERROR code: the transfer ends because of the options.
const BAD_OPTION: u16 = 8;

/// Block without options.
const PLAIN_BLOCK: usize = 512;
/// Block asked for: fills an Ethernet frame.
const BLOCK: usize = 1428;
/// An answer that does not come is asked for again after this time, in microseconds.
const AGAIN_US: u64 = 1_000_000;

/// A datagram to send to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The server's port.
    pub port: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A file that is fetched by TFTP.
#[derive(Debug)]
pub struct TftpGet {
    url: Url,
    /// The server's port of this transfer, once it has answered.
    port: Option<u16>,
    block: usize,
    /// Blocks acknowledged; the wire has the low 16 bits.
    blocks: u64,
    total: Option<u64>,
    received: u64,
    done: bool,
    last: Vec<u8>,
    /// When `last` goes out again.
    due_us: u64,
    began_us: u64,
    heard_us: u64,
}

impl TftpGet {
    /// Of this URL, beginning now; the request goes out with the first [`TftpGet::poll`].
    #[must_use]
    pub fn new(url: Url, now_us: u64) -> Self {
        let mut last = Vec::from(RRQ.to_be_bytes());
        // The path of a URL begins with a slash that is no part of the file's name (RFC 3617).
        let name = url.path.strip_prefix('/').unwrap_or(&url.path);
        for text in [name, "octet", "tsize", "0", "blksize", &format!("{BLOCK}")] {
            last.extend_from_slice(text.as_bytes());
            last.push(0);
        }
        Self {
            url,
            port: None,
            block: PLAIN_BLOCK,
            blocks: 0,
            total: None,
            received: 0,
            done: false,
            last,
            due_us: now_us,
            began_us: now_us,
            heard_us: now_us,
        }
    }

    /// The file.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the file has, where the server said so.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// What to send now, if anything: the request, or an acknowledgement again.
    ///
    /// # Errors
    /// The server has been silent for [`PATIENCE_US`], or sends less than [`LEAST_RATE`](crate::LEAST_RATE).
    pub fn poll(&mut self, now_us: u64) -> Result<Option<Reply>, FetchError> {
        let received = self.received;
        let us = now_us.saturating_sub(self.began_us);
        if !self.done && is_slow(received, us) {
            return Err(self.error(Why::Slow { us, received }));
        }
        let us = now_us.saturating_sub(self.heard_us);
        if self.done || now_us < self.due_us {
            return Ok(None);
        }
        if us >= PATIENCE_US {
            return Err(self.error(Why::Silent { us, received: self.received }));
        }
        self.due_us = now_us.saturating_add(AGAIN_US);
        Ok(Some(self.reply()))
    }

    /// A datagram that came from the server's address and this port. What to send back goes out whatever else is
    /// returned.
    ///
    /// # Errors
    /// Why the file will not come; the second value is what to tell the server.
    pub fn receive(
        &mut self,
        port: u16,
        datagram: &[u8],
        now_us: u64,
        sink: &mut dyn Sink,
    ) -> Result<(Status, Option<Reply>), (FetchError, Option<Reply>)> {
        if self.port.is_some_and(|ours| ours != port) {
            // RFC 1350, 4: a stranger is told so, and the transfer goes on.
            return Ok((self.status(), Some(refusal(port, UNKNOWN_ID, "unknown transfer id"))));
        }
        match self.packet(port, datagram, now_us, sink) {
            Ok(true) => {
                self.due_us = now_us.saturating_add(AGAIN_US);
                Ok((self.status(), Some(self.reply())))
            }
            Ok(false) => Ok((self.status(), None)),
            Err(why) => {
                let reply = match why {
                    Why::Tftp { .. } => None,
                    Why::Option { .. } => Some(refusal(port, BAD_OPTION, "option refused")),
                    _ => Some(refusal(port, 0, "transfer given up")),
                };
                Err((self.error(why), reply))
            }
        }
    }

    /// What tells the server that the transfer ends: for a user who gives up.
    #[must_use]
    pub fn abort(&self) -> Option<Reply> {
        let port = self.port.filter(|_| !self.done)?;
        Some(refusal(port, 0, "transfer given up"))
    }

    fn status(&self) -> Status {
        if self.done { Status::Done } else { Status::More }
    }

    fn error(&self, why: Why) -> FetchError {
        FetchError { url: self.url.clone(), why }
    }

    fn reply(&self) -> Reply {
        Reply { port: self.port.unwrap_or(self.url.port), bytes: self.last.clone() }
    }

    /// Whether there is something to acknowledge.
    fn packet(&mut self, port: u16, datagram: &[u8], now_us: u64, sink: &mut dyn Sink) -> Result<bool, Why> {
        let (op, rest) = word(datagram).ok_or(Why::Packet("shorter than an opcode"))?;
        match op {
            DATA => self.data(port, rest, now_us, sink),
            OACK => self.options(port, rest, now_us, sink),
            ERROR => {
                let (code, text) = word(rest).ok_or(Why::Packet("an error without a code"))?;
                let text = text.split(|&b| b == 0).next().unwrap_or_default();
                Err(Why::Tftp { code, text: shown(text) })
            }
            _ => Err(Why::Packet("an opcode that no server sends")),
        }
    }

    fn data(&mut self, port: u16, rest: &[u8], now_us: u64, sink: &mut dyn Sink) -> Result<bool, Why> {
        let (number, bytes) = word(rest).ok_or(Why::Packet("data without a block number"))?;
        if bytes.len() > self.block {
            return Err(Why::Packet("a block longer than agreed"));
        }
        if number != low(self.blocks + 1) || self.done {
            // The block before came again: its acknowledgement was lost. Anything else is late and ignored, or each
            // duplicate would double (RFC 1123, 4.2.3.1).
            return Ok(self.done && number == low(self.blocks));
        }
        let received = self.received + bytes.len() as u64;
        let last = bytes.len() < self.block;
        match self.total {
            Some(total) if received > total => return Err(Why::TooLong { received, total }),
            Some(total) if last && received < total => {
                return Err(Why::Truncated { received, total: self.total });
            }
            _ => {}
        }
        sink.write(bytes).map_err(Why::Sink)?;
        self.heard(port, now_us);
        (self.received, self.done) = (received, last);
        self.blocks += 1;
        self.acknowledge();
        Ok(true)
    }

    fn options(&mut self, port: u16, rest: &[u8], now_us: u64, sink: &mut dyn Sink) -> Result<bool, Why> {
        if self.blocks != 0 {
            return Ok(false);
        }
        if self.port.is_some() {
            // Again: our acknowledgement was lost, and is sent again when its time comes.
            return Ok(false);
        }
        let mut texts = rest.strip_suffix(&[0]).unwrap_or(rest).split(|&b| b == 0);
        let (mut block, mut total) = (PLAIN_BLOCK, None);
        while let Some(name) = texts.next().filter(|name| !name.is_empty()) {
            let value = texts.next().ok_or(Why::Packet("an option without a value"))?;
            let refused = || Why::Option { name: shown(name), value: shown(value) };
            let number = number(value).ok_or_else(refused)?;
            if name.eq_ignore_ascii_case(b"blksize") {
                let fits = usize::try_from(number).ok().filter(|n| (8..=BLOCK).contains(n));
                block = fits.ok_or_else(refused)?;
            } else if name.eq_ignore_ascii_case(b"tsize") {
                total = Some(number);
            } else {
                return Err(refused());
            }
        }
        if let Some(total) = total {
            sink.size(total).map_err(Why::Sink)?;
        }
        (self.block, self.total) = (block, total);
        self.heard(port, now_us);
        self.acknowledge();
        Ok(true)
    }

    fn heard(&mut self, port: u16, now_us: u64) {
        self.port = Some(port);
        self.heard_us = now_us;
    }

    fn acknowledge(&mut self) {
        self.last.clear();
        self.last.extend_from_slice(&ACK.to_be_bytes());
        self.last.extend_from_slice(&low(self.blocks).to_be_bytes());
    }
}

/// The wire's block number: it starts again at 0 behind 65535.
const fn low(blocks: u64) -> u16 {
    (blocks & 0xffff) as u16
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*word), rest))
}

fn number(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn refusal(port: u16, code: u16, text: &str) -> Reply {
    let mut bytes = Vec::from(ERROR.to_be_bytes());
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(String::from(text).as_bytes());
    bytes.push(0);
    Reply { port, bytes }
}
