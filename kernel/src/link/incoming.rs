//! Connections that come in, until each is a link or refused.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::task::Poll;

use log_ring::Seldom;
use net::{Connection, Listener};
use secure_link::{Alert, Gate, Limit, PublicKey, Responder, Security, Service};
use shell::EventKind;

use super::pins::Pins;
use super::stream::{Link, Tcp};
use crate::events;
use crate::net as network;
use hw::arch::tsc;

/// Handshakes under way at a time.
const MAX_HANDSHAKES: usize = 4;
/// Of these from one address.
const MAX_PER_PEER: usize = 2;
/// How long one may take, in milliseconds.
const HANDSHAKE_MS: u64 = 10_000;
/// An address with so many failures in a row has to wait.
const MAX_FAILURES: u32 = 8;
/// How long, in microseconds.
const PENALTY_US: u64 = 10_000_000;
/// Addresses whose failures are counted.
const MAX_OFFENDERS: usize = 16;
/// Whoever reaches the port can have lines of the log written: one in this time, in microseconds.
const LINE_US: u64 = 1_000_000;
/// A link that nobody takes for so long is closed, in microseconds.
const UNTAKEN_US: u64 = 10_000_000;

struct Handshake {
    connection: Connection,
    peer: SocketAddrV4,
    responder: Responder,
    /// It has had a chance to read what the peer sent.
    polled: bool,
}

struct Offender {
    host: Ipv4Addr,
    failures: u32,
    last_us: u64,
}

/// Free places for each service; `None` where it is not offered.
#[derive(Clone, Copy, Default)]
pub(super) struct Offers([Option<usize>; 3]);

impl Offers {
    pub(super) const fn new() -> Self {
        Self([None; 3])
    }

    fn index(service: Service) -> usize {
        match service {
            Service::Migrate => 0,
            Service::Pool => 1,
            Service::Manage => 2,
        }
    }

    pub(super) fn set(&mut self, service: Service, places: Option<usize>) {
        self.0[Self::index(service)] = places;
    }

    fn get(&self, service: Service) -> Option<usize> {
        self.0[Self::index(service)]
    }
}

/// Everything about connections that come in.
pub(super) struct Incoming {
    /// The oldest first.
    handshakes: Vec<Handshake>,
    offenders: Vec<Offender>,
    /// Links that wait to be taken by their service, and since when.
    ready: Vec<(Link, u64)>,
    /// Lines about those that were refused.
    refused: Seldom,
}

struct Door<'a> {
    peer: Ipv4Addr,
    offers: Offers,
    ready: &'a [(Link, u64)],
    pins: &'a Pins,
    /// Why the key is refused, for this host's log.
    why: String,
}

impl Gate for Door<'_> {
    fn service(&mut self, service: Service) -> Result<(), Alert> {
        let places = self.offers.get(service).ok_or(Alert::Service)?;
        let waiting = self.ready.iter().filter(|(link, _)| link.service() == service).count();
        if waiting < places { Ok(()) } else { Err(Alert::Busy) }
    }

    fn identity(&mut self, _: Service, key: &PublicKey) -> Result<(), Alert> {
        self.pins.check(self.peer, key).map_err(|why| {
            self.why = why;
            Alert::Identity
        })
    }
}

impl Incoming {
    pub(super) const fn new() -> Self {
        Self {
            handshakes: Vec::new(),
            offenders: Vec::new(),
            ready: Vec::new(),
            refused: Seldom::new(LINE_US),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.handshakes.is_empty()
    }

    /// A link for a service, if one has come in.
    pub(super) fn take(&mut self, service: Service) -> Option<Link> {
        let index = self.ready.iter().position(|(link, _)| link.service() == service)?;
        Some(self.ready.remove(index).0)
    }

    /// Takes connections and lets handshakes go on.
    pub(super) fn poll(
        &mut self,
        listener: Listener,
        security: &Security,
        offers: Offers,
        pins: &mut Pins,
    ) -> Vec<Link> {
        let mut at = 0;
        while at < self.handshakes.len() {
            if self.shake(at, offers, pins) {
                self.handshakes.remove(at);
            } else {
                at += 1;
            }
        }
        while self.has_place() && self.accept(listener, security) {}
        let (now, mut stale) = (tsc::micros(), Vec::new());
        warn(self.refused.poll(now));
        while let Some(at) = self.ready.iter().position(|(_, since)| now.saturating_sub(*since) > UNTAKEN_US)
        {
            stale.push(self.ready.remove(at).0);
        }
        stale
    }

    /// Whether a connection that comes in can have a place: that of the oldest silent peer, if there is no other.
    fn has_place(&self) -> bool {
        self.handshakes.len() < MAX_HANDSHAKES || self.oldest_silent().is_some()
    }

    fn oldest_silent(&self) -> Option<usize> {
        self.handshakes.iter().position(|h| h.polled && h.responder.is_silent())
    }

    /// Ends the handshake of the oldest silent peer where all places are taken, as TCP drops its oldest half-open
    /// connection: peers that say nothing keep nobody out.
    fn make_place(&mut self) {
        if self.handshakes.len() >= MAX_HANDSHAKES
            && let Some(at) = self.oldest_silent()
        {
            let Handshake { connection, peer, .. } = self.handshakes.remove(at);
            log::debug!(target: "link", "connection from {peer} gives way: it has said nothing yet");
            abort(connection);
        }
    }

    /// Accepts a connection if one is there.
    fn accept(&mut self, listener: Listener, security: &Security) -> bool {
        let accepted = network::with_stack(|stack| {
            Ok(stack.accept(listener)?.map(|connection| (connection, stack.peer(connection))))
        });
        let Ok(Some((connection, peer))) = accepted else { return false };
        let Some(peer) = peer.map(|(ip, port)| SocketAddrV4::new(ip, port)) else {
            abort(connection);
            return true;
        };
        let others = self.handshakes.iter().filter(|h| h.peer.ip() == peer.ip()).count();
        match super::keys::generator(security) {
            Ok(generator) if others < MAX_PER_PEER && !self.is_punished(*peer.ip()) => {
                log::debug!(target: "link", "connection from {peer}");
                let limit = Limit { hz: tsc::hz(), ms: HANDSHAKE_MS };
                let responder = Responder::new(security.clone(), generator, limit, tsc::read());
                self.make_place();
                self.handshakes.push(Handshake { connection, peer, responder, polled: false });
            }
            _ => abort(connection),
        }
        true
    }

    fn is_punished(&self, host: Ipv4Addr) -> bool {
        let now = tsc::micros();
        self.offenders.iter().any(|o| {
            o.host == host && o.failures >= MAX_FAILURES && now.saturating_sub(o.last_us) < PENALTY_US
        })
    }

    /// Lets one handshake go on; true once it is over.
    fn shake(&mut self, at: usize, offers: Offers, pins: &mut Pins) -> bool {
        let Some(Handshake { connection, peer, responder, polled }) = self.handshakes.get_mut(at) else {
            return true;
        };
        *polled = true;
        let (connection, peer) = (*connection, *peer);
        let mut door = Door { peer: *peer.ip(), offers, ready: &self.ready, pins, why: String::new() };
        let polled = responder.poll(tsc::read(), &mut Tcp::new(connection), &mut door);
        let why = door.why;
        match polled {
            Poll::Pending => return false,
            Poll::Ready(Ok(session)) => {
                self.offenders.retain(|o| o.host != *peer.ip());
                let link = Link::new(connection, session, peer);
                super::welcome(&link, pins);
                self.ready.push((link, tsc::micros()));
            }
            Poll::Ready(Err(error)) => {
                let text = if why.is_empty() { error.to_string() } else { why };
                let line = format!("connection from {peer} refused: {text}{}", self.failed(*peer.ip()));
                let said = self.refused.line(line, tsc::micros());
                if said.is_some() {
                    events::tell(EventKind::LinkRefused, peer.to_string(), text);
                }
                warn(said);
                let _ = network::with_stack(|stack| stack.close(connection));
            }
        }
        true
    }

    /// Counts a failure. What is to be said besides, where it made them too many.
    fn failed(&mut self, host: Ipv4Addr) -> String {
        let now = tsc::micros();
        if let Some(offender) = self.offenders.iter_mut().find(|o| o.host == host) {
            if now.saturating_sub(offender.last_us) >= PENALTY_US {
                offender.failures = 0;
            }
            offender.failures = offender.failures.saturating_add(1);
            offender.last_us = now;
            if offender.failures == MAX_FAILURES {
                let seconds = PENALTY_US / 1_000_000;
                return format!("; {MAX_FAILURES} failures: nothing from there for {seconds} s");
            }
            return String::new();
        }
        if self.offenders.len() == MAX_OFFENDERS {
            let oldest = (0..self.offenders.len()).min_by_key(|i| self.offenders[*i].last_us).unwrap_or(0);
            self.offenders.swap_remove(oldest);
        }
        self.offenders.push(Offender { host, failures: 1, last_us: now });
        String::new()
    }
}

fn warn(line: Option<String>) {
    if let Some(line) = line {
        log::warn!(target: "link", "{line}");
    }
}

fn abort(connection: Connection) {
    let _ = network::with_stack(|stack| stack.abort(connection));
}
