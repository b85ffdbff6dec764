//! The workstation's end.

use alloc::string::String;

use crate::wire::{self, Inbox, Outbox, Pulse, WireError};
use crate::{MAX_LINE, VERSION};

/// What the host says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It speaks this protocol, and presents itself.
    Hello(String),
    /// The command printed this.
    Output(String),
    /// The command is over: well, or with `CODE text`.
    End(Result<(), String>),
}

/// The workstation's end of a conversation.
#[derive(Debug)]
pub struct Client {
    inbox: Inbox,
    outbox: Outbox,
    pulse: Pulse,
    greeted: bool,
    runs: bool,
}

impl Client {
    /// The beginning of a conversation.
    #[must_use]
    pub fn new(now_us: u64) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(wire::HELLO, &[VERSION]);
        let pulse = Pulse::new(now_us);
        Self { inbox: Inbox::default(), outbox, pulse, greeted: false, runs: false }
    }

    /// Asks the host to run a line. One at a time: [`Said::End`] ends it.
    ///
    /// # Errors
    /// The line is too long, or another command runs.
    pub fn run(&mut self, line: &str) -> Result<(), WireError> {
        if line.len() > MAX_LINE {
            return Err(WireError::Length(line.len()));
        }
        if self.runs {
            return Err(WireError::Busy);
        }
        self.runs = true;
        self.outbox.push(wire::RUN, line.as_bytes());
        Ok(())
    }

    /// Asks the host to end what runs.
    pub fn interrupt(&mut self) {
        if self.runs {
            self.outbox.push(wire::INTERRUPT, &[]);
        }
    }

    /// Bytes that came.
    pub fn feed(&mut self, bytes: &[u8], now_us: u64) {
        if !bytes.is_empty() {
            self.pulse.heard(now_us);
            self.inbox.feed(bytes);
        }
    }

    /// What the host says next.
    ///
    /// # Errors
    /// It does not keep to the protocol; the conversation is over.
    pub fn take(&mut self) -> Result<Option<Said>, WireError> {
        while let Some(mut message) = self.inbox.next()? {
            match (message.kind, self.greeted) {
                (wire::HELLO, false) => {
                    match message.body.first() {
                        Some(&VERSION) => {}
                        Some(other) => return Err(WireError::Version(*other)),
                        None => return Err(WireError::Body(wire::HELLO)),
                    }
                    message.body.remove(0);
                    self.greeted = true;
                    return message.text().map(|name| Some(Said::Hello(name)));
                }
                (wire::OUTPUT, true) if self.runs => {
                    return message.text().map(|text| Some(Said::Output(text)));
                }
                (wire::END, true) if self.runs => {
                    self.runs = false;
                    let text = message.text()?;
                    return Ok(Some(Said::End(if text.is_empty() { Ok(()) } else { Err(text) })));
                }
                (wire::ALIVE, true) => message.empty()?,
                (other, _) => return Err(WireError::Type(other)),
            }
        }
        Ok(None)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The host is gone.
    pub fn poll(&mut self, now_us: u64) -> Result<(), WireError> {
        self.pulse.beat(now_us, &mut self.outbox)
    }

    /// Bytes to send.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.bytes()
    }

    /// So many of them have been taken.
    pub fn sent(&mut self, count: usize) {
        self.outbox.sent(count);
    }
}
