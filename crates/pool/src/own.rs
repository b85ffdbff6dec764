//! What this host says of itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use cpu_policy::HostPolicy;
use minicbor::bytes::ByteVec;

use crate::body::{Record, VmEntry, printable};
use crate::error::Refusal;
use crate::host_id::HostId;
use crate::limits::{MAX_BODY, MAX_GUEST_POLICIES, MAX_UUIDS, MAX_VMS};
use crate::member::{LEFT, PRESENT};
use crate::set::Entry;
use crate::tsc::Tsc;

/// What does not change while a host runs.
#[derive(Clone, Debug)]
pub struct Own {
    /// The machine.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Drawn when it started.
    pub boot: [u8; 16],
    /// Its software, for people.
    pub software: String,
    /// Its CPU.
    pub policy: HostPolicy,
    /// Its clock.
    pub tsc: Tsc,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// What does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Where it takes links.
    pub address: Option<SocketAddrV4>,
    /// It takes VMs that come.
    pub accepts: bool,
    /// Memory that no VM has, in MiB.
    pub free_mib: u64,
    /// The VMs that run, with their encoded policies.
    pub vms: Vec<(String, Vec<u8>)>,
    /// The uuids of all VMs that this host has, in whatever state.
    pub uuids: Vec<[u8; 16]>,
}

impl Own {
    /// Its CPU's policy as records have it.
    ///
    /// # Errors
    /// What the others would say of it.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>, Refusal> {
        let encoded = self.policy.encode();
        match HostPolicy::decode(&encoded) {
            Ok(_) => Ok(encoded),
            Err(error) => Err(Refusal::Record { name: printable(&self.name), why: error.into() }),
        }
    }

    /// The record of this host; one that left says no more than who it is. `policy`: [`Own::encoded`].
    ///
    /// # Errors
    /// What the others would say of it.
    pub(crate) fn record(
        &self,
        policy: &[u8],
        version: u64,
        status: Option<&Status>,
    ) -> Result<Entry, Refusal> {
        let empty = || ByteVec::from(Vec::new());
        let mut record = Record {
            id: self.id.0,
            version,
            state: LEFT,
            name: self.name.clone(),
            boot: self.boot,
            ip: [0; 4],
            port: 0,
            software: String::new(),
            policy: empty(),
            tsc_hz: 0,
            scaling: false,
            memory_mib: 0,
            free_mib: 0,
            accepts: false,
            policies: Vec::new(),
            vms: Vec::new(),
            more: 0,
            uuids: None,
        };
        if let Some(status) = status {
            self.fill(&mut record, policy, status);
        }
        Entry::own(&record, &self.policy)
    }

    fn fill(&self, record: &mut Record, policy: &[u8], status: &Status) {
        record.state = PRESENT;
        if let Some(address) = status.address {
            record.ip = address.ip().octets();
            record.port = address.port();
        }
        record.software.clone_from(&self.software);
        record.policy = ByteVec::from(policy.to_vec());
        (record.tsc_hz, record.scaling) = (self.tsc.hz, self.tsc.scaling);
        record.memory_mib = self.memory_mib;
        record.free_mib = status.free_mib.min(self.memory_mib);
        record.accepts = status.accepts;
        let uuids = status.uuids.iter().take(MAX_UUIDS).flatten().copied().collect::<Vec<_>>();
        record.uuids = (!uuids.is_empty()).then(|| ByteVec::from(uuids));
        // What does not fit is counted: a message has its limit.
        let mut room = MAX_BODY / 2;
        for (name, policy) in &status.vms {
            let known = record.policies.iter().position(|p| **p == *policy);
            let policy_fits =
                known.is_some() || record.policies.len() < MAX_GUEST_POLICIES && policy.len() < room;
            if !policy_fits || record.vms.len() == MAX_VMS {
                record.more = record.more.saturating_add(1);
                continue;
            }
            let number = known.unwrap_or_else(|| {
                room -= policy.len();
                record.policies.push(ByteVec::from(policy.clone()));
                record.policies.len() - 1
            });
            record.vms.push(VmEntry { name: name.clone(), policy: number as u32 });
        }
    }
}
