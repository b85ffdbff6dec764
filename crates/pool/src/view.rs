//! What follows from a set of members: the level, what each of them costs, where each VM can go.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use cpu_policy::{Baseline, Fingerprint, GuestPolicy};
use vm_types::Megahertz;

use crate::family;
use crate::member::Member;
use crate::tsc::TscMeans;

/// A pool's level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LevelView {
    /// What a VM at this level is told to be at.
    pub name: String,
    /// The same for all members that agree.
    pub fingerprint: Fingerprint,
    /// The named level that lends signature, brand and caches.
    pub like: &'static str,
}

/// Whether a member can take a VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// The member.
    pub host: String,
    /// How it would give the VM its TSC; or everything that stands in the way.
    pub verdict: Result<TscMeans, String>,
}

/// A VM that runs in the pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmView {
    /// Its name.
    pub name: String,
    /// The member that it runs on.
    pub on: String,
    /// The level that it was started at.
    pub level: String,
    /// The other members.
    pub ways: Vec<Way>,
}

impl LevelView {
    pub(crate) fn of(baseline: &Baseline) -> Self {
        Self { name: baseline.name(), fingerprint: baseline.fingerprint(), like: baseline.level().name }
    }
}

/// `haswell`, or `pool-0123456789abcdef (like haswell)`.
impl fmt::Display for LevelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.name == self.like { Ok(()) } else { write!(f, " (like {})", self.like) }
    }
}

impl VmView {
    /// Members that could take it.
    pub fn takers(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(|way| way.verdict.is_ok())
    }

    /// True where it could not go to each member.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.ways.iter().any(|way| way.verdict.is_err())
    }

    /// The hosts that it is pinned to: its own, and those that could take it.
    #[must_use]
    pub fn pinned_to(&self) -> String {
        let mut hosts = self.on.clone();
        for way in self.takers() {
            hosts.push_str(", ");
            hosts.push_str(&way.host);
        }
        hosts
    }
}

/// What all of them can give.
pub(crate) fn meet<'a>(members: impl IntoIterator<Item = &'a Member>) -> Option<Baseline> {
    Baseline::meet(members.into_iter().map(|member| &member.policy))
}

/// What each alone costs the pool, in their order.
pub(crate) fn costs(members: &[&Member], pool: &Baseline) -> Vec<String> {
    let hosts: Vec<_> = members.iter().map(|member| &member.policy).collect();
    Baseline::costs(&hosts).iter().map(|cost| family::cost(cost, pool)).collect()
}

/// The VMs of all members.
pub(crate) fn vms(members: &[&Member]) -> Vec<VmView> {
    members.iter().flat_map(|on| vms_of(on, members)).collect()
}

/// The VMs of one member.
pub(crate) fn vms_of(on: &Member, members: &[&Member]) -> Vec<VmView> {
    let view = |vm| {
        let guest = on.guest(vm)?;
        let others = members.iter().filter(|host| host.id != on.id);
        let way = |host: &&Member| Way { host: host.name.clone(), verdict: can_take(host, guest) };
        Some(VmView {
            name: vm.name.clone(),
            on: on.name.clone(),
            level: guest.level_name().to_string(),
            ways: others.map(way).collect(),
        })
    };
    on.vms.iter().filter_map(view).collect()
}

/// Whether a member can take a guest, and how it gives it its TSC.
///
/// # Errors
/// Everything that stands in the way, the clock last.
pub fn can_take(host: &Member, guest: &GuestPolicy) -> Result<TscMeans, String> {
    guest.fits(&host.policy).map_err(|misfit| family::misfit(&misfit, guest))?;
    match host.tsc.means(guest.tsc_hz()) {
        TscMeans::Refused => {
            let (guest, host) = (Megahertz(guest.tsc_hz()), Megahertz(host.tsc.hz));
            Err(format!("TSC of {guest}: it counts {host} and cannot scale"))
        }
        means if host.accepts => Ok(means),
        _ => Err("it takes no VMs (migrate=off)".to_string()),
    }
}
