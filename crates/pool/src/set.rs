//! The records of all hosts: a map that members bring to the same content in whatever order records come.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use cpu_policy::HostPolicy;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use crate::body::{self, Record, check_name, printable};
use crate::error::{RecordError, Refusal};
use crate::host_id::HostId;
use crate::limits::{MAX_MEMBERS, MAX_RECORDS, MAX_VERSION};
use crate::member::{FORGOTTEN, LEFT, Member, PRESENT};

/// Orders the records of one host: by version; two of one version, which no host writes, by content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Stamp {
    pub(crate) version: u64,
    hash: u64,
}

/// The newest record of a host.
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    /// As its host wrote it, so that it is the same for all.
    pub(crate) bytes: Vec<u8>,
    pub(crate) state: u8,
    /// Of a host that is a member.
    pub(crate) member: Option<Member>,
}

/// What became of a record that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Merged {
    /// It is in the set now.
    New,
    /// It was there already, or a newer one.
    Old,
    /// It is about `own`, and newer than what this host says of itself.
    OwnClaimed {
        version: u64,
        /// Another boot of this host, or another host, says that it is a member.
        boot: Option<[u8; 16]>,
    },
}

#[derive(Default)]
pub(crate) struct Set {
    entries: BTreeMap<HostId, Entry>,
    digest: u64,
}

impl Entry {
    /// Reads and checks a record.
    pub(crate) fn read(bytes: &[u8]) -> Result<(HostId, Self), Refusal> {
        let record: Record = body::decode(bytes).map_err(Refusal::RecordMalformed)?;
        let entry = Self::checked(&record, bytes.to_vec(), || Ok(HostPolicy::decode(&record.policy)?))?;
        Ok((HostId(record.id), entry))
    }

    /// Checks a record of this host, whose policy is known: reading it each time would hold up whoever waits.
    pub(crate) fn own(record: &Record, policy: &HostPolicy) -> Result<Self, Refusal> {
        let entry = Self::checked(record, body::encode(record), || Ok(policy.clone()))?;
        debug_assert!(
            Self::read(&entry.bytes).is_ok_and(|(_, read)| read.member == entry.member),
            "others read what it says"
        );
        Ok(entry)
    }

    fn checked(
        record: &Record,
        bytes: Vec<u8>,
        policy: impl FnOnce() -> Result<HostPolicy, RecordError>,
    ) -> Result<Self, Refusal> {
        let bad = |why| Refusal::Record { name: printable(&record.name), why };
        check_name("host", &record.name).map_err(bad)?;
        if record.version > MAX_VERSION {
            return Err(Refusal::RecordVersion { name: record.name.clone(), version: record.version });
        }
        let member = match record.state {
            PRESENT => Some(policy().and_then(|policy| Member::from_record(record, policy)).map_err(bad)?),
            LEFT | FORGOTTEN => None,
            state => return Err(bad(RecordError::Range { what: "state", value: state.into() })),
        };
        let stamp = Stamp { version: record.version, hash: xxh64(&bytes, 0) };
        Ok(Self { stamp, bytes, state: record.state, member })
    }
}

impl Set {
    /// Takes a record up if it is newer. `own` is this host, whose records nobody else writes.
    pub(crate) fn merge(&mut self, id: HostId, entry: Entry, own: HostId) -> Result<Merged, Refusal> {
        let old = self.entries.get(&id);
        if old.is_some_and(|old| old.stamp >= entry.stamp) {
            return Ok(Merged::Old);
        }
        if id == own {
            let boot = entry.member.as_ref().map(|member| member.boot);
            return Ok(Merged::OwnClaimed { version: entry.stamp.version, boot });
        }
        let joins = entry.member.is_some() && old.is_none_or(|old| old.member.is_none());
        if joins && self.members().count() >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        self.put(id, entry);
        Ok(Merged::New)
    }

    /// Puts a record in, whatever was there.
    pub(crate) fn put(&mut self, id: HostId, entry: Entry) {
        self.entries.insert(id, entry);
        while self.entries.len() > MAX_RECORDS {
            // Of those that are gone, the one of the least id: all members choose the same.
            let gone = self.entries.iter().find(|(_, entry)| entry.member.is_none()).map(|(id, _)| *id);
            match gone {
                Some(id) => self.entries.remove(&id),
                None => break,
            };
        }
        self.digest = self.compute_digest();
    }

    /// Keeps only `id`.
    pub(crate) fn retain_only(&mut self, id: HostId) {
        self.entries.retain(|other, _| *other == id);
        self.digest = self.compute_digest();
    }

    pub(crate) fn get(&self, id: HostId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Hosts that are members, in order of their id.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.entries.values().filter_map(|entry| entry.member.as_ref())
    }

    /// The member of that name; of two, the one of the lesser id.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Member> {
        self.members().find(|member| member.name == name)
    }

    /// Equal for equal sets.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    fn compute_digest(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        for (id, entry) in &self.entries {
            hash.update(&id.0);
            hash.update(&entry.stamp.version.to_le_bytes());
            hash.update(&entry.stamp.hash.to_le_bytes());
        }
        hash.digest()
    }
}
