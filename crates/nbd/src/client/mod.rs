//! The client: one disk, over as many connections as it takes.

mod link;
mod queue;
mod standing;
mod submit;

use alloc::collections::VecDeque;

pub use standing::{Standing, State};
pub use submit::Refused;

use crate::export::Export;
use crate::handshake::Handshake;
use crate::request::{Request, Tag};
use crate::transmission::{Event, Outgoing, Transmission};
use crate::trouble::{During, Trouble, said};
use crate::url::{Disk, OnError};
use crate::wire::ErrorCode;

/// A connection that has no export after this time is given up, in microseconds.
pub const HANDSHAKE_US: u64 = 20_000_000;
/// A server that was told of the end closes the connection within this time, else it is closed here; in microseconds.
pub const LEAVE_US: u64 = 2_000_000;
/// `on-error=report`: how long requests wait for a server, in microseconds.
pub const REPORT_AFTER_US: u64 = 30_000_000;
/// What the server has refused and must be asked again waits that long, in microseconds.
pub const RETRY_US: u64 = 1_000_000;
/// A request that waits longer than this is worth a word to the operator, in microseconds.
pub const SLOW_US: u64 = 5_000_000;
/// Time to the first attempt after a loss; it doubles with each, in microseconds.
const BACKOFF_US: u64 = 100_000;
/// Most time between two attempts, in microseconds.
pub const MOST_BACKOFF_US: u64 = 5_000_000;

/// What a client may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most requests on the wire.
    pub in_flight: usize,
    /// Most requests that are not answered, or whose answers are not taken.
    pub requests: usize,
    /// Most bytes of writes that are not answered or not durable; also the longest write.
    pub bytes: usize,
    /// Most writes that are not answered or not durable.
    pub writes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 16, requests: 128, bytes: 8 << 20, writes: 1024 }
    }
}

/// What the caller must do about the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// Open one to [`Disk::server`], then call [`Client::connected`] or [`Client::closed`].
    Connect,
    /// Drop the one that there is; what was not sent is of no use any more. No call is owed for it.
    Close,
}

/// The end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which.
    pub tag: Tag,
    /// How.
    pub result: Result<(), Failure>,
}

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The server says so.
    #[error("the server answers {0}")]
    Server(ErrorCode),
    /// The server is gone (`on-error=report`). Whether it was done is not known.
    #[error("the server is gone")]
    Gone,
}

#[derive(Debug)]
enum Link {
    Down,
    Connecting {
        since_us: u64,
    },
    Handshake {
        handshake: Handshake,
        since_us: u64,
    },
    Open {
        transmission: Transmission,
        since_us: u64,
        /// NBD_CMD_DISC is queued, since then.
        leaving_us: Option<u64>,
    },
    /// The end, as it was wished.
    Finished,
}

/// A write that was answered and is not durable.
#[derive(Debug)]
struct Kept {
    /// With a tag: its answer waits for a flush.
    request: Request,
    /// A flush with this cookie, or a later one, makes it durable.
    from_cookie: u64,
}

/// A disk on a server.
#[derive(Debug)]
pub struct Client {
    disk: Disk,
    limits: Limits,
    link: Link,
    /// The caller has a connection that must go.
    close: bool,
    trouble: Option<Trouble>,
    /// No request has been answered since.
    down_since_us: Option<u64>,
    attempts: u32,
    retry_at_us: u64,
    export: Option<Export>,
    cookie: u64,
    number: u64,
    /// By number.
    open: VecDeque<Request>,
    /// As they were answered.
    kept: VecDeque<Kept>,
    /// Bytes of writes in both.
    held: usize,
    /// Of them in `kept`.
    kept_bytes: usize,
    /// Writes in `kept` with a tag.
    waited_for: usize,
    answers: VecDeque<Answer>,
    /// There is no room until something is durable.
    full: bool,
    flush_not_before_us: u64,
    flush_error: Option<ErrorCode>,
    /// `on-error=report`: a write that was answered is lost, which no flush has said so far.
    lost_write: Option<ErrorCode>,
    stopping: bool,
}

impl Client {
    /// Of this disk; it wants a connection at once.
    #[must_use]
    pub fn new(disk: Disk, limits: Limits, now_us: u64) -> Self {
        Self {
            disk,
            limits,
            link: Link::Down,
            close: false,
            trouble: None,
            down_since_us: Some(now_us),
            attempts: 0,
            retry_at_us: now_us,
            export: None,
            cookie: 1,
            number: 0,
            open: VecDeque::new(),
            kept: VecDeque::new(),
            held: 0,
            kept_bytes: 0,
            waited_for: 0,
            answers: VecDeque::new(),
            full: false,
            flush_not_before_us: 0,
            flush_error: None,
            lost_write: None,
            stopping: false,
        }
    }

    /// What it is a client of.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The export, once a server has described it; it stays the same.
    #[must_use]
    pub fn export(&self) -> Option<&Export> {
        self.export.as_ref()
    }

    /// To be called in every turn: looks at the time and sends what can be sent.
    pub fn poll(&mut self, now_us: u64) -> Action {
        self.watch(now_us);
        if core::mem::take(&mut self.close) {
            return Action::Close;
        }
        if self.stopping && self.is_idle() && !matches!(self.link, Link::Open { .. }) {
            let had = core::mem::replace(&mut self.link, Link::Finished);
            if matches!(had, Link::Connecting { .. } | Link::Handshake { .. }) {
                return Action::Close;
            }
        }
        if matches!(self.link, Link::Down) && now_us >= self.retry_at_us {
            self.link = Link::Connecting { since_us: now_us };
            return Action::Connect;
        }
        self.pump(now_us);
        Action::None
    }

    /// When [`Self::poll`] has something to do by itself, once it was called at this time; none: not before something comes.
    #[must_use]
    pub fn next_deadline(&self, now_us: u64) -> Option<u64> {
        let reports = self.disk.on_error == OnError::Report;
        let late = |since: u64, us: u64| since.saturating_add(us);
        let of_link = match &self.link {
            Link::Down => Some(self.retry_at_us),
            Link::Connecting { since_us } | Link::Handshake { since_us, .. } => {
                Some(late(*since_us, HANDSHAKE_US))
            }
            Link::Open { leaving_us: Some(since), .. } => Some(late(*since, LEAVE_US)),
            Link::Open { transmission, .. } => {
                transmission.oldest_us().filter(|_| reports).map(|since| late(since, REPORT_AFTER_US))
            }
            Link::Finished => return None,
        };
        let report = self.down_since_us.filter(|_| reports && self.is_waited_for());
        let report = report.map(|since| late(since, REPORT_AFTER_US));
        let again = self.open.iter().map(|request| request.not_before_us);
        let others = [of_link, report, Some(self.flush_not_before_us)].into_iter().flatten();
        others.chain(again).filter(|&us| us > now_us).min()
    }

    /// The connection that was wished for is open.
    pub fn connected(&mut self, now_us: u64) {
        if matches!(self.link, Link::Connecting { .. }) {
            self.link = Link::Handshake { handshake: Handshake::new(&self.disk.export), since_us: now_us };
        }
    }

    /// The connection could not be opened, or has ended; `why` in the caller's words.
    pub fn closed(&mut self, why: &str, now_us: u64) {
        self.close = false;
        let trouble = match &self.link {
            Link::Down | Link::Finished => return,
            Link::Connecting { .. } => Trouble::Connect(said(why.as_bytes())),
            Link::Handshake { handshake, .. } => Trouble::Closed(handshake.during()),
            Link::Open { leaving_us: Some(_), .. } => return self.left(now_us),
            Link::Open { transmission, .. } => Trouble::Closed(During::Requests(transmission.open())),
        };
        self.lost(trouble, now_us);
    }

    /// Bytes of the connection. `read` gets those of reads: whose, the place within the request, the bytes. A request that is
    /// sent again brings them again from its beginning.
    pub fn receive(&mut self, mut bytes: &[u8], now_us: u64, read: &mut dyn FnMut(Tag, u64, &[u8])) {
        if let Err(trouble) = self.take_in(&mut bytes, now_us, read) {
            self.give_up_link(trouble, now_us);
        }
        self.pump(now_us);
    }

    fn take_in(
        &mut self,
        bytes: &mut &[u8],
        now_us: u64,
        read: &mut dyn FnMut(Tag, u64, &[u8]),
    ) -> Result<(), Trouble> {
        loop {
            match &mut self.link {
                Link::Handshake { handshake, .. } => match handshake.receive(bytes)? {
                    Some(export) => self.begin(export, now_us)?,
                    None => return Ok(()),
                },
                Link::Open { transmission, .. } => match transmission.receive(bytes)? {
                    Some(Event::Data { number, at, bytes }) => {
                        if let Some(tag) = self.find(number).and_then(|found| self.open[found].tag) {
                            read(tag, at, bytes);
                        }
                    }
                    Some(Event::Answer(piece, result)) => self.answered(piece, result, now_us),
                    None if bytes.is_empty() => return Ok(()),
                    None => {}
                },
                _ => return Ok(()),
            }
        }
    }

    /// The next bytes for the server, as they lie; there may be more behind them.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        match &self.link {
            Link::Handshake { handshake, .. } => handshake.outgoing(),
            Link::Open { transmission, .. } => match transmission.outgoing() {
                Outgoing::Bytes(bytes) => bytes,
                Outgoing::Data { number, at, len } => {
                    let data = self.find(number).map(|found| self.open[found].command.data());
                    data.and_then(|data| data.get(at..at + len)).unwrap_or_default()
                }
            },
            _ => &[],
        }
    }

    /// So many of [`Self::outgoing`] are on their way.
    pub fn sent(&mut self, count: usize) {
        match &mut self.link {
            Link::Handshake { handshake, .. } => handshake.sent(count),
            Link::Open { transmission, .. } => transmission.sent(count),
            _ => {}
        }
    }

    /// Ends the client in order: no request is taken any more, those that are open are answered, what is kept is flushed, the
    /// server is told. [`State::Finished`] is the end.
    pub fn finish(&mut self) {
        self.stopping = true;
    }

    /// Takes [`Self::finish`] back, even after its end.
    pub fn resume(&mut self, now_us: u64) {
        self.stopping = false;
        if matches!(self.link, Link::Finished) {
            self.link = Link::Down;
            (self.attempts, self.retry_at_us, self.down_since_us) = (0, now_us, Some(now_us));
        }
    }
}
