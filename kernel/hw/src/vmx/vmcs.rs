//! A VMCS: where it lies, the CPU that has it, and the safe ways to its fields.
//!
//! A wrong control or host field takes the machine from the host, so each group of fields has its own way. What concerns
//! the guest alone is written by name ([`Current::write`] takes no other field). Controls are written in one go by
//! [`Loaded::set_up`], and later as far as a word made here lets them change ([`ProcWord`], [`EntryWord`]). Host state is
//! written when the VMCS comes to a CPU.

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use translation::HwPaging;
use vm_types::{ApicPage, PostedTable};
use vmx_types::apic::{self, ApicMode, ApicVirt};
use vmx_types::control::{EntryControls, ExitControls, PinBased, ProcBased, ProcBased2};
use vmx_types::event::vector;
use vmx_types::field::{Control, Harmless};
use vmx_types::flow::Flow;
use vmx_types::vmcs::Vmcs as Fields;
use vmx_types::{Event, ExitFields, Field, Width, field};

use super::bitmap::{self, MsrBitmaps};
use super::entry::{self, Context};
use super::host::{self, HostCpu};
use super::insn;
use super::pml::{self, PmlBuffer};
use crate::arch::cpu;
use crate::mm::{Hpa, frame};
use crate::platform::irq;

/// #DB and #AC are intercepted because their delivery can loop for ever in the CPU (CVE-2015-8104,
/// CVE-2015-5307); #MC because it is the host's.
const EXCEPTIONS: u32 = 1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;

/// Bitmaps that say which functions of an instruction exit under its control: all do.
const EXIT_BITMAPS: [(ProcBased2, Field<u64, Control>); 2] = [
    (ProcBased2::ENCLS_EXITING, field::ENCLS_EXITING_BITMAP),
    (ProcBased2::ENCLV_EXITING, field::ENCLV_EXITING_BITMAP),
];

/// Two PAUSEs at most so many ticks of the TSC apart are of one loop, and a loop that lasts longer than the window exits (SDM
/// 24.6.13). Most locks of a kernel are held for less: the values are those of Xen, which has kept them since 2009.
const PLE_GAP: u32 = 128;
const PLE_WINDOW: u32 = 4096;

/// Controls that need EPT (SDM 26.2.1.1), and that of VPID: tables of the hypervisor's are nobody else's to cache.
const NESTED: ProcBased2 = ProcBased2::ENABLE_EPT
    .union(ProcBased2::UNRESTRICTED_GUEST)
    .union(ProcBased2::ENABLE_PML)
    .union(ProcBased2::ENABLE_VPID);

/// Bits of CR4 that a guest may change without an exit: TSD, DE, PGE, PCE, OSXMMEXCPT.
pub const CR4_GUEST_OWNED: u64 = 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8 | 1 << 10;

/// A VMCS. It is active on one CPU at most.
#[derive(Debug)]
pub struct Vmcs {
    region: Hpa,
    /// The CPU on which it is active.
    loaded_on: Option<usize>,
    /// The CPU on which it was active last.
    last_on: Option<usize>,
    launched: bool,
    /// HOST_RSP as the VMCS has it; 0 where it has none.
    host_rsp: u64,
    /// What its fields point at.
    tables: Option<Tables>,
}

/// Memory that a VMCS points at.
type Tables = (Arc<MsrBitmaps>, Arc<ApicPage>, Option<Arc<PostedTable>>, Option<Arc<PmlBuffer>>);

/// The VMCS had been active nowhere: the CPU on which it was last. Live registers and translations are another's there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Came {
    /// None where it was on none.
    pub from: Option<usize>,
}

/// What is set up once for a guest.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Controls that the guest's level asks for besides the usual ones, as far as this CPU has them.
    pub primary: u32,
    /// The same of the secondary controls.
    pub secondary: u32,
    /// The same of the tertiary controls.
    pub tertiary: u64,
    /// Which MSRs do not exit.
    pub msr_bitmaps: &'a Arc<MsrBitmaps>,
    /// The registers of its local APIC.
    pub apic: &'a Arc<ApicPage>,
    /// Where interrupts are left for the vCPUs of its VM, and which of them it is, where the CPU may take and leave them.
    pub posted: Option<(&'a Arc<PostedTable>, u32)>,
    /// The page that its translation has where the APIC's registers are, which lives as long as the VM; `None` where the CPU
    /// does not virtualise accesses.
    pub apic_access: Option<Hpa>,
    /// Its paging, by tables that map nothing but the guest's memory, and live as long as the VM.
    pub paging: HwPaging,
    /// Its VPID, not 0.
    pub vpid: u16,
    /// TSC multiplier, where the guest's TSC is scaled.
    pub tsc_multiplier: Option<u64>,
    /// The page-modification log, on a CPU that has it.
    pub pml: Option<&'a Arc<PmlBuffer>>,
}

/// The primary processor-based controls of a guest: what may change of them while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcWord(ProcBased);

/// The entry controls of a guest: what may change of them while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryWord(EntryControls);

impl ProcWord {
    /// The word that every guest on this CPU starts from.
    #[must_use]
    pub fn new(cpu: &HostCpu) -> Self {
        Self(cpu.controls.proc)
    }

    /// Whether the guest exits as soon as it takes interrupts, and NMIs.
    pub fn set_windows(&mut self, interrupt: bool, nmi: bool) {
        self.0.set(ProcBased::INTERRUPT_WINDOW_EXITING, interrupt);
        self.0.set(ProcBased::NMI_WINDOW_EXITING, nmi);
    }

    /// Whether accesses to CR3 exit.
    pub fn set_cr3_exiting(&mut self, on: bool) {
        self.0.set(ProcBased::CR3_LOAD_EXITING | ProcBased::CR3_STORE_EXITING, on);
    }
}

impl EntryWord {
    /// The word that every guest on this CPU starts from.
    #[must_use]
    pub fn new(cpu: &HostCpu) -> Self {
        Self(cpu.controls.entry)
    }

    /// Whether the guest is in IA-32e mode.
    pub fn set_ia32e(&mut self, on: bool) {
        self.0.set(EntryControls::IA32E_MODE_GUEST, on);
    }
}

impl Vmcs {
    /// An empty one; `None` when the host is out of memory.
    #[must_use]
    pub fn new(cpu: &HostCpu) -> Option<Self> {
        let region = frame::alloc_page()?;
        // SAFETY: the page is ours alone; a region starts with its revision (SDM 24.2).
        unsafe { (region.0 as *mut u32).write_volatile(cpu.caps.revision) };
        Some(Self { region, loaded_on: None, last_on: None, launched: false, host_rsp: 0, tables: None })
    }

    /// The CPU on which it is active.
    #[must_use]
    pub fn loaded_on(&self) -> Option<usize> {
        self.loaded_on
    }

    /// Makes it current on this CPU, with this CPU's host state. Cheap where it is already.
    ///
    /// # Panics
    /// Where it is active on another CPU: a bug of ours.
    pub fn load(&mut self) -> (Loaded<'_>, Option<Came>) {
        let here = cpu::this().index;
        let current = current_on_this_cpu();
        if self.loaded_on == Some(here) {
            if current.load(Ordering::Relaxed) != self.region.0 {
                // SAFETY: active on this CPU, see `loaded_on`.
                unsafe { insn::vmptrld(self.region).expect("VMPTRLD") };
                current.store(self.region.0, Ordering::Relaxed);
            }
            return (Loaded(self, PhantomData), None);
        }
        assert!(self.loaded_on.is_none(), "a VMCS is still on CPU {:?}", self.loaded_on);
        // SAFETY: the region is ours, and `loaded_on` says that it is active nowhere.
        unsafe {
            insn::vmclear(self.region).expect("VMCLEAR");
            insn::vmptrld(self.region).expect("VMPTRLD");
        }
        current.store(self.region.0, Ordering::Relaxed);
        self.launched = false;
        self.loaded_on = Some(here);
        let from = self.last_on.replace(here);
        // A CPU that runs guests does not change what it runs in itself: what was written here is still so.
        if from != Some(here) {
            self.host_rsp = 0;
            host::write_host_state();
        }
        (Loaded(self, PhantomData), Some(Came { from }))
    }

    /// Writes it back to memory: it is active nowhere then.
    ///
    /// # Panics
    /// Where it is active on another CPU: a bug of ours.
    pub fn unload(&mut self) {
        let Some(on) = self.loaded_on else { return };
        assert_eq!(on, cpu::this().index, "a VMCS is unloaded on the CPU that has it");
        // SAFETY: the region is ours and active on this CPU only.
        unsafe { insn::vmclear(self.region).expect("VMCLEAR") };
        current_on_this_cpu().store(0, Ordering::Relaxed);
        self.loaded_on = None;
    }
}

impl Drop for Vmcs {
    fn drop(&mut self) {
        if let Some(on) = self.loaded_on {
            // That CPU may write to it at any time: it and what it points at stay where they are.
            log::error!(target: "vmx", "a VMCS is active on CPU {on} and stays in memory");
            core::mem::forget(self.tables.take());
        } else {
            frame::free(self.region, vm_types::PAGE_SIZE);
        }
    }
}

/// The address of the VMCS that is current on this CPU.
fn current_on_this_cpu() -> &'static AtomicU64 {
    &host::this().expect("VMX is on").current_vmcs
}

/// A VMCS that is current on the CPU that this runs on, and stays so while this lives: it goes to no other.
///
/// ```compile_fail,E0277
/// fn is_send<T: Send>() {}
/// is_send::<hw::vmx::vmcs::Loaded<'static>>();
/// ```
///
/// ```compile_fail,E0382
/// fn twice(vmcs: hw::vmx::vmcs::Loaded<'_>) {
///     drop(vmcs);
///     let _ = vmcs.current();
/// }
/// ```
#[derive(Debug)]
pub struct Loaded<'a>(&'a mut Vmcs, PhantomData<*const ()>);

impl Loaded<'_> {
    /// The way to its fields.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> Current<'_> {
        Current(PhantomData)
    }

    /// Enters the guest with these registers, and comes back with those of its VM exit.
    ///
    /// # Errors
    /// The CPU refuses the entry: nothing of the guest ran (SDM 26.2).
    #[inline(always)]
    pub fn enter(&mut self, context: &mut Context) -> Result<(), EntryRefused> {
        // SAFETY: the VMCS is current, set up by this module alone, with the host state of this CPU, whose interrupts are off;
        // it is not Send.
        let failed =
            unsafe { entry::enter(&raw mut *context, u32::from(self.0.launched), &raw mut self.0.host_rsp) };
        if failed != 0 {
            return Err(EntryRefused);
        }
        self.0.launched = true;
        Ok(())
    }

    /// Writes every control, and what of the guest state never changes. The words say what may change of them later.
    pub fn set_up(&mut self, setup: &Setup<'_>) -> (ProcWord, EntryWord) {
        let cpu = host::this().expect("VMX is on");
        let (controls, caps) = (&cpu.controls, &cpu.caps);
        let mut proc = controls.proc | ProcBased::from_bits_retain(setup.primary & caps.proc.may);
        let mut proc2 = controls.proc2 | ProcBased2::from_bits_retain(setup.secondary & caps.proc2.may);
        if setup.tsc_multiplier.is_some() {
            proc2 |= ProcBased2::USE_TSC_SCALING;
        }
        let mut exceptions = EXCEPTIONS;
        if let HwPaging::Shadowed(_) = setup.paging {
            proc |= ProcBased::INVLPG_EXITING;
            proc2 -= NESTED;
            exceptions |= 1 << vector::PAGE_FAULT;
        }
        let tertiary = setup.tertiary & caps.proc3;
        let has_tertiary = tertiary != 0 || caps.proc3 & apic::TERTIARY != 0;
        if has_tertiary {
            proc |= ProcBased::TERTIARY_CONTROLS;
        }
        // SAFETY: controls as clamped to this CPU's capabilities, addresses of pages that live as long as the VM, or as this
        // VMCS: `tables`.
        unsafe {
            insn::write(field::PIN_BASED_CONTROLS, (controls.pin | PinBased::empty()).bits());
            insn::write(field::PROC_BASED_CONTROLS, proc.bits());
            insn::write(field::PROC_BASED_CONTROLS_2, proc2.bits());
            insn::write(field::EXIT_CONTROLS, controls.exit.bits());
            insn::write(field::ENTRY_CONTROLS, controls.entry.bits());
            insn::write(field::EXCEPTION_BITMAP, exceptions);
            insn::write(field::PAGE_FAULT_ERROR_MASK, 0);
            insn::write(field::PAGE_FAULT_ERROR_MATCH, 0);
            insn::write(field::CR3_TARGET_COUNT, 0);
            insn::write(field::EXIT_MSR_STORE_COUNT, 0);
            insn::write(field::EXIT_MSR_LOAD_COUNT, 0);
            insn::write(field::ENTRY_MSR_LOAD_COUNT, 0);
            insn::write(field::ENTRY_INTERRUPTION_INFO, 0);
            insn::write(field::MSR_BITMAP, setup.msr_bitmaps.hpa().0);
            if cpu.apic().contains(ApicVirt::TPR) {
                insn::write(field::VIRTUAL_APIC_ADDRESS, Arc::as_ptr(setup.apic) as u64);
                insn::write(field::TPR_THRESHOLD, 0);
            }
            if caps.pin.has(apic::PIN.bits()) {
                insn::write(field::POSTED_INTERRUPT_VECTOR, irq::POSTED.into());
                let descriptor = setup.posted.and_then(|(table, id)| table.of(id as usize));
                let at = descriptor.map_or(0, |descriptor| Arc::as_ptr(descriptor) as u64);
                insn::write(field::POSTED_INTERRUPT_DESCRIPTOR, at);
            }
            if let Some((table, _)) = setup.posted.filter(|_| caps.proc3 & apic::TERTIARY != 0) {
                insn::write(field::PID_POINTER_TABLE, Arc::as_ptr(table) as u64);
                insn::write(field::LAST_PID_POINTER_INDEX, table.last());
            }
            if let Some(page) = setup.apic_access {
                insn::write(field::APIC_ACCESS_ADDRESS, page.0);
            }
            insn::write(field::CR0_MASK, u64::MAX);
            insn::write(field::VMCS_LINK_POINTER, u64::MAX);
            insn::write(field::GUEST_IA32_DEBUGCTL, 0);
            if let HwPaging::Nested(eptp) = setup.paging {
                insn::write(field::EPT_POINTER, eptp.0);
            }
            if caps.vpid() {
                insn::write(field::VPID, setup.vpid);
            }
            if let Some(multiplier) = setup.tsc_multiplier {
                insn::write(field::TSC_MULTIPLIER, multiplier);
            }
            if has_tertiary {
                insn::write(field::PROC_BASED_CONTROLS_3, tertiary);
            }
            for (control, bitmap) in EXIT_BITMAPS {
                if proc2.contains(control) {
                    insn::write(bitmap, u64::MAX);
                }
            }
            if proc2.contains(ProcBased2::PAUSE_LOOP_EXITING) {
                insn::write(field::PLE_GAP, PLE_GAP);
                insn::write(field::PLE_WINDOW, PLE_WINDOW);
            }
            if proc2.contains(ProcBased2::ENABLE_XSAVES) {
                insn::write(field::XSS_EXITING_BITMAP, 0);
            }
            if let Some(log) = setup.pml {
                insn::write(field::PML_ADDRESS, log.hpa().0);
                insn::write(field::PML_INDEX, pml::ENTRIES - 1);
            }
        }
        self.0.tables = Some((
            Arc::clone(setup.msr_bitmaps),
            Arc::clone(setup.apic),
            setup.posted.map(|(table, _)| Arc::clone(table)),
            setup.pml.map(Arc::clone),
        ));
        (ProcWord(proc), EntryWord(controls.entry))
    }
}

/// A VM entry that the CPU refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRefused;

/// The fields of a [`Loaded`] VMCS. It stands for a reference to it, and weighs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a>(PhantomData<(&'a Loaded<'a>, *const ())>);

impl Current<'_> {
    /// Reads any field.
    #[inline(always)]
    #[must_use]
    pub fn read<W: Width, G>(self, field: Field<W, G>) -> W::Value {
        insn::read(field)
    }

    /// Writes a field that concerns the guest alone.
    ///
    /// ```
    /// fn guest_state(vmcs: hw::vmx::vmcs::Current<'_>) {
    ///     vmcs.write(vmx_types::field::GUEST_RIP, 0x1000);
    /// }
    /// ```
    ///
    /// A field that could take the machine from the host is none of them:
    ///
    /// ```compile_fail,E0277
    /// fn control(vmcs: hw::vmx::vmcs::Current<'_>) {
    ///     vmcs.write(vmx_types::field::EPT_POINTER, 0x1000);
    /// }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// fn host_state(vmcs: hw::vmx::vmcs::Current<'_>) {
    ///     vmcs.write(vmx_types::field::HOST_RIP, 0x1000);
    /// }
    /// ```
    #[inline(always)]
    pub fn write<W: Width, G: Harmless>(self, field: Field<W, G>, value: W::Value) {
        // SAFETY: such fields cannot harm the host: VM entry checks them, and controls bind the guest.
        unsafe { insn::write(field, value) }
    }

    /// Sets what is added to the TSC that the guest reads.
    pub fn set_tsc_offset(self, offset: u64) {
        // SAFETY: the offset changes what the guest reads, nothing else.
        unsafe { insn::write(field::TSC_OFFSET, offset) };
    }

    /// Writes the primary controls.
    pub fn set_proc(self, word: ProcWord) {
        // SAFETY: only `set_up` makes a word, and what can be changed of it costs exits at most.
        unsafe { insn::write(field::PROC_BASED_CONTROLS, word.0.bits()) };
    }

    /// Has the CPU virtualise the local APIC in this mode, which it is in from now on. What of it that is.
    pub fn set_apic_mode(self, word: &mut ProcWord, mode: ApicMode) -> ApicVirt {
        let virt = self.set_posted(host::this().expect("VMX is on").apic().in_mode(mode));
        let (primary, secondary) = virt.controls();
        word.0 = (word.0 - apic::PRIMARY) | primary;
        let others = self.read(field::PROC_BASED_CONTROLS_2) & !apic::SECONDARY.bits();
        let bitmap = bitmap::for_mode(self.read(field::MSR_BITMAP), mode == ApicMode::X2apic);
        // SAFETY: controls that this CPU has, in a combination that VM entry takes; the pages that they need were set by
        // `set_up`, and so was the pair of bitmaps of which one is chosen: what the other one lets pass is the host's own.
        unsafe {
            insn::write(field::PROC_BASED_CONTROLS, word.0.bits());
            insn::write(field::PROC_BASED_CONTROLS_2, others | secondary.bits());
            insn::write(field::MSR_BITMAP, bitmap);
        }
        virt
    }

    /// Has the CPU take what is posted, and leave what the guest posts, if that is wanted and `set_up` was told where. What of the APIC is virtualised then.
    fn set_posted(self, virt: ApicVirt) -> ApicVirt {
        let cpu = host::this().expect("VMX is on");
        if !cpu.apic().contains(ApicVirt::POSTED) {
            return virt;
        }
        let knows = self.read(field::POSTED_INTERRUPT_DESCRIPTOR) != 0;
        let virt = if knows { virt } else { virt - ApicVirt::SENT };
        let pin = self.read(field::PIN_BASED_CONTROLS) & !apic::PIN.bits();
        // To tell the notification from other interrupts the CPU takes each from the APIC: `irq::acknowledged`.
        let mut exit = ExitControls::from_bits_retain(self.read(field::EXIT_CONTROLS));
        exit.set(ExitControls::ACKNOWLEDGE_INTERRUPT, virt.contains(ApicVirt::POSTED));
        // SAFETY: controls that this CPU has, in a combination that VM entry takes; the exit handler of an interrupt takes it.
        unsafe {
            insn::write(field::PIN_BASED_CONTROLS, pin | virt.pin().bits());
            insn::write(field::EXIT_CONTROLS, exit.bits());
            if cpu.apic().contains(ApicVirt::IPIS) {
                let others = self.read(field::PROC_BASED_CONTROLS_3) & !apic::TERTIARY;
                insn::write(field::PROC_BASED_CONTROLS_3, others | virt.tertiary());
            }
        }
        virt
    }

    /// The guest exits when TPR falls below this class, 0 to 15.
    pub fn set_tpr_threshold(self, class: u8) {
        // SAFETY: it costs exits at most.
        unsafe { insn::write(field::TPR_THRESHOLD, u32::from(class & 0xf)) };
    }

    /// EOI of these vectors exits, a bit each.
    pub fn set_eoi_exits(self, vectors: &[u32; 8]) {
        for (field, [low, high]) in field::EOI_EXIT_BITMAPS.into_iter().zip(vectors.as_chunks::<2>().0) {
            // SAFETY: it costs exits at most.
            unsafe { insn::write(field, u64::from(*low) | u64::from(*high) << 32) };
        }
    }

    /// Writes the entry controls.
    pub fn set_entry(self, word: EntryWord) {
        // SAFETY: only `set_up` makes a word; the mode that can be changed of it is checked by VM entry.
        unsafe { insn::write(field::ENTRY_CONTROLS, word.0.bits()) };
    }

    /// Lets the guest change these bits of CR4 without an exit, as far as [`CR4_GUEST_OWNED`] has them.
    pub fn set_cr4_owned(self, bits: u64) {
        // SAFETY: none of these bits reaches beyond the guest.
        unsafe { insn::write(field::CR4_MASK, !(bits & CR4_GUEST_OWNED)) };
    }

    /// True where the exit happened in an event's delivery.
    #[inline(always)]
    #[must_use]
    pub fn was_interrupted(self) -> bool {
        self.read(field::IDT_VECTORING_INFO) >> 31 != 0
    }

    /// The event in whose delivery the exit happened (SDM 27.2.4).
    #[inline(always)]
    #[must_use]
    pub fn interrupted_event(self) -> Option<Event> {
        let info = self.read(field::IDT_VECTORING_INFO);
        if info >> 31 == 0 { None } else { self.decode_interrupted(info) }
    }

    #[cold]
    fn decode_interrupted(self, info: u32) -> Option<Event> {
        let error = self.read(field::IDT_VECTORING_ERROR_CODE);
        Event::decode(info, error, self.read(field::EXIT_INSTRUCTION_LENGTH))
    }

    /// What decides about events.
    #[must_use]
    pub fn flow(self) -> Flow {
        Flow::read(&self)
    }

    /// Writes back what was decided.
    pub fn set_flow(self, flow: Flow) {
        self.write(field::GUEST_RFLAGS, flow.rflags);
        self.write(field::GUEST_INTERRUPTIBILITY, flow.interruptibility);
        self.write(field::GUEST_PENDING_DEBUG, flow.pending_debug);
    }
}

impl Fields for Current<'_> {
    fn get<W: Width, G>(&self, field: Field<W, G>) -> W::Value {
        self.read(field)
    }
}

impl ExitFields for Current<'_> {
    fn qualification(&self) -> u64 {
        self.read(field::EXIT_QUALIFICATION)
    }
    fn guest_physical(&self) -> u64 {
        self.read(field::GUEST_PHYSICAL_ADDRESS)
    }
    fn interruption_info(&self) -> u32 {
        self.read(field::EXIT_INTERRUPTION_INFO)
    }
    fn interruption_error_code(&self) -> u32 {
        self.read(field::EXIT_INTERRUPTION_ERROR_CODE)
    }
    fn instruction_length(&self) -> u32 {
        self.read(field::EXIT_INSTRUCTION_LENGTH)
    }
}
