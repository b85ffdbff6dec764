//! Asking the other end what became of a migration, over a connection of its own.

use crate::body::{self, Fate};
use crate::inbox::{Inbox, Item};
use crate::limits;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::reason::Reason;
use crate::tuning::{Clock, Tuning};
use crate::wire::{RecordType, WireError};

/// What came of asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing yet.
    Waiting,
    /// The other end's words; given once. [`Question::add`] or [`Question::end`] follow.
    Heard(Fate),
    /// It is over; the link can be closed.
    Over,
    /// No answer came, and why.
    Failed(Reason),
}

/// One question: made when the connection stands, polled until it is over.
#[derive(Clone)]
pub struct Question {
    clock: Clock,
    tuning: Tuning,
    inbox: Inbox,
    outbox: Outbox,
    began: u64,
    heard: bool,
    ending: bool,
}

impl Question {
    /// Says `first` and waits for the answer. `now` in ticks, `hz` of them a second.
    #[must_use]
    pub fn new(first: &Fate, tuning: Tuning, hz: u64, now: u64) -> Self {
        let mut outbox = Outbox::new(now);
        outbox.put_stream_header();
        outbox.put(RecordType::Fate, first);
        let clock = Clock::new(hz);
        Self { clock, tuning, inbox: Inbox::new(now), outbox, began: now, heard: false, ending: false }
    }

    /// Says what followed from the answer, and ends.
    pub fn add(&mut self, last: &Fate) {
        self.outbox.put(RecordType::Fate, last);
        self.ending = true;
    }

    /// Ends.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// Does a bounded amount of work.
    pub fn poll(&mut self, now: u64, link: &mut impl Link) -> Answer {
        self.outbox.flush(link, now);
        if self.ending {
            let late = self.clock.passed(self.began, now, self.tuning.reply_ms);
            return if self.outbox.is_done(link, late) { Answer::Over } else { Answer::Waiting };
        }
        match self.listen(now, link) {
            Ok(Some(fate)) => Answer::Heard(fate),
            Ok(None) if self.clock.passed(self.began, now, self.tuning.reply_ms) => {
                Answer::Failed(Reason::NoReply { what: "FATE from the peer", ms: self.tuning.reply_ms })
            }
            Ok(None) if !link.is_open() => Answer::Failed(Reason::LinkLost),
            Ok(None) => Answer::Waiting,
            Err(reason) => Answer::Failed(reason),
        }
    }

    fn listen(&mut self, now: u64, link: &mut impl Link) -> Result<Option<Fate>, Reason> {
        for _ in 0..limits::RECORDS_PER_POLL {
            match self.inbox.next(link, now)? {
                None => break,
                Some(Item::Skipped) => {}
                Some(Item::Stream(header)) => {
                    header.agree()?;
                }
                Some(Item::Record(RecordType::Ping, _)) => self.inbox.release(),
                Some(Item::Record(RecordType::Fate, _)) if !self.heard => {
                    self.heard = true;
                    let fate = body::decode(RecordType::Fate, self.inbox.body())?;
                    self.inbox.release();
                    return Ok(Some(fate));
                }
                Some(Item::Record(kind, _)) => {
                    return Err(WireError::Unexpected { kind, state: "where FATE was due" }.into());
                }
            }
        }
        Ok(None)
    }
}
