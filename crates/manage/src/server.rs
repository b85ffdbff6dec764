//! The host's end.

use alloc::string::String;

use crate::wire::{self, Inbox, Outbox, Pulse, WireError};
use crate::{MAX_BODY, MAX_QUEUED, PATIENCE_US, VERSION};

/// What the workstation wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Run this line; [`Server::end`] says how that ended.
    Run(String),
    /// End what runs. It may have ended meanwhile.
    Interrupt,
}

/// The host's end of a conversation.
#[derive(Debug)]
pub struct Server {
    inbox: Inbox,
    outbox: Outbox,
    pulse: Pulse,
    greeted: bool,
    runs: bool,
    unread: Option<usize>,
    /// Since when nothing of what waits has been taken.
    stuck_us: u64,
    taken: bool,
}

impl Server {
    /// `name` is how the host presents itself.
    #[must_use]
    pub fn new(name: &str, now_us: u64) -> Self {
        let mut outbox = Outbox::default();
        let mut hello = alloc::vec![VERSION];
        hello.extend_from_slice(wire::split(name).0.as_bytes());
        outbox.push(wire::HELLO, &hello);
        let pulse = Pulse::new(now_us);
        let inbox = Inbox::default();
        Self {
            inbox,
            outbox,
            pulse,
            greeted: false,
            runs: false,
            unread: None,
            stuck_us: now_us,
            taken: false,
        }
    }

    /// Bytes that came.
    pub fn feed(&mut self, bytes: &[u8], now_us: u64) {
        if !bytes.is_empty() {
            self.pulse.heard(now_us);
            self.inbox.feed(bytes);
        }
    }

    /// Whether there is nothing left that [`Server::take`] could look at. A caller that feeds it then only keeps what
    /// a peer sends ahead within the peer's own memory.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        !self.inbox.is_whole()
    }

    /// What is asked next. After a request to run a line there is no other one before [`Server::end`].
    ///
    /// # Errors
    /// The other end does not keep to the protocol; the conversation is over.
    pub fn take(&mut self) -> Result<Option<Asked>, WireError> {
        while let Some(message) = self.inbox.next()? {
            match (message.kind, self.greeted) {
                (wire::HELLO, false) => match message.body.as_slice() {
                    &[VERSION] => self.greeted = true,
                    &[other, ..] => return Err(WireError::Version(other)),
                    [] => return Err(WireError::Body(wire::HELLO)),
                },
                (wire::RUN, true) if self.runs => return Err(WireError::Busy),
                (wire::RUN, true) => {
                    let line = message.text()?;
                    self.runs = true;
                    return Ok(Some(Asked::Run(line)));
                }
                (wire::INTERRUPT, true) => {
                    message.empty()?;
                    return Ok(Some(Asked::Interrupt));
                }
                (wire::ALIVE, true) => message.empty()?,
                (other, _) => return Err(WireError::Type(other)),
            }
        }
        Ok(None)
    }

    /// Text that the command printed.
    pub fn output(&mut self, mut text: &str) {
        if !self.has_room(text.len()) {
            return;
        }
        while !text.is_empty() {
            let (now, rest) = wire::split(text);
            self.outbox.push(wire::OUTPUT, now.as_bytes());
            text = rest;
        }
    }

    /// The command is over: well, or with a code and a text.
    pub fn end(&mut self, result: Result<(), (&str, &str)>) {
        self.runs = false;
        if !self.has_room(MAX_BODY) {
            return;
        }
        match result {
            Ok(()) => self.outbox.push(wire::END, &[]),
            Err((code, text)) => {
                let body = [code, " ", text].concat();
                self.outbox.push(wire::END, wire::split(&body).0.as_bytes());
            }
        }
    }

    /// Whether so many bytes more may wait; where not, the next poll ends the conversation.
    fn has_room(&mut self, more: usize) -> bool {
        let room = self.unread.is_none() && self.queued().saturating_add(more) <= MAX_QUEUED;
        if !room {
            self.unread = Some(self.queued());
        }
        room
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub fn poll(&mut self, now_us: u64) -> Result<(), WireError> {
        if core::mem::take(&mut self.taken) || self.queued() == 0 {
            self.stuck_us = now_us;
        } else if now_us.saturating_sub(self.stuck_us) > PATIENCE_US {
            self.unread = Some(self.queued());
        }
        if let Some(unread) = self.unread {
            return Err(WireError::Unread(unread));
        }
        self.pulse.beat(now_us, &mut self.outbox)
    }

    /// Bytes to send.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.bytes()
    }

    /// So many of them have been taken.
    pub fn sent(&mut self, count: usize) {
        self.taken |= count > 0;
        self.outbox.sent(count);
    }

    /// How many wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outbox.bytes().len()
    }
}
