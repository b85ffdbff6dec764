//! A guest as its CPUs, its exits and its devices know it: memory, translation, board, clock, policy, and the mailboxes of
//! its vCPUs. What an operator knows of it is `vm/`.

pub(crate) mod audit;
pub(crate) mod clock;
pub(crate) mod console;
pub(crate) mod exits;
pub(crate) mod mailbox;
pub(crate) mod name;
pub(crate) mod outside;
mod stop;
mod translation;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use ::translation::CpuSet;
use cpu_policy::GuestPolicy;
use devices::{ApicBus, Platform, VcpuSet};
use vm_types::Gpa;

use crate::lock::Mutex;
use audit::Audit;
use clock::Clock;
use console::GuestConsole;
use hw::arch::cpu;
use hw::mm::guest::GuestRam;
use hw::mm::held::Held;
use hw::vmx::bitmap::MsrBitmaps;
use hw::vmx::translation::Translation;
use mailbox::{Mailbox, Request};
use name::Name;
use outside::Outside;

pub(crate) use stop::StopReason;

/// Guest-physical page with the page directory that unpaged protected mode runs on where the CPU lacks
/// unrestricted guest. It is in the hole below 4 GiB and no memory of the guest's.
pub(crate) const IDENTITY_PAGE: Gpa = Gpa(0xfeff_c000);

/// A guest and what it runs on.
pub(crate) struct Guest {
    /// Unique on this host.
    pub(crate) name: Name,
    /// Number on this host since its boot, from 1; never used again.
    pub(crate) id: u64,
    /// What the guest sees of CPUs; its vCPUs hold it as well.
    pub(crate) policy: Mutex<Arc<GuestPolicy>>,
    /// RAM.
    pub(crate) memory: GuestRam,
    /// From its addresses to the host's.
    pub(crate) mmu: Mutex<Translation>,
    /// CPUs that ran it.
    pub(crate) ran_on: CpuSet,
    /// Which instructions outside its policy it executes.
    pub(crate) audit: Mutex<Audit>,
    /// Which MSRs do not exit.
    pub(crate) msr_bitmaps: Arc<MsrBitmaps>,
    /// Devices that its vCPUs share.
    pub(crate) platform: Mutex<Platform>,
    /// How they reach the local APICs, which are their vCPUs'.
    pub(crate) apics: ApicBus,
    /// The time line.
    pub(crate) clock: Clock,
    /// Those of the vCPUs, by their number.
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    /// What the guest printed on COM1.
    pub(crate) console: GuestConsole,
    /// How often its drivers broke a device.
    pub(crate) broken: AtomicU32,
    /// The page behind [`IDENTITY_PAGE`], held for as long as the tables lead to it.
    pub(crate) _identity: Option<Held>,
    /// The APIC-access page: what lies at [`devices::LAPIC_BASE`] where the CPU tells accesses to an APIC from others. It is
    /// never read or written. Each VM has its own, so that a CPU which has cached a way to it for too long leads nowhere.
    pub(crate) apic_access: Option<Held>,
}

impl Guest {
    /// What the guest sees of CPUs.
    pub(crate) fn policy(&self) -> Arc<GuestPolicy> {
        Arc::clone(&self.policy.lock())
    }

    /// Does something to the devices from outside: types at the console, say. vCPUs for which that leaves an interrupt look
    /// at it.
    pub(crate) fn with_board<R>(&self, f: impl FnOnce(&mut Platform) -> R) -> R {
        let (result, kicks) = self.on_board(f);
        self.kick(kicks);
        result
    }

    /// Does something to the devices, and says for which vCPUs that left something: the caller has them look at it.
    #[inline]
    pub(crate) fn on_board<R>(&self, f: impl FnOnce(&mut Platform) -> R) -> (R, VcpuSet) {
        let mut platform = self.platform.lock();
        let result = f(&mut platform);
        (result, platform.take_kicks())
    }

    /// What its devices reach beyond it.
    pub(crate) fn outside(&self) -> Outside<'_> {
        Outside { name: &self.name, broken: &self.broken }
    }

    /// Has these vCPUs look at their interrupts. True where one of them was asleep that waits for this CPU now.
    pub(crate) fn kick(&self, vcpus: VcpuSet) -> bool {
        let mut woken_here = false;
        for (index, mailbox) in vcpus.iter().filter_map(|index| Some((index, self.mailboxes.get(index)?))) {
            let posted = || self.apics.posted_alone(index) && !self.apics.intr();
            woken_here |= mailbox.tell(Request::Interrupt, posted) && mailbox.cpu() == cpu::this().index;
        }
        woken_here
    }
}
