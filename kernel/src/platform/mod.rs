//! The machine around the CPUs: interrupt controllers, the other CPUs, PCI, serial ports.

pub(crate) mod apic;
pub(crate) mod call;
pub(crate) mod io_apic;
pub(crate) mod irq;
pub(crate) mod pci;
pub(crate) mod pic;
pub(crate) mod serial;
pub(crate) mod smp;
