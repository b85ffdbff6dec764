//! A host of the pool as its record describes it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use cpu_policy::{GuestPolicy, HostPolicy, UserSpace};
use vm_types::Megahertz;

use crate::body::{Record, check_name, check_software};
use crate::error::RecordError;
use crate::host_id::HostId;
use crate::limits::{MAX_GUEST_POLICIES, MAX_UUIDS, MAX_VM_NAME, MAX_VMS, TSC_HZ};
use crate::tsc::Tsc;

/// A member of the pool, from a record that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its machine.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Drawn when it started.
    pub boot: [u8; 16],
    /// Where it takes links; none without an address.
    pub address: Option<SocketAddrV4>,
    /// Its software.
    pub software: String,
    /// Its CPU.
    pub policy: HostPolicy,
    /// Its clock.
    pub tsc: Tsc,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory that no VM has, in MiB.
    pub free_mib: u64,
    /// It takes VMs that come.
    pub accepts: bool,
    /// VMs that run on it.
    pub vms: Vec<RunningVm>,
    /// How many more run on it.
    pub more: u32,
    uuids: Vec<[u8; 16]>,
    policies: Vec<GuestPolicy>,
}

/// A VM that runs on a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningVm {
    /// Its name.
    pub name: String,
    policy: usize,
}

/// State of a [`Record`].
pub(crate) const PRESENT: u8 = 0;
pub(crate) const LEFT: u8 = 1;
pub(crate) const FORGOTTEN: u8 = 2;

impl Member {
    /// Checks the record of a member; `policy` is what its field was read as.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_record(record: &Record, policy: HostPolicy) -> Result<Self, RecordError> {
        check_name("host", &record.name)?;
        check_software(&record.software)?;
        if !TSC_HZ.contains(&record.tsc_hz) {
            return Err(RecordError::Range { what: "TSC rate", value: record.tsc_hz });
        }
        if let Some(hz) = policy.tsc_hz.filter(|hz| *hz != record.tsc_hz) {
            let text = format!("TSC of {}, and of {} in the policy", Megahertz(record.tsc_hz), Megahertz(hz));
            return Err(RecordError::Contradiction(text));
        }
        if record.scaling && policy.controls().is_some_and(|controls| !controls.tsc_scaling()) {
            return Err(RecordError::Contradiction("TSC scaling, which the policy lacks".into()));
        }
        if record.free_mib > record.memory_mib {
            let text = format!("{} of {} MiB free", record.free_mib, record.memory_mib);
            return Err(RecordError::Contradiction(text));
        }
        let (policies, vms) = vms(record)?;
        let ip = Ipv4Addr::from(record.ip);
        Ok(Self {
            id: HostId(record.id),
            name: record.name.clone(),
            boot: record.boot,
            address: (!ip.is_unspecified() && record.port != 0).then(|| SocketAddrV4::new(ip, record.port)),
            software: record.software.clone(),
            policy,
            tsc: Tsc { hz: record.tsc_hz, scaling: record.scaling },
            memory_mib: record.memory_mib,
            free_mib: record.free_mib,
            accepts: record.accepts,
            vms,
            more: record.more,
            uuids: uuids(record)?,
            policies,
        })
    }

    /// Whether it says that it has the VM of this uuid, in whatever state.
    #[must_use]
    pub fn has(&self, uuid: &[u8; 16]) -> bool {
        self.uuids.contains(uuid)
    }

    /// What a VM of this member was told of CPUs.
    #[must_use]
    pub fn guest(&self, vm: &RunningVm) -> Option<&GuestPolicy> {
        self.policies.get(vm.policy)
    }

    /// The generation, by the highest named level that it can give.
    #[must_use]
    pub fn generation(&self) -> &'static str {
        self.policy.best_level().map_or("unnamed", |level| level.name)
    }

    /// The user space that a guest of its alone carries.
    #[must_use]
    pub fn user_space(&self) -> UserSpace {
        UserSpace::of(self.policy.default())
    }
}

fn uuids(record: &Record) -> Result<Vec<[u8; 16]>, RecordError> {
    let bytes = record.uuids.as_ref().map_or(&[][..], |bytes| bytes);
    let (uuids, rest) = bytes.as_chunks::<16>();
    if uuids.len() > MAX_UUIDS || !rest.is_empty() {
        return Err(RecordError::Range { what: "uuids of VMs, bytes", value: bytes.len() as u64 });
    }
    Ok(uuids.to_vec())
}

fn vms(record: &Record) -> Result<(Vec<GuestPolicy>, Vec<RunningVm>), RecordError> {
    for (what, count, most) in [
        ("number of VMs", record.vms.len(), MAX_VMS),
        ("number of policies", record.policies.len(), MAX_GUEST_POLICIES),
    ] {
        if count > most {
            return Err(RecordError::Range { what, value: count as u64 });
        }
    }
    let policies =
        record.policies.iter().map(|bytes| GuestPolicy::decode(bytes)).collect::<Result<Vec<_>, _>>()?;
    let mut vms = Vec::new();
    for vm in &record.vms {
        let policy = vm.policy as usize;
        if policy >= policies.len() {
            return Err(RecordError::Range { what: "policy of a VM, number", value: vm.policy.into() });
        }
        let fits = (1..=MAX_VM_NAME).contains(&vm.name.len()) && !vm.name.contains(char::is_control);
        if !fits {
            return Err(RecordError::Range { what: "name of a VM, bytes", value: vm.name.len() as u64 });
        }
        vms.push(RunningVm { name: vm.name.clone(), policy });
    }
    Ok((policies, vms))
}
