//! A host's part of its pool.

mod dial;
mod errand;
mod link;
mod members;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use cpu_policy::{Baseline, Fingerprint};

use crate::error::Refusal;
use crate::event::Event;
use crate::host_id::HostId;
use crate::limits::{MAX_LINKS, MAX_SEEDS, Timing};
use crate::member::Member;
use crate::own::{Own, Status};
use crate::peer::{LinkId, Peer, Purpose, Stage};
use crate::preview::Preview;
use crate::set::Set;
use crate::view::{self, LevelView};
use crate::wire::Kind;
use dial::{Retry, Seed};
use errand::Errand;

/// A connection to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dial {
    /// The link that it is for.
    pub link: LinkId,
    /// Whereto.
    pub to: SocketAddrV4,
}

/// How a member is seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It is this host.
    Here,
    /// There is a link, and both ends have the same records.
    Up,
    /// There is a link, and records are on their way.
    Converging,
    /// There is no link yet, or it was cut just now.
    Connecting,
    /// There has been no link for [`Timing::lost_us`].
    Lost,
}

#[derive(Clone, Copy)]
struct Contact {
    up: bool,
    since: u64,
    lost: bool,
}

/// This host's view of its pool, and its links to the others. Times are microseconds of any clock that only grows.
pub struct Pool {
    own: Own,
    /// [`Own::encoded`]: it takes time to make.
    policy: Vec<u8>,
    status: Status,
    timing: Timing,
    /// Of this host's record.
    version: u64,
    /// How often a record of this host that it did not write was outdone.
    claims: u32,
    name: Option<String>,
    set: Set,
    level: Baseline,
    /// Of the level; it takes time to compute.
    view: LevelView,
    /// VMs of this host that cannot go everywhere, and where they can be.
    pinned: Vec<(String, String)>,
    peers: Vec<Peer>,
    next_link: u32,
    seeds: Vec<Seed>,
    retries: BTreeMap<HostId, Retry>,
    contacts: BTreeMap<HostId, Contact>,
    errand: Option<Errand>,
    agreed: bool,
    /// Fingerprint and members when they last did.
    agreed_on: Option<(Fingerprint, usize)>,
    /// What was last said of a refused peer, so that it is said once.
    complaints: BTreeMap<Ipv4Addr, String>,
    events: VecDeque<Event>,
}

impl Pool {
    /// A host that is in no pool.
    ///
    /// # Errors
    /// What the others would say of it, such as another vendor's CPU or a name that is none.
    pub fn new(own: Own, status: Status, timing: Timing) -> Result<Self, Refusal> {
        let policy = own.encoded()?;
        let entry = own.record(&policy, 1, Some(&status))?;
        let level = Baseline::of(&own.policy);
        let mut set = Set::default();
        set.put(own.id, entry);
        Ok(Self {
            own,
            policy,
            status,
            timing,
            version: 1,
            claims: 0,
            name: None,
            set,
            view: LevelView::of(&level),
            level,
            pinned: Vec::new(),
            peers: Vec::new(),
            next_link: 0,
            seeds: Vec::new(),
            retries: BTreeMap::new(),
            contacts: BTreeMap::new(),
            errand: None,
            agreed: true,
            agreed_on: None,
            complaints: BTreeMap::new(),
            events: VecDeque::new(),
        })
    }

    /// Puts this host into the pool of that name; `peers` are dialed until they are members.
    pub fn enter(&mut self, pool: &str, peers: &[SocketAddrV4], now: u64) {
        self.name = Some(pool.to_string());
        self.seeds = peers.iter().take(MAX_SEEDS).map(|peer| Seed::new(*peer, now)).collect();
        self.agreed = false;
        self.events.push_back(Event::Entered { pool: pool.to_string(), level: self.view.clone() });
    }

    /// Says what changed on this host. Nothing happens where nothing did.
    ///
    /// # Errors
    /// What the others would say of it; they go on with what they have.
    pub fn update(&mut self, status: Status) -> Result<(), Refusal> {
        if status != self.status {
            let entry = self.own.record(&self.policy, self.version + 1, Some(&status))?;
            self.status = status;
            self.version += 1;
            self.set.put(self.own.id, entry);
            self.pinned = self.own_pinned();
            self.agreed = false;
        }
        Ok(())
    }

    /// Leaves the pool, and tells every member that there is a link to. False where it is in none.
    pub fn leave(&mut self, now: u64) -> bool {
        let Some(pool) = self.name.take() else { return false };
        if let Ok(last) = self.own.record(&self.policy, self.version + 1, None) {
            self.version += 1;
            let end = Stage::Ending(now.saturating_add(self.timing.farewell_us));
            for peer in self.peers.iter_mut().filter(|peer| peer.is_member()) {
                peer.say(Kind::Record, &last.bytes);
                peer.say(Kind::Bye, &[]);
                peer.stage = end;
            }
        }
        self.go_alone();
        self.events.push_back(Event::Alone { pool });
        true
    }

    fn go_alone(&mut self) {
        self.name = None;
        self.peers.retain(|peer| matches!(peer.stage, Stage::Ending(_)) || peer.purpose == Purpose::Ask);
        self.seeds.clear();
        self.retries.clear();
        self.contacts.clear();
        self.set.retain_only(self.own.id);
        self.version += 1;
        if let Ok(entry) = self.own.record(&self.policy, self.version, Some(&self.status)) {
            self.set.put(self.own.id, entry);
        }
        self.set_level(Baseline::of(&self.own.policy));
        self.pinned.clear();
        self.agreed = true;
        self.agreed_on = None;
    }

    /// The pool that this host is in.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What new VMs get: what all members can give, lost ones included.
    #[must_use]
    pub fn level(&self) -> &Baseline {
        &self.level
    }

    /// The same for people.
    #[must_use]
    pub fn level_view(&self) -> &LevelView {
        &self.view
    }

    /// The members in order of their names; this host alone where it is in no pool.
    #[must_use]
    pub fn members(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.set.members().collect();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        members
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.set.by_name(name)
    }

    /// This host.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// How a member is seen from here.
    #[must_use]
    pub fn presence(&self, id: HostId) -> Presence {
        if id == self.own.id {
            return Presence::Here;
        }
        match self.link_to(id) {
            Some(peer) if self.agrees(peer) => Presence::Up,
            Some(_) => Presence::Converging,
            None if self.contacts.get(&id).is_some_and(|contact| contact.lost) => Presence::Lost,
            None => Presence::Connecting,
        }
    }

    /// The fingerprint that a member last told of.
    #[must_use]
    pub fn fingerprint_of(&self, id: HostId) -> Option<u64> {
        if id == self.own.id {
            return Some(self.view.fingerprint.0);
        }
        self.link_to(id)?.beat.map(|beat| beat.fingerprint)
    }

    /// True where each address asked for has answered, and all members have links and the same records: new VMs
    /// start at the level that is going to stay.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.name.is_some() && self.seeds.iter().all(|seed| self.is_answered(seed)) && self.all_agree()
    }

    /// The addresses asked for that have not answered yet: what the pool waits for until it is formed.
    pub fn waits_for(&self) -> impl Iterator<Item = SocketAddrV4> + Clone {
        let asked = self.seeds.iter().filter(|_| self.name.is_some());
        asked.filter(|seed| !self.is_answered(seed)).map(|seed| seed.address)
    }

    /// What happened, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn set_level(&mut self, level: Baseline) {
        self.view = LevelView::of(&level);
        self.level = level;
    }

    fn all_agree(&self) -> bool {
        self.set.members().all(|host| matches!(self.presence(host.id), Presence::Here | Presence::Up))
    }

    fn agrees(&self, peer: &Peer) -> bool {
        peer.beat.is_some_and(|beat| beat.digest == self.set.digest())
    }

    fn link_to(&self, id: HostId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.is_member() && peer.host() == Some(id))
    }

    fn own_pinned(&self) -> Vec<(String, String)> {
        let members: Vec<&Member> = self.set.members().collect();
        let Some(own) = members.iter().find(|host| host.id == self.own.id) else { return Vec::new() };
        let vms = view::vms_of(own, &members);
        vms.into_iter().filter(view::VmView::is_pinned).map(|vm| (vm.name.clone(), vm.pinned_to())).collect()
    }

    fn new_link(
        &mut self,
        address: SocketAddrV4,
        dialed: bool,
        purpose: Purpose,
        now: u64,
    ) -> Option<LinkId> {
        if self.peers.len() >= MAX_LINKS {
            return None;
        }
        self.next_link = self.next_link.wrapping_add(1);
        let id = LinkId(self.next_link);
        let mut peer = Peer::new(id, address, dialed, purpose, now);
        peer.say(Kind::Hello, &self.hello(purpose == Purpose::Ask));
        self.peers.push(peer);
        Some(id)
    }

    fn hello(&self, asks: bool) -> Vec<u8> {
        crate::body::encode(&crate::body::Hello {
            pool: self.name.clone(),
            name: self.own.name.clone(),
            id: self.own.id.0,
            boot: self.own.boot,
            asks,
            software: self.own.software.clone(),
        })
    }

    /// Says once why there is no link with a peer.
    fn complain(&mut self, address: SocketAddrV4, peer: String, why: String) {
        if self.complaints.get(address.ip()) == Some(&why) {
            return;
        }
        if self.complaints.len() >= MAX_LINKS {
            self.complaints.clear();
        }
        self.complaints.insert(*address.ip(), why.clone());
        self.events.push_back(Event::Refused { peer, why });
    }

    fn preview_with(
        &self,
        theirs: &[&Member],
        pool: Option<&str>,
        refused: Option<String>,
    ) -> Option<Preview> {
        Preview::of(&self.members(), theirs, pool, refused)
    }
}
