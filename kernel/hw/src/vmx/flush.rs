//! Reaching the other CPUs: a kick out of the guest, and the flush of what those that ran a VM have cached of it,
//! which is over only when each has acknowledged it.

use alloc::vec::Vec;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use translation::{CpuSet, Eptp, Wanted};

use super::host;
use super::insn::{self, Scope};
use crate::arch::{self, cpu, tsc};
use crate::platform::{apic, irq};

/// Makes a CPU leave its guest, or wake. Nothing for the calling CPU.
pub fn kick(index: usize) {
    send(index, irq::KICK);
}

/// Has a CPU take what is posted for the guest that it is in. Nothing for the calling CPU, and for one that is in no guest.
pub fn notify(index: usize) {
    send(index, irq::POSTED);
}

fn send(index: usize, vector: u8) {
    if index != cpu::this().index
        && let Some(other) = cpu::get(index)
    {
        apic::send_ipi(other.apic_id, vector);
    }
}

/// Every CPU but 0 is to leave VMX operation and halt, for a reboot.
static LEAVING: AtomicBool = AtomicBool::new(false);
/// How many have.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// How long they may take, in microseconds: a guest is left within one exit.
const PATIENCE_US: u64 = 100_000;

/// Makes every CPU leave VMX operation: CPU 0, which calls this with all vCPUs off their CPUs, goes on, the others halt.
/// False where one did not answer in time.
pub fn leave_vmx() -> bool {
    LEAVING.store(true, Ordering::Release);
    for index in 0..cpu::count() {
        kick(index);
    }
    let start = tsc::micros();
    let others = host::all().count().saturating_sub(1);
    while LEFT.load(Ordering::Acquire) < others && tsc::micros() - start < PATIENCE_US {
        hint::spin_loop();
    }
    host::disable();
    LEFT.load(Ordering::Acquire) == others
}

/// A flush of what CPUs have cached of a VM's tables: nobody waits for it, but looks whether it is over. A CPU serves it
/// between two exits.
pub struct Flushing(Vec<(usize, u32)>);

impl Flushing {
    /// Has every CPU that ran a VM drop what it has `cached` of the VM's tables. Other CPUs, and what these have of other
    /// VMs, are left alone.
    pub fn ask(ran_on: &CpuSet, cached: Option<Eptp>) -> Self {
        let mut asked = Vec::new();
        // One that joins after this has flushed by itself, and reads the tables as they are now: `translation::load`.
        for index in ran_on.iter() {
            if let Some(other) = host::of(index) {
                asked.push((index, other.flushes.ask(cached)));
                kick(index);
            }
        }
        Self(asked)
    }

    /// A CPU that has not done so yet.
    pub fn waits_for(&self) -> Option<usize> {
        serve();
        let done = |index, number| host::of(index).is_none_or(|cpu| cpu.flushes.has_done(number));
        self.0.iter().find(|(index, number)| !done(*index, *number)).map(|(index, _)| *index)
    }
}

/// Serves flushes asked of this CPU. Called whenever a CPU is between guests.
pub fn serve() {
    let Some(this) = host::this() else { return };
    if LEAVING.load(Ordering::Acquire) && cpu::this().index != 0 {
        host::disable();
        LEFT.fetch_add(1, Ordering::Release);
        arch::halt();
    }
    this.flushes.serve(|wanted| match wanted {
        Wanted::One(eptp) => insn::invept(Scope::Single, eptp.0),
        Wanted::All => insn::invept(Scope::All, 0),
    });
}

/// Drops what this CPU has cached of a VM's tables; without an EPT pointer the exit has done so.
pub fn here(cached: Option<Eptp>) {
    if let Some(eptp) = cached {
        insn::invept(Scope::Single, eptp.0);
    }
}

/// Drops what this CPU has cached of a guest's linear addresses.
pub fn linear(vpid: u16) {
    insn::invvpid(Scope::Single, vpid);
}
