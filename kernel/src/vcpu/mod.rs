//! A virtual CPU. It is tied to no host CPU: all that ties it to one is done and undone in [`switch`].

mod access;
mod apic;
pub(crate) mod check;
mod init;
mod paging;
mod state;
mod switch;
#[cfg(test)]
mod tests;
mod vectors;
mod vpid;

use alloc::boxed::Box;
use alloc::sync::Arc;
use cpu_policy::{CpuidTable, GuestPolicy};
use devices::LocalApic;
use vmx_types::Event;
use vmx_types::apic::ApicVirt;
use vmx_types::paging::ControlRegs;
use vmx_types::rules::Checker;
use vmx_types::state::MtrrState;
use x86::msr;

use hw::vmx::entry::Context;
use hw::vmx::pml::PmlBuffer;
use hw::vmx::vmcs::{EntryWord, ProcWord, Vmcs};
use hw::vmx::xsave::XsaveArea;

pub(crate) use vpid::Vpid;

/// What the vCPU does at the moment, as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    /// Executes instructions.
    Running,
    /// Waits in HLT for an interrupt.
    Halted,
    /// Waits for a start-up IPI.
    WaitForSipi,
}

/// Model-specific registers that the guest accesses without an exit and the VMCS does not hold. They stay
/// in the hardware while the vCPU is live on a CPU.
pub(crate) const LIVE_MSRS: [u32; 5] = [msr::STAR, msr::LSTAR, msr::CSTAR, msr::FMASK, msr::KERNEL_GS_BASE];
/// Live as well where the level has RDTSCP.
pub(crate) use x86::msr::TSC_AUX as IA32_TSC_AUX;

/// The registers that are in the hardware while the vCPU is live, as last saved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LiveRegs {
    /// [`LIVE_MSRS`].
    pub(crate) msrs: [u64; 5],
    /// IA32_TSC_AUX.
    pub(crate) tsc_aux: u64,
    /// CR2.
    pub(crate) cr2: u64,
    /// DR0 to DR3, DR6.
    pub(crate) debug: [u64; 5],
}

/// Why a vCPU leaves the CPU to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaves {
    /// It has woken another vCPU of this CPU, which is to run next.
    GivesWay,
    /// The CPU has found it in a loop of PAUSE.
    Spins,
}

/// One virtual CPU, as the handlers of its exits see it.
pub(crate) struct Vcpu {
    /// Number within the VM.
    pub(crate) index: u32,
    vpid: Vpid,
    /// General-purpose registers, RSP excepted.
    pub(crate) context: Box<Context>,
    pml: Option<Arc<PmlBuffer>>,
    xsave: XsaveArea,
    /// The guest's XCR0; in the hardware while live.
    pub(crate) xcr0: u64,
    live: LiveRegs,
    /// Control registers as the guest sees them; [`Vcpu::control_regs`] brings the guest-owned bits up to date.
    pub(crate) regs: ControlRegs,
    cr3_exiting: bool,
    /// PDPTEs, where the VMCS does not hold them: without EPT.
    own_pdptes: Option<[u64; 4]>,
    pub(crate) proc: ProcWord,
    entry: EntryWord,
    /// IA32_TSX_CTRL while the vCPU is live; None on a host without it.
    tsx_ctrl: Option<u64>,
    /// What the guest sees of CPUs: the VM's, which a reset may change.
    pub(crate) policy: Arc<GuestPolicy>,
    /// What CPUID answers: the policy's table, a copy for each vCPU because each may turn CPUID faulting on.
    pub(crate) cpuid: CpuidTable,
    /// IA32_TSC_ADJUST: what the vCPU's TSC shows beyond the VM's time line.
    tsc_adjust: u64,
    /// Its local APIC: nobody else has it, messages come by its mailbox on the guest's `apics`.
    pub(crate) apic: LocalApic,
    /// IA32_APIC_BASE as it was when the VMCS was set to its mode, and what of it the CPU does by itself in that mode; 0: not
    /// set yet.
    apic_base: u64,
    apic_virt: ApicVirt,
    /// Memory-type range registers, storage alone.
    pub(crate) mtrr: MtrrState,
    /// What the guest does.
    pub(crate) activity: Activity,
    /// To be injected at the next entry.
    pub(crate) event: Option<Event>,
    /// An NMI waits for its window.
    pub(crate) nmi_pending: bool,
    /// Devices, interrupts or an event must be looked at before the next entry.
    pub(crate) attention: bool,
    /// It leaves the CPU to another, though its turn is not over.
    pub(crate) leaves: Option<Leaves>,
    /// Guest TSC at which its APIC, or the board, next wants attention, and the host's TSC at that instant.
    pub(crate) next_event: u64,
    pub(crate) deadline: u64,
    /// Judges entries, where the command line asks for it.
    checker: Option<Box<Checker>>,
}

/// A vCPU with its VMCS: what a host CPU takes up, runs and lets go of. Apart from each other, so that a VMCS which is
/// current can be lent to the handlers of exits together with the vCPU.
pub(crate) struct VmxVcpu {
    /// Everything but the VMCS.
    pub(crate) vcpu: Vcpu,
    vmcs: Vmcs,
}
