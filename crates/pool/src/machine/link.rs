//! What goes over one link.

use alloc::string::ToString;
use core::net::SocketAddrV4;

use super::Pool;
use crate::body::{self, Beat, Hello, Refuse};
use crate::error::{Refusal, WireError};
use crate::event::Event;
use crate::host_id::HostId;
use crate::limits::{MAX_MEMBERS, MESSAGES_PER_POLL};
use crate::link::Link;
use crate::peer::{LinkId, Peer, Purpose, Stage};
use crate::set::Entry;
use crate::wire::Kind;

/// BEATs that may tell of other records although nothing is on its way, before all is sent anew.
const PATIENCE: u32 = 3;

/// How a link goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stays,
    /// After its last words.
    Ends,
    Gone,
}

impl Pool {
    /// Another host has made a connection from `address`. None where there are too many: it is to be closed.
    pub fn accepted(&mut self, address: SocketAddrV4, now: u64) -> Option<LinkId> {
        self.new_link(address, false, Purpose::Member, now)
    }

    /// A connection that was asked for could not be made.
    pub fn failed(&mut self, link: LinkId, why: &str, now: u64) {
        if let Some(peer) = self.remove(link) {
            self.lose(&peer, &Refusal::Connect(why.to_string()));
            self.put_off(&peer, now);
        }
    }

    /// Works on a link. False once it is over, and its connection to be closed.
    pub fn poll_link(&mut self, link: LinkId, io: &mut impl Link, now: u64) -> bool {
        let Some(mut peer) = self.remove(link) else { return false };
        let next = match self.drive(&mut peer, io, now) {
            Ok(next) => next,
            Err(why) => {
                self.lose(&peer, &why);
                match why {
                    Refusal::Theirs(_) | Refusal::Itself | Refusal::Closed => Next::Gone,
                    Refusal::Silent if peer.stage == Stage::Up => {
                        peer.say(Kind::Bye, &[]);
                        Next::Ends
                    }
                    why => {
                        let why = body::printable(&why.to_string());
                        peer.say(Kind::Refuse, &body::encode(&Refuse { why }));
                        Next::Ends
                    }
                }
            }
        };
        match next {
            Next::Gone => {
                self.put_off(&peer, now);
                return false;
            }
            Next::Ends => peer.stage = Stage::Ending(now.saturating_add(self.timing.farewell_us)),
            Next::Stays => {}
        }
        if peer.is_member() && self.name.is_none() {
            // The pool was left in between.
            peer.say(Kind::Bye, &[]);
            peer.stage = Stage::Ending(now.saturating_add(self.timing.farewell_us));
        }
        self.feed(&mut peer, now);
        peer.flush(io);
        self.peers.push(peer);
        true
    }

    fn remove(&mut self, link: LinkId) -> Option<Peer> {
        let at = self.peers.iter().position(|peer| peer.id == link)?;
        Some(self.peers.swap_remove(at))
    }

    fn drive(&mut self, peer: &mut Peer, io: &mut impl Link, now: u64) -> Result<Next, Refusal> {
        if let Stage::Ending(until) = peer.stage {
            peer.flush(io);
            let over = peer.is_flushed() || !io.is_open() || now >= until;
            return Ok(if over { Next::Gone } else { Next::Stays });
        }
        for _ in 0..MESSAGES_PER_POLL {
            match peer.next(io, now)? {
                None if io.is_open() => break,
                None => return if peer.stage == Stage::Up { Ok(Next::Gone) } else { Err(Refusal::Closed) },
                Some((kind, body)) => match self.hear(peer, kind, &body, now)? {
                    Next::Stays => {}
                    over => return Ok(over),
                },
            }
        }
        let limit = if peer.stage == Stage::Up { self.timing.silence_us } else { self.timing.hello_us };
        let since = if peer.stage == Stage::Up { peer.heard } else { peer.opened };
        if now.saturating_sub(since) >= limit { Err(Refusal::Silent) } else { Ok(Next::Stays) }
    }

    fn hear(&mut self, peer: &mut Peer, kind: Kind, body: &[u8], now: u64) -> Result<Next, Refusal> {
        let unexpected = |state| WireError::Unexpected { kind: kind.name(), state };
        match (kind, peer.stage) {
            (Kind::Refuse, _) => Err(Refusal::Theirs(Refuse::read(body)?)),
            (Kind::Bye, _) => Ok(Next::Gone),
            (Kind::Hello, Stage::Opening) => {
                peer.hello = Some(Hello::read(body)?);
                self.greeted(peer, now)
            }
            (Kind::Hello, _) => Err(unexpected("twice").into()),
            (_, Stage::Opening) => Err(unexpected("before HELLO").into()),
            (Kind::Record, _) => {
                let (id, entry) = Entry::read(body)?;
                if peer.purpose == Purpose::Ask {
                    return self.collect(id, entry);
                }
                if !peer.is_member() {
                    return Err(unexpected("from a host that only asks").into());
                }
                peer.has.insert(id, entry.stamp);
                peer.synced = None;
                self.take(id, entry)?;
                Ok(Next::Stays)
            }
            (Kind::Beat, _) => self.beaten(peer, Beat::read(body)?, now),
        }
    }

    fn collect(&mut self, id: HostId, entry: Entry) -> Result<Next, Refusal> {
        // The other host may hold a record of this one: it counts as any other.
        let nobody = HostId::default();
        if let Some(errand) = &mut self.errand
            && id != nobody
        {
            errand.asked.merge(id, entry, nobody)?;
        }
        Ok(Next::Stays)
    }

    fn beaten(&mut self, peer: &mut Peer, beat: Beat, now: u64) -> Result<Next, Refusal> {
        if peer.purpose == Purpose::Ask {
            let (pool, name) =
                peer.hello.as_ref().map_or((None, ""), |h| (h.pool.as_deref(), h.name.as_str()));
            self.answered(pool, name, now);
            peer.say(Kind::Bye, &[]);
            return Ok(Next::Ends);
        }
        peer.beat = Some(beat);
        // What one end had sent when the other's connection broke may be missing: then all is sent again.
        let idle = peer.synced == Some(self.set.digest()) && peer.is_flushed();
        peer.disagreed = if idle && !self.agrees(peer) { peer.disagreed + 1 } else { 0 };
        if peer.disagreed >= PATIENCE {
            peer.disagreed = 0;
            peer.has.clear();
            peer.synced = None;
        }
        Ok(Next::Stays)
    }

    /// The peer has said who it is.
    fn greeted(&mut self, peer: &mut Peer, now: u64) -> Result<Next, Refusal> {
        let Some(hello) = peer.hello.clone() else { return Ok(Next::Stays) };
        let id = HostId(hello.id);
        if id == self.own.id {
            return self.met_itself(peer, &hello);
        }
        if peer.purpose == Purpose::Member && !hello.asks {
            self.check_pool(peer, &hello)?;
            self.check_names(id, &hello)?;
            if !self.check_double(peer, id, hello.boot, now)? {
                peer.say(Kind::Bye, &[]);
                return Ok(Next::Ends);
            }
            for seed in self.seeds.iter_mut().filter(|seed| peer.dialed && seed.address == peer.address) {
                seed.host = Some(id);
                seed.refused = false;
            }
            self.complaints.remove(peer.address.ip());
        }
        peer.stage = Stage::Up;
        Ok(Next::Stays)
    }

    fn met_itself(&mut self, peer: &mut Peer, hello: &Hello) -> Result<Next, Refusal> {
        if hello.boot != self.own.boot {
            return Err(Refusal::IdTaken { id: self.own.id, holder: self.own.name.clone() });
        }
        for seed in self.seeds.iter_mut().filter(|seed| peer.dialed && seed.address == peer.address) {
            seed.myself = true;
        }
        if peer.purpose == Purpose::Ask {
            return Err(Refusal::Itself);
        }
        peer.say(Kind::Bye, &[]);
        Ok(Next::Ends)
    }

    fn check_pool(&mut self, peer: &Peer, hello: &Hello) -> Result<(), Refusal> {
        match (&self.name, &hello.pool) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Refusal::OtherPool { theirs: theirs.clone(), ours: ours.clone() })
            }
            (Some(_), Some(_)) => Ok(()),
            (Some(_), None) if peer.dialed => Err(Refusal::NoPool(hello.name.clone())),
            (Some(_), None) => Ok(()),
            (None, Some(theirs)) if peer.dialed && self.is_joining() => {
                self.name = Some(theirs.clone());
                self.events.push_back(Event::Entered { pool: theirs.clone(), level: self.view.clone() });
                Ok(())
            }
            (None, _) => Err(Refusal::NoPool(self.own.name.clone())),
        }
    }

    fn check_names(&self, id: HostId, hello: &Hello) -> Result<(), Refusal> {
        let same_name = |holder| Refusal::NameTaken { name: hello.name.clone(), holder };
        if hello.name == self.own.name {
            return Err(same_name(self.own.id));
        }
        if let Some(other) = self.set.members().find(|host| host.name == hello.name && host.id != id) {
            return Err(same_name(other.id));
        }
        let known = self.set.members().any(|host| host.id == id);
        if !known && self.set.members().count() >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Whether this link stays where there is another one to the same host; ends the other if so.
    fn check_double(&mut self, peer: &Peer, id: HostId, boot: [u8; 16], now: u64) -> Result<bool, Refusal> {
        let lively = self.timing.beat_us.saturating_mul(2);
        let end = Stage::Ending(now.saturating_add(self.timing.farewell_us));
        for other in self.peers.iter_mut().filter(|other| other.is_member() && other.host() == Some(id)) {
            let same_boot = other.hello.as_ref().is_some_and(|hello| hello.boot == boot);
            if !same_boot {
                let alive = now.saturating_sub(other.heard) < lively;
                if alive && other.address.ip() != peer.address.ip() {
                    return Err(Refusal::IdTaken { id, holder: other.name() });
                }
            } else if other.dialed != peer.dialed && peer.dialed != (self.own.id < id) {
                // Both ends dialed: the attempt of the lesser id stays.
                return Ok(false);
            }
            other.say(Kind::Bye, &[]);
            other.stage = end;
        }
        Ok(true)
    }

    /// A link ended for a reason that is to be told.
    fn lose(&mut self, peer: &Peer, why: &Refusal) {
        if peer.dialed {
            self.errand_refused(peer.address, why);
        }
        let final_word = !matches!(why, Refusal::Closed | Refusal::Silent | Refusal::Connect(_));
        if final_word {
            for seed in self.seeds.iter_mut().filter(|seed| peer.dialed && seed.address == peer.address) {
                seed.refused = true;
            }
        }
        // An attempt that nobody answered is made again; a host that asked is told why, and that is all.
        let told = peer.hello.as_ref().is_some_and(|hello| hello.asks) || peer.purpose == Purpose::Ask;
        if final_word && !told {
            self.complain(peer.address, peer.name(), why.to_string());
        }
    }

    /// Gives the link its next message, once the one before is out.
    fn feed(&mut self, peer: &mut Peer, now: u64) {
        if peer.stage != Stage::Up || peer.purpose == Purpose::Ask || !peer.is_flushed() {
            return;
        }
        let member = peer.is_member();
        let mut entries = self.set.iter().filter(|_| peer.synced != Some(self.set.digest()));
        let next = entries.find(|(id, entry)| {
            // A host that asks is told of members only.
            peer.has.get(id) != Some(&entry.stamp) && (member || entry.member.is_some())
        });
        if let Some((id, entry)) = next {
            peer.say(Kind::Record, &entry.bytes);
            peer.has.insert(id, entry.stamp);
            return;
        }
        peer.synced = Some(self.set.digest());
        let beat = Beat {
            fingerprint: self.view.fingerprint.0,
            digest: self.set.digest(),
            members: self.set.members().count() as u32,
        };
        let due =
            peer.told.is_none_or(|(told, at)| told != beat || now.saturating_sub(at) >= self.timing.beat_us);
        if due {
            peer.say(Kind::Beat, &body::encode(&beat));
            peer.told = Some((beat, now));
        }
    }
}
