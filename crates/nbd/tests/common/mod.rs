//! What a server says, byte by byte, and a client that is driven by hand.
#![allow(dead_code, missing_docs)]

use nbd::{Action, Answer, Client, Command, Disk, Failure, Limits, Tag};

pub(crate) const SIZE: u64 = 1 << 20;
/// Flags: has flags, FLUSH, FUA, TRIM, WRITE_ZEROES.
pub(crate) const ALL: u16 = 0x6d;
pub(crate) const NO_FUA: u16 = 0x65;
pub(crate) const GO: u32 = 7;

pub(crate) fn greeting() -> Vec<u8> {
    [&b"NBDMAGICIHAVEOPT"[..], &[0, 3]].concat()
}

pub(crate) fn option(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x3e889045565a9_u64.to_be_bytes().to_vec();
    for number in [option, kind, data.len() as u32] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

pub(crate) fn info(kind: u16, data: &[u8]) -> Vec<u8> {
    option(GO, 3, &[&kind.to_be_bytes()[..], data].concat())
}

pub(crate) fn export(size: u64, flags: u16) -> Vec<u8> {
    info(0, &[&size.to_be_bytes()[..], &flags.to_be_bytes()].concat())
}

pub(crate) fn blocks(sizes: [u32; 3]) -> Vec<u8> {
    info(3, sizes.map(u32::to_be_bytes).as_flattened())
}

pub(crate) fn ack() -> Vec<u8> {
    option(GO, 1, &[])
}

/// A whole handshake.
pub(crate) fn go(size: u64, flags: u16) -> Vec<u8> {
    [greeting(), export(size, flags), ack()].concat()
}

pub(crate) fn reply(cookie: u64, error: u32, data: &[u8]) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes(), data].concat()
}

/// A request as a server reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) flags: u16,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const ZEROES: u16 = 6;

/// The next whole request at the front of `bytes`, taken off.
pub(crate) fn asked(bytes: &mut Vec<u8>) -> Option<Asked> {
    let head = bytes.first_chunk::<28>()?;
    assert_eq!(head[..4], 0x2560_9513_u32.to_be_bytes(), "no request: {head:x?}");
    let number = |at: usize, len: usize| head[at..at + len].iter().fold(0, |n, &b| n << 8 | u64::from(b));
    let (flags, kind, cookie) = (number(4, 2) as u16, number(6, 2) as u16, number(8, 8));
    let (offset, len) = (number(16, 8), number(24, 4) as u32);
    let behind = if kind == WRITE { len as usize } else { 0 };
    if bytes.len() < 28 + behind {
        return None;
    }
    let data = bytes.drain(..28 + behind).skip(28).collect();
    Some(Asked { flags, kind, cookie, offset, len, data })
}

/// Client and server of one disk; the time is the test's.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) now_us: u64,
    /// What reads have brought: whose, where, what.
    pub(crate) read: Vec<(Tag, u64, Vec<u8>)>,
    /// What the client has sent on this connection, without its handshake.
    pub(crate) came: Vec<u8>,
}

pub(crate) fn disk(words: &str) -> Disk {
    Disk::parse(&format!("nbd://10.0.0.2/disk{words}")).unwrap()
}

impl Bench {
    pub(crate) fn new(words: &str, limits: Limits) -> Self {
        let client = Client::new(disk(words), limits, 0);
        Self { client, now_us: 0, read: Vec::new(), came: Vec::new() }
    }

    /// Attached to an export.
    pub(crate) fn open(words: &str, limits: Limits, size: u64, flags: u16) -> Self {
        let mut bench = Self::new(words, limits);
        bench.attach(&go(size, flags));
        assert!(bench.client.export().is_some(), "{:?}", bench.client.standing(0));
        bench
    }

    pub(crate) fn usual() -> Self {
        Self::open("", Limits::default(), SIZE, ALL)
    }

    /// Connects, as soon as the client wishes to, to a server that says this.
    pub(crate) fn attach(&mut self, says: &[u8]) {
        self.connect();
        self.say(says);
    }

    /// A server's handshake: the greeting first, the rest once the client has asked.
    pub(crate) fn say(&mut self, says: &[u8]) {
        let (first, rest) = says.split_at(says.len().min(18));
        self.hear(first);
        self.collect();
        self.hear(rest);
        let expected = b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x0c\0\0\0\x04disk\0\x01\0\x03";
        if rest.is_empty() {
            return;
        }
        assert_eq!(self.came.drain(..expected.len()).collect::<Vec<_>>(), expected);
    }

    pub(crate) fn connect(&mut self) {
        let from = self.now_us;
        loop {
            match self.client.poll(self.now_us) {
                Action::Connect => break,
                Action::Close => {}
                Action::None => {
                    let next = self.client.next_deadline(self.now_us);
                    self.now_us = next.expect("a wish for a connection");
                }
            }
            assert!(self.now_us < from + 60_000_000);
        }
        self.client.connected(self.now_us);
        self.came.clear();
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let Self { client, now_us, read, .. } = self;
        client.receive(bytes, *now_us, &mut |tag, at, bytes| read.push((tag, at, bytes.to_vec())));
    }

    pub(crate) fn collect(&mut self) {
        while !self.client.outgoing().is_empty() {
            let bytes = self.client.outgoing().to_vec();
            self.came.extend(&bytes);
            self.client.sent(bytes.len());
        }
    }

    /// The requests that the client has sent since.
    pub(crate) fn asked(&mut self) -> Vec<Asked> {
        self.client.poll(self.now_us);
        self.collect();
        let requests = std::iter::from_fn(|| asked(&mut self.came)).collect();
        assert!(self.came.is_empty());
        requests
    }

    pub(crate) fn submit(&mut self, tag: u64, command: Command) {
        self.client.submit(Tag(tag), command, self.now_us).unwrap();
    }

    /// Answers a request with success.
    pub(crate) fn done(&mut self, request: &Asked) {
        let data = vec![0x5a; if request.kind == READ { request.len as usize } else { 0 }];
        self.hear(&reply(request.cookie, 0, &data));
    }

    pub(crate) fn fail(&mut self, request: &Asked, code: u32) {
        self.hear(&reply(request.cookie, code, &[]));
    }

    pub(crate) fn answers(&mut self) -> Vec<(u64, Result<(), Failure>)> {
        std::iter::from_fn(|| self.client.answer()).map(|Answer { tag, result }| (tag.0, result)).collect()
    }

    /// The connection is lost.
    pub(crate) fn cut(&mut self) {
        self.client.closed("reset", self.now_us);
    }

    /// What the client says of its state.
    pub(crate) fn standing(&self) -> String {
        self.client.standing(self.now_us).map_or_else(String::new, |standing| standing.to_string())
    }
}

pub(crate) fn read(offset: u64, len: u32) -> Command {
    Command::Read { offset, len }
}

pub(crate) fn write(offset: u64, len: usize) -> Command {
    Command::Write { offset, data: vec![0xa5; len], fua: false }
}

pub(crate) fn fua(offset: u64, len: usize) -> Command {
    Command::Write { offset, data: vec![0xf0; len], fua: true }
}

/// Kind and offset of each.
pub(crate) fn kinds(requests: &[Asked]) -> Vec<(u16, u64)> {
    requests.iter().map(|request| (request.kind, request.offset)).collect()
}
