//! The device models of a guest's machine, free of I/O: UART, PIC, PIT, RTC, IO-APIC, local APIC, PM timer, PCI bus, ACPI
//! tables.
//!
//! [`Platform`] is the board behind port and MMIO accesses, [`LocalApic`] belongs to each vCPU, and an [`ApicBus`] carries
//! messages between them; [`acpi::build`] describes the machine to the guest.
//! Every clock is computed from the guest time line ([`vm_types::Now`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acpi;
mod chipset;
mod clock;
mod config;
mod device;
mod effect;
mod ioapic;
mod lapic;
mod pci;
mod pic;
mod pit;
mod platform;
mod pm;
mod ports;
mod rtc;
mod state;
mod uart;
mod whole;

pub use clock::APIC_BUS_HZ;
pub use config::{MAX_VCPUS, PlatformConfig};
pub use effect::{Effect, VcpuSet};
pub use ioapic::{IOAPIC_BASE, PINS as IOAPIC_PINS};
pub use lapic::{ApicBus, GpFault, InitSipi, LAPIC_BASE, LocalApic, Sent};
pub use pci::{Bar, Function, Identity, MsixShape, OnBoard, Register, Signals, Socket, VirtioPci};
pub use pit::PIT_HZ;
pub use platform::{FUNCTIONS, Platform};
pub use pm::PM_TIMER_HZ;
pub use uart::{IN_CAPACITY as UART_IN_CAPACITY, OUT_CAPACITY as UART_OUT_CAPACITY};
pub use whole::Whole;
