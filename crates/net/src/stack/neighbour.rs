//! Whose MAC goes with which address: ARP (RFC 826, RFC 1122 2.3.2) below smoltcp.
//!
//! smoltcp resolves addresses itself, but it asks for one a second, for all sockets together, and knows eight: a peer that
//! is switched off takes every turn, and nobody else is found. So smoltcp is told of a line with one [`ROUTER`] at its
//! end, to which it gives all it sends, and here each frame gets the address of the station it is for. Each address is
//! asked for on its own account, so that one that nobody has costs nobody else anything.

use super::NetError;
use super::address::Address;
use super::arp::{self, Arp};
use alloc::boxed::Box;
use alloc::vec;
use core::net::Ipv4Addr;
use switch::{MAX_FRAME, MacAddr, Nic};

/// Where smoltcp sends everything but broadcasts; no station has it.
pub(super) const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0]);

/// Addresses remembered; of more the one unused for longest is forgotten. A pool has 16 members.
const ENTRIES: usize = 128;
/// Frames that wait for an answer (RFC 1122 2.3.2.2): the latest of all, and of each address.
const HELD: usize = 24;
const HELD_EACH: usize = 4;
/// An address is asked for at most this often, in microseconds (RFC 1122 2.3.2.1). It does not grow: whoever sends backs
/// off already, and a host that comes up is found at once.
const ASK_US: u64 = 1_000_000;
/// A frame waits so long for an answer.
const HOLD_US: u64 = 3_000_000;
/// So many questions without an answer, each with its second, tell that nobody has an address: with the next, 6 s after
/// the first, it is told. With 3 it was told of a host behind a cable or a switch that was away for 3 s, which TCP itself
/// gets over.
const QUESTIONS: u32 = 6;
/// An answer is good for so long; then it is asked for again.
const FRESH_US: u64 = 60_000_000;
/// How much longer it is used while no new one comes.
const GRACE_US: u64 = 5_000_000;

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ip: Ipv4Addr,
    mac: Option<MacAddr>,
    /// Until when `mac` needs no question.
    fresh_until: u64,
    /// When it may be asked for again.
    ask_at: u64,
    /// Questions since the last answer.
    asked: u32,
    /// When it was needed last, or told.
    used: u64,
}

const FREE: Entry =
    Entry { ip: Ipv4Addr::UNSPECIFIED, mac: None, fresh_until: 0, ask_at: 0, asked: 0, used: 0 };

/// Somebody begins to send to an address.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    to: Ipv4Addr,
    /// Questions before that had no answer: they are nothing to him.
    before: u32,
}

/// A frame for an address that has not answered.
#[derive(Debug)]
struct Held {
    ip: Ipv4Addr,
    since: u64,
    len: usize,
    frame: Box<[u8; MAX_FRAME]>,
}

/// The neighbours of one station.
#[derive(Debug)]
pub(super) struct Neighbours {
    mac: MacAddr,
    address: Option<Address>,
    entries: Box<[Entry]>,
    /// The entry that was looked up last: nearly always the one wanted.
    last: usize,
    held: Box<[Held]>,
    /// When a held frame has to be looked at; `u64::MAX`: none is held.
    due: u64,
    /// Somebody who is searched for was asked for once more in vain.
    vain: bool,
    /// Who is to be asked for now.
    question: Option<Ipv4Addr>,
}

impl Neighbours {
    pub(super) fn new(mac: MacAddr) -> Self {
        let held = || Held { ip: Ipv4Addr::UNSPECIFIED, since: 0, len: 0, frame: Box::new([0; MAX_FRAME]) };
        Self {
            mac,
            address: None,
            // On the heap: whoever makes a stack passes it on by value.
            entries: vec![FREE; ENTRIES].into(),
            last: 0,
            held: core::iter::repeat_with(held).take(HELD).collect(),
            due: u64::MAX,
            vain: false,
            question: None,
        }
    }

    /// The host has this address now; what was known of the old one's neighbours is forgotten.
    pub(super) fn set_address(&mut self, address: Option<Address>) {
        if self.address != address {
            self.address = address;
            self.entries.fill(FREE);
            self.held.iter_mut().for_each(|held| held.len = 0);
            self.due = u64::MAX;
        }
    }

    /// The ARP reply by which smoltcp learns of its router at `ip`.
    pub(super) fn introduction(&self, ip: Ipv4Addr) -> [u8; arp::FRAME] {
        let own = self.address.map_or(Ipv4Addr::UNSPECIFIED, |address| address.ip);
        Arp { is_request: false, sender: (ip, ROUTER), target: (own, self.mac) }.frame()
    }

    /// Sends a frame of smoltcp's, once it is known where to.
    pub(super) fn send(&mut self, nic: &mut impl Nic, frame: &mut [u8], now: u64) {
        let goes = self.direct(frame, now);
        self.ask(nic);
        if goes {
            // Room was there when the frame that it answers was taken.
            let _ = nic.tx(frame);
        }
    }

    /// Gives a frame of smoltcp's the address of the station it is for. False: it does not go now, and a copy is kept until it
    /// is known where to. Either way there may be somebody to [ask](Self::ask).
    pub(super) fn direct(&mut self, frame: &mut [u8], now: u64) -> bool {
        if frame.get(..6) != Some(&ROUTER.0) {
            return true; // to all
        }
        let to = frame.get(30..34).and_then(|to| to.first_chunk::<4>()).map(|to| Ipv4Addr::from(*to));
        // No way there: the answer to a sender that cannot be one.
        let Some(ip) = self.address.and_then(|address| address.next_hop(to?)) else { return false };
        let known = self.resolve(ip, now);
        match known {
            Some(mac) => set_destination(frame, mac),
            None => self.hold(ip, frame, now),
        }
        known.is_some()
    }

    /// Sends the question that is due, if there is one.
    #[inline(never)]
    pub(super) fn ask(&mut self, nic: &mut impl Nic) {
        if let Some(ip) = self.question.take()
            && let Some(address) = self.address
        {
            // Where there is no room it is asked for again a second later.
            let target = (ip, MacAddr::BROADCAST);
            let _ = nic.tx(&Arp { is_request: true, sender: (address.ip, self.mac), target }.frame());
        }
    }

    /// Looks at an ARP packet, and answers it.
    pub(super) fn receive(&mut self, nic: &mut impl Nic, arp: Arp, now: u64) {
        let Some(address) = self.address else { return };
        let for_us = arp.target.1 == self.mac || arp.target.1 == MacAddr::BROADCAST;
        let (ip, mac) = arp.sender;
        let about_us = arp.target.0 == address.ip;
        // A probe comes from no address: somebody looks whether ours is in use (RFC 5227).
        let is_probe = arp.is_request && about_us && ip.is_unspecified();
        if !for_us || !mac.is_station() || mac == self.mac || !(is_probe || address.has_neighbour(ip)) {
            return;
        }
        if !is_probe && let Some(at) = self.find(ip).or_else(|| about_us.then(|| self.claim(ip))) {
            self.entries[at] = Entry {
                mac: Some(mac),
                fresh_until: now.saturating_add(FRESH_US),
                asked: 0,
                used: now,
                ..self.entries[at]
            };
            self.due = if self.due == u64::MAX { u64::MAX } else { now };
        }
        if about_us && arp.is_request {
            let reply = Arp { is_request: false, sender: (address.ip, self.mac), target: (ip, mac) };
            // Room was there when the request was taken.
            let _ = nic.tx(&reply.frame());
        }
    }

    /// Sends held frames whose address is known by now, asks again for the others, and gives up what waited too long.
    pub(super) fn poll(&mut self, nic: &mut impl Nic, now: u64) {
        if now < self.due {
            return;
        }
        self.due = u64::MAX;
        for at in 0..HELD {
            let Held { ip, since, len, .. } = self.held[at];
            if len == 0 {
                continue;
            }
            if nic.tx_room() < 2 {
                self.due = now;
                return;
            }
            let known = self.resolve(ip, now);
            self.ask(nic);
            let held = &mut self.held[at];
            if let Some(mac) = known {
                held.len = 0;
                let frame = &mut held.frame[..len];
                set_destination(frame, mac);
                let _ = nic.tx(frame);
            } else if now.saturating_sub(since) >= HOLD_US {
                held.len = 0;
            } else {
                let asked = self.find(ip).map_or(now, |entry| self.entries[entry].ask_at);
                self.due = self.due.min(asked).min(since.saturating_add(HOLD_US));
            }
        }
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        (self.due != u64::MAX).then_some(self.due)
    }

    /// The station that has an address, if that is known. Where it is time to [ask](Self::ask) for it, that is noted.
    fn resolve(&mut self, ip: Ipv4Addr, now: u64) -> Option<MacAddr> {
        let at = self.find(ip).unwrap_or_else(|| self.claim(ip));
        let entry = &mut self.entries[at];
        entry.used = now;
        if now >= entry.fresh_until.saturating_add(GRACE_US) {
            entry.mac = None;
        }
        let known = entry.mac;
        if (known.is_none() || now >= entry.fresh_until) && now >= entry.ask_at && self.address.is_some() {
            entry.ask_at = now.saturating_add(ASK_US);
            entry.asked = entry.asked.saturating_add(1);
            self.vain |= entry.mac.is_none() && entry.asked > QUESTIONS;
            self.question = Some(ip);
        }
        known
    }

    /// Somebody begins to send to an address.
    pub(super) fn search(&self, to: Ipv4Addr) -> Search {
        Search { to, before: self.towards(to).map_or(0, |(_, entry)| entry.asked) }
    }

    /// Why nothing gets to an address: nobody on this network says that it is his, or the gateway's.
    pub(super) fn unanswered(&self, search: Search) -> Option<NetError> {
        self.unanswered_by(search, QUESTIONS)
    }

    /// The same, after `questions` and one more.
    pub(super) fn unanswered_by(&self, search: Search, questions: u32) -> Option<NetError> {
        let (hop, entry) = self.towards(search.to)?;
        let vain = entry.mac.is_none() && entry.asked.saturating_sub(search.before) > questions;
        let error = if hop == search.to { NetError::NoNeighbour(hop) } else { NetError::NoGateway(hop) };
        vain.then_some(error)
    }

    /// Whether [`Self::unanswered`] may say more than at the last call.
    pub(super) fn take_vain(&mut self) -> bool {
        core::mem::take(&mut self.vain)
    }

    /// Who takes frames for an address, and what is known of him.
    fn towards(&self, to: Ipv4Addr) -> Option<(Ipv4Addr, &Entry)> {
        let hop = self.address?.next_hop(to)?;
        Some((hop, self.entries.iter().find(|entry| entry.ip == hop)?))
    }

    fn find(&mut self, ip: Ipv4Addr) -> Option<usize> {
        if self.entries[self.last].ip != ip {
            self.last = self.entries.iter().position(|entry| entry.ip == ip)?;
        }
        Some(self.last)
    }

    /// The place for an address that is not known: a free one, else that of the one unused for longest.
    fn claim(&mut self, ip: Ipv4Addr) -> usize {
        let used = |at: &usize| self.entries[*at].used;
        self.last = (0..ENTRIES).min_by_key(used).unwrap_or(0);
        self.entries[self.last] = Entry { ip, ..FREE };
        self.last
    }

    /// Keeps a frame until its address is known.
    fn hold(&mut self, ip: Ipv4Addr, frame: &[u8], now: u64) {
        let of_this = |held: &&Held| held.len > 0 && held.ip == ip;
        let crowded = self.held.iter().filter(of_this).count() >= HELD_EACH;
        let candidates = self.held.iter_mut().filter(|held| !crowded || held.len > 0 && held.ip == ip);
        let oldest =
            candidates.min_by_key(|held| if held.len == 0 { 0 } else { held.since.saturating_add(1) });
        let Some(held) = oldest else { return };
        if let Some(place) = held.frame.get_mut(..frame.len()) {
            place.copy_from_slice(frame);
            (held.ip, held.since, held.len) = (ip, now, frame.len());
            self.due = self.due.min(now.saturating_add(ASK_US));
        }
    }
}

fn set_destination(frame: &mut [u8], mac: MacAddr) {
    if let Some(to) = frame.first_chunk_mut::<6>() {
        *to = mac.0;
    }
}
