//! Connections: their beginnings, their ends, and time that is up.

use super::{BACKOFF_US, Client, HANDSHAKE_US, LEAVE_US, Link, MOST_BACKOFF_US, REPORT_AFTER_US};
use crate::export::Export;
use crate::transmission::Transmission;
use crate::trouble::{During, Trouble};
use crate::url::OnError;

impl Client {
    /// Looks at the time.
    pub(super) fn watch(&mut self, now_us: u64) {
        let waited = |since: u64| now_us.saturating_sub(since);
        let reports = self.disk.on_error == OnError::Report;
        let silent = |us, during| Some(Trouble::Silent { us, during });
        let trouble = match &self.link {
            Link::Connecting { since_us } if waited(*since_us) >= HANDSHAKE_US => {
                silent(waited(*since_us), During::Connect)
            }
            Link::Handshake { handshake, since_us } if waited(*since_us) >= HANDSHAKE_US => {
                silent(waited(*since_us), handshake.during())
            }
            Link::Open { leaving_us: Some(since), .. } if waited(*since) >= LEAVE_US => {
                self.close = true;
                return self.left(now_us);
            }
            Link::Open { transmission, .. } if reports => transmission
                .oldest_us()
                .filter(|since| waited(*since) >= REPORT_AFTER_US)
                .and_then(|since| silent(waited(since), During::Requests(transmission.open()))),
            _ => None,
        };
        if let Some(trouble) = trouble {
            let were_sent = matches!(self.link, Link::Open { .. });
            self.give_up_link(trouble, now_us);
            if were_sent {
                self.report_gone();
            }
        }
        let is_open = matches!(self.link, Link::Open { .. });
        if reports && !is_open && self.down_since_us.is_some_and(|since| waited(since) >= REPORT_AFTER_US) {
            self.report_gone();
        }
    }

    /// There is an export: is it the one that is wanted?
    pub(super) fn begin(&mut self, export: Export, now_us: u64) -> Result<(), Trouble> {
        if export.read_only() && !self.disk.read_only {
            return Err(Trouble::ReadOnly);
        }
        if let Some(before) = &self.export {
            before.check_same(&export)?;
        }
        self.export = Some(export);
        let transmission = Transmission::new(self.cookie);
        self.link = Link::Open { transmission, since_us: now_us, leaving_us: None };
        if self.open.is_empty() {
            (self.down_since_us, self.trouble) = (None, None);
        }
        Ok(())
    }

    /// Ends a connection that the caller has, because of this.
    pub(super) fn give_up_link(&mut self, trouble: Trouble, now_us: u64) {
        self.close = true;
        self.lost(trouble, now_us);
    }

    /// There is no connection any more: everything must be sent again.
    pub(super) fn lost(&mut self, trouble: Trouble, now_us: u64) {
        if let Link::Open { transmission, since_us, .. } = &self.link {
            self.cookie = transmission.next_cookie();
            if now_us.saturating_sub(*since_us) >= MOST_BACKOFF_US {
                self.attempts = 0;
            }
        }
        self.link = Link::Down;
        self.trouble = Some(trouble);
        self.down_since_us.get_or_insert(now_us);
        let wait = BACKOFF_US << self.attempts.min(16);
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at_us = now_us.saturating_add(wait.min(MOST_BACKOFF_US));
        self.reopen();
    }

    /// The connection has ended as it was wished.
    pub(super) fn left(&mut self, now_us: u64) {
        if self.stopping && self.is_idle() {
            self.link = Link::Finished;
        } else {
            let trouble = self.trouble.take().unwrap_or(Trouble::Closed(During::Requests(0)));
            self.lost(trouble, now_us);
        }
    }
}
