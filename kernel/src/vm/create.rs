//! What a VM is made of, and putting it together: one of a kernel, or the empty target of a migration. The order and the
//! steps are [`super::making`]'s.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bring_up::mtrr::PAT_RESET;
use cmdline::MAX_VCPUS;
use cmdline::VmOptions;
use core::sync::atomic::{AtomicU32, AtomicU64};
use cpu_policy::{Companion, GuestPolicy};
use devices::{ApicBus, LAPIC_BASE, LocalApic, Platform, PlatformConfig};
use guest_load::Entry;
use migrate::ownership::{Gate, StateCell};
use shell::EventKind;
use translation::{Backing, CpuSet, OutOfMemory};
use vm_types::{Backlog, Gpa, GuestMemory, MemRange, OnReset, Restarts};
use vmx_types::apic::{ApicMode, ApicVirt};
use vmx_types::paging::EFER_LMA;
use vmx_types::state::{MtrrState, SegmentState, TableState, VcpuState};
use x86::msr;

use super::source::Source;
use super::tracking::Tracking;
use super::usage::Usage;
use super::{Change, VcpuSlot, Vm, balance, files, place, registry};
use crate::events;
use crate::guest::audit::Audit;
use crate::guest::clock::Clock;
use crate::guest::console::GuestConsole;
use crate::guest::mailbox::Mailbox;
use crate::guest::name::Name;
use crate::guest::{Guest, IDENTITY_PAGE};
use crate::lock::{self, Mutex};
use crate::policy;
use crate::vcpu::{LIVE_MSRS, VmxVcpu, Vpid};
use crate::wall_clock;
use hw::arch::{cpu, tsc};
use hw::mm::frame;
use hw::mm::guest::{GuestRam, layout};
use hw::mm::held::Held;
use hw::vmx::bitmap::MsrBitmaps;
use hw::vmx::host::{self, HostCpu};
use hw::vmx::translation::Translation;

/// MSRs that VM entry and exit switch by themselves, so that the guest may access them freely.
const VMCS_MSRS: [u32; 6] = [msr::FS_BASE, msr::GS_BASE, 0x174, 0x175, 0x176, msr::PAT];

/// What stands in place of a level for that of the pool, or of the host where it is in none.
pub(crate) const POOL_LEVEL: &str = "pool";

/// What a VM is made of, before its memory has content.
pub(crate) struct Spec {
    /// Name.
    pub(crate) name: String,
    /// Identity anywhere.
    pub(crate) uuid: [u8; 16],
    /// It comes by migration.
    pub(crate) came: bool,
    /// Port 0xF4 ends it.
    pub(crate) debug_exit: bool,
    /// What follows when the guest resets its machine.
    pub(crate) on_reset: OnReset,
    /// It has a PCI bus.
    pub(crate) pci: bool,
    /// It has an entropy device on that bus.
    pub(crate) rng: bool,
    /// RAM.
    pub(crate) ranges: Vec<MemRange>,
    /// What it sees of CPUs; its vCPU count and TSC rate too.
    pub(crate) policy: GuestPolicy,
    /// What came along with it.
    pub(crate) companion: Companion,
    /// vCPUs.
    pub(crate) vcpus: u32,
    /// TSC rate in ticks a second.
    pub(crate) hz: u64,
    /// What it can be made from anew.
    pub(crate) source: Option<Source>,
}

/// What of a VM is made bit by bit before the rest of it.
pub(super) struct Ground {
    /// RAM, cleared.
    pub(super) memory: GuestRam,
    /// Tables that map it.
    pub(super) mmu: Translation,
    /// For what is harvested of it.
    pub(super) to_send: Backlog,
}

/// Whether a VM can be made of this, before any of it is.
///
/// # Errors
/// What the host cannot give, in words.
pub(super) fn check_spec(spec: &Spec) -> Result<(), String> {
    let cpu = host::required()?;
    if !tsc::is_known() {
        return Err("this host has no clock: the rate of its TSC is not known".into());
    }
    check_vcpus(spec.vcpus, cpu)?;
    check_memory(&spec.ranges)?;
    addressable(&spec.policy, &spec.ranges)?;
    Clock::new(spec.hz, cpu.caps.tsc_scaling()).map_err(|error| error.to_string())?;
    Ok(())
}

/// Puts a VM together that waits for memory content and vCPU state. It is not in the registry.
///
/// # Errors
/// What the host cannot give, in words.
pub(super) fn build(spec: Spec, ground: Ground) -> Result<Arc<Vm>, String> {
    let cpu = host::required()?;
    let Ground { memory, mut mmu, to_send } = ground;
    let clock = Clock::new(spec.hz, cpu.caps.tsc_scaling()).map_err(|error| error.to_string())?;
    let memory_error = |error: OutOfMemory| error.to_string();
    debug_assert!(memory.chunks().iter().all(|chunk| mmu.translate(chunk.gpa) == Some(chunk.hpa)));
    let identity = map_identity(&mut mmu, cpu).map_err(memory_error)?;
    let apic_access = map_apic_access(&mut mmu, cpu).map_err(memory_error)?;
    let msr_bitmaps = MsrBitmaps::trap_all();
    let policy = Arc::new(spec.policy);
    pass_msrs(&policy, &msr_bitmaps, cpu);
    let board = PlatformConfig {
        vcpus: spec.vcpus as u16,
        debug_exit: spec.debug_exit,
        rtc_base_unix_secs: wall_clock::unix_seconds(),
        low_ram: memory.ranges().first().map_or(0, |range| range.len),
        high_ram: memory.ranges().get(1).map_or(0, |range| range.len),
        x2apic: policy.has(cpu_policy::Feature::X2apic),
        tsc_deadline: policy.has(cpu_policy::Feature::TscDeadline),
        pci: spec.pci,
        rng: spec.rng,
    };
    let apics = ApicBus::new(board.vcpus);
    let sends = host::all().any(|cpu| cpu.apic().contains(ApicVirt::IPIS));
    let (mut vcpus, mut mailboxes) = (Vec::new(), Vec::new());
    for (index, home) in (0..).zip(place::homes(spec.vcpus)?) {
        let posted = apics.posted().of(index as usize).filter(|_| sends);
        let mailbox = Arc::new(Mailbox::new(home, posted.cloned()));
        mailboxes.push(Arc::clone(&mailbox));
        let vpid = Vpid::new().ok_or("every VPID of this host is taken")?;
        let apic = LocalApic::new(index as u16, &board, &apics);
        let vcpu = VmxVcpu::new(index, vpid, cpu, Arc::clone(&policy), apic).map_err(memory_error)?;
        vcpus.push(VcpuSlot {
            vcpu: Mutex::new(lock::VCPU, vcpu),
            mailbox,
            gate: Gate::new(),
            ran: AtomicU64::new(0),
            share: AtomicU32::new(100),
            held_until: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            watched: balance::Watched::default(),
        });
    }
    clock.set(0);
    let guest = Guest {
        name: Name::new(&spec.name),
        id: registry::next_id(),
        policy: Mutex::new(lock::POLICY, policy),
        memory,
        mmu: Mutex::new(lock::TRANSLATION, mmu),
        ran_on: CpuSet::new(cpu::count()),
        audit: Mutex::new(lock::AUDIT, Audit::default()),
        msr_bitmaps,
        platform: Mutex::new(lock::BOARD, Platform::new(&board, &apics)),
        apics,
        clock,
        mailboxes,
        // One that comes is the other host's until it runs here.
        console: GuestConsole::new(!spec.came),
        broken: AtomicU32::new(0),
        _identity: identity,
        apic_access,
    };
    Ok(Arc::new(Vm {
        guest,
        uuid: spec.uuid,
        came: spec.came,
        board,
        companion: spec.companion,
        to_send,
        tracking: Mutex::new(lock::TRACKING, Tracking::default()),
        vcpus,
        state: StateCell::new(),
        stop_reason: Mutex::new(lock::STOP_REASON, None),
        restarts: Mutex::new(lock::RESTARTS, Restarts::new(spec.on_reset)),
        usage: Usage::default(),
        source: Mutex::new(lock::SOURCE, spec.source),
    }))
}

/// Lets the guest at MSRs without an exit.
pub(super) fn pass_msrs(policy: &GuestPolicy, bitmaps: &MsrBitmaps, cpu: &HostCpu) {
    // Only what the level has: any other access exits, and raises #GP.
    let offered = |msr: &u32| policy.msrs().passthrough().any(|passed| passed == *msr);
    for msr in LIVE_MSRS.into_iter().chain(VMCS_MSRS).filter(offered) {
        bitmaps.pass_through(msr);
    }
    if policy.has_rdtscp() {
        // Not every CPU faults on its reserved bits.
        bitmaps.pass_reads(crate::vcpu::IA32_TSC_AUX);
    }
    policy::mitigations::pass(policy, bitmaps);
    // Where the level has no x2APIC, no APIC comes into that mode.
    bitmaps.pass_x2apic(cpu.apic().in_mode(ApicMode::X2apic));
}

/// Whether this host can run so many vCPUs in a VM.
///
/// # Errors
/// How many it can, or what its CPU lacks.
pub(crate) fn check_vcpus(vcpus: u32, cpu: &HostCpu) -> Result<(), String> {
    if !(1..=MAX_VCPUS).contains(&vcpus) {
        return Err(format!("{vcpus} vCPUs: this version runs 1 to {MAX_VCPUS} in a VM"));
    }
    // All but the first start in real mode.
    if vcpus > 1 && !cpu.caps.unrestricted() {
        return Err(format!(
            "{vcpus} vCPUs: this CPU runs one in a VM, as it lacks unrestricted guest (Westmere and later have it)"
        ));
    }
    Ok(())
}

/// Whether this host has the memory, before anything is sized by it.
///
/// # Errors
/// How much is free; or that the ranges are no machine of this version.
pub(crate) fn check_memory(ranges: &[MemRange]) -> Result<(), String> {
    let bytes = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.len));
    let free = frame::stats().free;
    if bytes > free {
        return Err(format!("{} MiB of guest memory asked for, {} MiB free", bytes >> 20, free >> 20));
    }
    if ranges != layout(bytes) {
        return Err(format!(
            "{} RAM ranges that are not where this version puts {bytes} bytes",
            ranges.len()
        ));
    }
    Ok(())
}

/// Whether the guest's physical addresses reach all of its memory.
fn addressable(policy: &GuestPolicy, ranges: &[MemRange]) -> Result<(), String> {
    let end = ranges.last().map_or(0, MemRange::end);
    policy.check_memory(end).map_err(|error| error.to_string())
}

/// Without unrestricted guest, unpaged mode runs on a page directory of 1024 pages of 4 MiB.
fn map_identity(mmu: &mut Translation, cpu: &HostCpu) -> Result<Option<Held>, OutOfMemory> {
    if cpu.caps.unrestricted() {
        return Ok(None);
    }
    // Accessed and dirty as well: the CPU would write these flags, and tracking would count a page that is not RAM.
    const PRESENT_WRITABLE_USER_LARGE: u32 = 0x87 | 0x60;
    let page = Held::page().ok_or(OutOfMemory)?;
    hw::mm::fill_page(page.hpa(), |number| (number as u32) << 22 | PRESENT_WRITABLE_USER_LARGE);
    mmu.map_device(IDENTITY_PAGE, page.hpa())?;
    Ok(Some(page))
}

/// Where the CPU tells accesses to a local APIC from others, it does so by a page that lies there.
fn map_apic_access(mmu: &mut Translation, cpu: &HostCpu) -> Result<Option<Held>, OutOfMemory> {
    if !cpu.apic().contains(ApicVirt::ACCESSES) {
        return Ok(None);
    }
    let page = Held::page().ok_or(OutOfMemory)?;
    mmu.map_device(Gpa(LAPIC_BASE), page.hpa())?;
    Ok(Some(page))
}

/// What a VM of kernel and modules is made of.
///
/// # Errors
/// Why it is refused, by option or field and value.
pub(super) fn spec_of(source: Source, uuid: [u8; 16]) -> Result<Spec, String> {
    host::required()?;
    // One that cannot be loaded need not wait for its memory.
    let held = source.held()?;
    guest_load::detect(held.first().ok_or("no kernel")?.bytes()).map_err(|error| error.to_string())?;
    let hz = tsc::hz();
    let options = &source.options;
    Ok(Spec {
        name: options.name.clone(),
        uuid,
        came: false,
        debug_exit: options.debug_exit,
        on_reset: options.on_reset,
        pci: options.pci,
        rng: options.rng,
        ranges: layout(u64::from(options.mem_mib) << 20),
        policy: policy::render(options, hz)?,
        companion: Companion::default(),
        vcpus: options.vcpus,
        hz,
        source: Some(source),
    })
}

/// Says that a VM is made, and lets it run unless it is to be paused.
///
/// # Errors
/// The state that it is in.
pub(crate) fn begin(vm: &Vm) -> Result<(), String> {
    let made = format!("{} MiB, level {}", vm.ram() >> 20, vm.policy().level_name());
    log::info!(target: "vm", "vm {}: made, {made}", vm.name);
    events::tell(EventKind::VmMade, vm.name.owned(), made);
    files::came();
    let paused = vm.source.lock().as_ref().is_some_and(|source| source.options.paused);
    if paused { Ok(()) } else { vm.apply(Change::Run) }
}

/// Whether a VM could be made by these options now, with files of whatever size.
///
/// # Errors
/// Why not.
pub(crate) fn check(options: &VmOptions) -> Result<(), String> {
    check_vcpus(options.vcpus, host::required()?)?;
    let ranges = layout(u64::from(options.mem_mib) << 20);
    let policy = policy::render(options, tsc::hz())?;
    addressable(&policy, &ranges)?;
    check_memory(&ranges)
}

/// The policy that a VM gets by being booted anew at a level, `pool` for that of a new VM; its options say so from then on.
///
/// # Errors
/// A level that this host cannot give, by name.
pub(crate) fn at_level(vm: &Vm, options: &mut VmOptions, level: &str) -> Result<GuestPolicy, String> {
    options.level = (level != POOL_LEVEL).then(|| level.into());
    let policy = policy::render(options, vm.clock.hz())?;
    addressable(&policy, vm.memory.ranges())?;
    Ok(policy)
}

/// The first vCPU at the guest's first instruction.
pub(super) fn initial_state(entry: &Entry) -> VcpuState {
    let segment = |s: &guest_load::Segment| SegmentState {
        selector: s.selector,
        base: s.base,
        limit: s.limit,
        rights: s.access,
    };
    let table = |t: &guest_load::TableRegister| TableState { base: t.base, limit: u32::from(t.limit) };
    let data = segment(&entry.data);
    let mut xsave = alloc::vec![0; 576];
    xsave[0..2].copy_from_slice(&0x037f_u16.to_le_bytes()); // FCW
    xsave[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes()); // MXCSR
    xsave[512] = 3; // XSTATE_BV: x87 and SSE
    VcpuState {
        gprs: entry.gprs,
        rip: entry.rip,
        rflags: entry.rflags,
        cr0: entry.cr0,
        cr3: entry.cr3,
        cr4: entry.cr4,
        efer: entry.efer & !EFER_LMA | if entry.cr0 >> 31 & 1 == 1 { entry.efer & EFER_LMA } else { 0 },
        xcr0: 1,
        segments: [
            data,
            segment(&entry.cs),
            data,
            data,
            data,
            data,
            segment(&entry.ldtr),
            segment(&entry.tr),
        ],
        gdtr: table(&entry.gdtr),
        idtr: table(&entry.idtr),
        debug: [0, 0, 0, 0, 0xffff_0ff0],
        dr7: 0x400,
        pat: PAT_RESET,
        mtrr: MtrrState::FIRMWARE,
        xsave,
        ..VcpuState::default()
    }
}
