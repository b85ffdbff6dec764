//! A virtual machine as its operator knows it: made, run, paused, moved. What runs in it is a [`Guest`].

pub(crate) mod audit;
pub(crate) mod balance;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod ending;
pub(crate) mod files;
mod ledger;
mod lifecycle;
mod loading;
pub(crate) mod making;
pub(crate) mod outcome;
pub(crate) mod place;
pub(crate) mod registry;
pub(crate) mod remains;
pub(crate) mod reset;
pub(crate) mod restart;
pub(crate) mod sched;
pub(crate) mod source;
pub(crate) mod tracking;
pub(crate) mod usage;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64};
use cpu_policy::Companion;
use devices::PlatformConfig;
use migrate::ownership::{Gate, StateCell};
use vm_types::{Backlog, GuestMemory, Restarts};

use crate::guest::mailbox::Mailbox;
use crate::guest::{Guest, StopReason};
use crate::lock::Mutex;
use crate::vcpu::{Activity, VmxVcpu};
use hw::arch::tsc;

pub(crate) use migrate::ownership::{Change, State};

/// How long CPU 0 goes on with one of the things that it does in steps, in microseconds: at least one step.
const STEPS_US: u64 = 100;

/// The TSC of this CPU at which it turns to something else.
fn steps_until() -> u64 {
    tsc::read().saturating_add(tsc::ticks(STEPS_US))
}

/// A vCPU and what its CPU's scheduler keeps of it.
pub(crate) struct VcpuSlot {
    /// Held by the CPU that runs it, for as long as it does.
    pub(crate) vcpu: Mutex<VmxVcpu>,
    /// What other CPUs may touch of it meanwhile.
    mailbox: Arc<Mailbox>,
    /// Whether the vCPU is off every CPU, and stays off while the VM's state says so.
    pub(crate) gate: Gate,
    /// Ticks of the host's TSC for which a CPU was its.
    pub(crate) ran: AtomicU64,
    /// Host TSC at which a timer of its was due when its last turn ended.
    pub(crate) due: AtomicU64,
    /// Share of a CPU that it may use, in percent: less than 100 while a migration slows it down.
    pub(crate) share: AtomicU32,
    /// Host TSC before which it does not run again where its share is less.
    pub(crate) held_until: AtomicU64,
    /// What CPU 0 has seen of it, to spread vCPUs evenly.
    watched: balance::Watched,
}

impl VcpuSlot {
    /// What it does at this moment, as the console says it.
    pub(crate) fn doing(&self) -> &'static str {
        // Its CPU holds the lock for as long as it runs.
        match self.vcpu.try_lock().map(|vcpu| vcpu.vcpu.activity) {
            None => "running",
            Some(Activity::Running) => "ready",
            Some(Activity::Halted) => "halted",
            Some(Activity::WaitForSipi) => "wait-for-sipi",
        }
    }
}

impl Deref for VcpuSlot {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        &self.mailbox
    }
}

/// A virtual machine.
pub(crate) struct Vm {
    /// What runs in it.
    guest: Guest,
    /// Unique anywhere; it keeps it when it moves.
    pub(crate) uuid: [u8; 16],
    /// It came by migration.
    pub(crate) came: bool,
    /// What its board was made of.
    pub(crate) board: PlatformConfig,
    /// What came along with it for the operator's eyes; empty for a VM that started here.
    pub(crate) companion: Companion,
    /// Pages harvested and not yet sent.
    pub(crate) to_send: Backlog,
    tracking: Mutex<tracking::Tracking>,
    /// vCPUs.
    pub(crate) vcpus: Vec<VcpuSlot>,
    /// What it is on this host: the scheduler enters its vCPUs by that alone.
    state: StateCell,
    /// Why it is over, once it is.
    stop_reason: Mutex<Option<StopReason>>,
    /// Its resets by itself, and what follows them.
    pub(crate) restarts: Mutex<Restarts>,
    /// What it takes of its CPUs.
    pub(crate) usage: usage::Usage,
    /// What it was made from, where that is known.
    pub(crate) source: Mutex<Option<source::Source>>,
}

impl Vm {
    /// Bytes of its RAM.
    pub(crate) fn ram(&self) -> u64 {
        self.memory.ranges().iter().map(|range| range.len).sum()
    }

    /// What the scheduler goes by.
    #[cfg(test)]
    pub(crate) fn state_cell(&self) -> &StateCell {
        &self.state
    }

    /// VM exits of all its vCPUs on this host.
    pub(crate) fn exits(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.exits.total()).sum()
    }
}

/// Whoever has a VM has its guest.
impl Deref for Vm {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        &self.guest
    }
}
