//! The CPU: its instructions, registers and tables.

use alloc::vec::Vec;
use core::arch::{asm, global_asm};

pub(crate) mod backtrace;
pub(crate) mod cpu;
pub(crate) mod debug;
#[cfg(feature = "faults")]
pub(crate) mod faults;
pub(crate) mod fixup;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod in_step;
pub(crate) mod io;
pub(crate) mod machine_check;
pub(crate) mod memory_types;
pub(crate) mod mmio;
pub(crate) mod msr;
pub(crate) mod random;
pub(crate) mod stack;
pub(crate) mod text;
pub(crate) mod trap;
pub(crate) mod tsc;
pub(crate) mod vector;
pub(crate) mod xstate;

global_asm!(include_str!("selftest_guest.s"), options(att_syntax));
global_asm!(include_str!("selftest_controls.s"), options(att_syntax));

/// The guest that the self-test runs: a Multiboot 1 image.
pub(crate) fn selftest_guest() -> &'static [u8] {
    unsafe extern "C" {
        static selftest_guest_start: u8;
        static selftest_guest_end: u8;
    }
    let start = &raw const selftest_guest_start;
    // SAFETY: the two symbols are around it, in read-only data.
    unsafe { core::slice::from_raw_parts(start, (&raw const selftest_guest_end).addr() - start.addr()) }
}

/// The same of one that does a thing for each control.
pub(crate) fn selftest_controls() -> &'static [u8] {
    unsafe extern "C" {
        static selftest_controls_start: u8;
        static selftest_controls_end: u8;
    }
    let start = &raw const selftest_controls_start;
    // SAFETY: the two symbols are around it, in read-only data.
    unsafe { core::slice::from_raw_parts(start, (&raw const selftest_controls_end).addr() - start.addr()) }
}

/// The same of one that spins, interrupts off, for `ticks` of the TSC at a time.
pub(crate) fn selftest_spinner(ticks: u32) -> Vec<u8> {
    unsafe extern "C" {
        static selftest_spinner_start: u8;
        static selftest_spinner_end: u8;
    }
    let start = &raw const selftest_spinner_start;
    let length = (&raw const selftest_spinner_end).addr() - start.addr();
    // SAFETY: the two symbols are around it, in read-only data.
    let image = unsafe { core::slice::from_raw_parts(start, length) };
    let (code, _) = image.split_at(length - size_of::<u32>());
    [code, &ticks.to_le_bytes()].concat()
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Writes the caches back.
pub(crate) fn write_back() {
    // SAFETY: WBINVD changes no memory that a program sees.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Makes the calling CPU the bootstrap CPU, on the stacks the loader entered with.
pub(crate) fn init_boot_cpu() {
    let cpuid = raw_cpuid::CpuId::new();
    let short = cpuid.get_feature_info().map_or(0, |f| f.initial_local_apic_id().into());
    // Leaf 0xB has all 32 bits of an x2APIC id.
    let long = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let apic_id = long.filter(|level| level.processors() != 0).map_or(short, |level| level.x2apic_id());
    cpu::PerCpu::create(apic_id, stack::Stacks::boot()).take_over();
}
