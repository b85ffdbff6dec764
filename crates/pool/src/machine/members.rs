//! Records that come, and what follows for level and VMs.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Pool, Presence};
use crate::body::{self, Record};
use crate::error::Refusal;
use crate::event::{Change, Event};
use crate::host_id::HostId;
use crate::limits::MAX_CLAIMS;
use crate::member::FORGOTTEN;
use crate::set::{Entry, Merged};
use crate::view;

impl Pool {
    /// Takes up a record that a member sent, its own or another's.
    pub(super) fn take(&mut self, id: HostId, entry: Entry) -> Result<(), Refusal> {
        let before = self.summary(id);
        let state = entry.state;
        match self.set.merge(id, entry, self.own.id)? {
            Merged::Old => {}
            Merged::OwnClaimed { version, boot } => self.outdo(version, boot),
            Merged::New => self.note(id, before, state),
        }
        Ok(())
    }

    /// Has a member forgotten that is lost: it no longer counts for the level, here and on all others.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn forget(&mut self, name: &str) -> Result<(), String> {
        let member = self.set.by_name(name).ok_or_else(|| alloc::format!("no member named {name}"))?;
        let id = member.id;
        match self.presence(id) {
            Presence::Here => return Err("this is the host itself: say `pool leave`".to_string()),
            Presence::Lost => {}
            _ => return Err(alloc::format!("{name} is not lost: say `pool leave` there")),
        }
        let Some(entry) = self.set.get(id) else { return Ok(()) };
        let mut record: Record =
            body::decode(&entry.bytes).map_err(|at| Refusal::RecordMalformed(at).to_string())?;
        record.version += 1;
        record.state = FORGOTTEN;
        record.policy = Vec::new().into();
        record.policies.clear();
        record.vms.clear();
        let (id, entry) = Entry::read(&body::encode(&record)).map_err(|error| error.to_string())?;
        self.take(id, entry).map_err(|error| error.to_string())
    }

    /// Of a member: name, boot, and the fingerprint of what it can give.
    fn summary(&self, id: HostId) -> Option<(String, [u8; 16], cpu_policy::Fingerprint)> {
        let member = self.set.get(id)?.member.as_ref()?;
        let gives = cpu_policy::Baseline::of(&member.policy).fingerprint();
        Some((member.name.clone(), member.boot, gives))
    }

    fn note(&mut self, id: HostId, before: Option<(String, [u8; 16], cpu_policy::Fingerprint)>, state: u8) {
        let after = self.summary(id);
        let change = match (&before, &after) {
            (None, Some(_)) => Change::Joined,
            (Some(_), None) if state == FORGOTTEN => Change::Forgotten,
            (Some(_), None) => Change::Left,
            (Some(old), Some(new)) if old != new => Change::Changed,
            // VMs, memory or address; or a tombstone of a host that was not known.
            _ => {
                self.pinned = self.own_pinned();
                return;
            }
        };
        let host = after.or(before).map(|(name, ..)| name).unwrap_or_default();
        let was = self.view.clone();
        if let Some(level) = view::meet(self.set.members()) {
            self.set_level(level);
        }
        let now = self.view.clone();
        let pinned = self.own_pinned();
        let new = pinned.iter().filter(|pin| !self.pinned.contains(pin)).cloned().collect();
        self.pinned = pinned;
        self.agreed = false;
        let twice = self.set.members().filter(|member| member.name == host).count() > 1;
        if twice && change == Change::Joined {
            self.events.push_back(Event::Twice(host.clone()));
        }
        self.events.push_back(Event::Members { host, change, level: Some((was, now)), pinned: new });
    }

    /// Somebody has a newer record of this host than this host: an earlier boot left it behind, or an operator had
    /// it forgotten. It is outdone. A second machine of this id would do the same without end.
    fn outdo(&mut self, version: u64, boot: Option<[u8; 16]>) {
        if boot.is_some_and(|boot| boot != self.own.boot) {
            self.claims += 1;
        }
        if self.claims > MAX_CLAIMS {
            self.go_alone();
            self.peers.clear();
            self.events.push_back(Event::Impostor);
            return;
        }
        self.version = self.version.max(version) + 1;
        if let Ok(entry) = self.own.record(&self.policy, self.version, Some(&self.status)) {
            self.set.put(self.own.id, entry);
        }
        self.agreed = false;
    }
}
