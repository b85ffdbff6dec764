//! One link to another host: messages in and out of its bytes.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use crate::body::{Beat, Hello};
use crate::error::WireError;
use crate::host_id::HostId;
use crate::link::Link;
use crate::set::Stamp;
use crate::wire::{self, Header, Kind, MESSAGE_HEADER, STREAM_HEADER};

/// A link of a [`crate::Pool`], as long as it lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u32);

/// Why a link exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Between members, or to become one.
    Member,
    /// This host asks.
    Ask,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// No HELLO of the peer yet.
    Opening,
    /// Records go back and forth.
    Up,
    /// Its last words go out, until then.
    Ending(u64),
}

pub(crate) struct Peer {
    pub(crate) id: LinkId,
    /// The other end: what was dialed, or where it came from.
    pub(crate) address: SocketAddrV4,
    pub(crate) dialed: bool,
    pub(crate) purpose: Purpose,
    pub(crate) stage: Stage,
    pub(crate) opened: u64,
    /// When bytes last came.
    pub(crate) heard: u64,
    pub(crate) hello: Option<Hello>,
    /// The peer's last BEAT.
    pub(crate) beat: Option<Beat>,
    /// What was sent as BEAT, and when.
    pub(crate) told: Option<(Beat, u64)>,
    /// The records that the peer is known to have.
    pub(crate) has: BTreeMap<HostId, Stamp>,
    /// [`crate::set::Set::digest`] when nothing was left to be sent.
    pub(crate) synced: Option<u64>,
    /// BEATs in a row that told of another set although nothing was on its way.
    pub(crate) disagreed: u32,
    inbox: Inbox,
    out: Vec<u8>,
    sent: usize,
}

impl Peer {
    pub(crate) fn new(id: LinkId, address: SocketAddrV4, dialed: bool, purpose: Purpose, now: u64) -> Self {
        Self {
            id,
            address,
            dialed,
            purpose,
            stage: Stage::Opening,
            opened: now,
            heard: now,
            hello: None,
            beat: None,
            told: None,
            has: BTreeMap::new(),
            synced: None,
            disagreed: 0,
            inbox: Inbox::default(),
            out: wire::stream_header().to_vec(),
            sent: 0,
        }
    }

    /// True while it serves the pool: the peer is or becomes a member.
    pub(crate) fn is_member(&self) -> bool {
        let asks = self.hello.as_ref().is_some_and(|hello| hello.asks);
        self.stage == Stage::Up && self.purpose == Purpose::Member && !asks
    }

    /// The machine at the other end.
    pub(crate) fn host(&self) -> Option<HostId> {
        self.hello.as_ref().map(|hello| HostId(hello.id))
    }

    /// Its name, or its address while it has not said it.
    pub(crate) fn name(&self) -> String {
        self.hello.as_ref().map_or_else(|| self.address.to_string(), |hello| hello.name.clone())
    }

    pub(crate) fn say(&mut self, kind: Kind, body: &[u8]) {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        self.out.extend_from_slice(&wire::message(kind, body));
    }

    /// True where all that was said is with the link.
    pub(crate) fn is_flushed(&self) -> bool {
        self.sent == self.out.len()
    }

    /// Hands on what the link takes.
    pub(crate) fn flush(&mut self, link: &mut impl Link) {
        while let Some(rest) = self.out.get(self.sent..) {
            let n = if rest.is_empty() { 0 } else { link.send(rest).min(rest.len()) };
            if n == 0 {
                break;
            }
            self.sent += n;
        }
    }

    /// The next message, where it is whole; what is optional and unknown is passed over.
    pub(crate) fn next(
        &mut self,
        link: &mut impl Link,
        now: u64,
    ) -> Result<Option<(Kind, Vec<u8>)>, WireError> {
        self.inbox.next(link, now, &mut self.heard)
    }
}

/// The buffer grows by this much when bytes have really come, never on a mere announcement.
const STEP: usize = 8 * 1024;

#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    Stream,
    Header,
    Body(Header),
}

#[derive(Default)]
struct Inbox {
    part: Part,
    buf: Vec<u8>,
    len: usize,
}

impl Inbox {
    fn next(
        &mut self,
        link: &mut impl Link,
        now: u64,
        heard: &mut u64,
    ) -> Result<Option<(Kind, Vec<u8>)>, WireError> {
        loop {
            let want = match self.part {
                Part::Stream => STREAM_HEADER,
                Part::Header => MESSAGE_HEADER,
                Part::Body(header) => header.len,
            };
            if !self.fill(want, link, now, heard) {
                return self.starved();
            }
            self.len = 0;
            match self.part {
                Part::Stream => {
                    if let Some(bytes) = self.buf.first_chunk() {
                        wire::check_stream_header(bytes)?;
                    }
                    self.part = Part::Header;
                }
                Part::Header => {
                    let Some(bytes) = self.buf.first_chunk() else { return Ok(None) };
                    self.part = Part::Body(Header::read(bytes)?);
                }
                Part::Body(Header { kind, len }) => {
                    self.part = Part::Header;
                    let mut body = core::mem::take(&mut self.buf);
                    if let Some(kind) = kind {
                        body.truncate(len);
                        return Ok(Some((kind, body)));
                    }
                }
            }
        }
    }

    /// Reads until `want` bytes are there.
    fn fill(&mut self, want: usize, link: &mut impl Link, now: u64, heard: &mut u64) -> bool {
        while self.len < want {
            if self.buf.len() <= self.len {
                self.buf.resize(self.len.saturating_add(STEP), 0);
            }
            let end = want.min(self.buf.len());
            let room = self.buf.get_mut(self.len..end).unwrap_or_default();
            let n = link.recv(room).min(room.len());
            if n == 0 {
                return false;
            }
            *heard = now;
            self.len += n;
        }
        true
    }

    /// Another protocol is told by its first bytes, without waiting for a whole header.
    fn starved(&self) -> Result<Option<(Kind, Vec<u8>)>, WireError> {
        let part = self.buf.get(..self.len).unwrap_or_default();
        if let (Part::Stream, Some(first)) = (self.part, part.first_chunk::<4>())
            && !wire::MAGIC.starts_with(first)
        {
            return Err(WireError::NotOurs(*first));
        }
        Ok(None)
    }
}
