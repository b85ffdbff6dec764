//! Whom to dial, and when.

use core::net::SocketAddrV4;

use super::{Contact, Dial, Pool};
use crate::event::Event;
use crate::host_id::HostId;
use crate::limits::Timing;
use crate::member::Member;
use crate::peer::{Peer, Purpose};

/// An address to be reached until the host there is a member.
pub(super) struct Seed {
    pub(super) address: SocketAddrV4,
    /// Who is there.
    pub(super) host: Option<HostId>,
    /// It is this host's own address.
    pub(super) myself: bool,
    /// It said no, or was told so.
    pub(super) refused: bool,
    pub(super) retry: Retry,
}

/// When to try again.
#[derive(Clone, Copy)]
pub(super) struct Retry {
    pub(super) at: u64,
    pause: u64,
}

impl Seed {
    pub(super) fn new(address: SocketAddrV4, now: u64) -> Self {
        Self { address, host: None, myself: false, refused: false, retry: Retry { at: now, pause: 0 } }
    }
}

impl Retry {
    pub(super) fn later(&mut self, now: u64, timing: &Timing) {
        self.pause = self.pause.saturating_mul(2).clamp(timing.retry_us, timing.max_retry_us);
        self.at = now.saturating_add(self.pause);
    }
}

impl Pool {
    /// Works on what time brings; gives the next connection to be made. Called until it gives none.
    pub fn poll(&mut self, now: u64) -> Option<Dial> {
        self.watch_members(now);
        self.watch_agreement();
        self.watch_errand(now);
        let (to, purpose) = self.wanted(now)?;
        let link = self.new_link(to, true, purpose, now)?;
        Some(Dial { link, to })
    }

    fn wanted(&mut self, now: u64) -> Option<(SocketAddrV4, Purpose)> {
        if let Some(to) = self.errand_dials() {
            return Some((to, Purpose::Ask));
        }
        self.status.address?;
        let seed = self.seeds.iter().position(|seed| self.seed_is_due(seed, now));
        if let Some(seed) = seed.and_then(|at| self.seeds.get_mut(at)) {
            seed.retry.later(now, &self.timing);
            return Some((seed.address, Purpose::Member));
        }
        self.name.as_ref()?;
        let due = |host: &&Member| {
            let when = self.retries.get(&host.id).is_some_and(|retry| now >= retry.at);
            when && !self.reaches(Some(host.id), host.address)
        };
        let member = self.set.members().find(due)?;
        let (id, address) = (member.id, member.address?);
        self.retries.get_mut(&id)?.later(now, &self.timing);
        Some((address, Purpose::Member))
    }

    fn seed_is_due(&self, seed: &Seed, now: u64) -> bool {
        let known = self.host_at(seed).is_some();
        !seed.myself && !known && now >= seed.retry.at && !self.reaches(seed.host, Some(seed.address))
    }

    /// The member that a seed led to.
    pub(super) fn host_at(&self, seed: &Seed) -> Option<HostId> {
        let is_it = |host: &&Member| seed.host == Some(host.id) || host.address == Some(seed.address);
        self.set.members().find(is_it).map(|host| host.id)
    }

    /// True where a link to that host exists, or is being made.
    fn reaches(&self, id: Option<HostId>, address: Option<SocketAddrV4>) -> bool {
        self.peers.iter().any(|peer| {
            let same =
                peer.host().is_some() && peer.host() == id || peer.dialed && Some(peer.address) == address;
            peer.purpose == Purpose::Member && same
        })
    }

    pub(super) fn is_answered(&self, seed: &Seed) -> bool {
        seed.myself || seed.refused || self.host_at(seed).is_some()
    }

    /// A link is no more: the next attempt waits.
    pub(super) fn put_off(&mut self, peer: &Peer, now: u64) {
        let Self { seeds, retries, timing, .. } = self;
        for seed in seeds.iter_mut().filter(|seed| peer.dialed && seed.address == peer.address) {
            seed.retry.later(now, timing);
        }
        if let Some(retry) = peer.host().and_then(|id| retries.get_mut(&id)) {
            retry.later(now, timing);
        }
    }

    /// Notices links that came or went, and starts to try for members that are new.
    fn watch_members(&mut self, now: u64) {
        let ids: alloc::vec::Vec<HostId> =
            self.set.members().map(|host| host.id).filter(|id| *id != self.own.id).collect();
        self.contacts.retain(|id, _| ids.contains(id));
        self.retries.retain(|id, _| ids.contains(id));
        for id in ids {
            let up = self.link_to(id).is_some();
            // One of the two tries first, so that there are seldom two links.
            let courtesy = if self.own.id > id { self.timing.courtesy_us } else { 0 };
            let first = Retry { at: now.saturating_add(courtesy), pause: 0 };
            let retry = self.retries.entry(id).or_insert(first);
            if up {
                retry.pause = 0;
            }
            let contact = self.contacts.entry(id).or_insert(Contact { up, since: now, lost: false });
            let was_lost = contact.lost;
            if contact.up != up {
                *contact = Contact { up, since: now, lost: was_lost && !up };
            }
            let lost = !contact.up && now.saturating_sub(contact.since) >= self.timing.lost_us;
            contact.lost = contact.lost || lost;
            let event = match (was_lost, contact.lost) {
                (false, true) => Event::Lost,
                (true, false) => Event::Back,
                _ => continue,
            };
            if let Some(host) = self.set.members().find(|host| host.id == id) {
                self.events.push_back(event(host.name.clone()));
            }
        }
    }

    fn watch_agreement(&mut self) {
        let members = self.set.members().count();
        let agreed = self.name.is_some() && members > 1 && self.all_agree();
        let on = Some((self.view.fingerprint, members));
        if agreed && !self.agreed && self.agreed_on != on {
            self.agreed_on = on;
            self.events.push_back(Event::Agreed { level: self.view.clone(), members });
        }
        self.agreed = agreed;
    }
}
