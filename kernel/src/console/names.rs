//! The names that this host knows: for completion, and for whoever mistyped one.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cpu_policy::LEVELS;
use shell::{Named, Names};

use crate::vm::registry;
use crate::{link, pool};

/// What this host is called among the names of levels, VMs and members.
pub(super) const HERE: &str = "here";

/// This host.
pub(super) struct Known;

impl Names for Known {
    fn each(&self, kind: Named, found: &mut dyn FnMut(&str)) {
        all(kind).iter().for_each(|name| found(name));
    }
}

/// Every name of a kind.
fn all(kind: Named) -> Vec<String> {
    match kind {
        Named::Vms => registry::all().iter().map(|vm| vm.name.get().to_string()).collect(),
        Named::Addresses => {
            let mut hosts: Vec<String> = link::keys().1.iter().map(|pin| pin.host.to_string()).collect();
            hosts.extend(pool::other_addresses().iter().map(ToString::to_string));
            hosts.sort_unstable();
            hosts.dedup();
            hosts
        }
        Named::Members => {
            let mut members = pool::others();
            members.push(HERE.into());
            members
        }
        Named::CpuLevels => LEVELS.iter().map(|level| level.name.to_string()).collect(),
    }
}

/// `: did you mean 'NAME'?` where a name of that kind is spelt nearly like `typed`, else nothing.
pub(super) fn nearest(kind: Named, typed: &str) -> String {
    let names = all(kind);
    shell::nearest(typed, names.iter().map(String::as_str))
        .map_or_else(String::new, |name| alloc::format!(": did you mean '{name}'?"))
}
