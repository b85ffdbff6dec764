//! The static tables of ACPI that the hypervisor itself needs, parsed into owned values. No AML.
//!
//! Pure: physical memory is seen through a function `(address, length) -> Option<bytes>`. A table that cannot be read
//! or whose checksum is wrong is left out and named in [`Acpi::skipped`]; only a missing RSDP or root table is an error.
//! References are to the ACPI specification 6.5.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod dmar;
mod fadt;
mod madt;
mod mcfg;
mod root;
mod s5;
mod spcr;
mod srat;

use alloc::vec::Vec;

pub use dmar::{DeviceScope, Dmar, RemappingUnit, ReservedMemory};
pub use fadt::Fadt;
pub use madt::{Cpu, IoApic, Madt, SourceOverride};
pub use mcfg::EcamSegment;
pub use root::{Rsdp, find_rsdp};
pub use spcr::{Registers, Spcr};
pub use srat::NodeMemory;

/// Longest table that is read, in bytes.
pub const MAX_TABLE: usize = 1 << 20;
/// Most tables of the root table that are looked at.
pub const MAX_TABLES: usize = 256;

/// A register in ACPI's generic address structure (5.2.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenericAddress {
    /// Where it is.
    pub space: AddressSpace,
    /// Width in bits.
    pub bits: u8,
    /// Address within the space.
    pub address: u64,
}

/// The address space of a [`GenericAddress`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressSpace {
    /// Physical memory.
    Memory,
    /// I/O ports.
    Io,
    /// PCI configuration space, bus 0.
    PciConfig,
    /// Another one, by its number.
    Other(u8),
}

/// A table that was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Its signature, four zeros where even that could not be read.
    pub signature: [u8; 4],
    /// Its physical address.
    pub address: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acpi {
    /// Interrupt controllers and CPUs.
    pub madt: Option<Madt>,
    /// Fixed hardware.
    pub fadt: Option<Fadt>,
    /// PCI Express configuration space.
    pub mcfg: Vec<EcamSegment>,
    /// SLP_TYPa and SLP_TYPb of `\_S5`, where the DSDT names them plainly.
    pub s5: Option<[u8; 2]>,
    /// The firmware's serial console.
    pub spcr: Option<Spcr>,
    /// DMA remapping.
    pub dmar: Option<Dmar>,
    /// Memory by NUMA node; empty where the firmware does not tell.
    pub nodes: Vec<NodeMemory>,
    /// Tables that could not be used.
    pub skipped: Vec<Skipped>,
}

/// Why there are no tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AcpiError {
    /// The root table (XSDT or RSDT) cannot be read or its checksum is wrong.
    #[error("ACPI root table at {0:#x} is unreadable or damaged")]
    Root(u64),
}

impl Acpi {
    /// Reads the tables that `rsdp` leads to.
    ///
    /// # Errors
    /// [`AcpiError::Root`] where the root table is of no use.
    pub fn parse<'m, M>(rsdp: Rsdp, memory: &M) -> Result<Self, AcpiError>
    where
        M: Fn(u64, usize) -> Option<&'m [u8]>,
    {
        let mut out = Self::default();
        for address in root::tables(rsdp, memory)? {
            let Some((signature, table)) = root::table(address, memory) else {
                let signature = memory(address, 4).and_then(|s| s.try_into().ok()).unwrap_or_default();
                out.skipped.push(Skipped { signature, address });
                continue;
            };
            match &signature {
                b"APIC" => out.madt = madt::parse(table),
                b"FACP" => out.fadt = fadt::parse(table),
                b"MCFG" => out.mcfg = mcfg::parse(table),
                b"SPCR" => out.spcr = spcr::parse(table),
                b"SRAT" => out.nodes = srat::parse(table),
                b"DMAR" => out.dmar = dmar::parse(table),
                _ => {}
            }
        }
        let dsdt = out.fadt.and_then(|fadt| fadt.dsdt).and_then(|at| root::table(at, memory));
        out.s5 = dsdt.and_then(|(_, table)| s5::find(table));
        Ok(out)
    }
}
