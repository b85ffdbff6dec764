//! The machine around the CPUs: interrupt controllers, the other CPUs, PCI, serial ports.

pub mod apic;
pub mod call;
pub mod io_apic;
pub mod irq;
pub mod pci;
pub mod pic;
pub mod serial;
pub mod smp;
