//! The CPU: its instructions, registers and tables.

use alloc::vec::Vec;

pub mod backtrace;
pub mod cpu;
pub mod debug;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(target_os = "none")]
pub(crate) mod fixup;
mod gdt;
pub mod idt;
pub mod in_step;
pub(crate) mod insn;
pub mod io;
pub(crate) mod link;
pub mod machine_check;
pub mod memory_types;
pub mod mmio;
pub mod msr;
pub mod random;
pub(crate) mod stack;
#[cfg(target_os = "none")]
pub(crate) mod text;
pub mod trap;
pub mod tsc;
pub mod vector;
pub mod xstate;

/// Reads a word of the hypervisor's own address space; `None` where nothing is mapped.
pub fn probe(address: u64) -> Option<u64> {
    insn::probe(address)
}

/// Where the guest of `apicv_probe.s` begins, and where it spins.
pub(crate) fn apicv_probe() -> (u64, u64) {
    link::apicv_probe()
}

/// The guest that the self-test runs: a Multiboot 1 image.
pub fn selftest_guest() -> &'static [u8] {
    link::selftest_guest()
}

/// The same of one that does a thing for each control.
pub fn selftest_controls() -> &'static [u8] {
    link::selftest_controls()
}

/// As [`selftest_guest`], one that spins, interrupts off, for `ticks` of the TSC at a time.
pub fn selftest_spinner(ticks: u32) -> Vec<u8> {
    let image = link::selftest_spinner();
    let (code, _) = image.split_at(image.len() - size_of::<u32>());
    [code, &ticks.to_le_bytes()].concat()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    insn::halt()
}

/// Writes the caches back.
pub fn write_back() {
    insn::wbinvd();
}

/// Makes the calling CPU the bootstrap CPU, on the stacks the loader entered with.
pub fn init_boot_cpu() {
    let cpuid = cpu::id();
    let short = cpuid.get_feature_info().map_or(0, |f| f.initial_local_apic_id().into());
    // Leaf 0xB has all 32 bits of an x2APIC id.
    let long = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let apic_id = long.filter(|level| level.processors() != 0).map_or(short, |level| level.x2apic_id());
    cpu::PerCpu::create(apic_id, stack::Stacks::boot()).take_over();
}
