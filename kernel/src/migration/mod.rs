//! Live migration: the protocol's state machines (`crates/migrate`) bound to VMs, the TCP stack and the log.

mod incoming;
mod link;
mod outgoing;
mod state;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddrV4;
use migrate::Tuning;
use spin::Once;

use crate::link::{self as links, Service};
use crate::vm::{State, registry};
use crate::{entropy, vm::Vm};
use incoming::Incoming;
use outgoing::Outgoing;

/// Migrations that come in at the same time, at most.
const MAX_INCOMING: usize = 4;

/// This boot's identity, for peers that ask again after a loss.
fn boot_id() -> [u8; 16] {
    static BOOT: Once<[u8; 16]> = Once::new();
    *BOOT.call_once(entropy::uuid)
}

/// All migrations of this host. CPU 0's management loop owns it.
#[derive(Default)]
pub(crate) struct Migrations {
    outgoing: Option<Outgoing>,
    incoming: alloc::vec::Vec<Incoming>,
}

/// How a migration that the console asked for ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// As asked.
    Done,
    /// The other host said no.
    Refused(String),
    /// It failed; the text says where the VM is.
    Failed(String),
}

impl Migrations {
    /// Begins to move a running VM, or to ask whether it could.
    ///
    /// # Errors
    /// Why not, in words; nothing has begun.
    pub(crate) fn start(&mut self, name: &str, to: SocketAddrV4, check_only: bool) -> Result<(), String> {
        if let Some(other) = &self.outgoing {
            return Err(format!("vm {} is on its way to {}", other.vm().name, other.to()));
        }
        let vm = registry::find(name).ok_or_else(|| format!("no VM named {name}"))?;
        let state = vm.state();
        if !check_only && state != State::Running {
            return Err(format!("vm {name} is {}, not running", state.name()));
        }
        let dial = links::dial(Service::Migrate, to)?;
        self.outgoing = Some(Outgoing::new(vm, dial, check_only));
        Ok(())
    }

    /// Lets every migration work for a bounded time. The answer is how the outgoing one ended, once.
    pub(crate) fn poll(&mut self) -> Option<Ended> {
        self.accept();
        self.incoming.retain_mut(Incoming::poll);
        let ended = self.outgoing.as_mut()?.poll()?;
        self.outgoing = None;
        Some(ended)
    }

    /// True where the VM is in a migration.
    pub(crate) fn uses(&self, vm: &Arc<Vm>) -> bool {
        self.outgoing.as_ref().is_some_and(|o| core::ptr::eq(o.vm(), &raw const **vm))
            || self.incoming.iter().any(|i| i.uses(vm))
    }

    /// True while one is under way: the management loop then leaves the guest less time at a stretch.
    pub(crate) fn busy(&self) -> bool {
        self.outgoing.is_some() || !self.incoming.is_empty()
    }

    fn accept(&mut self) {
        links::offer(Service::Migrate, Some(MAX_INCOMING - self.incoming.len()));
        while self.incoming.len() < MAX_INCOMING
            && let Some(link) = links::take(Service::Migrate)
        {
            log::info!(target: "migrate", "connection from {}", link.peer());
            self.incoming.push(Incoming::new(link));
        }
    }
}

/// The devices of every VM, as the shape names them.
const DEVICES: [&str; 9] = ["uart", "pic", "pit", "rtc", "pm", "chipset", "ioapic", "lapic", "vcpu"];

fn tuning() -> Tuning {
    Tuning::default()
}

/// The machine of a VM as the protocol describes it.
fn shape(vm: &Vm) -> migrate::Shape {
    migrate::Shape {
        vcpus: vm.vcpus.len() as u32,
        ranges: migrate::Shape::page_ranges(vm_types::GuestMemory::ranges(&vm.memory)),
        tsc_hz: vm.clock.hz(),
        devices: DEVICES.map(String::from).into(),
    }
}
