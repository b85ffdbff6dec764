//! What this host tells the others of itself.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use cmdline::HostOptions;
use pool::{HostId, Own, Status, Tsc};

use crate::arch::tsc;
use crate::mm::frame;
use crate::vm::{State, Vm, registry};
use crate::vmx::host;
use crate::{entropy, net, policy, start};

/// What does not change while the host runs. Its machine is known by the address of its network card.
///
/// # Errors
/// It has no card.
pub(super) fn own(options: &HostOptions) -> Result<Own, String> {
    let mac = net::mac().ok_or("no network card")?;
    let mut id = [0; 16];
    id[10..].copy_from_slice(&mac);
    let digits: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let scaling = host::boot_cpu().is_some_and(|cpu| cpu.caps.tsc_scaling());
    Ok(Own {
        id: HostId(id),
        name: options.name.clone().unwrap_or_else(|| format!("host-{digits}")),
        boot: entropy::uuid(),
        software: start::version(),
        policy: policy::host().clone(),
        tsc: Tsc { hz: tsc::hz(), scaling },
        memory_mib: frame::stats().total >> 20,
    })
}

/// Notices what changed.
pub(super) struct Watch {
    /// Where migrations and links come in; none where they are not taken.
    port: Option<u16>,
    last: Option<Seen>,
}

/// What changes at times.
#[derive(PartialEq, Eq)]
struct Seen {
    address: Option<SocketAddrV4>,
    running: Vec<String>,
    uuids: Vec<[u8; 16]>,
}

impl Watch {
    pub(super) fn new(port: Option<u16>) -> Self {
        Self { port, last: None }
    }

    /// What holds now.
    pub(super) fn read(&mut self) -> Status {
        let running = running();
        let seen = self.look();
        let status = Status {
            address: seen.address,
            accepts: self.port.is_some(),
            free_mib: frame::stats().free >> 20,
            vms: running.iter().map(|vm| (vm.name.owned(), vm.policy.encode())).collect(),
            uuids: seen.uuids.clone(),
        };
        self.last = Some(seen);
        status
    }

    /// What holds now, where the address or the VMs are others than at the last look.
    pub(super) fn changed(&mut self) -> Option<Status> {
        let same = self.last.as_ref().is_some_and(|last| *last == self.look());
        if same { None } else { Some(self.read()) }
    }

    fn look(&self) -> Seen {
        Seen {
            address: self.address(),
            running: running().iter().map(|vm| vm.name.owned()).collect(),
            // In whatever state: a copy that waits for COMMIT may be the next to run.
            uuids: registry::all().iter().map(|vm| vm.uuid).collect(),
        }
    }

    fn address(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(net::address()?, self.port.unwrap_or(shell::DEFAULT_PORT)))
    }
}

/// The VMs of this host that live, whether they are paused or not, until they are handed over.
fn running() -> Vec<Arc<Vm>> {
    let mut vms = registry::all();
    vms.retain(|vm| matches!(vm.state(), State::Running | State::Paused | State::Leaving));
    vms
}
