//! The ways of requests: to the wire, to their answers, and to the wire again.

use super::{Answer, Client, Failure, Kept, Link, RETRY_US};
use crate::export::Export;
use crate::request::{Command, Request, Tag};
use crate::transmission::{Piece, Transmission};
use crate::trouble::Trouble;
use crate::url::OnError;
use crate::wire::ErrorCode;

/// Requests from the front of the queue that are looked at in one turn. The first can always go, so none waits for ever.
const LOOK: usize = 64;

impl Client {
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        self.open.binary_search_by_key(&number, |request| request.number).ok()
    }

    /// Whether nothing is open or kept.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.kept.is_empty()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_waited_for(&self) -> bool {
        self.open
            .iter()
            .chain(self.kept.iter().map(|kept| &kept.request))
            .any(|request| request.tag.is_some())
    }

    /// Sends what can be sent.
    pub(super) fn pump(&mut self, now_us: u64) {
        let Some(export) = self.export else { return };
        if self.wants_flush(&export, now_us) {
            self.full = false;
            self.push(None, Command::Flush);
        }
        let idle = self.is_idle();
        let Link::Open { transmission, leaving_us: leaving @ None, .. } = &mut self.link else { return };
        if self.stopping && idle {
            transmission.disconnect();
            *leaving = Some(now_us);
            return;
        }
        for at in 0..self.open.len().min(LOOK) {
            let request = &self.open[at];
            let waits = request.not_before_us > now_us
                || !request.begun && self.open.range(..at).any(|earlier| must_follow(request, earlier));
            let request = &mut self.open[at];
            while !waits && send_piece(request, transmission, &export, self.limits.in_flight, now_us) {}
            if transmission.open() == self.limits.in_flight {
                return;
            }
        }
    }

    /// Whether a flush is wanted that nobody has asked for.
    fn wants_flush(&self, export: &Export, now_us: u64) -> bool {
        if !export.flush() || !matches!(self.link, Link::Open { leaving_us: None, .. }) {
            return false;
        }
        let half = |limit: usize| limit.div_ceil(2);
        let near = self.kept_bytes >= half(self.limits.bytes) || self.kept.len() >= half(self.limits.writes);
        let last = self.stopping && self.open.is_empty();
        !self.kept.is_empty()
            && (near || last || self.full || self.waited_for > 0)
            && now_us >= self.flush_not_before_us
            && !self.open.iter().any(|request| request.command == Command::Flush)
    }

    /// A piece has its answer.
    pub(super) fn answered(&mut self, piece: Piece, result: Result<(), ErrorCode>, now_us: u64) {
        self.attempts = 0;
        if !matches!(self.link, Link::Open { leaving_us: Some(_), .. }) {
            (self.down_since_us, self.trouble) = (None, None);
        }
        let Some(found) = self.find(piece.number) else { return };
        if result == Err(ErrorCode::Shutdown) {
            self.leave(now_us);
            // It stays open, with a piece too many to be over, and is sent again to the server that follows.
            if self.disk.on_error == OnError::Wait || self.open[found].again {
                return;
            }
        }
        let request = &mut self.open[found];
        request.pieces -= 1;
        request.error = request.error.or(result.err());
        if request.is_over() {
            let Some(request) = self.open.remove(found) else { return };
            self.over(request, piece.cookie, now_us);
        }
    }

    /// The server is about to end: nothing more is asked of it.
    fn leave(&mut self, now_us: u64) {
        if let Link::Open { leaving_us: leaving @ None, transmission, .. } = &mut self.link {
            *leaving = Some(now_us);
            transmission.disconnect();
        }
        self.trouble = Some(Trouble::Shutdown);
    }

    fn over(&mut self, request: Request, cookie: u64, now_us: u64) {
        match (&request.command, request.error) {
            (Command::Flush, error) => self.flushed(request.tag, cookie, error, now_us),
            (command, None) if command.is_write() => self.written(request),
            (command, Some(code)) if command.is_write() && request.again => {
                self.refused_again(request, code, now_us);
            }
            (_, error) => {
                self.say(request.tag, error);
                self.drop_request(&request);
            }
        }
    }

    /// A write is answered: it is durable, or kept until it is.
    fn written(&mut self, mut request: Request) {
        let (Some(export), Link::Open { transmission, .. }) = (&self.export, &self.link) else { return };
        let from_cookie = transmission.next_cookie();
        let fua = request.command.fua();
        // What is kept is sent again, also over what is durable: the two must become so together.
        let follows = || self.kept.iter().any(|kept| kept.request.command.collides(&request.command));
        if !export.flush() || fua && export.fua() && !follows() {
            self.say(request.tag, None);
            return self.drop_request(&request);
        }
        if fua {
            self.waited_for += usize::from(request.tag.is_some());
        } else {
            let tag = request.tag.take();
            self.say(tag, None);
        }
        request.refused = None;
        self.kept_bytes += request.command.data().len();
        self.kept.push_back(Kept { request, from_cookie });
    }

    /// What was answered before cannot be written again.
    fn refused_again(&mut self, mut request: Request, code: ErrorCode, now_us: u64) {
        if self.disk.on_error == OnError::Report {
            match request.tag {
                Some(tag) => self.say(Some(tag), Some(code)),
                None => self.lost_write = Some(code),
            }
            return self.drop_request(&request);
        }
        request.reset();
        (request.refused, request.not_before_us) = (Some(code), now_us.saturating_add(RETRY_US));
        let place = self.open.partition_point(|other| other.number < request.number);
        self.open.insert(place, request);
    }

    fn flushed(&mut self, tag: Option<Tag>, cookie: u64, error: Option<ErrorCode>, now_us: u64) {
        let reports = self.disk.on_error == OnError::Report;
        let mut kept = core::mem::take(&mut self.kept);
        kept.retain_mut(|Kept { request, from_cookie }| {
            if *from_cookie > cookie {
                return true;
            }
            self.say(request.tag.take(), error);
            // A flush that fails leaves what it was for to the next one, or, if nobody is to wait, to its loss.
            let stays = error.is_some() && (tag.is_some() || !reports);
            if !stays {
                self.drop_request(request);
            }
            stays
        });
        self.waited_for = kept.iter().filter(|kept| kept.request.tag.is_some()).count();
        self.kept_bytes = kept.iter().map(|kept| kept.request.command.data().len()).sum();
        self.kept = kept;
        self.full &= !self.kept.is_empty();
        match (tag, error) {
            (Some(_), None) => self.say(tag, self.lost_write),
            (None, Some(_)) if reports => self.lost_write = error,
            _ => self.say(tag, error),
        }
        if tag.is_some() {
            self.lost_write = None;
        }
        self.flush_error = error.filter(|_| tag.is_none());
        self.flush_not_before_us = self.flush_error.map_or(0, |_| now_us.saturating_add(RETRY_US));
    }

    fn say(&mut self, tag: Option<Tag>, error: Option<ErrorCode>) {
        let result = error.map_or(Ok(()), |code| Err(Failure::Server(code)));
        self.answers.extend(tag.map(|tag| Answer { tag, result }));
    }

    /// Its bytes are given back.
    fn drop_request(&mut self, request: &Request) {
        self.held -= request.command.data().len();
    }

    /// Makes everything that is not durable a request of the next connection, in the order in which it was submitted.
    pub(super) fn reopen(&mut self) {
        for request in &mut self.open {
            request.reset();
        }
        (self.kept_bytes, self.waited_for) = (0, 0);
        for Kept { mut request, .. } in self.kept.drain(..) {
            request.reset();
            request.again = true;
            self.open.push_back(request);
        }
        self.open.make_contiguous().sort_by_key(|request| request.number);
    }

    /// `on-error=report`: answers all that wait. What was answered before stays, and is sent again.
    pub(super) fn report_gone(&mut self) {
        for mut request in core::mem::take(&mut self.open) {
            let gone = request.tag.take().map(|tag| Answer { tag, result: Err(Failure::Gone) });
            self.answers.extend(gone);
            if request.again {
                self.open.push_back(request);
            } else {
                self.drop_request(&request);
            }
        }
    }
}

/// Whether a request waits for the end of an earlier one.
fn must_follow(request: &Request, earlier: &Request) -> bool {
    match request.command {
        // What the caller has an answer for must be with the server again before a flush can mean it.
        Command::Flush => earlier.again,
        _ => request.command.collides(&earlier.command),
    }
}

/// Sends the next piece of a request, if there is one and room for it.
fn send_piece(
    request: &mut Request,
    transmission: &mut Transmission,
    export: &Export,
    in_flight: usize,
    now_us: u64,
) -> bool {
    let Some((offset, len)) = request.next_piece(export).filter(|_| transmission.open() < in_flight) else {
        return false;
    };
    let place = (request.number, request.sent);
    transmission.send(request.command.on_wire(export), place, (offset, len), now_us);
    request.begun = true;
    request.not_before_us = 0;
    request.sent += u64::from(len);
    request.pieces += 1;
    true
}
