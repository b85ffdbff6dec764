//! One connection behind its handshake: requests out, simple replies in.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::trouble::Trouble;
use crate::wire::{self, ErrorCode, REPLY_LEN, u32_at, u64_at};

/// A request on the wire: all of the caller's, or a piece of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) cookie: u64,
    /// Of the request that it is of.
    pub(crate) number: u64,
    /// Bytes of that request before it.
    pub(crate) at: u64,
    pub(crate) len: u32,
    /// Its answer brings bytes.
    read: bool,
    /// Bytes sent on this connection when it is sent whole.
    end: u64,
    pub(crate) since_us: u64,
}

/// What is to be sent, in order.
#[derive(Debug)]
enum Segment {
    Heads(Vec<u8>),
    /// Bytes of a request, from `at` on.
    Data {
        number: u64,
        at: u64,
        len: usize,
    },
}

/// What is next on the wire.
pub(crate) enum Outgoing<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of a request's data, from the place on.
    Data {
        number: u64,
        at: usize,
        len: usize,
    },
}

/// What has come.
pub(crate) enum Event<'a> {
    /// Bytes of a piece that is read, from the place on within its request.
    Data {
        number: u64,
        at: u64,
        bytes: &'a [u8],
    },
    Answer(Piece, Result<(), ErrorCode>),
}

#[derive(Debug)]
pub(crate) struct Transmission {
    first: u64,
    next: u64,
    /// By cookie.
    pieces: Vec<Piece>,
    segments: VecDeque<Segment>,
    queued: u64,
    sent: u64,
    head: [u8; REPLY_LEN],
    here: usize,
    /// A read whose bytes come now, and how many are still to come.
    reading: Option<(Piece, u32)>,
}

impl Transmission {
    /// Cookies begin at `first`: no connection knows those of another.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            next: first,
            pieces: Vec::new(),
            segments: VecDeque::new(),
            queued: 0,
            sent: 0,
            head: [0; REPLY_LEN],
            here: 0,
            reading: None,
        }
    }

    /// The cookie that the next request gets. A flush with it, or with a later one, covers what is answered by now.
    pub(crate) fn next_cookie(&self) -> u64 {
        self.next
    }

    /// Requests without a whole answer.
    pub(crate) fn open(&self) -> usize {
        self.pieces.len()
    }

    /// Since when the oldest of them has been waiting.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        self.pieces.first().map(|piece| piece.since_us)
    }

    /// Queues a request: kind and flags, the request that it is of and its place there, where on the disk, how many bytes.
    pub(crate) fn send(
        &mut self,
        (kind, flags): (u16, u16),
        (number, at): (u64, u64),
        (offset, len): (u64, u32),
        now_us: u64,
    ) {
        let cookie = self.next;
        self.next += 1;
        self.push_head(&wire::request(flags, kind, cookie, offset, len));
        if kind == wire::CMD_WRITE {
            self.segments.push_back(Segment::Data { number, at, len: len as usize });
            self.queued += u64::from(len);
        }
        let (read, end) = (kind == wire::CMD_READ, self.queued);
        self.pieces.push(Piece { cookie, number, at, len, read, end, since_us: now_us });
    }

    /// Queues the end of it all.
    pub(crate) fn disconnect(&mut self) {
        self.push_head(&wire::request(0, wire::CMD_DISC, 0, 0, 0));
    }

    fn push_head(&mut self, head: &[u8]) {
        self.queued += head.len() as u64;
        match self.segments.back_mut() {
            Some(Segment::Heads(heads)) => heads.extend_from_slice(head),
            _ => self.segments.push_back(Segment::Heads(head.to_vec())),
        }
    }

    pub(crate) fn outgoing(&self) -> Outgoing<'_> {
        match self.segments.front() {
            None => Outgoing::Bytes(&[]),
            Some(Segment::Heads(heads)) => Outgoing::Bytes(heads),
            Some(&Segment::Data { number, at, len }) => Outgoing::Data { number, at: at as usize, len },
        }
    }

    /// So many bytes of [`Self::outgoing`] are on their way.
    pub(crate) fn sent(&mut self, count: usize) {
        let (count, left) = match self.segments.front_mut() {
            None => return,
            Some(Segment::Heads(heads)) => {
                let count = count.min(heads.len());
                heads.drain(..count);
                (count, heads.len())
            }
            Some(Segment::Data { at, len, .. }) => {
                let count = count.min(*len);
                (*at, *len) = (*at + count as u64, *len - count);
                (count, *len)
            }
        };
        self.sent += count as u64;
        if left == 0 {
            self.segments.pop_front();
        }
    }

    /// Takes bytes up to the next thing that is worth a word.
    pub(crate) fn receive<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Trouble> {
        if let Some((piece, left)) = self.reading {
            let take = bytes.len().min(left as usize);
            let (now, rest) = bytes.split_at(take);
            if take == 0 && left > 0 {
                return Ok(None);
            }
            if left == 0 {
                self.reading = None;
                self.pieces.retain(|other| other.cookie != piece.cookie);
                return Ok(Some(Event::Answer(piece, Ok(()))));
            }
            *bytes = rest;
            self.reading = Some((piece, left - take as u32));
            let at = piece.at + u64::from(piece.len - left);
            return Ok(Some(Event::Data { number: piece.number, at, bytes: now }));
        }
        let take = bytes.len().min(REPLY_LEN - self.here);
        let (now, rest) = bytes.split_at(take);
        self.head[self.here..self.here + take].copy_from_slice(now);
        *bytes = rest;
        self.here += take;
        if self.here >= 4 && u32_at(&self.head, 0) != wire::REPLY {
            return Err(Trouble::ReplyMagic(u32_at(&self.head, 0)));
        }
        if self.here < REPLY_LEN {
            return Ok(None);
        }
        self.here = 0;
        self.reply(u64_at(&self.head, 8), ErrorCode::of(u32_at(&self.head, 4)))
    }

    fn reply<'a>(&mut self, cookie: u64, error: Option<ErrorCode>) -> Result<Option<Event<'a>>, Trouble> {
        let Some(found) = self.pieces.iter().position(|piece| piece.cookie == cookie) else {
            let known = (self.first..self.next).contains(&cookie);
            return Err(if known { Trouble::AnsweredTwice(cookie) } else { Trouble::UnknownCookie(cookie) });
        };
        let piece = self.pieces[found];
        if self.sent < piece.end {
            return Err(Trouble::AnsweredEarly(cookie));
        }
        match error {
            None if piece.read => {
                self.reading = Some((piece, piece.len));
                Ok(None)
            }
            error => {
                self.pieces.remove(found);
                Ok(Some(Event::Answer(piece, error.map_or(Ok(()), Err))))
            }
        }
    }
}
