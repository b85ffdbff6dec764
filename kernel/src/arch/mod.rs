//! The CPU and the platform below the hypervisor.

pub(crate) mod apic;
pub(crate) mod backtrace;
pub(crate) mod cpu;
mod entry;
pub(crate) mod fixup;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod io;
pub(crate) mod irq;
pub(crate) mod mmio;
pub(crate) mod msr;
pub(crate) mod pci;
pub(crate) mod power;
pub(crate) mod serial;
pub(crate) mod smp;
pub(crate) mod stack;
pub(crate) mod tsc;

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Makes the calling CPU the bootstrap CPU, on the stacks the loader entered with.
pub(crate) fn init_boot_cpu() {
    let leaf1 = raw_cpuid::CpuId::new().get_feature_info();
    let apic_id = leaf1.map_or(0, |f| f.initial_local_apic_id().into());
    cpu::PerCpu::create(apic_id, stack::Stacks::boot()).take_over();
}
