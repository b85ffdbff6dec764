//! How a client stands, for the operator.

use core::fmt;

use super::{Client, Link, SLOW_US};
use crate::trouble::{During, Trouble};

/// What a client is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has no server, or no export of one.
    Connecting,
    /// It has.
    Open,
    /// The server was told of the end.
    Leaving,
    /// It ended in order: all is answered and durable.
    Finished,
}

/// Why a disk stands still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Why.
    pub trouble: Trouble,
    /// For how long, in microseconds; 0 where that is not known.
    pub us: u64,
    /// Requests that wait.
    pub requests: usize,
    /// Writes among them that were answered before.
    pub again: usize,
    /// Connections tried without an answer.
    pub attempts: u32,
}

impl Client {
    /// What the client is at.
    #[must_use]
    pub fn state(&self) -> State {
        match self.link {
            Link::Down | Link::Connecting { .. } | Link::Handshake { .. } => State::Connecting,
            Link::Open { leaving_us: None, .. } => State::Open,
            Link::Open { .. } => State::Leaving,
            Link::Finished => State::Finished,
        }
    }

    /// Writes that were answered and are not durable, and the bytes of all writes that are held.
    #[must_use]
    pub fn unflushed(&self) -> (usize, usize) {
        let again = self.open.iter().filter(|request| request.again).count();
        (self.kept.len() + again, self.held)
    }

    /// Why nothing moves, or not all; none: all is well.
    #[must_use]
    pub fn standing(&self, now_us: u64) -> Option<Standing> {
        let waited = |since: u64| now_us.saturating_sub(since);
        let down = self.trouble.clone().zip(self.down_since_us.or(Some(now_us)));
        let refused = || {
            let request = self.open.iter().find(|request| request.refused.is_some())?;
            let (code, (offset, len)) = (request.refused?, request.command.range());
            Some((Trouble::RefusedAgain { offset, len: len as u32, code }, now_us))
        };
        let flush = || self.flush_error.map(|code| (Trouble::Flush(code), now_us));
        let slow = || match &self.link {
            Link::Open { transmission, .. } => {
                let since = transmission.oldest_us().filter(|&since| waited(since) >= SLOW_US)?;
                let during = During::Requests(transmission.open());
                Some((Trouble::Silent { us: waited(since), during }, since))
            }
            _ => None,
        };
        let (trouble, since) = down.or_else(refused).or_else(flush).or_else(slow)?;
        let again = self.open.iter().filter(|request| request.again).count();
        Some(Standing {
            trouble,
            us: waited(since),
            requests: self.open.len(),
            again,
            attempts: self.attempts,
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trouble, us, requests, again, attempts } = self;
        write!(f, "stands still for {} s, {requests} requests wait", us / 1_000_000)?;
        if *again > 0 {
            write!(f, " ({again} of them writes that were answered)")?;
        }
        write!(f, ": {trouble}")?;
        if *attempts > 0 {
            write!(f, "; {attempts} attempts")?;
        }
        Ok(())
    }
}
