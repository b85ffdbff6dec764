//! A virtual machine: memory, devices, clock, policy and vCPUs.

pub(crate) mod audit;
pub(crate) mod clock;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod ending;
pub(crate) mod exits;
pub(crate) mod files;
mod lifecycle;
mod loading;
pub(crate) mod making;
pub(crate) mod outcome;
pub(crate) mod registry;
pub(crate) mod remains;
pub(crate) mod reset;
pub(crate) mod restart;
pub(crate) mod sched;
pub(crate) mod source;
pub(crate) mod tracking;
pub(crate) mod usage;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64};
use cpu_policy::{Companion, GuestPolicy};
use devices::{Platform, PlatformConfig};
use ept::{CpuSet, Mmu};
use migrate::ownership::{Gate, StateCell};
use spin::{Mutex, RwLock};
use vm_types::{Backlog, Gpa, Restarts};

use crate::arch::tsc;
use crate::mm::Hpa;
use crate::mm::guest::GuestRam;
use crate::vcpu::Vcpu;
use crate::vmx::bitmap::MsrBitmap;
use clock::Clock;
use console::GuestConsole;

pub(crate) use devices::Effect;
pub(crate) use migrate::ownership::{Change, State};

/// How long CPU 0 goes on with one of the things that it does in steps, in microseconds: at least one step.
const STEPS_US: u64 = 100;

/// The TSC of this CPU at which it turns to something else.
fn steps_until() -> u64 {
    tsc::read().saturating_add(tsc::ticks(STEPS_US))
}

/// Guest-physical page with the page directory that unpaged protected mode runs on where the CPU lacks
/// unrestricted guest. It is in the hole below 4 GiB and no memory of the guest's.
pub(crate) const IDENTITY_PAGE: Gpa = Gpa(0xfeff_c000);

/// Why a VM is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StopReason {
    /// ACPI power-off.
    PowerOff,
    /// The guest wrote this code to its debug-exit port.
    DebugExit(u32),
    /// The guest reset itself.
    Reset,
    /// Triple fault.
    TripleFault,
    /// The guest did what no VM of ours can do, or the host failed it.
    Error(String),
}

impl StopReason {
    /// Whether the guest reset its machine.
    pub(crate) const fn is_reset(&self) -> bool {
        matches!(self, Self::Reset | Self::TripleFault)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("power-off"),
            Self::DebugExit(code) => write!(f, "debug exit {code}"),
            Self::Reset => f.write_str("reset"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::Error(text) => write!(f, "error: {text}"),
        }
    }
}

/// What another CPU asks of a running vCPU: bits of [`VcpuSlot::requests`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Request {
    /// Look at interrupts and timers again.
    Interrupt = 1 << 0,
    /// Move the page-modification log into the VM's set.
    DrainPml = 1 << 1,
    /// Look at the VM's state: it may not let the vCPU run any more.
    Pause = 1 << 2,
    /// The clock's offset changed.
    Clock = 1 << 3,
}

impl Request {
    /// What the one who asks waits for; Pause is acknowledged by [`VcpuSlot::gate`].
    pub(crate) const WAITED_FOR: u32 = Self::DrainPml as u32;
}

/// A vCPU and what others may touch of it while it runs.
pub(crate) struct VcpuSlot {
    /// Held by the CPU that runs it, for as long as it does.
    pub(crate) vcpu: Mutex<Vcpu>,
    /// [`Request`] bits. Those of [`Request::WAITED_FOR`] are cleared once they are served, the others before.
    pub(crate) requests: AtomicU32,
    /// Whether the vCPU is off every CPU, and stays off while the VM's state says so.
    pub(crate) gate: Gate,
    /// The host CPU that schedules it.
    pub(crate) cpu: usize,
    /// Host TSC before which it need not be scheduled: it is halted.
    pub(crate) wake: AtomicU64,
    /// Its VM exits.
    pub(crate) exits: exits::Exits,
    /// Ticks of the host's TSC for which a CPU was its.
    pub(crate) ran: AtomicU64,
    /// Share of a CPU that it may use, in percent: less than 100 while a migration slows it down.
    pub(crate) share: AtomicU32,
    /// Host TSC before which it does not run again where its share is less.
    pub(crate) held_until: AtomicU64,
}

/// The name of a VM, which the operator may change.
pub(crate) struct Name(RwLock<Arc<str>>);

impl Name {
    fn new(name: &str) -> Self {
        Self(RwLock::new(name.into()))
    }

    /// As it is now.
    pub(crate) fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.read())
    }

    /// As it is now, for an owner.
    pub(crate) fn owned(&self) -> String {
        String::from(&*self.get())
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, name: &str) -> bool {
        &**self.0.read() == name
    }

    fn set(&self, name: &str) {
        *self.0.write() = name.into();
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.get())
    }
}

/// A virtual machine.
pub(crate) struct Vm {
    /// Unique on this host.
    pub(crate) name: Name,
    /// Unique anywhere; it keeps it when it moves.
    pub(crate) uuid: [u8; 16],
    /// Number on this host since its boot, from 1; never used again.
    pub(crate) id: u64,
    /// It came by migration.
    pub(crate) came: bool,
    /// What its board was made of.
    pub(crate) board: PlatformConfig,
    /// What the guest sees of CPUs; its vCPUs hold it as well.
    policy: Mutex<Arc<GuestPolicy>>,
    /// What came along with it for the operator's eyes; empty for a VM that started here.
    pub(crate) companion: Companion,
    /// RAM.
    pub(crate) memory: GuestRam,
    /// Second-level translation.
    pub(crate) mmu: Mutex<Box<dyn Mmu>>,
    /// Pages harvested and not yet sent.
    pub(crate) to_send: Backlog,
    /// CPUs that ran it.
    pub(crate) ran_on: CpuSet,
    tracking: Mutex<tracking::Tracking>,
    /// Which instructions outside its policy it executes.
    audit: Mutex<audit::Audit>,
    /// Which MSRs do not exit.
    pub(crate) msr_bitmap: Box<MsrBitmap>,
    /// Devices.
    pub(crate) platform: Mutex<Platform>,
    /// The time line.
    pub(crate) clock: Clock,
    /// vCPUs.
    pub(crate) vcpus: Vec<VcpuSlot>,
    /// What it is on this host: the scheduler enters its vCPUs by that alone.
    state: StateCell,
    /// Why it is over, once it is.
    stop_reason: Mutex<Option<StopReason>>,
    /// Its resets by itself, and what follows them.
    pub(crate) restarts: Mutex<Restarts>,
    /// What the guest printed on COM1.
    pub(crate) console: GuestConsole,
    /// What it takes of its CPUs.
    pub(crate) usage: usage::Usage,
    /// What it was made from, where that is known.
    pub(crate) source: Mutex<Option<source::Source>>,
    /// The page behind [`IDENTITY_PAGE`].
    identity: Option<Hpa>,
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(page) = self.identity {
            crate::mm::frame::free(page, vm_types::PAGE_SIZE);
        }
    }
}
