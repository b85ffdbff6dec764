//! When the others hear of what changed on this host.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

/// How often they hear of memory alone, in microseconds: it is given back bit by bit.
const MEMORY_US: u64 = 1_000_000;

/// What changes on a host at times, and costs little to look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Where it takes links.
    pub address: Option<SocketAddrV4>,
    /// The names of the VMs that run.
    pub running: Vec<String>,
    /// The uuids of all its VMs.
    pub uuids: Vec<[u8; 16]>,
    /// Memory that no VM has, in MiB.
    pub free_mib: u64,
}

/// What the others know.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    told: Option<(Seen, u64)>,
}

impl Watch {
    /// Whether the others are to hear of `seen` at `now`, in microseconds.
    #[must_use]
    pub fn is_due(&self, seen: &Seen, now: u64) -> bool {
        let Some((told, at)) = &self.told else { return true };
        if told.free_mib != seen.free_mib && now.saturating_sub(*at) >= MEMORY_US {
            return true;
        }
        (told.address, &told.running, &told.uuids) != (seen.address, &seen.running, &seen.uuids)
    }

    /// They are told.
    pub fn told(&mut self, seen: Seen, now: u64) {
        self.told = Some((seen, now));
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_vm_is_told_at_once_and_memory_once_a_second() {
        let mut watch = Watch::default();
        let mut seen = Seen { free_mib: 100, ..Seen::default() };
        assert!(watch.is_due(&seen, 5), "nothing was told yet");
        watch.told(seen.clone(), 5);
        assert!(!watch.is_due(&seen, 10 * MEMORY_US), "nothing changed");
        // A VM is made, and what is left after it is less than when that was told.
        seen.running = vec!["web".into()];
        assert!(watch.is_due(&seen, 6));
        watch.told(seen.clone(), 6);
        seen.free_mib = 68;
        assert!(!watch.is_due(&seen, 6 + MEMORY_US - 1));
        assert!(watch.is_due(&seen, 6 + MEMORY_US));
        watch.told(seen.clone(), 6 + MEMORY_US);
        assert!(!watch.is_due(&seen, 100 * MEMORY_US));
        seen.uuids = vec![[1; 16]];
        assert!(watch.is_due(&seen, 6 + MEMORY_US));
    }
}
