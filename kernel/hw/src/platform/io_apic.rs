//! The I/O APICs, all of whose inputs are masked: the hypervisor takes no device's interrupt.

use acpi_tables::Madt;
use bring_up::ioapic::{self, Registers};

use crate::arch::mmio;
use crate::mm::{Hpa, PAGE, map};

struct Window(Hpa);

impl Registers for Window {
    fn read(&mut self, index: u8) -> u32 {
        mmio::write32(self.0, index.into());
        mmio::read32(Hpa(self.0.0 + 0x10))
    }

    fn write(&mut self, index: u8, value: u32) {
        mmio::write32(self.0, index.into());
        mmio::write32(Hpa(self.0.0 + 0x10), value);
    }
}

/// Masks the inputs of each I/O APIC. How many were open.
pub fn mask_all(madt: &Madt) -> u32 {
    let mut open = 0;
    for apic in &madt.io_apics {
        let base = Hpa(apic.address.into());
        map::map_mmio(Hpa(base.0 & !(PAGE - 1)), PAGE);
        match ioapic::mask(&mut Window(base)) {
            Some(inputs) => open += inputs,
            None => log::warn!(target: "acpi", "no I/O APIC answers at {base}"),
        }
    }
    open
}
