//! What this host tells the others of itself.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use cmdline::HostOptions;
use pool::{HostId, Own, Seen, Status, Tsc, Watch};
use shell::Hex;

use crate::version::version;
use crate::vm::{State, Vm, registry};
use crate::{entropy, net, policy};
use hw::arch::tsc;
use hw::mm::frame;
use hw::vmx::host;

/// What does not change while the host runs. Its machine is known by the address of its network card.
///
/// # Errors
/// It has no card.
pub(super) fn own(options: &HostOptions) -> Result<Own, String> {
    let mac = net::mac().ok_or("no network card")?;
    let mut id = [0; 16];
    id[10..].copy_from_slice(&mac);
    let scaling = host::boot_cpu().is_some_and(|cpu| cpu.caps.tsc_scaling());
    Ok(Own {
        id: HostId(id),
        name: options.name.clone().unwrap_or_else(|| format!("host-{}", Hex(&mac))),
        boot: entropy::uuid(),
        software: version(),
        policy: policy::host().clone(),
        tsc: Tsc { hz: tsc::hz(), scaling },
        memory_mib: frame::stats().total >> 20,
    })
}

/// What changes on this host, and what the others have heard of it.
pub(super) struct Changes {
    /// Where migrations and links come in; none where they are not taken.
    port: Option<u16>,
    watch: Watch,
}

impl Changes {
    pub(super) fn new(port: Option<u16>) -> Self {
        Self { port, watch: Watch::default() }
    }

    /// What holds now, for the others to hear.
    pub(super) fn read(&mut self, now: u64) -> Status {
        let seen = self.look();
        let status = Status {
            address: seen.address,
            accepts: self.port.is_some(),
            free_mib: seen.free_mib,
            vms: running().iter().map(|vm| (vm.name.owned(), vm.policy().encode())).collect(),
            uuids: seen.uuids.clone(),
        };
        self.watch.told(seen, now);
        status
    }

    /// The same, where it is time to tell it.
    pub(super) fn due(&mut self, now: u64) -> Option<Status> {
        if self.watch.is_due(&self.look(), now) { Some(self.read(now)) } else { None }
    }

    fn look(&self) -> Seen {
        Seen {
            address: self.address(),
            running: running().iter().map(|vm| vm.name.owned()).collect(),
            // In whatever state: a copy that waits for COMMIT may be the next to run.
            uuids: registry::all().iter().map(|vm| vm.uuid).collect(),
            free_mib: frame::stats().free >> 20,
        }
    }

    fn address(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(net::address()?, self.port.unwrap_or(shell::DEFAULT_PORT)))
    }
}

/// The VMs of this host that live, whether they are paused or not, until they are handed over.
fn running() -> Vec<Arc<Vm>> {
    let mut vms = registry::all();
    vms.retain(|vm| matches!(vm.state(), State::Running | State::Paused | State::Leaving | State::Resetting));
    vms
}
