//! Starting the other CPUs (SDM 3A 9.4.4): INIT, then a start-up IPI to real-mode code below 1 MiB.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use acpi_tables::Madt;

use super::cpu::{self, PerCpu};
use super::stack::{self, Stack, Stacks};
use super::{apic, tsc};
use crate::mm::{Hpa, PAGE, frame, map};

global_asm!(include_str!("trampoline.s"), options(att_syntax));

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static ap_cr3: u8;
    static ap_efer: u8;
}

/// Top of the stack of the CPU that is being started.
// SAFETY: the only definition of this symbol.
#[unsafe(export_name = "ap_stack")]
static AP_STACK: AtomicU64 = AtomicU64::new(0);
/// Address of its PerCpu.
// SAFETY: the only definition of this symbol.
#[unsafe(export_name = "ap_cpu")]
static AP_CPU: AtomicU64 = AtomicU64::new(0);

/// How long a CPU may take to come up, in microseconds.
const PATIENCE: u64 = 100_000;

/// Starts every CPU that `madt` calls enabled, with the trampoline in the free page `page` below 1 MiB.
pub(crate) fn start_all(madt: &Madt, page: Hpa) {
    let own = apic::id();
    let others = || madt.cpus.iter().filter(|c| c.enabled && c.apic_id != own).map(|c| c.apic_id);
    let startable = |id: &u32| *id < 0xff || apic::is_x2apic();
    for id in others().filter(|id| !startable(id)) {
        log::warn!("CPU with APIC id {id} needs x2APIC and stays off");
    }
    if others().next().is_none() {
        return;
    }
    install(page);
    for id in others().filter(startable) {
        apic::send_init(id);
    }
    tsc::delay(10_000);
    for id in others().filter(startable) {
        start(id, page);
    }
    map::protect(page, PAGE, map::Access::ReadWrite);
}

/// Copies the trampoline and makes the page executable and read-only.
fn install(page: Hpa) {
    let base = (&raw const ap_trampoline).addr();
    let len = (&raw const ap_trampoline_end).addr() - base;
    let slot = |symbol: *const u8| (page.0 as usize + symbol.addr() - base) as *mut u32;
    // SAFETY: the page is free RAM, mapped writable, and holds the trampoline, which is shorter than a page; the slots
    // are aligned words of the copy.
    unsafe {
        core::ptr::copy_nonoverlapping(&raw const ap_trampoline, page.0 as *mut u8, len);
        slot(&raw const ap_cr3).write(map::root().0 as u32);
        slot(&raw const ap_efer).write(1 << 8 | u32::from(cpu::no_execute()) << 11);
    }
    map::protect(page, PAGE, map::Access::ReadExecute);
}

fn start(apic_id: u32, page: Hpa) {
    let Some(block) = frame::alloc_contiguous(stack::BLOCK, PAGE) else {
        log::error!("no memory for the stacks of the CPU with APIC id {apic_id}");
        return;
    };
    let stacks = Stacks::at(block.0);
    stacks.guards().for_each(|guard| map::unmap(Hpa(guard), PAGE));
    let cpu = PerCpu::create(apic_id, stacks);
    AP_STACK.store(stacks.top(Stack::Main), Ordering::SeqCst);
    AP_CPU.store(core::ptr::from_ref(cpu) as u64, Ordering::SeqCst);
    // The second start-up IPI is for CPUs that missed the first; a running CPU ignores it.
    for _ in 0..2 {
        apic::send_startup(apic_id, (page.0 / PAGE) as u8);
        if comes_up(cpu, 200) {
            return;
        }
    }
    if !comes_up(cpu, PATIENCE) {
        apic::send_init(apic_id);
        cpu.withdraw();
        log::warn!("CPU with APIC id {apic_id} did not start");
    }
}

fn comes_up(cpu: &PerCpu, micros: u64) -> bool {
    let start = tsc::micros();
    while !cpu.online.load(Ordering::Acquire) {
        if tsc::micros() - start > micros {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

// SAFETY: the only definition of this symbol; `trampoline.s` calls it with the C calling convention.
#[unsafe(no_mangle)]
extern "C" fn ap_main(cpu: &'static PerCpu) -> ! {
    cpu.take_over();
    apic::init_cpu();
    cpu.online.store(true, Ordering::Release);
    crate::start::ap(cpu.index)
}
