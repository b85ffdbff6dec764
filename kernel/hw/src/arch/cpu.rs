//! What each CPU owns, and the registers every CPU of the host runs with.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bring_up::tsc::Ahead;
use raw_cpuid::{CpuId, CpuIdReader, CpuIdResult};
use spin::{Once, RwLock};
use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::structures::gdt::GlobalDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use super::stack::{Stack, Stacks};
use super::{gdt, idt, insn, msr};

/// One CPU. GS points at it.
#[repr(C)]
#[derive(Debug)]
pub struct PerCpu {
    /// Read through GS by [`this`].
    myself: AtomicU64,
    /// Where its stack begins. The trampoline reads this field and the next at their offsets.
    stack_top: u64,
    /// Local APIC id.
    pub apic_id: u32,
    /// 0 for the bootstrap CPU, then in the order of the MADT.
    pub index: usize,
    /// Bits others ask this CPU to see to; what they mean is the business of whoever runs on it.
    pub requests: AtomicU32,
    /// [`STARTING`], [`ONLINE`] or [`GIVEN_UP`].
    state: AtomicU8,
    /// Interrupts taken.
    pub interrupts: AtomicU64,
    /// The vector that a VM exit has acknowledged and nobody has taken yet; 0 for none.
    pub(crate) acknowledged: AtomicU32,
    /// One of its vCPUs has been woken by a CPU: which one has to be looked for.
    pub(crate) woken: AtomicBool,
    /// Ranks of the locks that it holds, a bit each (`crate::lock`).
    #[cfg(all(debug_assertions, target_os = "none"))]
    held: AtomicU64,
    /// What an idle CPU writes to IA32_SPEC_CTRL when it wakes; 0 for nothing.
    pub spec_ctrl_on_wake: AtomicU64,
    /// By how much its TSC was ahead of CPU 0's when it came up.
    ahead: Once<Ahead>,
    pub(super) stacks: Stacks,
    tss: TaskStateSegment,
    gdt: Once<GlobalDescriptorTable>,
}

const _: () =
    assert!(core::mem::offset_of!(PerCpu, stack_top) == 8 && core::mem::offset_of!(PerCpu, apic_id) == 16);

/// It has not come up yet.
const STARTING: u8 = 0;
/// It has.
const ONLINE: u8 = 1;
/// It took too long: it must not run any more, should it come.
const GIVEN_UP: u8 = 2;

static CPUS: RwLock<alloc::vec::Vec<&'static PerCpu>> = RwLock::new(alloc::vec::Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl PerCpu {
    /// Adds a CPU to the host's list; it lives for ever.
    pub fn create(apic_id: u32, stacks: Stacks) -> &'static Self {
        let mut cpus = CPUS.write();
        let cpu: &'static Self = Box::leak(Box::new(Self {
            myself: AtomicU64::new(0),
            stack_top: stacks.top(Stack::Main),
            apic_id,
            index: cpus.len(),
            requests: AtomicU32::new(0),
            state: AtomicU8::new(STARTING),
            interrupts: AtomicU64::new(0),
            acknowledged: AtomicU32::new(0),
            woken: AtomicBool::new(false),
            #[cfg(all(debug_assertions, target_os = "none"))]
            held: AtomicU64::new(0),
            spec_ctrl_on_wake: AtomicU64::new(0),
            ahead: Once::new(),
            stacks,
            tss: gdt::tss(stacks),
            gdt: Once::new(),
        }));
        cpu.myself.store(core::ptr::from_ref(cpu) as u64, Ordering::Relaxed);
        cpus.push(cpu);
        COUNT.store(cpus.len(), Ordering::Release);
        cpu
    }

    /// Takes the CPU that was added last off the list, unless it is online by now. False where it is.
    pub fn give_up(&'static self) -> bool {
        let mut cpus = CPUS.write();
        if self.state.compare_exchange(STARTING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        if cpus.last().is_some_and(|last| core::ptr::eq(*last, self)) {
            cpus.pop();
            COUNT.store(cpus.len(), Ordering::Release);
        }
        true
    }

    /// Whether it has come up.
    pub fn is_online(&self) -> bool {
        self.state.load(Ordering::Acquire) == ONLINE
    }

    /// It has come up. False where nobody waits for it any more.
    pub fn set_online(&self) -> bool {
        self.state.compare_exchange(STARTING, ONLINE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn note_ahead(&self, ahead: Ahead) {
        self.ahead.call_once(|| ahead);
    }

    pub(super) fn ahead(&self) -> Option<Ahead> {
        self.ahead.get().copied()
    }

    /// Loads everything that makes the calling CPU this one. Each CPU does it once.
    pub fn take_over(&'static self) {
        control_registers();
        gdt::load(&self.gdt, &self.tss);
        msr::write(msr::IA32_GS_BASE, self.myself.load(Ordering::Relaxed));
        idt::load();
    }
}

/// The CPU that executes this.
pub fn this() -> &'static PerCpu {
    // SAFETY: GS points at this CPU's PerCpu from `take_over` on, and its first field is its own address.
    unsafe { &*(insn::gs_word() as *const PerCpu) }
}

/// The CPU that executes this, if it has got so far.
pub fn try_this() -> Option<&'static PerCpu> {
    (msr::read(msr::IA32_GS_BASE) != 0).then(this)
}

/// Ranks of the locks that this CPU holds, a bit each; none before it has got so far.
#[cfg(all(debug_assertions, target_os = "none"))]
pub(crate) fn held_locks() -> Option<&'static AtomicU64> {
    try_this().map(|cpu| &cpu.held)
}

#[cfg(all(debug_assertions, not(target_os = "none")))]
pub(crate) use crate::mock::state::held_locks;

/// How many CPUs run.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// The CPU with that index.
pub fn get(index: usize) -> Option<&'static PerCpu> {
    CPUS.read().get(index).copied()
}

/// Control registers and EFER of the host, the same on every CPU. FPU and SSE are switched on for the guest's state
/// to live in; the host itself never uses them. CR4.MCE comes once the banks are set up (`machine_check.rs`).
fn control_registers() {
    let features = id().get_feature_info();
    let has = |f: fn(&raw_cpuid::FeatureInfo) -> bool| features.as_ref().is_some_and(f);
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
    for (flag, there) in [
        (Cr4Flags::PAGE_GLOBAL, has(raw_cpuid::FeatureInfo::has_pge)),
        (Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE, has(raw_cpuid::FeatureInfo::has_fxsave_fxstor)),
        (Cr4Flags::OSXSAVE, has(raw_cpuid::FeatureInfo::has_xsave)),
    ] {
        cr4.set(flag, there);
    }
    // SAFETY: no flag changes how the running code is translated or what it may do; the CPU has each of them.
    unsafe {
        insn::set_cr4(cr4.bits());
        insn::set_cr0(
            (Cr0Flags::PAGING
                | Cr0Flags::WRITE_PROTECT
                | Cr0Flags::NUMERIC_ERROR
                | Cr0Flags::MONITOR_COPROCESSOR
                | Cr0Flags::EXTENSION_TYPE
                | Cr0Flags::PROTECTED_MODE_ENABLE)
                .bits(),
        );
    }
    if no_execute() {
        msr::write(msr::IA32_EFER, msr::read(msr::IA32_EFER) | 1 << 11);
    }
}

/// Whether page tables may hold the no-execute bit. Firmware can have switched it off on Intel CPUs.
pub fn no_execute() -> bool {
    const XD_DISABLE: u64 = 1 << 34;
    let there =
        || id().get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_execute_disable());
    there() || {
        if let Some(value) = msr::read_safe(msr::IA32_MISC_ENABLE).filter(|v| v & XD_DISABLE != 0) {
            msr::write_safe(msr::IA32_MISC_ENABLE, value & !XD_DISABLE);
        }
        there()
    }
}

/// Whether Intel made the CPU, whose registers it then has.
pub fn is_intel() -> bool {
    id().get_vendor_info().is_some_and(|vendor| vendor.as_str() == "GenuineIntel")
}

/// EAX, EBX, ECX and EDX of a CPUID leaf of the CPU that this runs on.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    insn::cpuid(leaf, subleaf)
}

/// What CPUID says of the CPU that this runs on.
pub fn id() -> CpuId<Reader> {
    CpuId::with_cpuid_reader(Reader)
}

/// CPUID of the CPU that this runs on.
#[derive(Clone, Copy, Debug)]
pub struct Reader;

impl CpuIdReader for Reader {
    fn cpuid2(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        let [eax, ebx, ecx, edx] = insn::cpuid(leaf, subleaf);
        CpuIdResult { eax, ebx, ecx, edx }
    }
}
