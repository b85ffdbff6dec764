//! Starting the other CPUs (SDM 3A 9.4.4): INIT, then a start-up IPI to real-mode code below 1 MiB.

use core::sync::atomic::{AtomicU64, Ordering};

use acpi_tables::Madt;
use bring_up::trampoline::misc_enable_high_clear;

use super::apic;
use crate::arch::cpu::{self, PerCpu};
use crate::arch::stack::{self, Stacks};
use crate::arch::{in_step, link, memory_types, msr, tsc};
use crate::mm::{Hpa, PAGE, frame, map};

/// Address of the PerCpu of the CPU that is being started; 0 where none is. Each CPU compares the APIC id there with its
/// own: an emulator may start one long after it was given up.
// SAFETY: the only definition of this symbol.
#[unsafe(export_name = "ap_cpu")]
static AP_CPU: AtomicU64 = AtomicU64::new(0);

/// How long a CPU may take to come up, in microseconds.
const PATIENCE: u64 = 500_000;
/// How long those that do not come up may take together; then each has a [`SHORT`] time.
const PATIENCE_IN_ALL: u64 = 5_000_000;
const SHORT: u64 = 20_000;

/// Starts every CPU that `madt` calls enabled, with the trampoline in the free page `page` below 1 MiB. Each that stays
/// off is named. Returns how many there are besides this one.
pub fn start_all(madt: &Madt, page: Hpa) -> usize {
    let own = apic::id();
    let others = || madt.cpus.iter().filter(|c| c.enabled && c.apic_id != own).map(|c| c.apic_id);
    let startable = |id: &u32| *id < 0xff || apic::is_x2apic();
    for id in others().filter(|id| !startable(id)) {
        log::warn!(target: "cpu", "CPU with APIC id {id} needs x2APIC and stays off");
    }
    if others().next().is_none() {
        return 0;
    }
    install(page);
    for id in others().filter(startable) {
        apic::send_init(id);
    }
    tsc::delay(10_000);
    let (mut all_up, mut lost) = (true, 0);
    for id in others().filter(startable) {
        let began = tsc::micros();
        if !start(id, page, if lost < PATIENCE_IN_ALL { PATIENCE } else { SHORT }) {
            lost += tsc::micros() - began;
            all_up = false;
            log::warn!(target: "cpu", "CPU with APIC id {id} did not start");
        }
    }
    AP_CPU.store(0, Ordering::SeqCst);
    // One that comes after all goes no further than the trampoline, which must be there then.
    if all_up {
        map::protect(page, PAGE, map::Access::ReadWrite);
    }
    others().count()
}

/// Copies the trampoline and makes the page executable and read-only.
fn install(page: Hpa) {
    let trampoline = link::trampoline();
    let slot = |offset: usize| (page.0 as usize + offset) as *mut u32;
    // SAFETY: the page is free RAM, mapped writable, and holds the trampoline, which is shorter than a page; the slots
    // are aligned words of the copy.
    unsafe {
        let code = trampoline.code;
        core::ptr::copy_nonoverlapping(code.as_ptr(), page.0 as *mut u8, code.len());
        slot(trampoline.cr3).write(map::root().0 as u32);
        slot(trampoline.efer).write(1 << 8 | u32::from(cpu::no_execute()) << 11);
        slot(trampoline.misc_enable_clear).write(misc_enable_clear());
    }
    map::protect(page, PAGE, map::Access::ReadExecute);
}

fn misc_enable_clear() -> u32 {
    misc_enable_high_clear(cpu::is_intel(), msr::read_safe(msr::IA32_MISC_ENABLE))
}

fn start(apic_id: u32, page: Hpa, patience: u64) -> bool {
    let Some(block) = frame::alloc_contiguous(stack::BLOCK, PAGE) else {
        log::error!(target: "cpu", "no memory for the stacks of the CPU with APIC id {apic_id}");
        return false;
    };
    let stacks = Stacks::at(block.0);
    stacks.guards().for_each(|guard| map::unmap(Hpa(guard), PAGE));
    let cpu = PerCpu::create(apic_id, stacks);
    in_step::expect();
    AP_CPU.store(core::ptr::from_ref(cpu) as u64, Ordering::SeqCst);
    // The second start-up IPI is for CPUs that missed the first; a running CPU ignores it.
    for _ in 0..2 {
        apic::send_startup(apic_id, (page.0 / PAGE) as u8);
        if comes_up(cpu, 200) {
            in_step::lead(cpu);
            return true;
        }
    }
    if comes_up(cpu, patience) || !cpu.give_up() {
        in_step::lead(cpu);
        return true;
    }
    apic::send_init(apic_id);
    false
}

fn comes_up(cpu: &PerCpu, micros: u64) -> bool {
    let start = tsc::micros();
    while !cpu.is_online() {
        if tsc::micros() - start > micros {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// On a CPU that has come up, on the stacks of `cpu`: makes it that. False where nobody waits for it any more: then it has to
/// halt.
pub fn arrive(cpu: &'static PerCpu) -> bool {
    cpu.take_over();
    apic::init_cpu();
    memory_types::init_cpu();
    let awaited = cpu.set_online();
    if awaited {
        in_step::follow();
    }
    awaited
}
