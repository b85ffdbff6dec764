//! VMX operation of each host CPU, and the host half of a VMCS.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;
use translation::FlushRequests;
use vmx_types::apic::ApicVirt;
use vmx_types::capability::{Caps, NoVmx};
use vmx_types::controls::Controls;
use vmx_types::field;
use vmx_types::slice::{Choice, SliceTimer};

use super::caps;
use super::entry;
use super::insn::{self, Scope};
use super::slots;
use crate::arch::{cpu, insn as cpu_insn, msr};
use crate::mm::{Hpa, frame};
use crate::platform::irq;

/// A CPU in VMX operation.
#[derive(Debug)]
pub struct HostCpu {
    /// What it can do.
    pub caps: Caps,
    /// What ends the run of its guests.
    pub slice: Choice,
    /// The control words every VMCS starts from.
    pub controls: Controls,
    /// What of a guest's local APIC it can do by itself.
    apic: ApicVirt,
    /// Address of the VMCS that is current on it, 0 for none.
    pub current_vmcs: AtomicU64,
    /// The VM whose vCPU ran on it last.
    pub last_vm: AtomicU64,
    /// Flushes of EPT translations asked of it.
    pub flushes: FlushRequests,
    /// The VMXON region, in use until VMXOFF.
    _vmxon: Hpa,
}

static CPUS: Once<Vec<Once<HostCpu>>> = Once::new();

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What is to end a guest's run; `None`: what suits the CPU.
    pub timer: Option<SliceTimer>,
    /// Whether APICv is used: `None`, where the CPU has it and it works.
    pub apicv: Option<bool>,
    /// Whether posted interrupts are, where APICv is.
    pub posted: bool,
}

static ASKED: Once<Asked> = Once::new();
/// APICv is not used on this host, though CPUs have it: the first one has failed `probe`.
static NO_APICV: AtomicBool = AtomicBool::new(false);

/// Makes room for `count` CPUs. Called once, before any [`enable`].
pub fn init(count: usize, asked: Asked) {
    CPUS.call_once(|| (0..count).map(|_| Once::new()).collect());
    ASKED.call_once(|| asked);
}

/// What ends the run of guests on this CPU, with a word in the log where the first CPU's choice is not the usual one.
fn slice_timer(caps: &Caps) -> Choice {
    let signature = cpu::cpuid(1, 0)[0];
    let first = cpu::this().index == 0;
    let asked = ASKED.get().and_then(|asked| asked.timer);
    let choice = Choice::new(caps, signature, asked).unwrap_or_else(|refused| {
        if first {
            log::warn!(target: "vmx", "{refused}");
        }
        Choice::apic(signature)
    });
    if first && (choice.asked || choice.flaw.is_some()) {
        log::info!(target: "vmx", "guests are bounded by {choice}");
    }
    choice
}

/// Puts this CPU into VMX operation, for good.
///
/// # Errors
/// [`NoVmx`] names what is missing and the cure; the CPU is unchanged then.
pub fn enable() -> Result<&'static HostCpu, NoVmx> {
    let caps = caps::read()?;
    let slice = slice_timer(&caps);
    let controls = Controls::new(&caps, slice.timer).map_err(NoVmx::Control)?;
    let asked = |wants: fn(&Asked) -> bool| ASKED.get().is_none_or(wants);
    let apic = ApicVirt::new(&caps, asked(|asked| asked.apicv != Some(false)), asked(|asked| asked.posted));
    let region = frame::alloc_page().expect("a page for VMXON");
    // SAFETY: the page is ours; a VMXON region starts with the revision (SDM 24.11.5). The bits of CR0 and
    // CR4 that VMX fixes are set first, so that VMXON cannot fault.
    unsafe {
        (region.0 as *mut u32).write_volatile(caps.revision);
        cpu_insn::set_cr0((cpu_insn::cr0() | caps.cr0_fixed0) & caps.cr0_fixed1);
        cpu_insn::set_cr4((cpu_insn::cr4() | caps.cr4_fixed0 | 1 << 13) & caps.cr4_fixed1);
        insn::vmxon(region).expect("VMXON");
    }
    insn::invept(Scope::All, 0);
    if caps.vpid() {
        insn::invvpid(Scope::All, 0);
    }
    slots::load();
    if apic.contains(ApicVirt::IPIS) {
        irq::register(irq::WAKE, irq::woken);
    }
    Ok(slot(cpu::this().index).call_once(|| HostCpu {
        caps,
        slice,
        controls,
        apic,
        current_vmcs: AtomicU64::new(0),
        last_vm: AtomicU64::new(0),
        flushes: FlushRequests::default(),
        _vmxon: region,
    }))
}

impl HostCpu {
    /// What of a guest's local APIC it does by itself.
    #[must_use]
    pub fn apic(&self) -> ApicVirt {
        if NO_APICV.load(Ordering::Relaxed) { self.apic.without_apicv() } else { self.apic }
    }
}

/// APICv does not work on this host's CPUs: it is used from now on only if the command line asks for it.
pub(super) fn apicv_fails() {
    let asked = ASKED.get().and_then(|asked| asked.apicv) == Some(true);
    NO_APICV.store(!asked, Ordering::Relaxed);
}

fn slot(cpu: usize) -> &'static Once<HostCpu> {
    &CPUS.get().expect("vmx::host::init ran")[cpu]
}

/// This CPU, if [`enable`] succeeded on it.
pub fn this() -> Option<&'static HostCpu> {
    of(cpu::this().index)
}

/// The CPU with that index, if [`enable`] succeeded on it.
pub fn of(index: usize) -> Option<&'static HostCpu> {
    CPUS.get()?.get(index)?.get()
}

/// The bootstrap CPU's capabilities; every CPU of a host is taken to have the same.
pub fn boot_cpu() -> Option<&'static HostCpu> {
    CPUS.get()?.first()?.get()
}

/// The same, where no guest is possible without.
///
/// # Errors
/// That there is no VMX.
pub fn required() -> Result<&'static HostCpu, &'static str> {
    boot_cpu().ok_or("this host has no VMX")
}

/// Every CPU in VMX operation.
pub fn all() -> impl Iterator<Item = &'static HostCpu> {
    CPUS.get().into_iter().flatten().filter_map(Once::get)
}

/// Leaves VMX operation: before a reboot, with no VMCS active on this CPU.
pub fn disable() {
    if this().is_some() {
        // SAFETY: the caller has cleared its VMCS; `this` says that VMXON succeeded here.
        unsafe { insn::vmxoff() }
    }
}

/// Writes every host-state field for this CPU into the current VMCS, HOST_RSP excepted: the entry code
/// keeps that one.
pub(super) fn write_host_state() {
    let this = cpu_insn::segments();
    // Selectors of host state carry no RPL and no TI (SDM 26.2.3); FS and GS are null, their bases matter.
    let selector = |s: u16| s & !7;
    // SAFETY: exactly the state this CPU runs in now; HOST_RIP is the exit label of `enter`.
    unsafe {
        insn::write(field::HOST_CR0, cpu_insn::cr0());
        insn::write(field::HOST_CR3, cpu_insn::cr3());
        insn::write(field::HOST_CR4, cpu_insn::cr4());
        insn::write(field::HOST_CS_SELECTOR, selector(this.cs));
        insn::write(field::HOST_SS_SELECTOR, selector(this.ss));
        insn::write(field::HOST_DS_SELECTOR, selector(this.ds));
        insn::write(field::HOST_ES_SELECTOR, selector(this.es));
        insn::write(field::HOST_FS_SELECTOR, 0);
        insn::write(field::HOST_GS_SELECTOR, 0);
        insn::write(field::HOST_TR_SELECTOR, selector(this.tr));
        insn::write(field::HOST_FS_BASE, msr::read(x86::msr::FS_BASE));
        insn::write(field::HOST_GS_BASE, msr::read(x86::msr::GS_BASE));
        insn::write(field::HOST_TR_BASE, this.tr_base);
        insn::write(field::HOST_GDTR_BASE, this.gdt_base);
        insn::write(field::HOST_IDTR_BASE, this.idt_base);
        insn::write(field::HOST_IA32_SYSENTER_CS, 0);
        insn::write(field::HOST_IA32_SYSENTER_ESP, 0);
        insn::write(field::HOST_IA32_SYSENTER_EIP, 0);
        insn::write(field::HOST_IA32_PAT, msr::read(x86::msr::PAT));
        insn::write(field::HOST_IA32_EFER, msr::read(x86::msr::EFER));
        insn::write(field::HOST_RIP, entry::exit_address());
    }
}
