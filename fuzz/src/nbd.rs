//! A client of NBD against a server that says anything, at any moment, over connections that are cut; in the end one that is honest.

use std::collections::BTreeMap;

use nbd::{Action, Client, Command, Disk, Limits, State, Tag};

use crate::Bytes;

const BLOCK: u64 = 512;
const LIMITS: Limits = Limits { in_flight: 4, requests: 12, bytes: 16384, writes: 16 };
const FLAGS: u16 = 0x6d;
const SIZE: u64 = 64 * BLOCK;

/// Flags (bit 0: `on-error=report`, bit 1: the server's first handshake is honest), then what happens.
pub fn replies(data: &[u8]) {
    run_replies(data);
}

/// As [`replies`]; how many requests were answered before the end.
pub fn run_replies(data: &[u8]) -> usize {
    let mut data = Bytes(data);
    let flags = data.u8();
    let words = if flags & 1 == 0 { "" } else { ",on-error=report" };
    let disk = Disk::parse(&format!("nbd://10.0.0.2/disk{words}")).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World {
        client: Client::new(disk, LIMITS, 0),
        now_us: 0,
        connected: false,
        sent: Vec::new(),
        asked: Vec::new(),
        waiting: BTreeMap::new(),
        tag: 0,
        answers: 0,
    };
    if flags & 2 != 0 {
        world.turn();
        world.honest_handshake();
    }
    while !data.0.is_empty() {
        world.step(&mut data);
        world.turn();
    }
    let answers = world.answers;
    world.end();
    answers
}

struct World {
    client: Client,
    now_us: u64,
    connected: bool,
    /// What the client has sent on this connection and nobody has looked at.
    sent: Vec<u8>,
    /// Cookie, and bytes that the answer brings.
    asked: Vec<(u64, usize)>,
    /// Requests without an answer: bytes that are to be read.
    waiting: BTreeMap<u64, u64>,
    tag: u64,
    answers: usize,
}

impl World {
    fn step(&mut self, data: &mut Bytes<'_>) {
        match data.u8() % 16 {
            // Any bytes.
            0..3 => {
                let len = usize::from(data.u8());
                self.hear(data.take(len));
            }
            // A request.
            3..7 => {
                let [kind, at, count] = [data.u8(), data.u8(), data.u8()];
                let (offset, len) = (u64::from(at) * BLOCK, u32::from(count % 20) * BLOCK as u32);
                let fua = kind & 0x80 != 0;
                self.submit(match kind % 8 {
                    0..3 => Command::Read { offset, len },
                    3..5 => Command::Write { offset, data: vec![at; len as usize], fua },
                    5 => Command::Flush,
                    6 => Command::Trim { offset, len },
                    _ => Command::WriteZeroes { offset, len, fua, unmap: fua },
                });
            }
            // The answer to a request, good or with an error.
            7..11 => {
                let (which, error) = (usize::from(data.u8()), data.u8());
                self.look();
                if !self.asked.is_empty() {
                    let asked = self.asked.remove(which % self.asked.len());
                    self.answer(asked, if error < 128 { 0 } else { u32::from(error) - 128 });
                }
            }
            11 => self.honest_handshake(),
            12 => self.now_us += u64::from(data.u16()) * 1000,
            13 => self.cut(),
            14 if data.u8() & 1 == 0 => self.client.finish(),
            14 => self.client.resume(self.now_us),
            _ => {
                let count = self.client.outgoing().len().min(data.u8().into());
                self.take_sent(count);
            }
        }
    }

    fn turn(&mut self) {
        match self.client.poll(self.now_us) {
            Action::None => {}
            Action::Connect => {
                self.new_connection();
                self.connected = true;
                self.client.connected(self.now_us);
            }
            Action::Close => self.connected = false,
        }
        while let Some(answer) = self.client.answer() {
            assert!(self.waiting.remove(&answer.tag.0).is_some(), "{} is answered twice", answer.tag.0);
            self.answers += 1;
        }
        assert!(self.client.unflushed().1 <= LIMITS.bytes);
        assert!(self.waiting.len() <= LIMITS.requests);
        if let Some(standing) = self.client.standing(self.now_us) {
            let text = standing.to_string();
            assert!(text.len() < 2000 && !text.contains(char::is_control), "{text}");
        }
    }

    fn new_connection(&mut self) {
        self.sent.clear();
        self.asked.clear();
    }

    fn cut(&mut self) {
        self.connected = false;
        self.client.closed("cut", self.now_us);
    }

    fn submit(&mut self, command: Command) {
        let len = if let Command::Read { len, .. } = command { len } else { 0 };
        self.tag += 1;
        if self.client.submit(Tag(self.tag), command, self.now_us).is_ok() {
            self.waiting.insert(self.tag, len.into());
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let waiting = &self.waiting;
        self.client.receive(bytes, self.now_us, &mut |tag, at, bytes| {
            let len =
                waiting.get(&tag.0).unwrap_or_else(|| panic!("bytes for {}, which does not wait", tag.0));
            assert!(at + bytes.len() as u64 <= *len);
        });
    }

    fn take_sent(&mut self, count: usize) {
        self.sent.extend_from_slice(&self.client.outgoing()[..count]);
        self.client.sent(count);
    }

    /// Takes all that the client sends, and the requests in it.
    fn look(&mut self) {
        while !self.client.outgoing().is_empty() {
            self.take_sent(self.client.outgoing().len());
        }
        while let Some(head) = self.sent.first_chunk::<28>().copied() {
            if head[..4] != 0x2560_9513_u32.to_be_bytes() {
                // The client's part of the handshake.
                return;
            }
            let number =
                |at: usize, len: usize| head[at..at + len].iter().fold(0, |n, &b| n << 8 | u64::from(b));
            let (kind, cookie, len) = (number(6, 2), number(8, 8), number(24, 4) as usize);
            let behind = if kind == 1 { len } else { 0 };
            if self.sent.len() < 28 + behind {
                return;
            }
            self.sent.drain(..28 + behind);
            if kind != 2 {
                self.asked.push((cookie, if kind == 0 { len } else { 0 }));
            }
        }
    }

    fn answer(&mut self, (cookie, len): (u64, usize), error: u32) {
        let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.resize(16 + if error == 0 { len } else { 0 }, 0x5a);
        self.hear(&reply);
    }

    /// What an honest server says in a handshake, of the export that the client knows.
    fn honest_handshake(&mut self) {
        if !self.connected || self.client.state() != State::Connecting {
            return;
        }
        let (size, flags, block) = self
            .client
            .export()
            .map_or((SIZE, FLAGS, 512), |export| (export.size, export.flags, export.blocks.min));
        self.hear(b"NBDMAGICIHAVEOPT\0\x03");
        self.look();
        self.sent.clear();
        let sizes = [block, block.max(512), block.max(4096)].map(u32::to_be_bytes);
        let info = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], data].concat();
        let export = [&size.to_be_bytes()[..], &flags.to_be_bytes()].concat();
        for (kind, data) in [(3, info(3, sizes.as_flattened())), (3, info(0, &export)), (1, Vec::new())] {
            let mut reply = 0x3e889045565a9_u64.to_be_bytes().to_vec();
            for number in [7, kind, data.len() as u32] {
                reply.extend(number.to_be_bytes());
            }
            reply.extend(data);
            self.hear(&reply);
        }
    }

    /// Whatever has happened: with an honest server all is answered and durable.
    fn end(mut self) {
        self.cut();
        self.client.finish();
        for _ in 0..2000 {
            self.turn();
            if self.client.state() == State::Finished {
                assert!(self.waiting.is_empty() && self.client.unflushed() == (0, 0));
                return;
            }
            self.honest_handshake();
            self.look();
            let asked = std::mem::take(&mut self.asked);
            // Time passes only where nobody has anything to do.
            if asked.is_empty() && self.client.outgoing().is_empty() {
                self.now_us = self.client.next_deadline(self.now_us).unwrap_or(self.now_us);
            }
            asked.into_iter().for_each(|asked| self.answer(asked, 0));
        }
        panic!("no end: {:?}", self.client);
    }
}

/// Reads and writes, answers, an error, a cut, a server that comes back, and bytes that are none.
#[must_use]
pub fn seeds() -> [(&'static str, Vec<u8>); 4] {
    let requests =
        [[3, 0, 1, 9], [3, 3, 1, 2], [3, 0x84, 2, 2], [3, 5, 0, 0], [3, 7, 8, 1], [3, 6, 9, 1]].concat();
    let answers = [[7, 1, 0], [7, 0, 0], [7, 0, 133], [7, 0, 0], [7, 0, 0]].concat();
    let whole = [&[2][..], &requests, &answers, &[14, 0], &answers].concat();
    let cut = [&[2][..], &requests, &[7, 0, 0, 7, 0, 0, 13, 12, 200, 0, 11], &answers, &answers].concat();
    let report = [&[3][..], &requests, &[7, 0, 0, 13, 12, 0x60, 0xea, 11], &requests, &answers].concat();
    // The handshake as bytes: greeting, a refusal with words.
    let words = b"no such export";
    let mut refused = b"\0\0\x12NBDMAGICIHAVEOPT\0\x03\x0f\xff\0\x22\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\x80\0\0\x06\0\0\0\x0e".to_vec();
    refused.extend(words);
    [("cut", cut), ("refused", refused), ("report", report), ("whole", whole)]
}
